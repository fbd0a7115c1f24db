"""Timed runs of recipes in fresh workers: what a duet, and a figure by itself, are made of."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from harness.domain.compare import compare
from harness.domain.providers import CUDA
from harness.domain.session import NodeInfo, SessionConfig
from harness.domain.spec import IoMode, OutputSpec
from harness.domain.values import Values
from harness.errors import EnvironmentProblem, ModelFileError, RunFailed
from harness.runtimes import gpu
from harness.runtimes.gpu import Gpu
from harness.runtimes.launchers import Launcher
from harness.runtimes.registry import Resolved
from harness.runtimes.sessions import Session, open_session

#: Length of a slot, and the calls that it has at least.
SLOT_NS, LEAST_CALLS = 4_000_000, 2
#: From this length on a slot is one call, and none is dropped: no cache holds anything that long.
LONG_CALL_NS = 100_000_000
#: Blocks of a pair: as many as fit into this time, within these limits; of long calls the last.
PAIR_NS, FEWEST_BLOCKS, MOST_BLOCKS, LONG_BLOCKS = 150_000_000, 6, 24, 3
#: A worker is warm when two slots in a row differ by less than this share, or after so many.
STEADY, MOST_WARM_SLOTS, WARM_NS = 0.05, 12, 50_000_000
#: Calls of the slots before the length of a call is known.
FIRST_CALLS = 3
#: Single calls that are kept for quantiles and pictures, of each arm.
MOST_KEPT = 100_000
#: Workers whose peak memory is asked for, of each arm.
WEIGHED = 3
#: Seconds for a worker to tell its memory.
MEMORY_S = 10.0
#: How often a round is measured while the GPU is slowed, and the pause after each such round.
MOST_ATTEMPTS, COOLING_S = 5, 10.0


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
    io_mode: IoMode = "host"
    """Where inputs and outputs of timed runs lie."""

    @property
    def device(self) -> tuple[str, int] | None:
        """Return kind and number of the device with a memory of its own, None if there is none."""
        kind = self.resolved.provider.device
        return (kind, int(self.config.options.get("device_id", "0"))) if kind else None


@dataclass(slots=True)
class Arm:
    """What the workers of one side gave, one after the other."""

    calls_ns: list[npt.NDArray[np.int64]] = field(default_factory=list)
    """Timed calls without the waiting for a core, shape [calls] for each slot."""
    medians_ns: list[float] = field(default_factory=list)
    """Median over the slots of each worker."""
    startup_ns: list[float] = field(default_factory=list)
    """Creating the session and its first run, of each worker."""
    memory_bytes: list[int] = field(default_factory=list)
    """Greatest resident memory above that before the session, of `WEIGHED` other workers."""
    gpu_bytes: list[int] = field(default_factory=list)
    """What these take of the GPU's memory; empty without one."""
    calls: int = 0
    """Timed calls in all."""
    waited: int = 0
    """Those that waited for a core: other processes were busy."""
    placement: Mapping[str, tuple[NodeInfo, ...]] | None = None
    """Provider to nodes; None where ONNX Runtime does not tell."""

    @property
    def p50_ms(self) -> float:
        """Return the median over workers of the median call."""
        return statistics.median(self.medians_ns) / 1e6

    @property
    def startup_ms(self) -> float:
        """Return the median over workers."""
        return statistics.median(self.startup_ns) / 1e6

    def copy(self) -> Arm:
        """Return one that later rounds do not add to."""
        return replace(
            self,
            calls_ns=[*self.calls_ns],
            medians_ns=[*self.medians_ns],
            startup_ns=[*self.startup_ns],
            memory_bytes=[*self.memory_bytes],
            gpu_bytes=[*self.gpu_bytes],
        )

    def kept_ns(self) -> npt.NDArray[np.int64]:
        """Return single calls, evenly spread over all slots, at most `MOST_KEPT`."""
        calls = np.concatenate(self.calls_ns or [np.empty(0, dtype=np.int64)])
        return calls[:: -(-calls.size // MOST_KEPT)] if calls.size else calls


class Bench:
    """Opens the arms that are asked for in fresh workers on one core, and times them in turns.

    Args:
        launcher: Starts the workers.
        sides: What each arm runs.
        sets: Inputs that take turns; the same for all.
        seed: Of every order that is drawn.
        cores: Processor numbers that rounds take in turn; one for each thread of a session is used
            at a time. Empty means those that this process may use.
        unweighed: Arms whose memory nobody asks for.

    Raises:
        EnvironmentProblem: Where the system cannot pin a process; code `latency.unsupported`.
    """

    def __init__(
        self,
        launcher: Launcher,
        sides: Mapping[str, Side],
        *,
        sets: Sequence[Values],
        seed: int,
        cores: Sequence[int] = (),
        unweighed: Collection[str] = (),
    ) -> None:
        self._launcher = launcher
        self._sides = sides
        self._sets = sets
        self._unweighed = frozenset(unweighed)
        self._random = np.random.default_rng(seed)
        threads = max(side.config.threads for side in sides.values())
        self._cores = _groups(cores or usable_cores(), threads)
        self._rounds = 0
        devices = [each.device for each in sides.values() if each.device]
        self._gpu = devices[0][1] if devices and devices[0][0] == CUDA else None
        self.gpu_states: list[gpu.State] = []
        self.slowed_rounds = 0
        self._checked: set[str] = set()
        self.arms = {name: Arm() for name in sides}

    def round(self, names: Sequence[str]) -> dict[str, list[float]]:
        """Measure these arms once; return for each the median of its slot in every block, ns.

        Raises:
            HarnessError: If an arm cannot be opened, bound or run, or its timed runs give other
                outputs than its untimed ones.
        """
        cores = self._cores[self._rounds % len(self._cores)]
        self._rounds += 1
        if self._gpu is None:
            return self._timed(names, cores, None)
        slowed: set[str] = set()
        with gpu.watched(self._gpu) as device:
            for _ in range(MOST_ATTEMPTS):
                before = {name: arm.copy() for name, arm in self.arms.items()}
                seen = len(self.gpu_states)
                slots = self._timed(names, cores, device)
                slowed = {why for state in self.gpu_states[seen:] for why in state.slowed}
                if not slowed:
                    return slots
                self.arms.update(before)
                self.slowed_rounds += 1
                time.sleep(COOLING_S)
        raise _too_slow(slowed)

    def gpu_facts(self) -> dict[str, str]:
        """Return in words what the GPU did; empty without one."""
        if self._gpu is None:
            return {}
        return {
            "gpu": gpu.summary(self.gpu_states) or "it does not tell its state",
            "gpu_slowed": f"{self.slowed_rounds} rounds thrown away",
        }

    def _timed(
        self, names: Sequence[str], cores: Sequence[int], device: Gpu | None
    ) -> dict[str, list[float]]:
        """Measure these arms once, whatever the GPU does meanwhile."""
        lacking = [
            name
            for name in names
            if name not in self._unweighed and len(self.arms[name].memory_bytes) < WEIGHED
        ]
        self._weigh(lacking, cores, device)
        slots: dict[str, list[float]] = {name: [] for name in names}
        with ExitStack() as stack:
            opened = {
                name: stack.enter_context(self._open_elsewhere(name, cores))
                for name in self._shuffled(names)
            }
            call_ns = max(self._warm(name, session) for name, session in opened.items())
            for name in self._order(opened, call_ns):
                slots[name].append(self._slot(name, opened[name], call_ns))
                if device is not None:
                    self.gpu_states.append(device.state(timed=len(opened)))
            self._check_outputs(opened)
        for name, medians in slots.items():
            self.arms[name].medians_ns.append(statistics.median(medians))
        return slots

    def _weigh(self, names: Sequence[str], cores: Sequence[int], device: Gpu | None) -> None:
        """Note the peak memory of these arms, in workers whose layout is the fork server's.

        Where the allocator finds holes decides about megabytes; without any, peaks of one model
        are equal within a page or two. A GPU's memory is that of the whole device, before and
        after: nobody else starts there while the machine's lock is held.
        """
        for name in self._shuffled(names):
            before = device.used_bytes() if device else 0
            with self._open(name, cores)[0] as session:
                self.arms[name].memory_bytes.append(session.memory_bytes(limit_s=MEMORY_S))
                if device is not None:
                    self.arms[name].gpu_bytes.append(max(0, device.used_bytes() - before))
                    session.end()  # the next one's reading is not to hold its memory

    def _open_elsewhere(self, arm: str, cores: Sequence[int]) -> Session:
        """Return a session whose memory lies where no other worker's does, and note its start."""
        session, startup_ns = self._open(arm, cores, layout=int(self._random.integers(1 << 31)))
        self.arms[arm].startup_ns.append(startup_ns)
        self.arms[arm].placement = session.facts.placement
        return session

    def _open(
        self, arm: str, cores: Sequence[int], layout: int | None = None
    ) -> tuple[Session, float]:
        """Return a session with its inputs bound, and how long it took to make and run once, ns."""
        side = self._sides[arm]
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
                layout=layout,
            )
        except RunFailed as error:
            raise _unusable(error, side) from None
        try:
            _refuse_fallback(session, side)
            first_ms = session.bind(
                self._sets,
                limit_s=load_s + run_s * len(self._sets),
                device=side.device if side.io_mode == "device" else None,
            )
        except RunFailed as error:
            session.close()
            raise _unusable(error, side) from None
        except BaseException:  # Ctrl-C too must not leave the worker behind
            session.close()
            raise
        return session, (session.facts.load_ms + first_ms) * 1e6

    def _warm(self, arm: str, session: Session) -> float:
        """Run until slots are steady; return the median call, ns."""
        before, now, calls, spent = float("inf"), 0.0, FIRST_CALLS, 0.0
        for _ in range(MOST_WARM_SLOTS):
            slot = session.time(calls, limit_s=self._sides[arm].limits_s[1] * (calls + 1))
            now = float(np.median(slot.own_ns))
            spent += now * (calls + 1)
            if now >= LONG_CALL_NS or (abs(now - before) <= STEADY * now and spent >= WARM_NS):
                break
            before, calls = now, _calls(now)
        return now

    def _slot(self, arm: str, session: Session, call_ns: float) -> float:
        """Return the median call of one slot, ns."""
        calls = _calls(call_ns)
        limit_s = self._sides[arm].limits_s[1] * (calls + 1)
        slot = session.time(calls, drops_first=call_ns < LONG_CALL_NS, limit_s=limit_s)
        seen, own = self.arms[arm], slot.own_ns
        seen.calls += calls
        seen.waited += int(np.count_nonzero(slot.waited_ns))
        seen.calls_ns.append(own)
        return float(np.median(own))

    def _order(self, arms: Mapping[str, Session], call_ns: float) -> Iterator[str]:
        """Yield arms block by block, each block in an order of its own."""
        slot_ns = max(SLOT_NS, call_ns * _calls(call_ns))
        blocks = min(MOST_BLOCKS, max(FEWEST_BLOCKS, round(PAIR_NS / (slot_ns * len(arms)))))
        for _ in range(blocks if call_ns < LONG_CALL_NS else LONG_BLOCKS):
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
            plain = {output: value for output, value in plain.items() if output in timed}
            provider = self._sides[arm].resolved.provider.name
            found = compare(
                reference=plain,
                candidate=timed,
                outputs=dict.fromkeys(plain, OutputSpec(finite="same-positions")),
                provider=provider,
                cell=arm,
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


def _calls(call_ns: float) -> int:
    """Return how many calls make a slot."""
    if call_ns >= LONG_CALL_NS:
        return 1
    return max(LEAST_CALLS, round(SLOT_NS / max(call_ns, 1.0)))


def _unusable(error: RunFailed, side: Side) -> ModelFileError:
    return ModelFileError(
        f"'{side.path}' cannot be timed: {error.what}",
        code=error.code,
        where=f"{side.path}, on {side.resolved.name}",
        expected="a model that takes the control's inputs there",
        got=error.got,
        next_step="see that both files run alone: `onnx-harness model add FILE`",
    )


def _too_slow(reasons: Collection[str]) -> EnvironmentProblem:
    msg = f"The GPU was slowed in {MOST_ATTEMPTS} rounds in a row: nothing can be timed"
    return EnvironmentProblem(
        msg,
        code="latency.throttled",
        expected="full clocks while timing",
        got=", ".join(sorted(reasons)),
        next_step="let it cool, or lock its clocks: `nvidia-smi --lock-gpu-clocks`",
    )


def _refuse_fallback(session: Session, side: Side) -> None:
    """Refuse a session without its provider, and one whose provider runs no node."""
    asked, facts = side.config.provider, session.facts
    nodes = facts.placement
    if asked in facts.providers and (nodes is None or nodes.get(asked)):
        return
    spread = {name: len(each) for name, each in (nodes or {}).items()}
    got = f"{list(facts.providers)}, nodes {spread}"
    if nodes is not None and not sum(spread.values()):
        got += ": the graph was folded to constants"
    msg = f"{asked} was requested, but the session of '{side.path}' does not run on it"
    raise EnvironmentProblem(
        msg,
        code="session.fallback",
        where=f"runtime '{side.resolved.runtime.name}'",
        expected=f"{asked} among the session's providers, with at least one node",
        got=f"{got}\n{session.log_tail()}".rstrip(),
        next_step="`onnx-harness doctor` shows whether the provider works at all",
    )


def usable_cores() -> tuple[int, ...]:
    """Return the processor numbers that this process may use.

    Raises:
        EnvironmentProblem: Where the system cannot pin a process: nothing is judged without.
    """
    if not hasattr(os, "sched_getaffinity"):
        msg = "This system cannot pin a process to a core, so latency is not judged here"
        raise EnvironmentProblem(
            msg,
            code="latency.unsupported",
            expected="Linux",
            next_step="measure on a Linux machine",
        )
    return tuple(sorted(os.sched_getaffinity(0)))


def _groups(cores: Sequence[int], size: int) -> list[tuple[int, ...]]:
    """Return sets of `size` cores that do not overlap; one smaller set if there are too few."""
    whole = [tuple(cores[i : i + size]) for i in range(0, len(cores) - size + 1, size)]
    return whole or [tuple(cores)]
