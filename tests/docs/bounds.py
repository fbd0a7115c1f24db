"""The measured tables of docs/tolerances.md: what the shipped models need, and false alarms.

`python -m tests.docs.bounds RECORD` prints the first from a run record of the shipped models.
`python -m tests.docs.bounds --fresh 1000 [MODEL]...` draws that many fresh inputs per model, with
the sizes of its smallest case, and prints how many of them the bound would have failed.
"""

from __future__ import annotations

import argparse
import math
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np

from harness.bounds import Bounds, Yardstick
from harness.domain.cells import Cell
from harness.domain.project import ProjectSettings
from harness.domain.spec import CaseSpec
from harness.evidence import Evidence, Selection
from harness.files import cases
from harness.files.models import Model, load_models
from harness.files.places import runtimes_folder
from harness.results.record import read_record
from harness.runtimes.launchers import LocalLauncher
from harness.runtimes.registry import Runtimes

ROOT = Path(__file__).parents[2]


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="RECORD | MODEL")
    parser.add_argument("--fresh", type=int, default=0)
    parser.add_argument("--provider", default="cpu")
    options = parser.parse_args()
    if options.fresh:
        lines = fresh_table(options.names, options.fresh, options.provider)
    else:
        lines = needs_table(Path(options.names[0]))
    for line in lines:
        print(line, flush=True)  # noqa: T201 - a command


def needs_table(path: Path) -> Iterator[str]:
    """Yield the worst case of every output that has a bound, per provider."""
    yield "| model | output | provider | worst case | RMS of allowed | largest of allowed | share |"
    yield "|---|---|---|---|---|---|---:|"
    worst: dict[tuple[str, str, str], tuple[float, str]] = {}
    for item in read_record(path).items:
        for name, fact in item.facts.items():
            if not name.startswith("error "):
                continue
            model, _, provider, case = item.cell.split("/")
            figures, _, _ = fact.partition(" (")
            share = max(_share(part) for part in figures.split(", "))
            key = (model, name.removeprefix("error "), provider)
            row = f"`{case}` | {figures.replace('rms ', '').replace(', largest ', ' | ')}"
            worst[key] = max(worst.get(key, (0.0, "")), (share, row))
    for (model, output, provider), (share, row) in sorted(worst.items()):
        yield f"| {model} | `{output}` | `{provider}` | {row} | {share:.2f} |"


def _share(text: str) -> float:
    found, _, limit = text.split(" ", 1)[1].partition(" of ")
    return float(found) / float(limit)


def fresh_table(names: Sequence[str], count: int, provider: str) -> Iterator[str]:
    """Yield how many of `count` fresh inputs per model are beyond their bound."""
    yield "| model | fresh inputs | beyond the bound alone | failed | worst share |"
    yield "|---|---:|---:|---:|---:|"
    models = load_models(ROOT / "models")
    with tempfile.TemporaryDirectory() as cache, LocalLauncher() as launcher:
        runtimes = Runtimes(ProjectSettings(), ROOT, runtimes_folder(), launcher)
        for name in names or models:
            model = models[name]
            if not isinstance(model, Model) or not model.spec.case:
                continue
            evidence = Evidence(
                Selection(models=models),
                runtimes=runtimes,
                launcher=launcher,
                cache=Path(cache),
                say=lambda _: None,
            )
            with closing(evidence):
                row = _fresh_row(model, evidence, count, provider)
            if row:
                yield row


def _fresh_row(model: Model, evidence: Evidence, count: int, provider: str) -> str:
    bounds, dims = Bounds(evidence), _smallest(model)
    failed, alone, worst = 0, 0, 0.0
    for number in range(count):
        cell = Cell(model.name, "fp32", provider, f"fresh{number}")
        steps = cases.build(
            model.name, model.spec, CaseSpec(name=cell.case, dims=dims), model.folder
        )
        yardstick = bounds.yardstick(cell, steps, evidence.reference(cell, steps)[0])
        if not isinstance(yardstick, Yardstick):
            return ""
        held = bounds.hold(cell, yardstick, evidence.run(cell, steps), broken=())
        failed += bool(held.findings)
        alone += any("of this case" not in fact for fact in held.facts.values())
        worst = max(worst, held.worst)
    return f"| {model.name} | {count} | {alone} | {failed} | {worst:.2f} |"


def _smallest(model: Model) -> dict[str, int]:
    sizes = [case.dims for case in model.spec.case if not case.inputs]
    return min(sizes or [{}], key=lambda dims: math.prod(dims.values()))


if __name__ == "__main__":
    np.seterr(all="raise")
    main()
