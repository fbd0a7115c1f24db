"""`onnx-harness reference`: recorded references made of live ones."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.output import AsJson, plural, print_json, problem, saying
from harness.cli.project import ModelsFolder, Project, open_project

if TYPE_CHECKING:
    from harness.cli.recording import Recorded, Request, Tools
    from harness.errors import HarnessError
    from harness.files.models import BrokenModel, Model

app = typer.Typer(
    help="References: what the models under test must agree with.", no_args_is_help=True
)


@app.callback()
def _root() -> None:
    """References: what the models under test must agree with."""


@app.command("record")
def record(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[MODEL]...", help="Models to record. Default: all with a live reference."
        ),
    ] = None,
    *,
    models: ModelsFolder = None,
    to: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Folder for the recorded models. Default: that of the models."
        ),
    ] = None,
    provider: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Provider on which the candidate must pass before a recording is kept.",
        ),
    ] = "cpu",
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace a folder that exists.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Record live references as models that gate without torch and scikit-learn.

    Each MODEL becomes a folder MODEL-recorded with the candidate's files, the inputs and the
    reference's outputs of every case, and a spec. A recording that fails leaves nothing behind;
    the exit code is then that of the failure, the greatest if there are several.
    """
    from harness.cli.recording import Request, Tools
    from harness.files.places import cache_folder
    from harness.runtimes.launchers import LocalLauncher

    project = open_project()
    folder = project.models_folder(models)
    request = Request(to=folder if to is None else to, provider=provider, replace=replace)
    chosen = _chosen(names or [], folder, project)
    with LocalLauncher() as launcher:
        tools = Tools(launcher=launcher, runtimes=project.runtimes(launcher), cache=cache_folder())
        rows = [_row(model, request, tools, quiet=as_json) for model in chosen]
    if as_json:
        print_json([_plain(row) for row in rows])
    raise typer.Exit(max(code for *_, code in rows))


Row = tuple[str, "Recorded | HarnessError", int]


def _row(model: Model | BrokenModel, request: Request, tools: Tools, *, quiet: bool) -> Row:
    """Record one model, tell what came of it, and return it with the exit code."""
    from harness.cli import error_lines, exit_code_of, unexpected

    try:
        recorded = _recorded(model, request, tools)
    except Exception as error:  # noqa: BLE001 - what others gave is still to be printed
        told = unexpected(error)
        print(*error_lines(told), sep="\n", file=sys.stderr)
        return model.name, told, exit_code_of(told)
    if not quiet:
        _print(recorded, request)
    return model.name, recorded, 0


def _recorded(model: Model | BrokenModel, request: Request, tools: Tools) -> Recorded:
    from harness.cli.recording import record_model
    from harness.files.models import Model

    if not isinstance(model, Model):
        raise model.problem
    with saying(f"recording {model.name}"):
        return record_model(model, request, tools)


def _chosen(names: list[str], folder: Path, project: Project) -> list[Model | BrokenModel]:
    """Return the models that were named, or all that have something to record.

    Raises:
        UsageProblem: If there is no such model, or none with a live reference.
    """
    from harness.cli.model import known_names
    from harness.errors import UsageProblem
    from harness.files.models import load_models, with_known_providers
    from harness.runtimes.registry import known_providers

    found = with_known_providers(load_models(folder), known_providers(project.settings))
    if names:
        return [found[name] for name in dict.fromkeys(known_names(names, found))]
    live = [model for model in found.values() if getattr(model, "recorded", None) is None]
    if not live:
        msg = "All references are recorded already: there is nothing to record"
        raise UsageProblem(msg, where=str(folder), expected="a model with a live reference")
    return live


def _print(recorded: Recorded, request: Request) -> None:
    sets = sum(map(len, recorded.cases.values()))
    cases = f"{plural(len(recorded.cases), 'case')} in {plural(sets, 'data set')}"
    print(f"recorded model '{recorded.name}' in {recorded.folder}")
    print(f"  {'cases:':<10}{cases}: {', '.join(recorded.cases)}")
    items = plural(recorded.checked, "parity item")
    print(f"  {'checked:':<10}{items} on {request.provider}, live and recorded")
    for note in recorded.notes:
        print(f"  {'note:':<10}{note}")


def _plain(row: Row) -> dict[str, Any]:
    from harness.errors import HarnessError

    name, told, code = row
    if isinstance(told, HarnessError):
        return {"model": name, "exit_code": code, "problem": problem(told)}
    return {
        "model": name,
        "exit_code": code,
        "recorded": told.name,
        "folder": str(told.folder),
        "cases": {case: list(sets) for case, sets in told.cases.items()},
        "checked": told.checked,
        "notes": list(told.notes),
    }
