"""`onnx-harness model`: the models of a project, made, listed, shown and checked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.names import known_name
from harness.cli.output import AsJson, plural, print_json, print_table, problem, saying
from harness.cli.project import ModelsFolder, Project, open_project

if TYPE_CHECKING:
    from harness.cli.adding import Added
    from harness.cli.checking import Faults
    from harness.files.models import BrokenModel, Model

app = typer.Typer(
    help="Models: folders with a model.toml, or in the model-zoo layout.", no_args_is_help=True
)

HEADERS = ("name", "task", "variants", "providers", "cases", "items")


@app.command("add")
def add(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="ONNX file.")],
    *,
    reference: Annotated[
        str | None,
        typer.Option(
            metavar="FILE.py:FUNCTION",
            help="What the model is held against: a function that returns a torch module or a "
            "fitted scikit-learn estimator. Default: the ONNX reference evaluator.",
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Name of the model. Default: made from the file's."),
    ] = None,
    models: ModelsFolder = None,
) -> None:
    """Inspect a model file and write a commented spec for it, tried on the CPU.

    Exit code 0 if every case of the draft and the reference that was given ran, or could not be
    tried here because a runtime or package is missing; 1 if one did not run: the draft is kept
    and has to be corrected.
    """
    from harness.cli.adding import Request, add_model, check_file
    from harness.runtimes.launchers import LocalLauncher

    check_file(file)
    project = open_project()
    request = Request(
        file=file, reference=reference, name=name, models=project.models_folder(models)
    )
    with LocalLauncher() as launcher, saying(f"adding {file.name}"):
        added = add_model(request, launcher=launcher, runtimes=project.runtimes(launcher))
    _print_added(added, project, models)
    raise typer.Exit(1 if added.failed else 0)


@app.command("list")
def show_all(*, models: ModelsFolder = None, as_json: AsJson = False) -> None:
    """List all models with their variants, providers, and numbers of cases and items."""
    from harness.files.models import load_models

    found = load_models(open_project().models_folder(models))
    rows = [_row(model) for model in found.values()]
    if as_json:
        print_json(rows)
        return
    print_table(HEADERS, [[_cell(row[header]) for header in HEADERS] for row in rows])
    for row in rows:
        if row["problem"]:
            print(f"{row['name']}: {row['problem']}")


@app.command("show")
def show(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the model.")],
    *,
    models: ModelsFolder = None,
    as_json: AsJson = False,
) -> None:
    """Show a model's spec with all defaults filled in, and what its files are."""
    from harness.cli.showing import describe, lines
    from harness.files.places import cache_folder
    from harness.runtimes.launchers import LocalLauncher

    model = _sound(name, open_project().models_folder(models))
    with LocalLauncher() as launcher, saying(f"inspecting {name}"):
        described = describe(model, launcher=launcher, cache=cache_folder())
    if as_json:
        print_json(described)
    else:
        print(*lines(described), sep="\n")


@app.command("check")
def check(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME]...", help="Models to check. Default: all."),
    ] = None,
    *,
    models: ModelsFolder = None,
    as_json: AsJson = False,
) -> None:
    """Check specs, the files that they name, and that every case can be drawn; run nothing.

    Exit code 0 if there is no fault, else 2.
    """
    from harness.cli.checking import check_models
    from harness.errors import labelled_lines
    from harness.files.models import load_models

    project = open_project()
    found = load_models(project.models_folder(models))
    faults = check_models(
        {name: found[name] for name in known_names(names or list(found), found)},
        project.settings,
        project.root,
    )
    if as_json:
        print_json({name: [problem(fault) for fault in told] for name, told in faults.items()})
    else:
        for told in faults.values():
            for fault in told:
                print(*labelled_lines(fault), sep="\n")
        print(_closing(faults))
    raise typer.Exit(2 if any(faults.values()) else 0)


@app.command("schema")
def schema() -> None:
    """Print the JSON schema of model.toml, for editors."""
    from harness.cli.schema import model_schema

    print_json(model_schema())


def _print_added(added: Added, project: Project, models: Path | None) -> None:
    from harness.errors import labelled_lines

    suites = "suites" if (project.root / "suites").is_dir() else "--pyargs harness.suites"
    where = f" --models {models}" if models is not None else ""
    print(f"added model '{added.name}' in {added.folder}")
    for label, text in _told(added):
        print(f"  {label + ':':<10}{text}")
    if added.reference_problem is not None:
        print(*labelled_lines(added.reference_problem), sep="\n")
    print(f"  {'next:':<10}pytest {suites} --provider cpu --model {added.name}{where}")


def _told(added: Added) -> Iterator[tuple[str, str]]:
    trial = added.trial
    if trial.cases:
        ran = f"{plural(len(trial.cases), 'case')} ran on cpu (onnxruntime {trial.version})"
        yield "tried", f"{ran}: {', '.join(trial.cases)}"
    if trial.problem is not None:
        yield "failed" if trial.failed else "untried", trial.problem.what
    if added.reference and added.reference_problem is None:
        yield "tried", f"the {added.reference} reference ran on case {trial.cases[0]}"
    for note in added.notes:
        yield "note", note
    if trial.failed:
        keys = "[session]" if trial.hopeless else "[dims], [inputs] and [[case]]"
        yield "next", f"correct {keys} in {added.folder / 'model.toml'}, or the model"


def _row(model: Model | BrokenModel) -> dict[str, Any]:
    from harness.files.models import Model
    from harness.results.record import declared_items

    row: dict[str, Any] = {
        "name": model.name,
        "task": "",
        "variants": [],
        "providers": [],
        "cases": 0,
        "items": len(list(declared_items(model))),
        "problem": "",
    }
    if not isinstance(model, Model):
        return {**row, "problem": model.problem.what}
    return {
        **row,
        "task": model.spec.task,
        "variants": list(model.spec.variant_names()),
        "providers": list(model.spec.providers),
        "cases": len(model.case_names()),
    }


def _cell(value: str | int | list[str]) -> str:
    return (", ".join(value) if isinstance(value, list) else str(value)) or "-"


def _sound(name: str, folder: Path) -> Model:
    """Return the model of this name.

    Raises:
        HarnessError: If there is none, or its spec is wrong.
    """
    from harness.files.models import Model, load_models

    found = load_models(folder)
    model = found[known_names([name], found)[0]]
    if isinstance(model, Model):
        return model
    raise model.problem


def known_names(names: list[str], found: dict[str, Any]) -> list[str]:
    """Return `names`, each of which must be a model.

    Raises:
        UsageProblem: For the first that is none, with the nearest name.
    """
    return [known_name(name, found, "model", where="NAME") for name in names]


def _closing(faults: Faults) -> str:
    broken = sum(1 for told in faults.values() if told)
    checked = f"{plural(len(faults), 'model')} checked"
    return f"{checked}: faults in {plural(broken, 'model')}" if broken else f"{checked}: no fault"
