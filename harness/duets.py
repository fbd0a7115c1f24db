"""Duets: candidate and control measured alternately, in fresh workers on one core."""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from harness.domain import duet
from harness.domain.compare import compare
from harness.domain.duet import Estimate, Outcome, Stage
from harness.domain.session import SessionConfig
from harness.domain.values import Values
from harness.errors import EnvironmentProblem, ModelFileError, RunFailed
from harness.runtimes.launchers import Launcher
from harness.runtimes.registry import Resolved
from harness.runtimes.sessions import Session, open_session

#: Length of a slot, and the calls that it has at least.
SLOT_NS, LEAST_CALLS = 4_000_000, 2
#: Blocks of a pair: as many as fit into this time, within these limits.
PAIR_NS, FEWEST_BLOCKS, MOST_BLOCKS = 150_000_000, 6, 24
#: A worker is warm when two slots in a row differ by less than this share, or after so many.
STEADY, MOST_WARM_SLOTS, WARM_NS = 0.05, 12, 50_000_000
#: Calls of the slots before the length of a call is known.
FIRST_CALLS = 3

CANDIDATE, CONTROL, SENTINEL = "candidate", "control", "sentinel"


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One of the two that are compared: a recipe without its inputs."""

    path: Path
    """The model."""
    resolved: Resolved
    """Where it runs."""
    config: SessionConfig
    limits_s: tuple[float, float]
    """Seconds for opening a session, and for one run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What a duet measured and found."""

    outcome: Outcome
    stages: Sequence[Stage]
    estimate: Estimate
    """Over the pairs of all stages."""
    candidate_ms: float
    """Median over pairs of the candidate's median call."""
    control_ms: float
    calls: int
    """Timed calls in all."""
    waited: int
    """Those that waited for a core: other processes were busy."""


@dataclass(slots=True)
class _Tally:
    medians: dict[str, list[float]] = field(default_factory=dict)
    calls: int = 0
    waited: int = 0


class Duet:
    """Measures a candidate against its control until the rule of `harness.domain.duet` is met.

    Args:
        launcher: Starts the workers.
        candidate: What is judged.
        control: What it is judged against.
        sets: Inputs that take turns; the same for both.
        seed: Of every order that is drawn.
        cores: Processor numbers that pairs take in turn; one for each thread of a session is used
            at a time. Empty means those that this process may use.
    """

    def __init__(
        self,
        launcher: Launcher,
        *,
        candidate: Side,
        control: Side,
        sets: Sequence[Values],
        seed: int,
        cores: Sequence[int] = (),
    ) -> None:
        self._launcher = launcher
        self._sides = {CANDIDATE: candidate, CONTROL: control, SENTINEL: control}
        self._sets = sets
        self._random = np.random.default_rng(seed)
        self._cores = _groups(cores or usable_cores(), candidate.config.threads)
        self._pairs = 0
        self._checked: set[str] = set()
        self._tally = _Tally()

    def judge(self) -> Measured:
        """Return the outcome, after one stage if nothing is suspicious, else after up to three.

        Raises:
            HarnessError: If a side cannot be opened, bound or run, or its timed runs give other
                outputs than its untimed ones.
        """
        duet.check_scipy()
        stages = [self._screen()]
        while (outcome := duet.decide(stages)) is None:
            stages.append(self._confirmation())
        tally = self._tally
        return Measured(
            outcome=outcome,
            stages=stages,
            estimate=duet.estimate([each for stage in stages for each in stage.candidate]),
            candidate_ms=statistics.median(tally.medians[CANDIDATE]) / 1e6,
            control_ms=statistics.median(tally.medians[CONTROL]) / 1e6,
            calls=tally.calls,
            waited=tally.waited,
        )

    def _screen(self) -> Stage:
        seen: list[float] = []
        for count in range(1, duet.SCREEN_PAIRS + 1):
            seen.append(self._pair((CANDIDATE, CONTROL))[CANDIDATE])
            if count >= duet.EARLY_PAIRS and duet.is_same(seen):
                break
        return Stage(candidate=seen)

    def _confirmation(self) -> Stage:
        arms = (CANDIDATE, CONTROL, SENTINEL)
        pairs = [self._pair(arms) for _ in range(duet.CONFIRM_PAIRS)]
        return Stage(
            candidate=[each[CANDIDATE] for each in pairs],
            sentinel=[each[SENTINEL] for each in pairs],
        )

    def _pair(self, arms: Sequence[str]) -> dict[str, float]:
        """Return the log ratio of each arm to the control, from fresh workers on one core."""
        cores = self._cores[self._pairs % len(self._cores)]
        self._pairs += 1
        with ExitStack() as stack:
            open_arms = {
                arm: stack.enter_context(self._open(self._sides[arm], cores))
                for arm in self._shuffled(arms)
            }
            calls = max(self._warm(arm, session) for arm, session in open_arms.items())
            slots: dict[str, list[float]] = {arm: [] for arm in arms}
            for arm in self._order(open_arms, calls):
                slots[arm].append(self._slot(arm, open_arms[arm], calls))
            self._check_outputs(open_arms)
        for arm, medians in slots.items():
            self._tally.medians.setdefault(arm, []).append(statistics.median(medians))
        return {arm: duet.observation(slots[arm], slots[CONTROL]) for arm in arms}

    def _open(self, side: Side, cores: Sequence[int]) -> Session:
        load_s, run_s = side.limits_s
        try:
            session = open_session(
                self._launcher,
                side.resolved.runtime,
                side.config,
                side.path,
                fork=side.resolved.provider.forks,
                limit_s=load_s,
                cores=cores,
            )
        except RunFailed as error:
            raise _unusable(error, side) from None
        try:
            _refuse_fallback(session, side)
            session.bind(self._sets, limit_s=load_s + run_s * len(self._sets))
        except RunFailed as error:
            session.close()
            raise _unusable(error, side) from None
        except BaseException:  # Ctrl-C too must not leave the worker behind
            session.close()
            raise
        return session

    def _warm(self, arm: str, session: Session) -> int:
        """Run until slots are steady; return the calls that make a slot of `SLOT_NS`."""
        before, calls, spent = float("inf"), FIRST_CALLS, 0.0
        for _ in range(MOST_WARM_SLOTS):
            now = self._slot(arm, session, calls, counts=False)
            spent += now * (calls + 1)
            calls = max(LEAST_CALLS, round(SLOT_NS / max(now, 1.0)))
            if abs(now - before) <= STEADY * now and spent >= WARM_NS:
                break
            before = now
        return calls

    def _slot(self, arm: str, session: Session, calls: int, *, counts: bool = True) -> float:
        """Return the median call of one slot, ns."""
        limit_s = self._sides[arm].limits_s[1] * (calls + 1)
        slot = session.time(calls, limit_s=limit_s)
        if counts:
            self._tally.calls += calls
            self._tally.waited += int(np.count_nonzero(slot.waited_ns))
        return float(np.median(slot.own_ns))

    def _order(self, arms: Mapping[str, Session], calls: int) -> Iterator[str]:
        """Yield arms block by block, each block in an order of its own."""
        length = SLOT_NS * len(arms) if calls > LEAST_CALLS else PAIR_NS
        blocks = min(MOST_BLOCKS, max(FEWEST_BLOCKS, PAIR_NS // length))
        for _ in range(blocks):
            yield from self._shuffled(tuple(arms))

    def _shuffled(self, arms: Sequence[str]) -> list[str]:
        return [arms[index] for index in self._random.permutation(len(arms))]

    def _check_outputs(self, arms: Mapping[str, Session]) -> None:
        """Hold what timed runs left in their outputs against an untimed run, once per arm."""
        for arm, session in arms.items():
            if arm in self._checked:
                continue
            self._checked.add(arm)
            limit_s = self._sides[arm].limits_s[1]
            plain = session.run(self._sets[0], limit_s=limit_s).outputs
            timed = session.timed_outputs(0, limit_s=limit_s)
            provider = self._sides[arm].resolved.provider.name
            found = compare(
                reference=plain, candidate=timed, outputs={}, provider=provider, cell=arm
            ).findings
            if found:
                msg = f"Timed runs of the {arm} give other outputs than untimed ones"
                raise RunFailed(
                    msg,
                    code="run.failed",
                    where=str(self._sides[arm].path),
                    expected="the same outputs within the tolerance table",
                    got=found[0].what,
                    next_step="judge its parity first: `onnx-harness model add FILE`",
                )


def _unusable(error: RunFailed, side: Side) -> ModelFileError:
    return ModelFileError(
        f"'{side.path}' cannot be timed: {error.what}",
        code=error.code,
        where=f"{side.path}, on {side.resolved.name}",
        expected="a model that takes the control's inputs there",
        got=error.got,
        next_step="see that both files run alone: `onnx-harness model add FILE`",
    )


def _refuse_fallback(session: Session, side: Side) -> None:
    """Refuse a session without its provider, and one whose provider runs no node."""
    asked, facts = side.resolved.provider.ep, session.facts
    nodes = facts.placement
    if asked in facts.providers and (nodes is None or nodes.get(asked)):
        return
    spread = {name: len(each) for name, each in (nodes or {}).items()}
    msg = f"{asked} was requested, but the session of '{side.path}' does not run on it"
    raise EnvironmentProblem(
        msg,
        code="session.fallback",
        where=f"runtime '{side.resolved.runtime.name}'",
        expected=f"{asked} among the session's providers, with at least one node",
        got=f"{list(facts.providers)}, nodes {spread}\n{session.log_tail()}".rstrip(),
        next_step="`onnx-harness doctor` shows whether the provider works at all",
    )


def usable_cores() -> tuple[int, ...]:
    """Return the processor numbers that this process may use.

    Raises:
        EnvironmentProblem: Where the system cannot pin a process: nothing is judged without.
    """
    if not hasattr(os, "sched_getaffinity"):
        msg = "This system cannot pin a process to a core, so latency is not judged here"
        raise EnvironmentProblem(msg, expected="Linux", next_step="measure on a Linux machine")
    return tuple(sorted(os.sched_getaffinity(0)))


def _groups(cores: Sequence[int], size: int) -> list[tuple[int, ...]]:
    """Return sets of `size` cores that do not overlap; one smaller set if there are too few."""
    whole = [tuple(cores[i : i + size]) for i in range(0, len(cores) - size + 1, size)]
    return whole or [tuple(cores)]
