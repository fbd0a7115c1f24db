"""Timed runs of a session in a worker."""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from harness.domain.dtypes import DType
from harness.domain.session import SessionConfig
from harness.errors import RunFailed
from harness.runtimes.launchers import LocalLauncher
from harness.runtimes.registry import Runtime
from harness.runtimes.sessions import Session, Slot, open_session
from harness.runtimes.worker import layout
from harness.runtimes.worker.serving import crowd
from harness.testing import linear_model, make_model, tensor_info

OWN = Runtime(name="own", python=sys.executable, source="own")
CPU = SessionConfig(provider="CPUExecutionProvider")


def opened(
    launcher: LocalLauncher, folder: Path, model: onnx.ModelProto, *, cores: tuple[int, ...] = ()
) -> Session:
    """Return a session of a model in a forked worker."""
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return open_session(launcher, OWN, CPU, path, fork=True, limit_s=60, cores=cores)


def rows(*values: float) -> dict[str, np.ndarray]:
    """Return one input of the linear model for each value."""
    return {"x": np.full((len(values), 3), [[each] for each in values], dtype=np.float32)}


def test_sets_take_turns_and_leave_their_outputs(launcher: LocalLauncher, tmp_path: Path) -> None:
    """What a timed run left is what an untimed one gives, also for sets of other sizes."""
    sets = [rows(1.0), rows(2.0, 3.0)]
    with opened(launcher, tmp_path, linear_model()) as session:
        session.bind(sets, limit_s=60)
        slot = session.time(5, limit_s=60)
        assert (slot.wall_ns.shape, slot.waited_ns.shape) == ((5,), (5,))
        assert (slot.wall_ns > 0).all()
        assert (slot.waited_ns >= 0).all()
        for index, feeds in enumerate(sets):
            plain = session.run(feeds, limit_s=60).outputs
            timed = session.timed_outputs(index, limit_s=60)
            assert plain.keys() == timed.keys()
            for name, value in plain.items():
                np.testing.assert_array_equal(np.asarray(timed[name]), np.asarray(value))


def test_a_worker_is_pinned_before_its_session_opens(
    launcher: LocalLauncher, tmp_path: Path
) -> None:
    """Threads of the session inherit the core."""
    core = min(os.sched_getaffinity(0))
    with opened(launcher, tmp_path, linear_model(), cores=(core,)) as session:
        assert os.sched_getaffinity(session.pid) == {core}


@pytest.mark.skipif(sys.platform != "linux", reason="layouts are drawn on Linux only")
def test_a_worker_moves_its_memory_if_asked_to(launcher: LocalLauncher, tmp_path: Path) -> None:
    """The mapping that pushes later ones away is there with a seed, and only then."""
    path = tmp_path / "model.onnx"
    path.write_bytes(linear_model().SerializeToString())
    drawn = random.Random(7)  # noqa: S311 - as `layout.scatter` draws, no secret
    pages = drawn.randrange(1, layout.MOST_PAGES)
    found = []
    for seed in (7, None):
        with open_session(launcher, OWN, CPU, path, fork=True, limit_s=60, layout=seed) as session:
            found.append(closed_bytes(session.pid))
    assert found[0] - found[1] == {pages * layout.PAGE_BYTES}


def closed_bytes(pid: int) -> set[int]:
    """Return the sizes of a process's mappings that nobody may touch."""
    spans = [line.split()[:2] for line in Path(f"/proc/{pid}/maps").read_text().splitlines()]
    ends = [span.split("-") for span, rights in spans if rights.startswith("---")]
    return {int(end, 16) - int(start, 16) for start, end in ends}


def test_text_is_not_timed(launcher: LocalLauncher, tmp_path: Path) -> None:
    """An input that cannot be bound is refused by its name; the worker lives on."""
    ends = [tensor_info(name, DType.STRING, shape=["n"]) for name in ("x", "y")]
    model = make_model([helper.make_node("Identity", ["x"], ["y"])], ends[:1], ends[1:])
    with opened(launcher, tmp_path, model) as session:
        with pytest.raises(RunFailed, match="input 'x' is no tensor of numbers: not timed"):
            session.bind([{"x": np.array(["a"], dtype=object)}], limit_s=60)
        assert session.alive


def test_waiting_for_a_core_is_no_work() -> None:
    """It is taken off; where the kernel claims more waiting than time, the time counts."""
    wall, waited = np.array([10, 20, 30]), np.array([0, 15, 31])
    np.testing.assert_array_equal(Slot(wall_ns=wall, waited_ns=waited).own_ns, [10, 5, 30])


class Busy:
    """What a caller runs: it counts, and fails at a call if asked for."""

    def __init__(self, fails_at: int = -1) -> None:
        self.calls = 0
        self._fails_at = fails_at

    def run(self) -> None:
        """Run once."""
        self.calls += 1
        if self.calls == self._fails_at:
            msg = "out of memory"
            raise RuntimeError(msg)


def test_callers_call_until_the_time_is_over() -> None:
    """Each tells its calls and the time that they took; the one before the start is not told."""
    busy = [Busy(), Busy()]
    calls, callers = crowd(busy, 2_000_000)
    assert [count for count, _ in callers] == [each.calls - 1 for each in busy]
    assert calls.size == sum(count for count, _ in callers) > 0
    assert all(took_ns >= 2_000_000 for _, took_ns in callers)


@pytest.mark.parametrize("fails_at", [1, 3], ids=["before the start", "later"])
def test_the_error_of_one_caller_is_told(fails_at: int) -> None:
    """And none waits for it."""
    with pytest.raises(RuntimeError, match="out of memory"):
        crowd([Busy(), Busy(fails_at), Busy()], 2_000_000)
