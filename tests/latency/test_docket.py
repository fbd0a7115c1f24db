"""The docket: who is screened ahead, who waits, and whose error is whose."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from harness.domain.cells import Cell
from harness.domain.duet import BUILD_ALARMS, CELL_ALARMS, LATENCY, Rule
from harness.domain.latency import Told
from harness.domain.providers import BUILTIN
from harness.domain.session import SessionConfig
from harness.errors import RunFailed
from harness.latency.docket import APART_S, IDLE_S, Docket
from harness.latency.plans import Plan
from harness.measuring import Side
from harness.runtimes.launchers import Program
from harness.runtimes.registry import Resolved, Runtime
from harness.runtimes.workers import Worker
from tests.baselines import recipe

FIRST, SECOND, THIRD = (Cell(name, "fp32", "cpu", "one") for name in ("a", "b", "c"))
STAGE_S = 10.0


class NoLauncher:
    """Starts nothing: the duets of these tests measure nothing."""

    def launch(self, python: str, program: Program, *, fork: bool) -> Worker:
        """Refuse."""
        raise AssertionError((python, program, fork))

    def prepare(self, python: str, program: Program) -> None:
        """Refuse."""
        raise AssertionError((python, program))

    def close(self) -> None:
        """Have nothing to end."""


def plan_of(cell: Cell, *, control: bool = True) -> Plan:
    """Return a plan that names its cell."""
    resolved = Resolved(
        name="cpu",
        provider=BUILTIN["cpu"],
        runtime=Runtime(name="own", python="python", source="own"),
    )
    config = SessionConfig(provider="CPUExecutionProvider")
    side = Side(path=Path(f"{cell.model}.onnx"), resolved=resolved, config=config, limits_s=(1, 1))
    return Plan(
        cell=cell,
        recipe=recipe(),
        side=side,
        file_bytes=1,
        sets=({"x": np.zeros(1)},),
        told=Told(cell=str(cell), model=cell.model, against="it"),
        control=side if control else None,
    )


@dataclass(slots=True)
class World:
    """Time, what each cell needs, and what happened in which order."""

    now: float = 0.0
    stages: dict[str, int] = field(default_factory=dict)
    """Model -> stages till its duet is settled; 1 if not named."""
    broken: dict[str, Exception] = field(default_factory=dict)
    """Model -> what its plan raises."""
    breaking: dict[str, tuple[int, Exception]] = field(default_factory=dict)
    """Model -> the stage that raises, and what."""
    events: list[str] = field(default_factory=list)
    times: dict[str, list[float]] = field(default_factory=dict)
    """Model -> when its stages ended."""
    duets: list[dict[str, Any]] = field(default_factory=list)
    alone: bool = False

    def plan(self, cell: Cell) -> Plan:
        """Return the plan of a cell."""
        self.events.append(f"plan {cell.model}")
        if cell.model in self.broken:
            raise self.broken[cell.model]
        return plan_of(cell)

    @contextmanager
    def take(self) -> Iterator[None]:
        """Hold the machine."""
        assert not self.alone
        self.alone = True
        try:
            yield
        finally:
            self.alone = False

    def sleep(self, seconds: float) -> None:
        """Let time pass, which nobody may do while holding the machine."""
        assert not self.alone
        if seconds:
            self.events.append("wait")
        self.now += seconds


def fake_duet(world: World) -> Callable[..., object]:
    """Return a class whose duets settle after the stages that the world names."""

    class FakeDuet:
        def __init__(self, _: object, *, candidate: Side, **given: Any) -> None:
            self.model = candidate.path.stem
            self.done = 0
            world.duets.append({"model": self.model, **given})

        @property
        def settled(self) -> bool:
            return self.done >= world.stages.get(self.model, 1)

        def advance(self) -> None:
            assert world.alone
            assert not self.settled
            world.now += STAGE_S
            self.done += 1
            world.events.append(f"{self.model}{self.done}")
            stage, error = world.breaking.get(self.model, (0, ValueError()))
            if stage == self.done:
                raise error
            world.times.setdefault(self.model, []).append(world.now)

    return FakeDuet


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    """Return a world with a clock of its own, in which duets are fakes; scope function."""
    made = World()
    clock = SimpleNamespace(monotonic=lambda: made.now, sleep=made.sleep)
    monkeypatch.setattr("harness.latency.docket.time", clock)
    monkeypatch.setattr("harness.latency.docket.Duet", fake_duet(made))
    return made


def docket(
    world: World,
    ahead: Sequence[Cell] = (FIRST, SECOND, THIRD),
    *,
    is_measured: Callable[[Plan], bool] = lambda _: True,
    decisions: int = 6,
) -> Docket:
    """Return a docket over these cells."""
    return Docket(
        NoLauncher(),
        plan=world.plan,
        ahead=ahead,
        decisions=decisions,
        is_measured=is_measured,
        alone=world.take,
        seed=7,
        rule=lambda _: LATENCY,
    )


def measure(found: Docket, *cells: Cell) -> None:
    """Settle cells as their items would."""
    for cell in cells:
        found.plan(cell)
        found.settled(cell)


def test_what_its_screen_settles_waits_for_nobody(world: World) -> None:
    """And nobody is screened meanwhile."""
    measure(docket(world), FIRST, SECOND, THIRD)
    assert world.events == ["plan a", "a1", "plan b", "b1", "plan c", "c1"]


def test_others_are_screened_while_one_waits(world: World) -> None:
    """Each once: their own items find the screen done."""
    world.stages = {"a": 3}
    measure(docket(world), FIRST, SECOND, THIRD)
    stages = [event for event in world.events if event[0] in "abc" and event != "wait"]
    assert stages == ["a1", "b1", "c1", "a2", "a3"]
    assert [event for event in world.events if event.startswith("plan")] == [
        *("plan a", "plan b", "plan c")
    ]


def test_screening_stops_once_the_stages_lie_far_enough_apart(world: World) -> None:
    """The rest is left for the next wait."""
    cells = [Cell(f"m{number}", "fp32", "cpu", "one") for number in range(20)]
    world.stages = {"m0": 3}
    measure(docket(world, cells), cells[0])
    first, second, third = world.times["m0"]
    for before, after in ((first, second), (second, third)):
        assert APART_S <= after - STAGE_S - before < APART_S + STAGE_S
    assert len(world.duets) == 1 + 2 * round(APART_S / STAGE_S)


def test_the_last_one_waits_a_little_by_itself(world: World) -> None:
    """There is nobody left to be screened."""
    world.stages = {"a": 3}
    measure(docket(world, [FIRST]), FIRST)
    first, second, third = world.times["a"]
    assert second - first == third - second == IDLE_S + STAGE_S
    assert world.events == ["plan a", "a1", "wait", "a2", "wait", "a3"]


def test_two_that_are_suspicious_wait_for_each_other(world: World) -> None:
    """The second one's screen is long ago when its turn comes, so it need not wait again."""
    world.stages = {"a": 2, "b": 2}
    measure(docket(world, [FIRST, SECOND]), FIRST, SECOND)
    assert world.events == ["plan a", "a1", "plan b", "b1", "a2", "b2"]


@pytest.mark.parametrize(
    "error", [RunFailed("b is broken", code="run.failed"), OSError(28, "full")]
)
@pytest.mark.parametrize("where", ["plan", "screen"])
def test_an_error_ahead_belongs_to_its_own_item(world: World, where: str, error: Exception) -> None:
    """Whatever it is: the one that waits is not disturbed, and the one that is broken tells it."""
    world.stages = {"a": 2}
    if where == "plan":
        world.broken = {"b": error}
    else:
        world.breaking = {"b": (1, error)}
    found = docket(world)
    measure(found, FIRST)
    assert len(world.times["a"]) == 2
    with pytest.raises(type(error)):
        found.plan(SECOND)
    measure(found, THIRD)


def test_an_error_of_a_confirmation_belongs_to_its_item(world: World) -> None:
    """Its screen was fine; what was screened ahead stays so."""
    world.stages = {"a": 2}
    world.breaking = {"a": (2, RunFailed("gone", code="run.failed"))}
    found = docket(world)
    found.plan(FIRST)
    with pytest.raises(RunFailed, match="gone"):
        found.settled(FIRST)
    assert not world.alone
    measure(found, SECOND, THIRD)
    assert [event for event in world.events if event in {"b1", "c1"}] == ["b1", "c1"]


def test_what_is_not_to_be_measured_is_planned_only(world: World) -> None:
    """Ahead as well as in its turn, once."""
    world.stages = {"a": 2}
    found = docket(world, is_measured=lambda plan: plan.cell == FIRST)
    measure(found, FIRST)
    assert found.plan(SECOND).cell == SECOND
    assert [each["model"] for each in world.duets] == ["a"]
    assert world.events.count("plan b") == 1
    with pytest.raises(TypeError, match="has no control"):
        found.settled(SECOND)


def test_a_cell_that_is_not_ahead_is_measured_all_the_same(world: World) -> None:
    """As under xdist, where nobody screens what may be another worker's."""
    world.stages = {"a": 2}
    measure(docket(world, ()), FIRST, SECOND)
    assert world.events == ["plan a", "a1", "wait", "a2", "plan b", "b1"]


def test_alarms_are_shared_and_orders_differ(world: World) -> None:
    """Each decision has its part of the run's alarms; each cell draws an order of its own."""
    measure(docket(world, decisions=50), FIRST, SECOND)
    rules: list[Rule] = [each[name] for each in world.duets for name in ("latency", "startup")]
    assert {rule.alarm for rule in rules} == {BUILD_ALARMS / 50}
    assert world.duets[0]["seed"] != world.duets[1]["seed"]
    measure(docket(world, decisions=2), FIRST)
    assert world.duets[2]["latency"].alarm == CELL_ALARMS
    assert world.duets[2]["seed"] == world.duets[0]["seed"]
