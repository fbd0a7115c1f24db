"""An NVML with the devices that a test wants: this machine may have none."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest


class NvmlError(Exception):
    """What NVML raises."""


def install(
    monkeypatch: pytest.MonkeyPatch,
    *names: str | bytes,
    fails: str = "",
    reasons: Iterable[int] = (),
    used: Iterable[int] = (),
    processes: int = 0,
) -> list[str]:
    """Install it, and return the list of its calls.

    Args:
        monkeypatch: Takes it away again.
        names: Of the GPUs.
        fails: Which question NVML cannot answer.
        reasons: Clock event reasons, one for each time that they are asked for; then none.
        used: Bytes in use, in the same way; then 0.
        processes: How many use each GPU.
    """
    calls: list[str] = []
    nvml: Any = ModuleType("pynvml")
    slowed, taken = iter(reasons), iter(used)

    def told(question: str, answer: Any) -> Any:
        if fails == question:
            message = {"init": "Driver Not Loaded"}.get(question, "GPU is lost")
            raise NvmlError(message)
        return answer

    def start() -> None:
        calls.append("init")
        told("init", None)

    def by_name(name: str) -> str:
        calls.append(name)
        return name

    nvml.NVMLError = NvmlError
    nvml.NVML_CLOCK_SM, nvml.NVML_TEMPERATURE_GPU = 1, 0
    nvml.nvmlInit = start
    nvml.nvmlShutdown = lambda: calls.append("shutdown")
    nvml.nvmlDeviceGetCount = lambda: len(names)
    nvml.nvmlDeviceGetHandleByIndex = lambda index: index
    nvml.nvmlDeviceGetHandleByUUID = by_name
    nvml.nvmlDeviceGetName = lambda index: told("name", names[index])
    nvml.nvmlSystemGetDriverVersion = lambda: "580.65.06"
    nvml.nvmlSystemGetCudaDriverVersion_v2 = lambda: 12040
    nvml.nvmlDeviceGetClockInfo = lambda _, kind: told("clock", 1980 if kind == 1 else 2619)
    nvml.nvmlDeviceGetTemperature = lambda _, sensor: told("temperature", 41 + sensor)
    nvml.nvmlDeviceGetCurrentClocksEventReasons = lambda _: told("reasons", next(slowed, 0x01))
    nvml.nvmlDeviceGetComputeRunningProcesses = lambda _: told("processes", [None] * processes)
    nvml.nvmlDeviceGetMemoryInfo = lambda _: told("memory", SimpleNamespace(used=_next(taken)))
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    return calls


def _next(values: Iterator[int]) -> int:
    return next(values, 0)
