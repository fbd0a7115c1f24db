"""The bench: fresh workers in turns, each with a memory layout of its own."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper

from harness import measuring
from harness.domain.providers import BUILTIN
from harness.domain.session import SessionConfig
from harness.measuring import WEIGHED, Bench, Side
from harness.runtimes import sessions
from harness.runtimes.launchers import LocalLauncher
from harness.runtimes.registry import Resolved, Runtime
from harness.testing import make_model, tensor_info

OWN = Runtime(name="own", python=sys.executable, source="own")
SETS = [{"x": np.zeros((2, 3), dtype=np.float32)}]
ROUNDS = WEIGHED + 1


@pytest.fixture(scope="module")
def launcher() -> Iterator[LocalLauncher]:
    """Yield a launcher for all tests of this module."""
    with LocalLauncher() as shared:
        yield shared


def bench(launcher: LocalLauncher, folder: Path, seed: int = 0) -> Bench:
    """Return a bench with one model on both sides."""
    ends = [tensor_info(name, shape=[2, 3]) for name in ("x", "y")]
    model = make_model([helper.make_node("Relu", ["x"], ["y"])], ends[:1], ends[1:])
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    side = Side(
        path=path,
        resolved=Resolved(name="cpu", provider=BUILTIN["cpu"], runtime=OWN),
        config=SessionConfig(provider="CPUExecutionProvider"),
        limits_s=(60.0, 60.0),
    )
    return Bench(launcher, {"candidate": side, "control": side}, sets=SETS, seed=seed)


@pytest.fixture
def layouts(monkeypatch: pytest.MonkeyPatch) -> list[int | None]:
    """Return the list that the layout of each opened session is appended to."""
    seen: list[int | None] = []
    opens = sessions.open_session

    def noting(*args: Any, **named: Any) -> Any:
        seen.append(named["layout"])
        return opens(*args, **named)

    monkeypatch.setattr(measuring, "open_session", noting)
    return seen


def test_no_two_timed_workers_share_a_layout(
    launcher: LocalLauncher, tmp_path: Path, layouts: list[int | None]
) -> None:
    """Else whatever lies badly in one of them lies badly in all, and pairs agree on a fiction."""
    found = bench(launcher, tmp_path)
    for _ in range(ROUNDS):
        found.round(("candidate", "control"))
    drawn = [each for each in layouts if each is not None]
    assert len(drawn) == len(set(drawn)) == 2 * ROUNDS


def test_memory_is_taken_where_no_layout_is_drawn(
    launcher: LocalLauncher, tmp_path: Path, layouts: list[int | None]
) -> None:
    """Holes in a heap decide about megabytes; peaks without them are alike."""
    found = bench(launcher, tmp_path)
    for _ in range(ROUNDS):
        found.round(("candidate", "control"))
    assert layouts.count(None) == 2 * WEIGHED
    for arm in found.arms.values():
        assert len(arm.memory_bytes) == WEIGHED
        assert len(arm.startup_ns) == len(arm.medians_ns) == ROUNDS
    peaks = [each for arm in found.arms.values() for each in arm.memory_bytes]
    assert max(peaks) - min(peaks) < 2**20


def test_a_seed_draws_the_same_layouts_again(
    launcher: LocalLauncher, tmp_path: Path, layouts: list[int | None]
) -> None:
    """The stored seed of a run repeats its orders and its layouts."""
    for _ in range(2):
        bench(launcher, tmp_path, seed=5).round(("candidate", "control"))
    half = len(layouts) // 2
    assert layouts[:half] == layouts[half:]
