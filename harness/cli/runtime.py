"""`onnx-harness runtime`: environments with one build of ONNX Runtime each."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.output import AsJson, print_json, print_table, saying
from harness.cli.project import Project, open_project

if TYPE_CHECKING:
    from harness.runtimes.registry import Runtime, Runtimes

app = typer.Typer(
    help="Runtimes: Python environments with one build of ONNX Runtime each.", no_args_is_help=True
)

Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the runtime.")]


@app.command("add")
def add(
    name: Name,
    requirements: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[REQUIREMENT]...",
            help="What to install, as pip takes it. Default: `requirements` of the settings.",
        ),
    ] = None,
    *,
    python: Annotated[
        str | None,
        typer.Option(
            metavar="PATH",
            help="Interpreter that the environment is made from. Default: the harness's own.",
        ),
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace the runtime if it exists. Default: off.")
    ] = False,
) -> None:
    """Make an environment, install one build of ONNX Runtime into it, prove that it starts."""
    from harness.files.places import runtimes_folder
    from harness.runtimes.installs import Order, add_runtime
    from harness.runtimes.launchers import LocalLauncher

    project = open_project()
    order = Order(
        name=name,
        requirements=_requirements(project, name, requirements or []),
        python=_interpreter(python),
        base=project.root if not requirements else Path.cwd(),
    )
    with LocalLauncher() as launcher, saying(f"making runtime '{name}'"):
        runtime, facts = add_runtime(
            order, folder=runtimes_folder(), launcher=launcher, replace=replace
        )
    print(f"added runtime '{name}': onnxruntime {facts.version}, {', '.join(facts.available)}")
    print(f"  {'python:':<10}{runtime.python}")
    print(f"  {'next:':<10}onnx-harness doctor")


@app.command("list")
def show_all(*, as_json: AsJson = False) -> None:
    """List all runtimes: the harness's own interpreter, those of the settings, those added."""
    from harness.runtimes.launchers import LocalLauncher

    project = open_project()
    with LocalLauncher() as launcher, saying("asking runtimes"):
        runtimes = project.runtimes(launcher)
        rows = [_row(runtimes, runtime) for runtime in runtimes.all()]
    rows += _not_made(project, {row["name"] for row in rows})
    if as_json:
        print_json(rows)
        return
    headers = ("name", "source", "onnxruntime", "python", "requirements")
    print_table(headers, [[_cell(row[header]) for header in headers] for row in rows])
    for row in rows:
        if row["problem"]:
            print(f"{row['name']}: {row['problem']}")


@app.command("remove")
def remove(name: Name) -> None:
    """Delete a runtime that `runtime add` made."""
    from harness.files.places import runtimes_folder
    from harness.runtimes.installs import remove_runtime

    home = remove_runtime(name, folder=runtimes_folder())
    print(f"removed runtime '{name}' ({home})")


def _requirements(project: Project, name: str, given: list[str]) -> tuple[str, ...]:
    """Return what to install: what is given, else what the settings declare.

    Raises:
        UsageProblem: If there is nothing, or the settings name an interpreter that exists.
    """
    from harness.errors import UsageProblem

    declared = project.settings.runtimes.get(name)
    if declared is not None and declared.python is not None:
        msg = f"Runtime '{name}' is an interpreter that exists: there is nothing to make"
        raise UsageProblem(msg, where=f"settings, runtimes.{name}.python", got=declared.python)
    if found := tuple(given) or (declared.requirements if declared is not None else ()):
        return found
    msg = f"Nothing to install for runtime '{name}'"
    raise UsageProblem(
        msg,
        expected="requirements, on the command line or in the settings",
        next_step=f'onnx-harness runtime add {name} "onnxruntime==VERSION", or declare '
        f"runtimes.{name}.requirements",
    )


def _interpreter(given: str | None) -> str:
    """Return the path of an interpreter given by path or by name.

    Raises:
        UsageProblem: If it is not there.
    """
    import shutil

    from harness.errors import UsageProblem

    if given is None:
        return sys.executable
    found = shutil.which(given)
    if found is None:
        msg = f"Interpreter '{given}' does not exist or cannot be run"
        raise UsageProblem(msg, where="--python", expected="a path, or a name such as python3.12")
    return str(Path(found).absolute())


def _row(runtimes: Runtimes, runtime: Runtime) -> dict[str, Any]:
    from harness.errors import HarnessError

    row: dict[str, Any] = {
        "name": runtime.name,
        "source": runtime.source,
        "python": runtime.python,
        "requirements": list(runtime.requirements),
        "onnxruntime": "",
        "providers": [],
        "problem": "",
    }
    try:
        facts = runtimes.facts(runtime)
    except HarnessError as error:
        return {**row, "problem": error.what}
    return {**row, "onnxruntime": facts.version, "providers": list(facts.available)}


def _not_made(project: Project, made: set[str]) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "source": "declared",
            "python": "",
            "requirements": list(declared.requirements),
            "onnxruntime": "",
            "providers": [],
            "problem": f"not made yet: `onnx-harness runtime add {name}`",
        }
        for name, declared in project.settings.runtimes.items()
        if name not in made
    ]


def _cell(value: str | list[str]) -> str:
    return (" ".join(value) if isinstance(value, list) else value) or "-"
