"""`onnx-harness explain`: which rule judges an output, and what all the others say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.names import known_cell, known_name
from harness.cli.output import AsJson, print_json, saying
from harness.cli.project import ModelsFolder, Project, open_project

if TYPE_CHECKING:
    from harness.domain.explanation import Link

Chains = Mapping[str, "tuple[Link, ...]"]


def explain(
    cell: Annotated[
        str, typer.Argument(metavar="CELL", help="Cell, such as mnist/fp32/cpu/batch3.")
    ],
    output: Annotated[
        str | None, typer.Argument(metavar="[OUTPUT]", help="One output. Default: all.")
    ] = None,
    *,
    models: ModelsFolder = None,
    as_json: AsJson = False,
) -> None:
    """Show the chain of rules that judges each output of a cell: the marked one decides.

    Runs reference and candidate of the cell, so that every figure is that of the judgement.
    """
    chains = _chosen(_chains(cell, open_project(), models), output)
    if as_json:
        print_json({name: [asdict(link) for link in chain] for name, chain in chains.items()})
    else:
        print(*_lines(chains), sep="\n")


def _chains(text: str, project: Project, models: Path | None) -> Chains:
    from harness.evidence import Selection
    from harness.files.models import load_models
    from harness.files.places import cache_folder
    from harness.pipeline import Gate
    from harness.runtimes.launchers import LocalLauncher

    found = load_models(project.models_folder(models))
    with LocalLauncher() as launcher, saying(f"running {text}"):
        runtimes = project.runtimes(launcher)
        cell = known_cell(text, found)
        runtimes.check_name(cell.provider)
        gate = Gate(
            Selection(models=found), runtimes=runtimes, launcher=launcher, cache=cache_folder()
        )
        with closing(gate):
            return gate.explain(cell)


def _chosen(chains: Chains, output: str | None) -> Chains:
    if output is None:
        return chains
    return {known_name(output, chains, "output", where="OUTPUT"): chains[output]}


def _lines(chains: Chains) -> Iterator[str]:
    for name, chain in chains.items():
        yield f"output '{name}'"
        width = max(len(link.rule) for link in chain)
        for link in chain:
            yield f"  {'>' if link.applies else ' '} {link.rule:<{width}}  {link.says}"
