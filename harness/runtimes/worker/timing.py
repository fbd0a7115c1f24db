"""Timed runs of a session: inputs and outputs are bound once, calls are timed one by one.

Only `run_with_iobinding` lies between the two readings of the clock. Garbage collection is off
meanwhile, and the first call of a slot is dropped: the other process ran before it, and has left
its data in the caches.
"""

from __future__ import annotations

import gc
import os
import time
from typing import Any

import numpy as np

from . import values
from .serve import Refused

#: Of this thread: time on a core, time ready to run but waiting for one (both ns), turns.
SCHEDULE = "/proc/thread-self/schedstat"


class Stopwatch:
    """Times one session on sets of inputs that take turns.

    Args:
        ort: The module onnxruntime.
        session: The session.
        sets: For each set a mapping from input name to wire value.
        buffers: What the wire values point at.
        schedule: Of `open_schedule`, in the thread that runs the session.
        device: Kind and number of the device in whose memory inputs and outputs lie; None for the
            host's, so that copying is timed too.
    """

    def __init__(
        self,
        ort: Any,
        session: Any,
        sets: list[dict[str, Any]],
        buffers: list[memoryview],
        *,
        schedule: int,
        device: tuple[str, int] | None = None,
    ) -> None:
        self._session = session
        self._device = device
        self._schedule = schedule
        self.first_ns = 0
        self._outputs = [(node.name, node.type) for node in session.get_outputs()]
        self._bindings = [self._bound(ort, feeds, buffers) for feeds in sets]
        self._next = 0

    def slot(self, calls: int, drops: int) -> tuple[np.ndarray, np.ndarray]:
        """Return for each of `calls` calls its wall time, and how long it waited for a core, ns.

        `drops` calls are made before, and not told.
        """
        wall, waited = (np.empty(calls + drops, dtype=np.int64) for _ in range(2))
        enabled = gc.isenabled()
        gc.disable()
        try:
            for index in range(calls + drops):
                wall[index], waited[index] = self._timed(self._turn())
        finally:
            if enabled:
                gc.enable()
        return wall[drops:], waited[drops:]

    def run(self) -> None:
        """Run once on the next set, untimed."""
        self._session.run_with_iobinding(self._turn())

    def _timed(self, binding: Any) -> tuple[int, int]:
        """Run once, till the outputs are there; return wall time and waiting for a core, ns."""
        run, clock = self._session.run_with_iobinding, time.perf_counter_ns
        before = waited_ns(self._schedule)
        started = clock()
        run(binding)
        if self._device is not None:
            binding.synchronize_outputs()
        wall = clock() - started
        return wall, waited_ns(self._schedule) - before

    def outputs(self, which: int, buffers: list[Any]) -> list[list[Any]]:
        """Describe the tensors that the last timed run of a set gave.

        ONNX Runtime's Python interface reads sequences and maps of a plain run only.
        """
        results = self._bindings[which].get_outputs()
        return [
            [name, values.from_ort_value(result, buffers)]
            for (name, _), result in zip(self._outputs, results)
            if result.is_tensor()
        ]

    def _turn(self) -> Any:
        """Return the binding whose turn it is."""
        self._next = (self._next + 1) % len(self._bindings)
        return self._bindings[self._next]

    def _bound(self, ort: Any, feeds: dict[str, Any], buffers: list[memoryview]) -> Any:
        """Bind a set; a first run tells the shapes for which outputs are allocated."""
        binding = self._session.io_binding()
        for name, value in feeds.items():
            if value["t"] != "tensor" or value["dtype"] == values.STRING:
                raise Refused(
                    "latency.unsupported", f"input '{name}' is no tensor of numbers: not timed"
                )
            given = values.to_ort_value(ort, value, buffers)
            binding.bind_ortvalue_input(name, self._placed(ort, given))
        for name, _ in self._outputs:
            binding.bind_output(name, *(self._device or ("cpu", 0)))
        wall, waited = self._timed(binding)
        self.first_ns = self.first_ns or own_ns(wall, waited)
        for (name, kind), result in zip(self._outputs, binding.get_outputs()):
            if result.is_tensor() and kind != "tensor(string)":
                number = values.element_number(kind)
                space = ort.OrtValue.ortvalue_from_shape_and_type(
                    result.shape(), number, *(self._device or ("cpu", 0))
                )
                binding.bind_ortvalue_output(name, space)
        return binding

    def _placed(self, ort: Any, value: Any) -> Any:
        """Return a value in the memory that it is to be read from."""
        if self._device is None:
            return value
        return ort.OrtValue.ortvalue_from_numpy(value.numpy(), *self._device)


def peak_bytes() -> int:
    """Return this process's greatest resident memory so far; 0 where the system does not tell."""
    return _status_bytes("VmHWM")


def resident_bytes() -> int:
    """Return this process's resident memory; 0 where the system does not tell."""
    return _status_bytes("VmRSS")


def _status_bytes(field: str) -> int:
    try:
        with open("/proc/self/status", encoding="ascii") as file:
            lines = dict(line.split(":", 1) for line in file)
        return int(lines[field].split()[0]) * 1024
    except (OSError, KeyError):
        return 0


def own_ns(wall: int, waited: int) -> int:
    """Return a time without the waiting for a core, which may have begun before it."""
    return wall - waited if waited < wall else wall


def open_schedule() -> int:
    """Return a file descriptor for `waited_ns`; -1 where the kernel does not tell."""
    try:
        return os.open(SCHEDULE, os.O_RDONLY)
    except OSError:
        return -1  # not Linux, or a kernel without it


def waited_ns(schedule: int) -> int:
    """Return how long this thread has been ready to run without a core, since it began."""
    return int(os.pread(schedule, 64, 0).split()[1]) if schedule >= 0 else 0
