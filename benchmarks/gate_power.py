"""What the latency gate sees, and what it sees where nothing is: live decisions, one by one.

Every decision is the gate's own: its Duet, its stages, its rule for one of 400 decisions (200 cells,
p50 and start-up). Candidates are the control in another file (nothing changed), chains with added
layers (slower by a known share) and real graphs with real faults. All pairs of every decision are
appended to a recording, so that runs add up; `--report` makes tables and a plot from recordings
without measuring.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import side_by_side as bench
from power import neighbours, trials
from power.subjects import GRAPH_FAULTS, LONG, MIDDLE, SHORT, Subject, chains, shipped
from power.trials import Laboratory, Task

from harness.domain.project import ProjectSettings
from harness.runtimes.launchers import LocalLauncher
from harness.runtimes.registry import Runtimes

SCALES = (SHORT, MIDDLE, LONG)
SLOWER = (1, 2, 3, 5, 10)


def main() -> None:
    """Measure, report, or both."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    parser = bench.parser(__doc__, rounds=1)
    parser.add_argument("--record", type=Path, metavar="FILE", help="append every decision to it")
    parser.add_argument(
        "--plan", choices=PLANS, action="append", help="what is measured; default: unchanged"
    )
    parser.add_argument("--scale", choices=SCALES, action="append", help="default: all")
    parser.add_argument(
        "--condition",
        choices=(neighbours.AS_FOUND, neighbours.BURSTS, neighbours.BUSY),
        action="append",
        help=f"default: '{neighbours.AS_FOUND}'",
    )
    parser.add_argument("--layers", type=int, action="append", help="of the plan 'slower'")
    parser.add_argument("--minutes", type=float, default=1e6, help="begin nothing afterwards")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, LocalLauncher() as launcher:
        project = Path(folder)
        runtimes = Runtimes(ProjectSettings(), project, project / "runtimes", launcher)
        seed = int.from_bytes(os.urandom(4))
        laboratory = Laboratory(launcher, runtimes.resolve("cpu"), project, seed)
        subjects = [*chains(), *shipped(launcher, runtimes)]
        subjects = [each for each in subjects if each.scale in (options.scale or SCALES)]
        until = time.monotonic() + 60 * options.minutes
        for _ in range(options.rounds):
            for condition in options.condition or [neighbours.AS_FOUND]:
                tasks = [
                    task
                    for plan in options.plan or ["unchanged"]
                    for subject in subjects
                    for task in PLANS[plan](subject, options.layers or SLOWER)
                ]
                with neighbours.beside(condition), options.record.open("a") as file:
                    for trial in laboratory.decide(tasks, condition, until):
                        line = trials.plain(trial)
                        print(json.dumps(line), file=file, flush=True)


def unchanged(subject: Subject, _: object) -> Iterator[Task]:
    yield Task(subject=subject)


def slower(subject: Subject, layers: tuple[int, ...]) -> Iterator[Task]:
    if subject.grown is not None:
        yield from (Task(subject=subject, layers=each) for each in layers)


def faults(subject: Subject, _: object) -> Iterator[Task]:
    if subject.grown is None:
        operators = {node.op_type for node in subject.model.graph.node}
        for name in GRAPH_FAULTS:
            if name == "Cast pair" or name.split()[0] in operators | {"inner"}:
                yield Task(subject=subject, fault=name)
        yield Task(subject=subject, fault=trials.UNOPTIMISED)
        yield Task(subject=subject, fault=trials.FEWER_THREADS)


def ablations(subject: Subject, _: object) -> Iterator[Task]:
    if subject.grown is not None:
        for way in (trials.SEQUENTIAL, trials.UNPINNED, trials.ONE_PAIR):
            yield from (Task(subject=subject, layers=each, way=way) for each in (0, 3))


PLANS: dict[str, Callable[..., Iterator[Task]]] = {
    "unchanged": unchanged,
    "slower": slower,
    "faults": faults,
    "ablations": ablations,
}


if __name__ == "__main__":
    main()
