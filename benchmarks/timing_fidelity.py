"""Is the p50 that the harness reports that of a bare loop over `run_with_iobinding`?

Both take turns in fresh processes pinned to the same core, slot by slot, as two sides of a duet do:
whether the other half of a processor core is busy changes a run by half, and changes every few
seconds. A slot of a bench with one arm is what the harness reports; the loop is a few lines that
know nothing of the harness. What counts is the median over rounds of the median ratio of a round.
"""

from __future__ import annotations

import math
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import side_by_side as bench
from power.subjects import Subject, chains, short_chain

from harness.domain.duet import observation
from harness.domain.project import ProjectSettings
from harness.domain.session import SessionConfig
from harness.measuring import Bench, Side, usable_cores
from harness.runtimes.launchers import LocalLauncher
from harness.runtimes.registry import Runtimes
from harness.runtimes.sessions import Session

MOST_APART = 0.02
GOAL = "reported p50 within 2 % of a bare loop, from 10 us a run upwards"
ONE = "one"
#: Calls from this length on are interrupted on a busy machine, so the time that the thread waited
#: for a core is left out of them, as the harness does. Shorter ones are timed with the clock alone.
LONG_US = 1000.0
#: numpy's BLAS starts a thread for each core when it is imported. They never run here, but a
#: process of several threads locks and counts references in slower ways, ONNX Runtime included.
ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1"}
#: For each number on its standard input, the loop runs so often and prints the median call, ns.
#: Sets are bound once and take turns; the first call is left out: the other process ran before.
LOOP = """
import os, sys, time
import numpy, onnxruntime
file, data, core, is_long = sys.argv[1:]
os.sched_setaffinity(0, [int(core)])
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
bindings, arrays, output = [], numpy.load(data), session.get_outputs()[0]
for name in arrays.files:
    binding = session.io_binding()
    binding.bind_ortvalue_input("h0", onnxruntime.OrtValue.ortvalue_from_numpy(arrays[name]))
    place = onnxruntime.OrtValue.ortvalue_from_shape_and_type(output.shape, numpy.float32)
    binding.bind_ortvalue_output(output.name, place)
    bindings.append(binding)
run, clock = session.run_with_iobinding, time.perf_counter_ns
schedule = os.open("/proc/thread-self/schedstat", os.O_RDONLY)
waited = lambda: int(os.pread(schedule, 64, 0).split()[1]) if int(is_long) else 0
def timed(binding):
    before = waited()
    started = clock()
    run(binding)
    return clock() - started - (waited() - before)
for line in sys.stdin:
    calls = [timed(bindings[number % len(bindings)]) for number in range(int(line) + 1)]
    print(numpy.median(calls[1:]), flush=True)
"""


class Loop:
    """A bare loop in a process of its own."""

    def __init__(self, path: Path, core: int, *, is_long: bool, blas_threads: bool) -> None:
        data = path.with_suffix(".npz")
        arguments = [str(path), str(data), str(core), str(int(is_long))]
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-c", LOOP, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **({} if blas_threads else ONE_THREAD)},
        )

    def median_ns(self, calls: int) -> float:
        """Return the median of so many calls."""
        given, told = self._process.stdin, self._process.stdout
        if given is None or told is None:
            msg = "started without pipes"
            raise ValueError(msg)
        print(calls, file=given, flush=True)
        return float(told.readline())

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()


class BesideLoop(Bench):
    """A bench whose slots each have one of the loop before or after them."""

    def __init__(self, *args: Any, core: int, path: Path, blas_threads: bool, **named: Any) -> None:
        super().__init__(*args, cores=[core], **named)
        self._core, self._path, self._blas_threads = core, path, blas_threads
        self._loop: Loop | None = None
        self.loops_ns: list[float] = []
        """Median call of each of the loop's slots."""

    def round(self, names: Sequence[str]) -> dict[str, list[float]]:
        """Measure with a fresh loop."""
        self.loops_ns = []
        try:
            return super().round(names)
        finally:
            self._end()

    def _end(self) -> None:
        if self._loop is not None:
            self._loop.close()
            self._loop = None

    def _slot(self, arm: str, session: Session, call_ns: float) -> float:
        if self._loop is None:
            self._loop = Loop(
                self._path,
                self._core,
                is_long=call_ns > 1e3 * LONG_US,
                blas_threads=self._blas_threads,
            )
            for _ in range(3):  # warm, as the harness's own
                self._loop.median_ns(max(10, round(2e7 / call_ns)))
        calls = max(2, round(4e6 / call_ns))
        if self._random.random() < 1 / 2:
            self.loops_ns.append(self._loop.median_ns(calls))
            return super()._slot(arm, session, call_ns)
        found = super()._slot(arm, session, call_ns)
        self.loops_ns.append(self._loop.median_ns(calls))
        return found


def main() -> None:
    """Run the benchmark."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    parser = bench.parser(__doc__, rounds=15)
    parser.add_argument(
        "--blas-threads", action="store_true", help="let the loop have numpy's idle threads"
    )
    options = parser.parse_args()
    subjects = [short_chain(10), short_chain(40), *chains()[:2]]
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder, LocalLauncher() as launcher:
        place = Path(folder)
        runtimes = Runtimes(ProjectSettings(), place, place / "runtimes", launcher)
        resolved = runtimes.resolve("cpu")
        side_of = {
            subject.name: Side(
                path=_written(place, subject),
                resolved=resolved,
                config=SessionConfig(provider=resolved.provider.ep),
                limits_s=(60.0, 60.0),
            )
            for subject in (subjects[:1] if options.quick else subjects)
        }
        for subject in subjects[: len(side_of)]:
            rounds = 1 if options.quick else options.rounds
            found = timed(
                launcher,
                subject,
                side_of[subject.name],
                rounds,
                blas_threads=options.blas_threads,
            )
            figures[subject.name] = told(found)
    apart = max(abs(each["times_loop"] - 1) for each in figures.values())
    figures["worst_percent"] = round(100 * apart, 2)
    bench.report("timing_fidelity", figures=figures, goal=GOAL, met=apart <= MOST_APART)


def timed(
    launcher: LocalLauncher, subject: Subject, side: Side, rounds: int, *, blas_threads: bool
) -> list[tuple[float, float]]:
    """Return the p50 of every round, us, and the log ratio of it to the loop's."""
    cores = usable_cores()
    benches = [
        BesideLoop(
            launcher,
            {ONE: side},
            sets=subject.sets,
            seed=core,
            core=core,
            path=side.path,
            blas_threads=blas_threads,
        )
        for core in cores
    ]
    found = []
    for number in range(rounds):
        one = benches[number % len(cores)]
        slots = one.round((ONE,))[ONE]
        ratio = observation(slots, one.loops_ns)
        found.append((statistics.median(slots) / 1e3, ratio))
    return found


def told(found: Sequence[tuple[float, float]]) -> dict[str, float]:
    """Return p50 and what it is to the loop's, with the standard error of that."""
    ratios = np.array([ratio for _, ratio in found])
    spread = 1.4826 * float(np.median(np.abs(ratios - np.median(ratios))))
    return {
        "p50_us": round(statistics.median(p50 for p50, _ in found), 2),
        "times_loop": round(math.exp(float(np.median(ratios))), 4),
        "error": round(1.25 * spread / math.sqrt(ratios.size), 4),
    }


def _written(folder: Path, subject: Subject) -> Path:
    path = folder / f"{subject.name}.onnx"
    onnx.save(subject.model, path)
    np.savez(path.with_suffix(".npz"), *(np.asarray(feeds["h0"]) for feeds in subject.sets))
    return path


if __name__ == "__main__":
    main()
