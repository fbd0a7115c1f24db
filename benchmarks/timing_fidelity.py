"""Is the p50 that the harness reports that of a bare loop over `run_with_iobinding`?

The two take turns, round by round, each time in fresh processes pinned to the same core: a bench
with one arm (what a stored figure is), a bench with two arms of one file (what a duet is), and a
loop of a few lines that knows nothing of the harness. What counts is the median over rounds of the
ratio within a round.
"""

from __future__ import annotations

import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import side_by_side as bench
from power.subjects import Subject, chains, short_chain

from harness.domain.project import ProjectSettings
from harness.domain.session import SessionConfig
from harness.measuring import Bench, Side, usable_cores
from harness.runtimes.launchers import LocalLauncher
from harness.runtimes.registry import Runtimes

MOST_APART = 0.02
GOAL = "reported p50 within 2 % of a bare loop, from 10 us a run upwards"
#: Timed by the loop in each round, after a tenth of it to warm up.
LOOP_S = 0.3
ONE, OTHER = "one", "other"
#: Bound once per set as the harness does, sets take turns; told is the median call, ns. The time
#: that the thread waited for a core is left out, or a busy machine would be all that is seen.
LOOP = """
import os, sys, time
import numpy, onnxruntime
file, data, core, seconds = sys.argv[1:]
os.sched_setaffinity(0, [int(core)])
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
bindings, arrays = [], numpy.load(data)
for name in arrays.files:
    binding = session.io_binding()
    binding.bind_ortvalue_input("h0", onnxruntime.OrtValue.ortvalue_from_numpy(arrays[name]))
    output = session.get_outputs()[0]
    binding.bind_ortvalue_output(
        output.name,
        onnxruntime.OrtValue.ortvalue_from_shape_and_type(output.shape, numpy.float32),
    )
    bindings.append(binding)
run, clock = session.run_with_iobinding, time.perf_counter_ns
schedule = os.open("/proc/thread-self/schedstat", os.O_RDONLY)
waited = lambda: int(os.pread(schedule, 64, 0).split()[1])
def timed(seconds):
    end, calls = clock() + int(seconds * 1e9), []
    while clock() < end or len(calls) < 20:
        before = waited()
        started = clock()
        run(bindings[len(calls) % len(bindings)])
        wall = clock() - started
        calls.append(wall - (waited() - before))
    return calls
timed(float(seconds) / 10)
print(numpy.median(timed(float(seconds))))
"""


def main() -> None:
    """Run the benchmark."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    options = bench.parser(__doc__, rounds=15).parse_args()
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
        for subject in subjects:
            if subject.name in side_of:
                rounds = 1 if options.quick else options.rounds
                p50s = timed(launcher, subject, side_of[subject.name], rounds)
                figures[subject.name] = told(p50s)
    apart = max(abs(each["alone_times_loop"] - 1) for each in figures.values())
    figures["worst_percent"] = round(100 * apart, 2)
    bench.report("timing_fidelity", figures=figures, goal=GOAL, met=apart <= MOST_APART)


def timed(
    launcher: LocalLauncher, subject: Subject, side: Side, rounds: int
) -> dict[str, list[float]]:
    """Return the p50 of each way in every round, us."""
    core = usable_cores()[0]
    benches = {
        "alone": Bench(launcher, {ONE: side}, sets=subject.sets, seed=1, cores=[core]),
        "duet": Bench(
            launcher, dict.fromkeys((ONE, OTHER), side), sets=subject.sets, seed=2, cores=[core]
        ),
    }
    found: dict[str, list[float]] = {"alone": [], "duet": [], "loop": []}

    def measured(name: str) -> None:
        if name == "loop":
            found[name].append(_looped(side.path, core))
        else:
            slots = benches[name].round(tuple(benches[name].arms))
            found[name].append(statistics.median(slots[ONE]) / 1e3)

    bench.alternate({name: lambda name=name: measured(name) for name in found}, rounds)
    return found


def told(p50s: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """Return p50s and what they are to the loop's, with the standard error of that."""
    figures: dict[str, Any] = {
        f"{name}_us": round(statistics.median(each), 2) for name, each in p50s.items()
    }
    for name in ("alone", "duet"):
        ratios = np.log(np.asarray(p50s[name]) / np.asarray(p50s["loop"]))
        spread = 1.4826 * float(np.median(np.abs(ratios - np.median(ratios))))
        figures[f"{name}_times_loop"] = round(math.exp(float(np.median(ratios))), 4)
        figures[f"{name}_error"] = round(1.25 * spread / math.sqrt(ratios.size), 4)
    return figures


def _written(folder: Path, subject: Subject) -> Path:
    path = folder / f"{subject.name}.onnx"
    onnx.save(subject.model, path)
    arrays = {f"set{number}": feeds["h0"] for number, feeds in enumerate(subject.sets)}
    np.savez(path.with_suffix(".npz"), **{name: np.asarray(each) for name, each in arrays.items()})
    return path


def _looped(path: Path, core: int) -> float:
    """Return the median call of a bare loop in a process of its own, us."""
    arguments = [str(path), str(path.with_suffix(".npz")), str(core), str(LOOP_S)]
    done = subprocess.run(
        [sys.executable, "-I", "-c", LOOP, *arguments], check=True, capture_output=True, text=True
    )
    return json.loads(done.stdout) / 1e3


if __name__ == "__main__":
    main()
