"""The tree of commands: nouns, then verbs."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.main import get_command

import harness
from harness.cli import (
    PROGRAM,
    baseline,
    build,
    compare,
    doctor,
    explain,
    localise,
    model,
    prove,
    reference,
    report,
    runtime,
)

app = typer.Typer(
    name=PROGRAM,
    help="Release gate for ONNX models. The gate itself is `pytest --pyargs harness.suites`.",
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,  # plain help, the same on a terminal and in a log
    pretty_exceptions_enable=False,
)
app.command(name="doctor")(doctor.doctor)
app.command(name="build")(build.build)
app.command(name="compare")(compare.compare)
app.command(name="explain")(explain.explain)
app.command(name="localise")(localise.localise)
app.command(name="replay")(localise.replay)
app.command(name="prove")(prove.prove)
app.add_typer(runtime.app, name="runtime")
app.add_typer(model.app, name="model")
app.add_typer(reference.app, name="reference")
app.add_typer(baseline.app, name="baseline")
app.add_typer(report.app, name="report")


def command() -> Any:
    """Return the whole command; its `main` takes the arguments."""
    return get_command(app)


def _show_version(wanted: bool) -> None:  # noqa: FBT001 - typer calls it with the flag
    if wanted:
        print(f"{PROGRAM} {harness.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    *,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Carry the options of the command itself."""
