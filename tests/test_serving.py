"""What is recorded of serving: callers at once, new sizes, sessions made again and again."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from harness import serving
from harness.domain.providers import BUILTIN
from harness.domain.session import SessionConfig
from harness.errors import RunFailed
from harness.measuring import Side, usable_cores
from harness.runtimes.launchers import LocalLauncher
from harness.runtimes.registry import Resolved, Runtime
from harness.serving import Load, NewSize, Serving, growth, measure_serving, saturation
from harness.testing import linear_model

OWN = Runtime(name="own", python=sys.executable, source="own")


def load(callers: int, per_s: float, sessions: int = 1) -> Load:
    """Return what so many callers got."""
    return Load(
        callers=callers,
        sessions=sessions,
        calls=100,
        per_s=per_s,
        p50_ms=1.0,
        p90_ms=2.0,
        p99_ms=3.0,
    )


def rows(count: int) -> dict[str, np.ndarray]:
    """Return an input of the linear model."""
    return {"x": np.ones((count, 3), dtype=np.float32)}


@pytest.fixture(scope="module")
def launcher() -> Iterator[LocalLauncher]:
    """Yield a launcher for all tests of this module."""
    with LocalLauncher() as shared:
        yield shared


@pytest.fixture
def side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Side:
    """Return a linear model on the CPU, to be measured for moments only; scope function."""
    monkeypatch.setattr(serving, "WINDOW_S", 0.02)
    monkeypatch.setattr(serving, "CYCLES", 4)
    path = tmp_path / "model.onnx"
    path.write_bytes(linear_model().SerializeToString())
    return Side(
        path=path,
        resolved=Resolved(name="cpu", provider=BUILTIN["cpu"], runtime=OWN),
        config=SessionConfig(provider="CPUExecutionProvider"),
        limits_s=(60.0, 60.0),
    )


@pytest.mark.parametrize(
    ("rates", "callers"),
    [((100, 195, 200), 2), ((100, 101), 1), ((100, 195, 380), None), ((100,), None)],
    ids=["at two", "at once", "not yet", "nothing to compare"],
)
def test_the_fewest_callers_that_saturate(rates: tuple[int, ...], callers: int | None) -> None:
    """More of them bring less than a tenth."""
    assert saturation([load(2**place, rate) for place, rate in enumerate(rates)]) == callers


@pytest.mark.parametrize(
    ("resident", "slope"),
    [
        ([1000, 1000, 1000, 1000], 0.0),
        ([1000, 1100, 1200, 1300], 100.0),
        ([1000, 1100, 9000, 1300, 1400], 100.0),
        ([1000, 0, 1000], None),
    ],
    ids=["flat", "a leak", "a peak between", "not told"],
)
def test_growth_is_what_every_cycle_adds(resident: list[int], slope: float | None) -> None:
    """One odd cycle is no leak, and hides none."""
    assert growth(resident) == slope


def test_everything_is_recorded(launcher: LocalLauncher, side: Side) -> None:
    """Callers on one session and on their own, a new size, growth; all of it plain JSON."""
    sets = [rows(1), rows(1)]
    found = measure_serving(launcher, side, sets, {"large": [rows(64)]})
    most = serving.CALLERS_PER_CORE * len(usable_cores())
    shared = [each.callers for each in found.loads if each.sessions == 1]
    own = [each.callers for each in found.loads if each.sessions > 1]
    assert shared == [2**place for place in range(most.bit_length())]
    assert own == shared[1:]
    assert all(each.sessions in {1, each.callers} for each in found.loads)
    for each in found.loads:
        assert each.calls > each.callers
        assert each.per_s > 0
        assert 0 < each.p50_ms <= each.p90_ms <= each.p99_ms
    (new,) = found.new_sizes
    assert new.point == "large"
    assert new.steady_ms > 0
    assert new.first_ms > 0
    assert found.growth_bytes is not None
    assert abs(found.growth_bytes) < 2**20
    assert set(found.saturated_by) == {"one session", "a session each"}
    assert json.loads(json.dumps(asdict(found)))["loads"][0]["callers"] == 1


def test_a_caller_that_fails_is_told(launcher: LocalLauncher, side: Side) -> None:
    """No figure stands for callers that did nothing."""
    wrong = [{"x": np.ones((1, 4), dtype=np.float32)}]
    with pytest.raises(RunFailed, match="Got invalid dimensions for input"):
        measure_serving(launcher, side, wrong, {})


def test_the_line_has_the_figures() -> None:
    """As receipts show them."""
    found = Serving(
        loads=(load(1, 1200.0), load(2, 1900.0), load(2, 2300.0, sessions=2)),
        saturated_by={"one session": None, "a session each": None},
        new_sizes=(NewSize(point="batch64", first_ms=3.14159, steady_ms=2.0),),
        growth_bytes=2048.0,
    )
    assert found.line == (
        "1,200 calls per second; 2,300 at best (2 callers, a session each); "
        "batch64 3.14 ms at first, then 2; +2 KiB per further session"
    )
