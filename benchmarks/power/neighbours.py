"""Other processes, so that a gate's decisions are tried beside them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

AS_FOUND, BURSTS, BUSY = "as found", "bursty neighbour", "busy cores"
#: About 250 ms of streaming 24 MB through the memory, then about 350 ms of nothing.
_BURSTY = """
import numpy, random, time
data = numpy.zeros(24_000_000 // 8)
def work(): numpy.add(data, 1.0, out=data)
def rest(): time.sleep(random.expovariate(1 / 0.35))
def length(): return random.expovariate(1 / 0.25)
"""
_BUSY = """
import time
def work(): sum(range(10_000))
def rest(): pass
def length(): return 1.0
"""
#: Ends with its parent, whatever ends that.
_LOOP = """
import os
parent = os.getppid()
while os.getppid() == parent:
    end = time.monotonic() + length()
    while time.monotonic() < end:
        work()
    rest()
"""


@contextmanager
def beside(condition: str) -> Iterator[None]:
    """Let the neighbours of a condition run, unpinned, whatever this process may use."""
    count = {AS_FOUND: 0, BURSTS: 1, BUSY: os.cpu_count() or 1}[condition]
    program = (_BURSTY if condition == BURSTS else _BUSY) + _LOOP
    command = [sys.executable, "-c", program]
    running = [subprocess.Popen(command) for _ in range(count)]
    try:
        for process in running:
            os.sched_setaffinity(process.pid, range(os.cpu_count() or 1))
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()
