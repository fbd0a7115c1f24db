"""Duets: candidate and control measured alternately, in fresh workers on one core."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from harness.domain import duet
from harness.domain.duet import Estimate, Outcome, Rule, Stage
from harness.domain.receipts import Timed
from harness.domain.values import Values
from harness.measuring import Bench, Side
from harness.runtimes.launchers import Launcher

CANDIDATE, CONTROL, SENTINEL = "candidate", "control", "sentinel"


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantity:
    """One quantity of a duet: what its stages saw, and what that amounts to."""

    rule: Rule
    stages: Sequence[Stage]

    @property
    def outcome(self) -> Outcome | None:
        """Return the outcome; None if another stage is needed."""
        return duet.decide(self.stages, self.rule)

    @property
    def estimate(self) -> Estimate:
        """Return the effect over the pairs of all stages."""
        return duet.estimate([each for stage in self.stages for each in stage.candidate], self.rule)


class Duet:
    """Measures a candidate against its control until the rules of `harness.domain.duet` are met.

    Stages may lie apart in time: no worker lives between them.

    Args:
        launcher: Starts the workers.
        candidate: What is judged.
        control: What it is judged against.
        sets: Inputs that take turns; the same for both.
        seed: Of every order that is drawn.
        latency: What is asked of the median call.
        startup: What is asked of creating the session with its first run; None leaves it out.
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
        latency: Rule = duet.LATENCY,
        startup: Rule | None = None,
        cores: Sequence[int] = (),
    ) -> None:
        duet.check_scipy()
        sides = {CANDIDATE: candidate, CONTROL: control, SENTINEL: control}
        self._bench = Bench(
            launcher, sides, sets=sets, seed=seed, cores=cores, unweighed={SENTINEL}
        )
        self._rules = {"latency": latency, **({"startup": startup} if startup else {})}
        self._stages: dict[str, list[Stage]] = {name: [] for name in self._rules}
        self.arms = self._bench.arms
        self._pairs = 0
        self._say: Callable[[str], None] = lambda _: None

    @property
    def latency(self) -> Quantity:
        """Return what is known of the median call."""
        return self._quantity("latency")

    @property
    def startup(self) -> Quantity:
        """Return what is known of creating the session with its first run."""
        return self._quantity("startup")

    @property
    def settled(self) -> bool:
        """Return whether no further stage is needed."""
        return bool(self._stages["latency"]) and all(
            self._quantity(name).outcome is not None for name in self._rules
        )

    def advance(self) -> None:
        """Measure the next stage: the screen, then confirmations.

        Raises:
            HarnessError: If a side cannot be opened, bound or run, or its timed runs give other
                outputs than its untimed ones.
        """
        stage = self._confirmation() if self._stages["latency"] else self._screen()
        for name in self._rules:
            if not self._stages[name] or self._quantity(name).outcome is None:
                self._stages[name].append(stage[name])

    def timed(self) -> Timed:
        """Return what pictures are drawn from."""
        found = self.latency
        low, high = (
            found.estimate.bound(1 - found.rule.alarm, upper=side) for side in (False, True)
        )
        return Timed(
            candidate_ns=self.arms[CANDIDATE].kept_ns(),
            control_ns=self.arms[CONTROL].kept_ns(),
            pairs=tuple(each for stage in found.stages for each in stage.candidate),
            effect=found.estimate.effect,
            interval=(low, high),
            bound=found.rule.bound,
        )

    def gpu_facts(self) -> dict[str, str]:
        """Return in words what the GPU did meanwhile; empty without one."""
        return self._bench.gpu_facts()

    def judge(self, say: Callable[[str], None] = lambda _: None) -> None:
        """Measure until every quantity is settled.

        Args:
            say: Takes how far it is after every pair: slow models take minutes.
        """
        self._say = say
        while not self.settled:
            self.advance()

    def _quantity(self, name: str) -> Quantity:
        return Quantity(rule=self._rules[name], stages=self._stages[name])

    def _screen(self) -> dict[str, Stage]:
        seen: dict[str, list[float]] = {name: [] for name in self._rules}
        for count in range(1, duet.SCREEN_PAIRS + 1):
            pair = self._pair((CANDIDATE, CONTROL))[CANDIDATE]
            for name, values in seen.items():
                values.append(pair[name])
            if count >= duet.EARLY_PAIRS and all(
                duet.is_same(seen[name], rule) for name, rule in self._rules.items()
            ):
                break
        return {name: Stage(candidate=values) for name, values in seen.items()}

    def _confirmation(self) -> dict[str, Stage]:
        arms = (CANDIDATE, CONTROL, SENTINEL)
        count = duet.next_pairs(max(self._stages.values(), key=len))
        pairs = [self._pair(arms) for _ in range(count)]
        return {
            name: Stage(
                candidate=[each[CANDIDATE][name] for each in pairs],
                sentinel=[each[SENTINEL][name] for each in pairs],
            )
            for name in self._rules
        }

    def _pair(self, names: Sequence[str]) -> dict[str, dict[str, float]]:
        """Return the log ratios of each arm to the control, from one round."""
        started_s = time.monotonic()
        slots = self._bench.round(names)
        self._pairs += 1
        self._say(
            f"measured pair {self._pairs} of {duet.EARLY_PAIRS} to {duet.MOST_PAIRS}, "
            f"{time.monotonic() - started_s:.1f} s each"
        )
        started = {name: self.arms[name].startup_ns[-1:] for name in names}
        return {
            name: {
                "latency": duet.observation(slots[name], slots[CONTROL]),
                "startup": duet.observation(started[name], started[CONTROL]),
            }
            for name in names
        }
