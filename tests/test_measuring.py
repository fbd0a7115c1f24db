"""The bench: fresh workers in turns, each with a memory layout of its own."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper

from harness import measuring
from harness.domain.providers import BUILTIN
from harness.domain.session import SessionConfig
from harness.domain.spec import IoMode
from harness.errors import EnvironmentProblem, ModelFileError, RunFailed
from harness.measuring import WEIGHED, Bench, Side
from harness.runtimes import sessions
from harness.runtimes.launchers import LocalLauncher
from harness.runtimes.registry import Resolved, Runtime
from harness.testing import make_model, tensor_info
from tests import nvml

OWN = Runtime(name="own", python=sys.executable, source="own")
SETS = [{"x": np.zeros((2, 3), dtype=np.float32)}]
ROUNDS = WEIGHED + 1


@pytest.fixture(scope="module")
def launcher() -> Iterator[LocalLauncher]:
    """Yield a launcher for all tests of this module."""
    with LocalLauncher() as shared:
        yield shared


def bench(
    launcher: LocalLauncher,
    folder: Path,
    seed: int = 0,
    *,
    op: str = "Relu",
    device: str = "",
    io_mode: IoMode = "host",
    arms: Sequence[str] = ("candidate", "control"),
) -> Bench:
    """Return a bench with one model on all sides.

    Args:
        launcher: Starts the workers.
        folder: For the model.
        seed: Of all that is drawn.
        op: What the model's only node does.
        device: What the provider, which is the CPU's, says of its memory.
        io_mode: Where inputs and outputs lie.
        arms: Names of the sides.
    """
    ends = [tensor_info(name, shape=[2, 3]) for name in ("x", "y")]
    model = make_model([helper.make_node(op, ["x"], ["y"])], ends[:1], ends[1:])
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    side = Side(
        path=path,
        resolved=Resolved(name="cpu", provider=replace(BUILTIN["cpu"], device=device), runtime=OWN),
        config=SessionConfig(provider="CPUExecutionProvider"),
        limits_s=(60.0, 60.0),
        io_mode=io_mode,
    )
    return Bench(launcher, dict.fromkeys(arms, side), sets=SETS, seed=seed, unweighed={"sentinel"})


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


def test_an_arm_whose_memory_nobody_asks_for_is_not_weighed(
    launcher: LocalLauncher, tmp_path: Path, layouts: list[int | None]
) -> None:
    """A sentinel is there for its times: its three workers would be for nothing."""
    found = bench(launcher, tmp_path, arms=("control", "sentinel"))
    found.round(("control", "sentinel"))
    assert layouts.count(None) == 1
    assert found.arms["sentinel"].memory_bytes == []
    assert found.arms["sentinel"].calls > 0


def test_what_is_not_finite_is_the_same_in_timed_and_untimed_runs(
    launcher: LocalLauncher, tmp_path: Path
) -> None:
    """A model whose right output has infinities can be timed: parity judges its values."""
    found = bench(launcher, tmp_path, op="Log")  # of zeros
    found.round(("candidate", "control"))
    assert found.arms["candidate"].calls > 0


def test_timed_runs_with_other_outputs_are_told(launcher: LocalLauncher, tmp_path: Path) -> None:
    """What draws new numbers in every run cannot be timed, as its work is not known."""
    with pytest.raises(RunFailed, match=r"Timed runs of the .* give other outputs"):
        bench(launcher, tmp_path, op="RandomNormalLike").round(("candidate", "control"))


def test_a_seed_draws_the_same_layouts_again(
    launcher: LocalLauncher, tmp_path: Path, layouts: list[int | None]
) -> None:
    """The stored seed of a run repeats its orders and its layouts."""
    for _ in range(2):
        bench(launcher, tmp_path, seed=5).round(("candidate", "control"))
    half = len(layouts) // 2
    assert layouts[:half] == layouts[half:]


ARMS = ("candidate", "control")


def test_a_round_on_a_slowed_gpu_is_no_evidence(
    launcher: LocalLauncher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is measured again, and leaves nothing behind but its mention."""
    nvml.install(monkeypatch, "NVIDIA H200", reasons=[0x01, 0x04], processes=2)
    monkeypatch.setattr(measuring, "COOLING_S", 0.0)
    found = bench(launcher, tmp_path, device="cuda")
    found.round(ARMS)
    for arm in found.arms.values():
        assert len(arm.medians_ns) == len(arm.startup_ns) == 1
        assert len(arm.memory_bytes) == len(arm.gpu_bytes) == 1
    assert found.gpu_facts() == {
        "gpu": "1,980 MHz, 41 degrees Celsius",
        "gpu_slowed": "1 rounds thrown away",
    }


def test_a_gpu_that_stays_slowed_is_not_timed(
    launcher: LocalLauncher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reasons are told; nothing is judged."""
    nvml.install(monkeypatch, "NVIDIA H200", reasons=[0x44] * 10_000)
    monkeypatch.setattr(measuring, "COOLING_S", 0.0)
    monkeypatch.setattr(measuring, "MOST_ATTEMPTS", 2)
    with pytest.raises(EnvironmentProblem) as caught:
        bench(launcher, tmp_path, device="cuda").round(ARMS)
    assert caught.value.code == "latency.throttled"
    assert str(caught.value) == (
        "The GPU was slowed in 2 rounds in a row: nothing can be timed\n"
        "  expected: full clocks while timing\n"
        "  got:      power cap, too hot, says the hardware\n"
        "  next:     let it cool, or lock its clocks: `nvidia-smi --lock-gpu-clocks`"
    )


def test_memory_of_the_gpu_is_what_a_worker_adds(
    launcher: LocalLauncher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the whole device, before the worker and after its runs."""
    nvml.install(monkeypatch, "NVIDIA H200", used=[100, 700, 90, 690])
    found = bench(launcher, tmp_path, device="cuda")
    found.round(ARMS)
    assert [arm.gpu_bytes for arm in found.arms.values()] == [[600], [600]]


def test_without_a_gpu_none_is_asked(launcher: LocalLauncher, tmp_path: Path) -> None:
    """NVML is an optional package."""
    found = bench(launcher, tmp_path)
    found.round(ARMS)
    assert found.gpu_facts() == {}
    assert [arm.gpu_bytes for arm in found.arms.values()] == [[], []]


def test_values_can_lie_on_the_device(
    launcher: LocalLauncher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Inputs and outputs are bound there, and timed runs still give what untimed ones do."""
    bound: list[object] = []
    binds = sessions.Session.bind

    def noting(self: sessions.Session, *args: Any, **named: Any) -> float:
        bound.append(named["device"])
        return binds(self, *args, **named)

    monkeypatch.setattr(sessions.Session, "bind", noting)
    found = bench(launcher, tmp_path, device="cpu", io_mode="device")
    assert all(each > 0 for slots in found.round(ARMS).values() for each in slots)
    bench(launcher, tmp_path, device="cpu").round(ARMS)
    assert bound == [("cpu", 0)] * 4 + [None] * 4


def test_a_device_that_the_runtime_lacks_is_refused(
    launcher: LocalLauncher, tmp_path: Path
) -> None:
    """ONNX Runtime's own words, no traceback: this build has no such device."""
    with pytest.raises(ModelFileError, match="cannot be timed"):
        bench(launcher, tmp_path, device="dml", io_mode="device").round(ARMS)
