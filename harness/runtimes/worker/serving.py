"""Callers that run sessions at once, each in a thread of its own, for a fixed time.

ONNX Runtime gives the interpreter's lock away while it runs, so callers compete for cores as they
do in a Python service; what the interpreter itself takes between two calls is a part of that.
"""

from __future__ import annotations

import gc
import threading
import time
from array import array
from collections.abc import Sequence
from typing import Protocol

import numpy as np

#: Seconds for all callers to come to the start.
START_S = 60.0


class Bound(Protocol):
    """A session with inputs that are bound for one caller alone."""

    def run(self) -> None:
        """Run once."""


class Caller(threading.Thread):
    """Calls one session again and again.

    Args:
        bound: What it calls.
        start: Where all callers wait for each other.
        window_ns: How long it calls; a call that began in time is finished.
    """

    def __init__(self, bound: Bound, start: threading.Barrier, window_ns: int) -> None:
        super().__init__(daemon=True)
        self._bound = bound
        self._start = start
        self._window_ns = window_ns
        self.calls_ns = array("q")
        self.took_ns = 0
        self.error: Exception | None = None

    def run(self) -> None:
        """Call until the time is over."""
        try:
            self._call()
        except Exception as error:  # ONNX Runtime's, or a barrier that others broke
            self.error = error
            self._start.abort()

    def _call(self) -> None:
        run, clock = self._bound.run, time.perf_counter_ns
        run()  # in this thread, so that what it sets up is there
        self._start.wait(START_S)
        began = now = clock()
        while now - began < self._window_ns:
            run()
            after = clock()
            self.calls_ns.append(after - now)
            now = after
        self.took_ns = now - began


def crowd(sessions: Sequence[Bound], window_ns: int) -> tuple[np.ndarray, list[list[int]]]:
    """Let one caller run each session; return all calls (ns), and calls and time of each caller.

    The first error of a caller is raised.
    """
    start = threading.Barrier(len(sessions))
    callers = [Caller(each, start, window_ns) for each in sessions]
    gc.collect()
    gc.disable()
    try:
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()
    finally:
        gc.enable()
    errors = [each.error for each in callers if each.error is not None]
    for error in errors:
        if not isinstance(error, threading.BrokenBarrierError):
            raise error
    if errors:
        raise errors[0]
    calls = np.concatenate([np.frombuffer(each.calls_ns, dtype=np.int64) for each in callers])
    return calls, [[len(each.calls_ns), each.took_ns] for each in callers]
