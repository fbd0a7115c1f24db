"""What a GPU tells, and what is made of one that does not."""

from __future__ import annotations

import pytest

from harness.errors import EnvironmentProblem
from harness.runtimes import gpu
from harness.runtimes.gpu import State
from tests import nvml


def state(monkeypatch: pytest.MonkeyPatch, timed: int = 2, **told: object) -> State:
    """Return the state of a GPU that tells this."""
    nvml.install(monkeypatch, "NVIDIA H200", **told)  # type: ignore[arg-type]
    with gpu.watched(0) as device:
        return device.state(timed)


def test_a_quiet_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clock of its multiprocessors, temperature; being idle is no reason to distrust it."""
    assert state(monkeypatch, processes=2) == State(
        clock_mhz=1980, celsius=41, slowed=(), strangers=0
    )


@pytest.mark.parametrize(
    ("reasons", "slowed"),
    [
        (0x00, ()),
        (0x01 | 0x02 | 0x10 | 0x100, ()),
        (0x04, ("power cap",)),
        (0x08 | 0x40, ("hardware slowdown", "too hot, says the hardware")),
        (0x20, ("too hot, says the driver",)),
        (0x80 | 0x01, ("power brake",)),
    ],
)
def test_why_clocks_are_low(
    monkeypatch: pytest.MonkeyPatch, reasons: int, slowed: tuple[str, ...]
) -> None:
    """Idle clocks and those that somebody set are as they should be."""
    assert state(monkeypatch, reasons=[reasons]).slowed == slowed


@pytest.mark.parametrize(("processes", "strangers"), [(0, 0), (2, 0), (5, 3)])
def test_strangers_are_counted(
    monkeypatch: pytest.MonkeyPatch, processes: int, strangers: int
) -> None:
    """NVML names processes by their numbers outside of a container."""
    assert state(monkeypatch, timed=2, processes=processes).strangers == strangers


@pytest.mark.parametrize(
    ("fails", "field"),
    [("clock", "clock_mhz"), ("temperature", "celsius"), ("processes", "strangers")],
)
def test_what_a_device_does_not_tell_is_left_open(
    monkeypatch: pytest.MonkeyPatch, fails: str, field: str
) -> None:
    """A divided device has no clocks of its own."""
    found = state(monkeypatch, fails=fails)
    assert getattr(found, field) is None
    others = {"clock_mhz", "celsius", "strangers"} - {field}
    assert all(getattr(found, each) is not None for each in others)


def test_memory_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the whole device; 0 if it does not tell."""
    nvml.install(monkeypatch, "NVIDIA H200", used=[7 * 2**20])
    with gpu.watched(0) as device:
        assert device.used_bytes() == 7 * 2**20
    nvml.install(monkeypatch, "NVIDIA H200", fails="memory")
    with gpu.watched(0) as device:
        assert device.used_bytes() == 0


def test_visible_devices_are_counted_as_cuda_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """A runner that was given its second GPU watches that one, by number or by name."""
    calls = nvml.install(monkeypatch, "NVIDIA H200", "NVIDIA H200")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,GPU-6f1e")
    with gpu.watched(1):
        assert calls == ["init", "GPU-6f1e"]
    assert calls[-1] == "shutdown"


def test_a_lost_gpu_is_an_error_for_users(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not a traceback of NVML."""
    nvml.install(monkeypatch, "NVIDIA H200", fails="init")
    with pytest.raises(EnvironmentProblem, match="NVML says: Driver Not Loaded"), gpu.watched(0):
        pass


def test_summary() -> None:
    """Ranges over all readings; other processes only where there are some."""
    cool = State(clock_mhz=1980, celsius=41, slowed=(), strangers=0)
    warm = State(clock_mhz=1755, celsius=44, slowed=("power cap",), strangers=2)
    silent = State(clock_mhz=None, celsius=None, slowed=(), strangers=None)
    assert gpu.summary([cool, cool]) == "1,980 MHz, 41 degrees Celsius"
    assert gpu.summary([cool, warm, silent]) == (
        "1,755 to 1,980 MHz, 41 to 44 degrees Celsius, 2 other processes on it"
    )
    assert gpu.summary([silent]) == ""
    assert gpu.summary([]) == ""
