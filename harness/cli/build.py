"""`onnx-harness build`: make the builds of models, and show what became of their graphs."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.names import known_name
from harness.cli.output import AsJson, print_json, print_table, saying
from harness.cli.project import ModelsFolder, open_project

if TYPE_CHECKING:
    from harness.builds.builder import Builder, Graph
    from harness.files.models import Model
    from harness.references.store import References

HEADERS = ("build", "steps", "file", "of the candidate", "parameters", "nodes", "hash")


def build(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME]...", help="Models to build. Default: all that have builds."),
    ] = None,
    *,
    variant: Annotated[
        str | None, typer.Option(metavar="NAME", help="This build only. Default: all of a model.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Copy each build to DIR/MODEL/VARIANT; DIR is made."),
    ] = None,
    models: ModelsFolder = None,
    as_json: AsJson = False,
) -> None:
    """Make the builds that specs declare by steps, and tell size and graph beside the candidate's.

    The suites make them too when they need them: this is for a look, and for shipping them. Exit
    code 0 if all could be made, else 1 with the step that could not be done.
    """
    from harness.builds.builder import Builder
    from harness.errors import HarnessError, UsageProblem
    from harness.files.places import cache_folder, writable
    from harness.references.store import References
    from harness.runtimes.launchers import LocalLauncher

    wanted = list(_wanted(open_project().models_folder(models), names, variant))
    if not wanted:
        msg = "No model declares a build by steps"
        raise UsageProblem(msg, where="NAME", expected="variants.NAME.build in a model.toml")
    if output is not None:
        writable(output, "--output")
    cache = writable(cache_folder(), "ONNX_HARNESS_CACHE")
    found, failed = [], []
    with LocalLauncher() as launcher:
        references = References(launcher, sys.executable, cache / "references")
        builder = Builder(launcher, sys.executable, cache / "builds")
        try:
            for model, name in wanted:
                with saying(f"building {model.name}/{name}"):
                    try:
                        found.append(_made(model, name, references, builder, cache, output))
                    except HarnessError as error:
                        failed.append(error)
        finally:
            references.close()
    if as_json:
        print_json({"builds": found, "failed": [problem.what for problem in failed]})
    elif found:
        print_table(HEADERS, [_row(each) for each in found])
        for each in found:
            if each["graph"]:
                print(f"{each['build']}: {each['graph']}")
    for problem in failed:
        print(f"onnx-harness: {problem}", file=sys.stderr)
    raise typer.Exit(1 if failed else 0)


def _wanted(
    folder: Path, names: list[str] | None, variant: str | None
) -> Iterator[tuple[Model, str]]:
    """Yield the builds that were asked for; raises for names that are none."""
    from harness.files.models import BrokenModel, load_models

    loaded = load_models(folder)
    for name in names or ():
        known_name(name, loaded, "model", where="NAME")
    for name in names or loaded:
        model = loaded[name]
        if isinstance(model, BrokenModel):
            if names:
                raise model.problem
            continue
        built = [each for each in model.spec.variants if model.spec.steps(each)]
        if variant is not None and names:
            known_name(variant, built, "build", where="--variant")
        yield from ((model, each) for each in built if variant in {None, each})


def _made(
    model: Model,
    variant: str,
    references: References,
    builder: Builder,
    cache: Path,
    output: Path | None,
) -> dict[str, Any]:
    """Return what is told of a build, made if need be."""
    import shutil

    from harness.builds.candidates import candidate_file
    from harness.files.cache import hash_file

    source = candidate_file(model, variant, references=references, cache=cache)
    steps = model.spec.steps(variant)
    name = f"{model.name}/{variant}"
    built = builder.build(source, steps, name=name)
    path = built.path
    if output is not None:
        path = output / model.name / variant / built.path.name
        path.parent.mkdir(parents=True, exist_ok=True)
        for file in built.files():
            shutil.copy(file, path.parent)
    return {
        "build": name,
        "steps": [each.step for each in steps],
        "path": str(path),
        "sha256": hash_file(path),
        "bytes": built.after.size_bytes,
        "candidate_bytes": built.before.size_bytes,
        "parameters": built.after.parameters,
        "candidate_parameters": built.before.parameters,
        "operators": built.after.operators,
        "candidate_operators": built.before.operators,
        "graph": changes(built.before, built.after),
    }


def changes(before: Graph, after: Graph) -> str:
    """Return which operators were lost, added or changed in number, in words."""
    names = sorted({*before.operators, *after.operators}, key=lambda name: (
        name in after.operators, name in before.operators, name))  # fmt: skip
    counts = ((name, before.operators.get(name, 0), after.operators.get(name, 0)) for name in names)
    return "; ".join(f"{name} {old} -> {new}" for name, old, new in counts if old != new)


def _row(told: Mapping[str, Any]) -> list[str]:
    share = told["bytes"] / told["candidate_bytes"]
    nodes = [sum(told[key].values()) for key in ("candidate_operators", "operators")]
    parameters = [told[key] for key in ("candidate_parameters", "parameters")]
    return [
        told["build"],
        ", ".join(told["steps"]),
        f"{told['bytes'] / 1e3:,.1f} kB",
        f"{share:.1%}",
        _change(*parameters),
        _change(*nodes),
        told["sha256"][:12],
    ]


def _change(before: int, after: int) -> str:
    return f"{after:,}" if before == after else f"{before:,} -> {after:,}"
