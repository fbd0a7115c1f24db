"""What the latency gate sees, and what it sees where nothing is: live decisions, one by one.

Every decision is the gate's own: its Duet, its stages, its rule for one of 400 decisions (200
cells, p50 and start-up). Candidates are the control in another file (nothing changed), chains with
added layers (slower by a known share) and real graphs with real faults. All pairs of every decision
are appended to a recording, so that runs add up; `--report` makes tables and a plot from recordings
without measuring.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import side_by_side as bench
from power import neighbours, tables, trials
from power.plugin import PluginGate
from power.subjects import GRAPH_FAULTS, LONG, MIDDLE, MOVED, SHORT, Subject, chains, shipped
from power.trials import Laboratory, Task

from harness.domain.project import ProjectSettings
from harness.files.places import runtimes_folder
from harness.runtimes.launchers import LocalLauncher
from harness.runtimes.registry import Runtimes

SCALES = (SHORT, MIDDLE, LONG)
SLOWER = (1, 2, 3, 5, 10)
#: Slowdown in per cent -> share of decisions that are to see it.
SEEN = {2: 0.95, 3: 0.99}
#: Seconds for a decision where nothing changed, by class.
MOST_SECONDS = {SHORT: 10, MIDDLE: 10, LONG: 30}
GOAL = (
    "2 % slower is seen in at least 95 % of decisions, 3 % in at least 99 %, nothing where nothing "
    "changed, which takes at most 10 s below 5 ms a run and 30 s up to 40 ms"
)


def main() -> None:
    """Measure and report, or report alone."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    options = parsed()
    if options.report:
        report(options.report, options)
        return
    with tempfile.TemporaryDirectory() as folder:
        record = options.record or Path(folder) / "decisions.jsonl"
        measure(Path(folder), record, options)
        report([record], options)


def parsed() -> argparse.Namespace:
    """Return the options."""
    parser = bench.parser(__doc__, rounds=1)
    parser.add_argument("--record", type=Path, metavar="FILE", help="append every decision to it")
    parser.add_argument(
        "--report", type=Path, metavar="FILE", nargs="+", help="of recordings; measure nothing"
    )
    parser.add_argument("--summary", type=Path, metavar="FILE", help="write the figures as JSON")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="write a picture; matplotlib")
    parser.add_argument(
        "--plan", choices=PLANS, action="append", help="what is measured; default: unchanged"
    )
    parser.add_argument("--scale", choices=SCALES, action="append", help="default: all")
    parser.add_argument("--subject", action="append", help="by name; default: all of the scale")
    parser.add_argument(
        "--condition",
        choices=(neighbours.AS_FOUND, neighbours.BURSTS, neighbours.BUSY),
        action="append",
        help=f"default: '{neighbours.AS_FOUND}'",
    )
    parser.add_argument("--provider", default=trials.CPU, help=f"default: {trials.CPU}")
    parser.add_argument(
        "--slowdown",
        type=float,
        default=trials.SLOWDOWN,
        help=f"bound of p50, as a spec declares it; default: {trials.SLOWDOWN}",
    )
    parser.add_argument("--layers", type=int, action="append", help="of the plan 'slower'")
    parser.add_argument(
        "--peer-python",
        type=Path,
        metavar="FILE",
        help="interpreter with pytest-benchmark and ONNX Runtime, asked about the same files",
    )
    parser.add_argument("--minutes", type=float, default=1e6, help="begin nothing afterwards")
    return parser.parse_args()


def measure(folder: Path, record: Path, options: argparse.Namespace) -> None:
    """Append the decisions of all rounds to a recording."""
    until = time.monotonic() + 60 * options.minutes
    with LocalLauncher() as launcher:
        runtimes = Runtimes(ProjectSettings(), folder, runtimes_folder(), launcher)
        resolved = runtimes.resolve(options.provider)
        build = {"onnxruntime": runtimes.facts(resolved.runtime).version}
        peer = options.peer_python
        plugin = PluginGate(peer, folder / "plugin") if peer else None
        laboratory = Laboratory(
            launcher,
            resolved,
            folder,
            seed=secrets.randbits(32),
            slowdown=options.slowdown,
            plugin=plugin,
        )
        subjects = chosen(options, launcher, runtimes)
        for condition in options.condition or [neighbours.AS_FOUND]:
            tasks = [each for _ in range(options.rounds) for each in planned(options, subjects)]
            with neighbours.beside(condition), record.open("a", encoding="utf-8") as file:
                for trial in laboratory.decide(tasks, condition, until):
                    print(json.dumps({**trials.plain(trial), **build}), file=file, flush=True)


def chosen(
    options: argparse.Namespace, launcher: LocalLauncher, runtimes: Runtimes
) -> list[Subject]:
    """Return the subjects that were asked for."""
    if options.quick:
        return chains()[:1]
    found = [*chains(), *shipped(launcher, runtimes)]
    return [
        each
        for each in found
        if each.scale in (options.scale or SCALES)
        and each.name in (options.subject or {other.name for other in found})
    ]


def planned(options: argparse.Namespace, subjects: Sequence[Subject]) -> Iterator[Task]:
    """Yield the tasks of one round."""
    for plan in options.plan or ["unchanged"]:
        for subject in subjects:
            yield from PLANS[plan](subject, options.layers or SLOWER)


def report(files: Sequence[Path], options: argparse.Namespace) -> None:
    """Print tables and the result; write the summary and the plot if they are asked for."""
    decisions = tables.read(files)
    found, modelled = tables.groups(decisions), tables.curve(decisions)
    print(*tables.lines(found), sep="\n")
    print("\nModel: recorded slower decisions, moved to another effect; how many are 'slower':\n")
    print(*tables.curve_lines(modelled), sep="\n")
    mixed = tables.resampled(decisions)
    print("\nModel: stages drawn from different recorded decisions, moved to an effect:\n")
    print(*tables.resampled_lines(mixed), sep="\n")
    print("\nStages of unchanged candidates scatter by, and say (first pairs of each):\n")
    scatter = tables.between_stages(decisions)
    for each in scatter:
        print(f"{each['subject']}: {each['scatter_percent']} %, {each['error_percent']} %, "
              f"{each['stages']} stages")  # fmt: skip
    if options.summary:
        summary = {
            "groups": found,
            "moved_decisions": modelled,
            "resampled": mixed,
            "between_stages": scatter,
        }
        options.summary.write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    if options.plot:
        tables.plot(options.plot, decisions)
    figures = totals(found)
    bench.report("gate_power", figures=figures, goal=GOAL, met=is_met(figures))


def totals(found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what the goal is held against, over all classes and conditions of the gate's way."""
    own = [
        each for each in found if each["way"] == trials.GATE and each["slowdown"] == trials.SLOWDOWN
    ]
    still = [each for each in own if each["truth"] == "unchanged"]
    count, alarms = (sum(each[key] for each in still) for key in ("decisions", "slower"))
    seconds: dict[str, float] = {}
    for each in still:
        seconds[each["scale"]] = max(seconds.get(each["scale"], 0.0), each["seconds"])
    return {
        "decisions": sum(each["decisions"] for each in own),
        "unchanged": count,
        "false_alarms": alarms,
        "false_alarm_interval": tables.interval(alarms, count) if count else None,
        "startup_false_alarms": sum(each["startup_slower"] for each in still),
        "unchanged_not_judged": sum(each["not_judged"] for each in still),
        **{f"seen_{percent}_percent": seen(own, percent) for percent in SEEN},
        "seconds_unchanged": seconds,
    }


def seen(found: Sequence[Mapping[str, Any]], percent: int) -> list[int]:
    """Return how many decisions saw so many added layers, and of how many."""
    own = [each for each in found if each["truth"] == f"+{percent} layers"]
    return [sum(each[key] for each in own) for key in ("slower", "decisions")]


def is_met(figures: Mapping[str, Any]) -> bool:
    """Return whether the shares reach the goal; what they prove, their intervals say."""
    shares = [(figures[f"seen_{percent}_percent"], least) for percent, least in SEEN.items()]
    seconds = figures["seconds_unchanged"]
    return (
        bool(figures["unchanged"])
        and not figures["false_alarms"] + figures["startup_false_alarms"]
        and all(count and hits >= least * count for (hits, count), least in shares)
        and all(seconds[scale] <= MOST_SECONDS[scale] for scale in seconds)
    )


def unchanged(subject: Subject, _: object) -> Iterator[Task]:
    """Yield the control in another file."""
    yield Task(subject=subject)


def slower(subject: Subject, layers: Sequence[int]) -> Iterator[Task]:
    """Yield chains with more layers."""
    if subject.grown is not None:
        yield from (Task(subject=subject, layers=each) for each in layers)


def faults(subject: Subject, _: object) -> Iterator[Task]:
    """Yield what goes wrong with real graphs."""
    if subject.grown is None:
        operators = {node.op_type for node in subject.model.graph.node}
        for name in set(GRAPH_FAULTS) - {MOVED}:
            if name == "Cast pair" or name.split()[0] in operators | {"inner"}:
                yield Task(subject=subject, fault=name)
        yield Task(subject=subject, fault=trials.UNOPTIMISED)
        yield Task(subject=subject, fault=trials.FEWER_THREADS)


def moved(subject: Subject, _: object) -> Iterator[Task]:
    """Yield graphs of which a node goes to another provider, and the same ones unchanged."""
    if subject.grown is None and any(node.op_type == "Relu" for node in subject.model.graph.node):
        yield from (Task(subject=subject, fault=each) for each in (MOVED, ""))


def ablations(subject: Subject, _: object) -> Iterator[Task]:
    """Yield chains that are measured without a part of the gate's way."""
    if subject.grown is not None:
        for way in (trials.SEQUENTIAL, trials.UNPINNED, trials.ONE_PAIR):
            yield from (Task(subject=subject, layers=each, way=way) for each in (0, 3))


PLANS: dict[str, Callable[..., Iterator[Task]]] = {
    "unchanged": unchanged,
    "slower": slower,
    "faults": faults,
    "moved": moved,
    "ablations": ablations,
}


if __name__ == "__main__":
    main()
