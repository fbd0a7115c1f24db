"""`onnx-harness prove`: mutants of models, and which of them the models' own suites kill."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.output import AsJson, plural, print_json, problem
from harness.cli.project import ModelsFolder, open_project
from harness.errors import HarnessError, UsageProblem, labelled_lines

if TYPE_CHECKING:
    from harness.domain.mutants import Proof, Trial

Names = Annotated[
    list[str] | None,
    typer.Argument(metavar="[MODEL]...", help="Names of models. Default: all of the folder."),
]
Limit = Annotated[
    int,
    typer.Option(
        "--limit",
        metavar="N",
        min=1,
        help="Mutants of one model; a sample of all kinds. Default: 60.",
    ),
]
HEADERS = ("kind", "made", "killed", "equivalent", "survived", "undecided")


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A model that could not be proved, and why."""

    model: str
    error: HarnessError


def prove(
    names: Names = None, *, models: ModelsFolder = None, limit: Limit = 60, as_json: AsJson = False
) -> None:
    """Make mutants of models and tell which of them the models' own suites kill on the CPU.

    Exit code 0 if every suite kills the share that its spec asks for (prove.minimum, 0.95 by
    default) and the model's outputs depend on its inputs and weights; 1 if not, or if a model
    fails its own suite as it is; 2 or 3 if a model cannot be judged here.
    """
    results = _results(names or [], models, limit)
    if as_json:
        print_json({"models": [_as_json(result) for result in results], "limit": limit})
    else:
        for result in results:
            print(*_lines(result), sep="\n")
            print()
        print(_summary(results))
    raise typer.Exit(_exit_code(results))


def _results(names: list[str], folder: Path | None, limit: int) -> list[Proof | Refusal]:
    from harness.files.models import load_models
    from harness.files.places import cache_folder
    from harness.proving.proof import Tools, prove
    from harness.runtimes.launchers import LocalLauncher

    project = open_project()
    found = load_models(project.models_folder(folder))
    chosen = _chosen(names, found)
    results: list[Proof | Refusal] = []
    with LocalLauncher() as launcher, _progress() as say:
        tools = Tools(
            runtimes=project.runtimes(launcher), launcher=launcher, cache=cache_folder(), say=say
        )
        for name in chosen:
            try:
                results.append(prove(found[name], tools, limit=limit))
            except HarnessError as error:
                results.append(Refusal(model=name, error=error))
    return results


def _chosen(names: list[str], found: Iterable[str]) -> list[str]:
    from harness.domain.providers import did_you_mean

    known = list(found)
    for name in names:
        if name not in known:
            msg = f"There is no model '{name}'"
            raise UsageProblem(
                msg,
                expected=f"one of {', '.join(known)}",
                next_step=did_you_mean(name, known, "see `onnx-harness model list`"),
            )
    return list(dict.fromkeys(names)) or known


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """Show one line of progress, on a terminal only."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console

    with Console(stderr=True).status("") as status:
        yield status.update


def _exit_code(results: Iterable[Proof | Refusal]) -> int:
    """Return the code of the first model that could not be judged, else 1 for a fault."""
    from harness.cli import ExitCode, exit_code_of

    found = list(results)
    refused = [exit_code_of(each.error) for each in found if isinstance(each, Refusal)]
    worse = [code for code in refused if code is not ExitCode.VERDICT_FAILED]
    if worse:
        return worse[0]
    failed = refused or any(not isinstance(each, Refusal) and each.faults for each in found)
    return ExitCode.VERDICT_FAILED if failed else ExitCode.PASSED


def _lines(result: Proof | Refusal) -> Iterator[str]:
    if isinstance(result, Refusal):
        yield from labelled_lines(result.error)
        return
    yield _headline(result)
    for fault in result.faults:
        yield f"  PROVES NOTHING: {fault}" if fault in result.dependence.faults else f"  {fault}"
    yield from _table(result)
    yield from _curve(result)
    for trial in result.trials:
        if trial.fate in {"survived", "undecided"}:
            yield from _survivor(trial)


def _headline(proof: Proof) -> str:
    from harness.domain.mutants import Fate

    made = len(proof.trials)
    killed, equivalent = proof.count(Fate.KILLED), proof.count(Fate.EQUIVALENT)
    score = "no score" if proof.score is None else f"score {proof.score:.1%}"
    return (
        f"{proof.model}: {score}, {killed} of {made - equivalent} killed "
        f"({plural(made, 'mutant')} of {proof.listed}, {equivalent} equivalent)"
    )


def _table(proof: Proof) -> Iterator[str]:
    from harness.domain.mutants import Fate

    fates = (Fate.KILLED, Fate.EQUIVALENT, Fate.SURVIVED, Fate.UNDECIDED)
    rows: list[tuple[str, ...]] = [HEADERS]
    for kind in proof.kinds():
        made = sum(trial.mutant.kind == kind for trial in proof.trials)
        rows.append((kind, *(str(n) for n in (made, *(proof.count(f, kind) for f in fates)))))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield f"  {'  '.join(cells)}".rstrip()
    yield f"  killed by: {_by(proof)}"


def _by(proof: Proof) -> str:
    counts: dict[str, int] = {}
    for trial in proof.trials:
        if trial.killed_by:
            counts[trial.killed_by] = counts.get(trial.killed_by, 0) + 1
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items())) or "nothing"


def _curve(proof: Proof) -> Iterator[str]:
    if proof.curve:
        shares = (f"{amount}: {dead} of {all_}" for amount, (dead, all_) in proof.curve.items())
        yield f"  single weights killed, by relative amount (not counted): {', '.join(shares)}"


def _survivor(trial: Trial) -> Iterator[str]:
    yield f"  {trial.fate}: {trial.mutant.id}"
    yield f"    reason:    {trial.reason}: {trial.told}"
    first, *rest = trial.remedy.splitlines()
    yield f"    killed by: {first}"
    yield from (f"               {line}" for line in rest)


def _summary(results: list[Proof | Refusal]) -> str:
    proved = [each for each in results if not isinstance(each, Refusal) and not each.faults]
    return f"{len(proved)} of {plural(len(results), 'model')} proved"


def _as_json(result: Proof | Refusal) -> dict[str, Any]:
    if isinstance(result, Refusal):
        return {"model": result.model, "proved": False, "refused": problem(result.error)}
    plain = asdict(result)
    curve = {
        amount: {"killed": dead, "made": all_} for amount, (dead, all_) in result.curve.items()
    }
    return {
        **plain,
        "trials": [{**each, **each.pop("mutant")} for each in plain["trials"]],
        "curve": curve,
        "score": result.score,
        "faults": result.faults,
        "proved": not result.faults,
    }
