"""Live decisions of the gate: the real Duet on files whose truth is known.

Stages of one decision lie apart in time as in the gate: while one waits, others are screened, and
where nothing is left to do it waits as long as the gate does. The machine's lock is not taken:
what else runs here is the condition that is measured.
"""

from __future__ import annotations

import datetime
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from harness.domain import duet as rules
from harness.domain.session import SessionConfig
from harness.domain.spec import USUAL_SLOWDOWN
from harness.duets import CANDIDATE, CONTROL, Duet
from harness.errors import HarnessError
from harness.latency.calibrating import asked
from harness.latency.docket import APART_S, IDLE_S
from harness.measuring import Bench, Side
from harness.runtimes.launchers import Launcher
from harness.runtimes.registry import Resolved
from harness.runtimes.sessions import Session
from power.plugin import PluginGate
from power.subjects import GRAPH_FAULTS, Subject, reordered

#: Decisions of the run that each one is thought to belong to: 200 cells, p50 and start-up.
DECISIONS = 400
#: Different files for the same work, so that what one layout of a file does is seen as scatter.
VARIANTS = 3
LIMITS_S = (60.0, 60.0)
#: Ways of measuring: the gate's, and what is left when a part of it is taken away.
GATE, SEQUENTIAL, UNPINNED, ONE_PAIR = "gate", "one side after the other", "unpinned", "one pair"
UNOPTIMISED, FEWER_THREADS = "graph optimisation off", "one thread of two"
CPU = "cpu"
#: Bound of p50 where a spec declares none.
SLOWDOWN = USUAL_SLOWDOWN
#: Faults of a session's settings, which no file shows.
_SESSIONS = (UNOPTIMISED, FEWER_THREADS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One decision to be measured."""

    subject: Subject
    layers: int = 0
    """Added to the candidate's chain."""
    fault: str = ""
    """What else is done to the candidate; empty for nothing."""
    way: str = GATE

    @property
    def truth(self) -> str:
        """Return what is true of the candidate, in words."""
        if self.fault:
            return self.fault
        return f"{self.layers:+d} layers" if self.layers else "unchanged"


class NotedBench(Bench):
    """A bench that also notes the mean of each slot, which the gate has no use for."""

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self.means: list[dict[str, float]] = []

    def round(self, names: Sequence[str]) -> dict[str, list[float]]:
        """Measure as the gate does."""
        before = {name: len(self.arms[name].calls_ns) for name in names}
        slots = super().round(names)
        self.means.append({
            name: float(np.mean(np.concatenate(self.arms[name].calls_ns[before[name] :])))
            for name in names
        })
        return slots


class SequentialBench(NotedBench):
    """Without turns: all slots of one arm, then all of the next."""

    def _order(self, arms: Any, call_ns: float) -> Iterator[str]:
        yield from sorted(super()._order(arms, call_ns), key=list(arms).index)


class UnpinnedBench(NotedBench):
    """Without pinning: the system puts each worker where it likes."""

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self._cores = [()]


class OnePairBench(NotedBench):
    """Without fresh workers: one pair lives as long as the decision.

    It stands for two sessions in one process, which our workers cannot hold.
    """

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self._living: dict[str, Session] = {}
        self._stack = ExitStack()

    def _open_elsewhere(self, arm: str, cores: Sequence[int]) -> Session:
        if arm not in self._living:
            self._living[arm] = session = super()._open_elsewhere(arm, cores)
            self._stack.callback(session.close)
            session.close = lambda: None  # type: ignore[method-assign]  # rounds end, it does not
        else:
            self.arms[arm].startup_ns.append(self.arms[arm].startup_ns[-1])
        return self._living[arm]

    def end(self) -> None:
        """Let the workers go."""
        for session in self._living.values():
            del session.close  # the method again
        self._stack.close()


BENCHES: dict[str, type[NotedBench]] = {
    GATE: NotedBench,
    SEQUENTIAL: SequentialBench,
    UNPINNED: UnpinnedBench,
    ONE_PAIR: OnePairBench,
}


class NotedDuet(Duet):
    """The gate's duet on a bench of ours."""

    def __init__(self, launcher: Launcher, *, bench: type[NotedBench], **named: Any) -> None:
        super().__init__(launcher, **named)
        sides = {"candidate": named["candidate"], "control": named["control"]}
        sides["sentinel"] = named["control"]
        self.sides = sides
        self.bench = bench(launcher, sides, sets=named["sets"], seed=named["seed"])
        self._bench = self.bench
        self.arms = self.bench.arms

    @property
    def rules(self) -> dict[str, rules.Rule]:
        """Return the rule of each quantity."""
        return self._rules

    def end(self) -> None:
        """Let workers go that outlived their round."""
        if isinstance(self.bench, OnePairBench):
            self.bench.end()


@dataclass(slots=True, kw_only=True)
class Trial:
    """A decision on its way."""

    task: Task
    condition: str
    provider: str
    slowdown: float
    variant: int
    seed: int
    duet: NotedDuet
    begun: datetime.datetime
    measured_at: float = 0.0
    """Of the last stage, on `time.monotonic`."""
    seconds: list[float]
    """Of each stage."""
    loads: list[float]
    """Processes that wanted a core, on average over the minute before each stage's end."""
    error: str = ""
    plugin_slower: bool | None = None
    """Whether pytest-benchmark called it slower, by what it had stored."""

    def advance(self) -> None:
        """Measure the next stage."""
        started = time.monotonic()
        try:
            self.duet.advance()
        except HarnessError as error:
            self.error = error.code
        self.measured_at = time.monotonic()
        self.seconds.append(self.measured_at - started)
        self.loads.append(os.getloadavg()[0])

    @property
    def settled(self) -> bool:
        """Return whether no further stage is needed."""
        return bool(self.error) or self.duet.settled


class Laboratory:
    """Measures tasks.

    Args:
        launcher: Starts the workers.
        resolved: Where all sessions run.
        folder: For model files.
        seed: Of everything that is drawn.
        slowdown: Bound of p50, as a spec declares it.
        plugin: The peer that is asked about the same files in the same minutes; None for none.
    """

    def __init__(
        self,
        launcher: Launcher,
        resolved: Resolved,
        folder: Path,
        seed: int,
        slowdown: float = SLOWDOWN,
        plugin: PluginGate | None = None,
    ) -> None:
        self._launcher = launcher
        self._slowdown = slowdown
        self._plugin = plugin
        self._resolved = resolved
        self._folder = folder
        self._random = np.random.default_rng(seed)

    def decide(self, tasks: Sequence[Task], condition: str, until: float) -> Iterator[Trial]:
        """Yield settled trials of tasks, in any order; none is begun after `until` (monotonic)."""
        waiting: list[Trial] = []
        left = [tasks[index] for index in self._random.permutation(len(tasks))]
        while left or waiting:
            trial = self._next(left if time.monotonic() < until else [], waiting, condition)
            if trial is None:
                return
            trial.advance()
            if trial.settled:
                trial.duet.end()
                self._ask_plugin(trial)
                yield trial
            else:
                waiting.append(trial)

    def _ask_plugin(self, trial: Trial) -> None:
        """Ask pytest-benchmark about what it can see: two files on the CPU."""
        task, is_cpu = trial.task, self._resolved.name == CPU
        if self._plugin and is_cpu and task.way == GATE and task.fault not in _SESSIONS:
            files = (trial.duet.sides[arm].path for arm in (CANDIDATE, CONTROL))
            trial.plugin_slower = self._plugin.is_slower(task.subject, *files)

    def _next(self, left: list[Task], waiting: list[Trial], condition: str) -> Trial | None:
        """Return the trial whose turn it is, taken from where it was."""
        now = time.monotonic()
        if waiting and (not left or now >= waiting[0].measured_at + APART_S):
            trial = waiting.pop(0)
            time.sleep(max(0.0, trial.measured_at + IDLE_S - now))
            return trial
        return self._trial(left.pop(0), condition) if left else None

    def _trial(self, task: Task, condition: str) -> Trial:
        seed, variant = int(self._random.integers(1 << 31)), int(self._random.integers(VARIANTS))
        control = self._side(self._file(task.subject, "control", lambda: task.subject.model))
        if task.fault == FEWER_THREADS:
            control = replace(control, config=replace(control.config, threads=2))
        duet = NotedDuet(
            self._launcher,
            bench=BENCHES[task.way],
            candidate=self._candidate(task, variant),
            control=control,
            sets=task.subject.sets,
            seed=seed,
            latency=asked(self._slowdown, DECISIONS),
            startup=rules.STARTUP.among(DECISIONS),
        )
        return Trial(
            task=task,
            condition=condition,
            provider=self._resolved.name,
            slowdown=self._slowdown,
            variant=variant,
            seed=seed,
            duet=duet,
            begun=datetime.datetime.now(datetime.UTC),
            seconds=[],
            loads=[],
        )

    def _candidate(self, task: Task, variant: int) -> Side:
        name = f"{task.truth}-{variant}".replace(" ", "-")
        side = self._side(self._file(task.subject, name, lambda: changed(task, variant)))
        if task.fault == UNOPTIMISED:
            side = replace(side, config=replace(side.config, optimization="disabled"))
        return side

    def _side(self, path: Path) -> Side:
        config = SessionConfig(provider=self._resolved.provider.ep)
        return Side(path=path, resolved=self._resolved, config=config, limits_s=LIMITS_S)

    def _file(self, subject: Subject, name: str, make: Any) -> Path:
        path = self._folder / f"{subject.name}-{name}.onnx"
        if not path.exists():
            onnx.save(make(), path)
        return path


def changed(task: Task, variant: int) -> onnx.ModelProto:
    """Return the candidate's model."""
    subject = task.subject
    model = subject.model
    if task.layers and subject.grown is not None:
        model = subject.grown(task.layers)
    if task.fault in GRAPH_FAULTS:
        model = GRAPH_FAULTS[task.fault](model)
    return reordered(model, variant)


def plain(trial: Trial) -> dict[str, Any]:
    """Return what a recording keeps of a settled trial."""
    task, duet = trial.task, trial.duet
    line: dict[str, Any] = {
        "schema_version": 1,
        "when": trial.begun.isoformat(timespec="seconds"),
        "subject": task.subject.name,
        "scale": task.subject.scale,
        "truth": task.truth,
        "way": task.way,
        "condition": trial.condition,
        "provider": trial.provider,
        "slowdown": trial.slowdown,
        "variant": trial.variant,
        "seed": trial.seed,
        "seconds": _rounded(trial.seconds),
        "loads": _rounded(trial.loads),
        "error": trial.error,
        "plugin_slower": trial.plugin_slower,
    }
    if trial.error:
        return line
    arms = {name: duet.arms[name] for name in (CANDIDATE, CONTROL)}
    calls = sum(arm.calls for arm in arms.values())
    return {
        **line,
        "waited": round(sum(arm.waited for arm in arms.values()) / calls, 4),
        "workers_ms": {
            name: _rounded([each / 1e6 for each in arm.medians_ns]) for name, arm in arms.items()
        },
        "mean_ratios": _rounded([
            float(np.log(each[CANDIDATE] / each[CONTROL])) for each in duet.bench.means
        ]),
        "quantities": {
            name: {
                "outcome": quantity.outcome.value if quantity.outcome else "",
                "stages": [
                    {"candidate": _rounded(each.candidate), "sentinel": _rounded(each.sentinel)}
                    for each in quantity.stages
                ],
            }
            for name, quantity in (("p50", duet.latency), ("startup", duet.startup))
        },
    }


def _rounded(values: Sequence[float]) -> list[float]:
    return [float(f"{value:.5g}") for value in values]
