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
    """

    def __init__(
        self, ort: Any, session: Any, sets: list[dict[str, Any]], buffers: list[memoryview]
    ) -> None:
        self._session = session
        self._outputs = [(node.name, node.type) for node in session.get_outputs()]
        self._bindings = [self._bound(ort, feeds, buffers) for feeds in sets]
        self._next = 0
        self._schedule = _opened(SCHEDULE)

    def slot(self, calls: int) -> tuple[np.ndarray, np.ndarray]:
        """Return for each of `calls` calls its wall time, and how long it waited for a core, ns."""
        wall, waited = (np.empty(calls + 1, dtype=np.int64) for _ in range(2))
        run, clock, bindings = self._session.run_with_iobinding, time.perf_counter_ns, self._turns()
        enabled = gc.isenabled()
        gc.disable()
        try:
            for index in range(calls + 1):
                binding = next(bindings)
                before = self._waited_ns()
                started = clock()
                run(binding)
                wall[index] = clock() - started
                waited[index] = self._waited_ns() - before
        finally:
            if enabled:
                gc.enable()
        return wall[1:], waited[1:]

    def _waited_ns(self) -> int:
        """Return how long this thread has been ready to run without a core, since it began."""
        if self._schedule < 0:
            return 0
        return int(os.pread(self._schedule, 64, 0).split()[1])

    def outputs(self, which: int, buffers: list[Any]) -> list[list[Any]]:
        """Describe what the last timed run of a set gave."""
        results = self._bindings[which].get_outputs()
        return [
            [name, values.from_ort_value(result, buffers)]
            for (name, _), result in zip(self._outputs, results)
        ]

    def _turns(self) -> Any:
        while True:
            self._next = (self._next + 1) % len(self._bindings)
            yield self._bindings[self._next]

    def _bound(self, ort: Any, feeds: dict[str, Any], buffers: list[memoryview]) -> Any:
        """Bind a set; a first run tells the shapes for which outputs are allocated."""
        binding = self._session.io_binding()
        for name, value in feeds.items():
            if value["t"] != "tensor" or value["dtype"] == values.STRING:
                raise Refused(
                    "value.unsupported", f"input '{name}' is no tensor of numbers: not timed"
                )
            binding.bind_ortvalue_input(name, values.to_ort_value(ort, value, buffers))
        for name, _ in self._outputs:
            binding.bind_output(name)
        self._session.run_with_iobinding(binding)
        for (name, kind), result in zip(self._outputs, binding.get_outputs()):
            if result.is_tensor() and kind != "tensor(string)":
                number = values.element_number(kind)
                space = ort.OrtValue.ortvalue_from_shape_and_type(result.shape(), number)
                binding.bind_ortvalue_output(name, space)
        return binding


def _opened(path: str) -> int:
    try:
        return os.open(path, os.O_RDONLY)
    except OSError:
        return -1  # not Linux, or a kernel without it
