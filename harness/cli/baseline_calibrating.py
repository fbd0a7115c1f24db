"""`onnx-harness baseline calibrate`: what this machine scatters by, and what the gate sees here."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.output import AsJson, print_json, print_table
from harness.cli.project import BaselinesFolder, ModelsFolder, open_project

if TYPE_CHECKING:
    from harness.cli.desk import Desk
    from harness.domain.cells import Cell
    from harness.errors import HarnessError
    from harness.latency.calibrating import Calibrated


def calibrate(
    *,
    model: Annotated[
        list[str] | None,
        typer.Option("--model", metavar="NAME", help="Model, a name or a glob; repeatable."),
    ] = None,
    provider: Annotated[
        list[str] | None,
        typer.Option(
            "--provider",
            metavar="NAME",
            help="Provider; repeatable. Default: each spec's providers that are usable here.",
        ),
    ] = None,
    pairs: Annotated[
        int, typer.Option(metavar="N", min=8, help="Fresh pairs of workers for each cell.")
    ] = 32,
    models: ModelsFolder = None,
    baselines: BaselinesFolder = None,
    as_json: AsJson = False,
) -> None:
    """Measure unchanged cells beside themselves, and say what the gate will see on this machine.

    Writes the scatter of pairs beside the baselines of this environment. The gate then assumes it
    instead of what is usual. Exit code 1 if a cell could not be measured.
    """
    from harness.cli.desk import Desk
    from harness.domain.duet import check_scipy

    check_scipy()
    desk = Desk.of(open_project(), models=models, baselines=baselines, wanted=model or ())
    found, failed = _measured(desk, provider or (), pairs)
    paths = _written(desk, found)
    if as_json:
        print_json({
            "cells": [_plain(each) for each in found],
            "failed": {str(cell): error.what for cell, error in failed},
            "files": [str(path) for path in paths],
        })
    else:
        _print(found, failed, paths)
    raise typer.Exit(1 if failed or not found else 0)


def _measured(
    desk: Desk, providers: Sequence[str], pairs: int
) -> tuple[list[Calibrated], list[tuple[Cell, HarnessError]]]:
    """Return what every timed cell gave, or why it gave nothing."""
    import secrets

    from harness.errors import HarnessError
    from harness.latency.calibrating import asked, calibrated
    from harness.runtimes.quiet import Quiet

    found, failed = [], []
    with desk.planner(providers) as (planner, launcher, cells, say):
        quiet = Quiet(say=say)
        timed = [cell for cell in cells if desk.is_timed(cell)]
        for cell in timed:
            rule = asked(desk.models[cell.model].spec.latency.slowdown, 2 * len(timed))
            say(f"measuring {cell}")
            try:
                plan = planner.plan(cell)
                with quiet.exclusive():
                    seed = secrets.randbits(32)
                    found.append(calibrated(launcher, plan, rule=rule, seed=seed, pairs=pairs))
            except HarnessError as error:
                failed.append((cell, error))
    return found, failed


def _written(desk: Desk, found: Sequence[Calibrated]) -> list[Path]:
    """Write what was found, cells on a GPU to the environment that has it."""
    from harness.files.noise import NoiseBook
    from harness.runtimes.machine import this_environment

    book, paths = NoiseBook(desk.folder), []
    for gpu in (False, True):
        own = {each.cell: each.noise for each in found if desk.needs_gpu(each.cell) is gpu}
        if own:
            paths.append(book.write(this_environment(gpu=gpu), own))
    return paths


def _print(
    found: Sequence[Calibrated],
    failed: Sequence[tuple[Cell, HarnessError]],
    paths: Sequence[Path],
) -> None:
    headers = ("cell", "p50", "pairs scatter by", "pairs", "seen in 95 % of runs")
    print_table(headers, [_row(each) for each in found])
    for line in _model_lines(found):
        print(line)
    for cell, error in failed:
        print(f"not measured: {cell}: {error.what}")
    for path in paths:
        print(f"written: {path}")


def _row(each: Calibrated) -> tuple[str, ...]:
    return (
        str(each.cell),
        f"{each.noise.p50_ms:.4g} ms",
        f"{each.noise.scatter:.2%}",
        str(each.noise.pairs),
        _told(each),
    )


def _told(each: Calibrated) -> str:
    if each.visible is None:
        return "nothing: too much scatter"
    return f"{math.expm1(each.visible):.1%} slower and more"


def _model_lines(found: Sequence[Calibrated]) -> Iterator[str]:
    """Yield for each model what its worst cell hides."""
    for name in dict.fromkeys(each.cell.model for each in found):
        own = [each for each in found if each.cell.model == name]
        worst = max(own, key=lambda each: math.inf if each.visible is None else each.visible)
        if len(own) > 1:
            yield f"{name}: {_told(worst)} is seen in 95 % of runs at all of its {len(own)} points"


def _plain(each: Calibrated) -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "cell": str(each.cell),
        **asdict(each.noise),
        "effect": math.expm1(each.effect),
        "seen": None if each.visible is None else math.expm1(each.visible),
    }
