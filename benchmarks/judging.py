"""Judging 10,000 stored cells without measuring, against pytest-benchmark's comparison of as many.

A cell is a latency point of a variant on a provider. Judging one is what the gate does where
nothing can be measured: find the entry of the model's baseline file and the figures of this
environment, compare the recipes, and hold the run's number against the stored one. The second arm
is a refresh from a run record: all records are read, weighed and made proposals, nothing is
written. The peer compares two of its own files of 10,000 benchmarks and prints their medians.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import side_by_side as bench

from harness.domain.baseline import (
    Baseline,
    Build,
    Change,
    Entry,
    Figures,
    LocalBaseline,
    Recipe,
    Timing,
    entry_key,
)
from harness.domain.cells import PROVIDER_DEPTH, VARIANT_DEPTH, Cell
from harness.domain.environment import Environment
from harness.domain.latency import Told, judge_stored
from harness.domain.questions import CONTRACT, LATENCY, PARITY
from harness.domain.verdict import Verdict
from harness.files.baselines import Baselines
from harness.refresh import proposals
from harness.results.record import ItemRecord

MODELS, PROVIDERS, POINTS = 500, ("cpu", "cuda"), 10
MOST_S = 3.0
GOAL = "judging 10,000 stored cells without measuring takes under 3 s"
BUILD = Build(version="1.32.0", providers=("CPUExecutionProvider",))
CHANGE = Change(
    who="A. Nyone", when="2026-11-23T00:00:00+00:00", commit="0" * 40, reason="new", harness="0"
)
HERE = Environment(system="Linux x86_64", cpu="any", isa="0", cores=2, memory_gib=16)
TIMING = Timing(
    inputs="f" * 64,
    p50_ms=1.0,
    spread=0.01,
    workers=16,
    calls=4000,
    quantiles_ms={"p1": 0.9, "p10": 0.95, "p50": 1.0, "p90": 1.2, "p99": 2.0},
    startup_ms=20.0,
    startup_spread=0.1,
    memory_bytes=20_000_000,
)


def main() -> None:
    """Run the benchmark."""
    parser = bench.parser(__doc__, rounds=5)
    parser.add_argument(
        "--peer-python", help="interpreter with pytest-benchmark; default: makes one"
    )
    options = parser.parse_args()
    models, rounds = (10, 1) if options.quick else (MODELS, options.rounds)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        os.environ["ONNX_HARNESS_CACHE"] = str(place / "cache")
        cells = list(stored(Baselines(place / "baselines"), models))
        records = list(recorded(cells))
        arms: dict[str, Any] = {
            "judged": lambda: judged(Baselines(place / "baselines"), cells),
            "proposed": lambda: proposed(records),
        }
        python = options.peer_python or (None if options.quick else make_peer(place / "peer"))
        if python:
            files = write_peer(place / "peer-files", len(cells))
            arms["peer"] = lambda: bench.run(peer_command(python, files), cwd=place)
        times = bench.alternate(arms, rounds)
    figures = {"cells": len(cells), "rounds": rounds, **bench.medians(times)}
    figures.setdefault("peer_s", None)
    met = max(figures["judged_s"], figures["proposed_s"]) <= MOST_S
    bench.report("judging", figures=figures, goal=GOAL, met=met)


def stored(baselines: Baselines, models: int) -> Iterator[Cell]:
    """Write the baselines of so many models; yield their cells."""
    for number in range(models):
        name = f"model-{number:03}"
        parts = [Cell(name, "fp32", provider) for provider in PROVIDERS]
        entries = {
            entry_key(part): Entry(recipe=recipe(part), artefact="", file_bytes=1000, change=CHANGE)
            for part in parts
        }
        points = {f"batch{size}": TIMING for size in range(POINTS)}
        baselines.write(Baseline(model=name, entries=entries))
        local = {
            entry_key(part): Figures(recipe=recipe(part), nodes={}, points=points, change=CHANGE)
            for part in parts
        }
        baselines.write_local(LocalBaseline(model=name, environment=HERE, entries=local))
        for part in parts:
            yield from (replace(part, case=point) for point in points)


def recipe(part: Cell) -> Recipe:
    """Return the recipe of a model on a provider."""
    digest = f"{int(part.model[-3:]):064x}"
    return Recipe(model=digest, build=BUILD, provider=f"{part.provider}ExecutionProvider")


def judged(baselines: Baselines, cells: Sequence[Cell]) -> None:
    """Judge every cell by its stored number; one in each hundred is slower and must be found."""
    found = sum(
        len(list(verdict(baselines, cell, slower=number % 100 == 0)))
        for number, cell in enumerate(cells)
    )
    if found != -(-len(cells) // 100):
        sys.exit(f"{found} of {len(cells)} cells were found slower")


def verdict(baselines: Baselines, cell: Cell, *, slower: bool) -> Iterator[object]:
    """Yield what the stored number tells of a cell, read as the gate reads it."""
    portable, key = baselines.portable(cell.model), entry_key(cell)
    local = baselines.local(cell.model, HERE.id)
    if portable is None or local is None:
        sys.exit(f"{cell} has no baseline")
    entry = portable.entries[key]
    if recipe(cell).differences(entry.recipe):
        sys.exit(f"{cell} has another recipe")
    told = Told(cell=str(cell), model=cell.model, against="the baseline")
    now = replace(TIMING, p50_ms=1.5) if slower else TIMING
    yield from judge_stored(now, local.entries[key].points[cell.case], told)


def recorded(cells: Sequence[Cell]) -> Iterator[ItemRecord]:
    """Yield the records of a run in which every cell was measured and vouched for."""
    yield from (passed(CONTRACT.name, cell) for cell in {c.part(VARIANT_DEPTH): 0 for c in cells})
    for cell in cells:
        measured = {
            "recipe": json.loads(json.dumps(asdict(recipe(cell.part(PROVIDER_DEPTH))))),
            "file_bytes": 1000,
            "environment": asdict(HERE),
            "nodes": {},
            "point": cell.case,
            "timing": asdict(TIMING),
        }
        yield passed(PARITY.name, cell)
        yield replace(passed(LATENCY.name, cell), measured=measured)


def passed(question: str, cell: Cell) -> ItemRecord:
    """Return the record of an item that passed."""
    return ItemRecord(
        question=question, cell=str(cell), verdict=Verdict.PASS, findings=(), duration_s=0.0
    )


def proposed(records: Sequence[ItemRecord]) -> None:
    """Weigh all records of a run; nothing speaks against any."""
    refused = [each for each in proposals(records) if each.refusals]
    if refused:
        sys.exit(f"{refused[0].part}: {refused[0].refusals}")


# the peer


def make_peer(folder: Path) -> str:
    """Return the interpreter of a new environment with pytest-benchmark."""
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    pytest = f"pytest=={importlib.metadata.version('pytest')}"
    install = [str(python), "-m", "pip", "install", "--quiet", "pytest-benchmark", pytest]
    subprocess.run(install, check=True)
    return str(python)


def write_peer(folder: Path, count: int) -> list[Path]:
    """Write two files of so many benchmarks, as pytest-benchmark saves them."""
    folder.mkdir()
    stats: dict[str, Any] = dict.fromkeys(
        ("min", "max", "mean", "stddev", "median", "iqr", "q1", "q3", "ops", "total"), 1.0
    )
    stats |= dict.fromkeys(("rounds", "iterations", "iqr_outliers", "stddev_outliers"), 5)
    common: dict[str, Any] = {
        "group": None,
        "params": None,
        "param": None,
        "extra_info": {},
        "options": {},
    }
    benchmarks = [
        {
            **common,
            "name": f"test_{number}",
            "fullname": f"tests/test_all.py::test_{number}",
            "stats": {**stats, "outliers": "0;0"},
        }
        for number in range(count)
    ]
    head: dict[str, Any] = {"machine_info": {"node": platform.node()}, "commit_info": {"id": "0"}}
    head |= {"datetime": "2026-11-23T00:00:00+00:00", "version": "5.3.1"}
    files = [folder / f"000{number}_run.json" for number in (1, 2)]
    for file in files:
        file.write_text(json.dumps({**head, "benchmarks": benchmarks}), encoding="utf-8")
    return files


def peer_command(python: str, files: Sequence[Path]) -> list[str | Path]:
    """Return the peer's comparison of both files."""
    program = "from pytest_benchmark.cli import main; main()"
    return [python, "-c", program, "compare", *files, "--columns=median"]


if __name__ == "__main__":
    main()
