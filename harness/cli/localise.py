"""`onnx-harness localise` and `onnx-harness replay`: where a parity failure begins, run again."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.names import known_cell
from harness.cli.output import AsJson, print_json, saying
from harness.cli.project import ModelsFolder, open_project

if TYPE_CHECKING:
    from harness.domain.verdict import Judgement
    from harness.localise.report import Report

DEFAULT_BUDGET_S = 600.0


def localise(
    cell: Annotated[
        str,
        typer.Argument(metavar="CELL", help="Id of a parity cell, such as mnist/fp32/cpu/batch3."),
    ],
    *,
    models: ModelsFolder = None,
    budget: Annotated[
        float, typer.Option(metavar="SECONDS", min=0.1, help="Seconds for the search.")
    ] = DEFAULT_BUDGET_S,
    as_json: AsJson = False,
) -> None:
    """Search where the parity failure of a cell begins: first node, and optimisation.

    Exit code 0 if parity holds, 1 if it does not.
    """
    from harness.domain.questions import PARITY
    from harness.domain.verdict import Verdict
    from harness.evidence import Selection
    from harness.files import places
    from harness.files.models import load_models, with_known_providers
    from harness.pipeline import VALUE_CODES, Gate
    from harness.runtimes.launchers import LocalLauncher

    project = open_project()
    cache = places.writable(places.cache_folder(), "ONNX_HARNESS_CACHE")
    with LocalLauncher() as launcher:
        runtimes = project.runtimes(launcher)
        loaded = load_models(project.models_folder(models))
        found = with_known_providers(loaded, runtimes.providers)
        wanted = known_cell(cell, found)
        runtimes.check_name(wanted.provider)
        selection = Selection(models=found, localises=False)
        gate = Gate(selection, runtimes=runtimes, launcher=launcher, cache=cache)
        with closing(gate), saying(f"judging {cell}"):
            judgement = gate.check(PARITY, wanted)
            has_origin = any(each.code in VALUE_CODES for each in judgement.findings)
            report = gate.origin(wanted, budget_s=budget) if has_origin else None
    _print(judgement, report, cell, as_json=as_json)
    raise typer.Exit(0 if judgement.verdict is Verdict.PASS else 1)


def replay(
    folder: Annotated[
        Path,
        typer.Argument(metavar="FOLDER", help="Folder that a report of `localise` names."),
    ],
    *,
    as_json: AsJson = False,
) -> None:
    """Run a saved node again on the provider that it was saved for.

    Exit code 0 if it now agrees with what was expected, 1 if it does not.
    """
    from harness.localise.replaying import replayed
    from harness.runtimes.launchers import LocalLauncher

    project = open_project()
    with LocalLauncher() as launcher, saying(f"running {folder}"):
        outcome = replayed(folder, launcher=launcher, runtimes=project.runtimes(launcher))
    if as_json:
        print_json(outcome.as_json())
    else:
        print(*outcome.lines(), sep="\n")
    raise typer.Exit(0 if outcome.agrees else 1)


def _print(judgement: Judgement, report: Report | None, cell: str, *, as_json: bool) -> None:
    from harness.errors import labelled_lines

    if as_json:
        print_json(_plain(judgement, report))
        return
    if report is not None:
        print(*report.lines(), sep="\n")
        return
    if not judgement.findings:
        print(f"'{cell}': parity holds, so no error begins anywhere")
    for finding in judgement.findings:
        print(*labelled_lines(finding), sep="\n")


def _plain(judgement: Judgement, report: Report | None) -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "verdict": judgement.verdict.value,
        "findings": [asdict(finding) for finding in judgement.findings],
        "report": report.as_json() if report is not None else None,
    }
