"""NVIDIA GPUs as their driver tells them: which there are, and in what state one is while timing.

Read through NVML (package `nvidia-ml-py`). What a device does not tell is left open, because small
and divided devices tell less.
"""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from harness.errors import EnvironmentProblem

#: Bits of NVML's clock event reasons under which a device runs slower than it could.
SLOWED = {
    0x04: "power cap",
    0x08: "hardware slowdown",
    0x20: "too hot, says the driver",
    0x40: "too hot, says the hardware",
    0x80: "power brake",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """What all GPUs of this machine are."""

    driver: str
    cuda: str
    """Newest version of CUDA that the driver serves."""
    names: str
    """Of all GPUs, equal ones counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What one GPU told at one time; None is what it does not tell."""

    clock_mhz: int | None
    """Of its multiprocessors."""
    celsius: int | None
    slowed: tuple[str, ...]
    """Why its clocks are lower than they could be."""
    strangers: int | None
    """Processes on it beside those that are timed."""


class Gpu:
    """One GPU, while NVML is open."""

    def __init__(self, nvml: Any, handle: Any) -> None:
        self._nvml = nvml
        self._handle = handle

    def state(self, timed: int) -> State:
        """Return its state now.

        Args:
            timed: How many processes of ours use it. They are counted, not looked for: inside a
                container NVML names processes by other numbers.
        """
        nvml, handle = self._nvml, self._handle
        reasons = self._told(lambda: nvml.nvmlDeviceGetCurrentClocksEventReasons(handle))
        processes = self._told(lambda: len(nvml.nvmlDeviceGetComputeRunningProcesses(handle)))
        return State(
            clock_mhz=self._told(lambda: nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM)),
            celsius=self._told(
                lambda: nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU)
            ),
            slowed=tuple(why for bit, why in SLOWED.items() if (reasons or 0) & bit),
            strangers=None if processes is None else max(0, processes - timed),
        )

    def used_bytes(self) -> int:
        """Return how much of its memory is in use, by all processes; 0 if it does not tell."""
        return self._told(lambda: self._nvml.nvmlDeviceGetMemoryInfo(self._handle).used) or 0

    def _told(self, ask: Callable[[], int]) -> int | None:
        with contextlib.suppress(self._nvml.NVMLError):
            return int(ask())
        return None


def described() -> Described:
    """Return what the GPUs of this machine are.

    Raises:
        EnvironmentProblem: If there is none, or it cannot be asked; code `provider.no-device` or
            `package.missing`.
    """
    with _opened() as nvml:
        handles = map(nvml.nvmlDeviceGetHandleByIndex, range(nvml.nvmlDeviceGetCount()))
        names = Counter(_as_text(nvml.nvmlDeviceGetName(handle)) for handle in handles)
        shown = [f"{count}x {name}" if count > 1 else name for name, count in sorted(names.items())]
        cuda = nvml.nvmlSystemGetCudaDriverVersion_v2()  # 12040 is 12.4
        driver = _as_text(nvml.nvmlSystemGetDriverVersion())
    if not shown:
        got = "NVML counts 0 devices"
        raise _no_device(got)
    return Described(
        driver=driver, cuda=f"{cuda // 1000}.{cuda % 1000 // 10}", names=", ".join(shown)
    )


@contextmanager
def watched(number: int) -> Iterator[Gpu]:
    """Give a GPU whose state can be read.

    Args:
        number: As CUDA counts: among the devices that `CUDA_VISIBLE_DEVICES` names, if it is set.
            CUDA counts like NVML where all devices are alike, or `CUDA_DEVICE_ORDER=PCI_BUS_ID`.

    Raises:
        EnvironmentProblem: As `described`.
    """
    with _opened() as nvml:
        visible = [each for each in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if each]
        name = visible[number].strip() if number < len(visible) else str(number)
        by_index, by_name = nvml.nvmlDeviceGetHandleByIndex, nvml.nvmlDeviceGetHandleByUUID
        yield Gpu(nvml, by_index(int(name)) if name.isdecimal() else by_name(name))


def summary(states: Sequence[State]) -> str:
    """Return in words in what state a device was; empty if it was never asked."""
    clocks = [each.clock_mhz for each in states if each.clock_mhz is not None]
    degrees = [each.celsius for each in states if each.celsius is not None]
    strangers = max((each.strangers or 0 for each in states), default=0)
    told = [
        f"{_range(clocks)} MHz" if clocks else "",
        f"{_range(degrees)} degrees Celsius" if degrees else "",
        f"{strangers} other processes on it" if strangers else "",
    ]
    return ", ".join(filter(None, told))


def _range(values: Sequence[int]) -> str:
    low, high = min(values), max(values)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


@contextmanager
def _opened() -> Iterator[Any]:
    """Give NVML; what it says while it is asked becomes an error that a user can read."""
    try:
        import pynvml  # an optional extra
    except ImportError:
        msg = "Package 'nvidia-ml-py' is not installed"
        raise EnvironmentProblem(
            msg,
            code="package.missing",
            expected="'nvidia-ml-py' beside the harness, to tell which GPU figures belong to",
            next_step="pip install nvidia-ml-py",
        ) from None
    try:
        pynvml.nvmlInit()
        try:
            yield pynvml
        finally:
            pynvml.nvmlShutdown()
    except pynvml.NVMLError as error:
        got = f"NVML says: {error}"
        raise _no_device(got) from None


def _as_text(told: str | bytes) -> str:
    """Return text: old releases of the package give bytes."""
    return told.decode() if isinstance(told, bytes) else told


def _no_device(got: str) -> EnvironmentProblem:
    msg = "No NVIDIA GPU can be asked for its name"
    return EnvironmentProblem(
        msg,
        code="provider.no-device",
        expected="a GPU and its driver, which NVML comes with",
        got=got,
        next_step="check `nvidia-smi`",
    )
