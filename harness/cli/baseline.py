"""`onnx-harness baseline`: the recipes and figures that latency is held against."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.baseline_calibrating import calibrate
from harness.cli.baseline_history import history
from harness.cli.baseline_keeping import check, prune
from harness.cli.baseline_showing import diff, show
from harness.cli.output import AsJson, print_json, print_table
from harness.cli.project import BaselinesFolder, ModelsFolder, open_project

if TYPE_CHECKING:
    from harness.cli.desk import Desk
    from harness.domain.baseline import Change, Recipe, Timing
    from harness.domain.cells import Cell
    from harness.domain.questions import Question
    from harness.errors import UsageProblem
    from harness.pipeline import Gate
    from harness.refresh import Required, Written
    from harness.results.record import ItemRecord

app = typer.Typer(
    help="Baselines: the recipes and figures that latency is held against.", no_args_is_help=True
)
app.command("calibrate")(calibrate)
app.command("show")(show)
app.command("diff")(diff)
app.command("history")(history)
app.command("check")(check)
app.command("prune")(prune)

Models = Annotated[
    list[str] | None,
    typer.Option("--model", metavar="NAME", help="Model, a name or a glob; repeatable."),
]
Providers = Annotated[
    list[str] | None,
    typer.Option(
        "--provider",
        metavar="NAME",
        help="Provider; repeatable. Default: each spec's providers that are usable here.",
    ),
]


@app.command("refresh")
def refresh(
    *,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why; kept with every entry.")],
    model: Models = None,
    provider: Providers = None,
    accept_regression: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Model or cell whose regression is approved."),
    ] = None,
    from_run: Annotated[
        Path | None,
        typer.Option(metavar="RUN", help="Take figures from this run record; measure nothing."),
    ] = None,
    measure_all: Annotated[
        bool, typer.Option("--measure-all", help="Measure also what did not change.")
    ] = False,
    models: ModelsFolder = None,
    baselines: BaselinesFolder = None,
    as_json: AsJson = False,
) -> None:
    """Approve what is there now: measure it and write its baselines.

    Refuses a model whose parity fails, a cell that is not settled, and whatever got worse, unless
    --accept-regression names it. Exit code 1 if anything was refused.
    """
    from harness.cli.desk import Desk
    from harness.refresh import proposals, write

    _check_reason(reason)
    desk = Desk.of(open_project(), models=models, baselines=baselines, wanted=model or ())
    _check_accepted(accept_regression or (), desk)
    given = None if from_run is None else _recorded(from_run)
    with desk.gate(provider or (), measures_all=measure_all) as (gate, cells):
        records = _judged(gate, desk, cells) if given is None else given
        found = proposals(
            [each for each in records if each.cell.partition("/")[0] in desk.models],
            accepted=accept_regression or (),
            required=lambda part: _required(desk, part),
        )
        written = write(
            found,
            baselines=desk.approved.baselines,
            artefacts=desk.approved.artefacts,
            model_file=lambda *told: _same_model(gate, desk, *told),
            aliases={name: each.spec.aliases for name, each in desk.models.items()},
            change=_change(desk.project.root, reason),
            most_bytes=desk.most_bytes,
        )
    if not written:
        raise _nothing(from_run)
    if as_json:
        print_json([_plain(each) for each in written])
    else:
        _print(written)
    raise typer.Exit(1 if any(each.is_refused for each in written) else 0)


def _check_reason(reason: str) -> None:
    from harness.errors import UsageProblem

    if not reason.strip():
        msg = "--reason is empty"
        raise UsageProblem(msg, where="--reason", expected="why the new state is approved")


def _recorded(path: Path) -> Sequence[ItemRecord]:
    """Return the items of a run, which must have been held against baselines."""
    from harness.errors import UsageProblem
    from harness.results.record import read_record

    record = read_record(path)
    if record.asked.get("against_runtime") is None:
        return record.items
    msg = "The run held its models against a runtime, not against their baselines"
    raise UsageProblem(
        msg,
        where=str(path),
        expected="a run without --against-runtime",
        next_step="run the suites with --measure-all --harness-json FILE",
    )


def _check_accepted(names: Sequence[str], desk: Desk) -> None:
    from harness.cli.names import known_name

    for name in names:
        known_name(name.partition("/")[0], desk.models, "model", where="--accept-regression")


def _judged(gate: Gate, desk: Desk, cells: Sequence[Cell]) -> list[ItemRecord]:
    """Judge latency, and what vouches for it where something was measured."""
    from harness.cli.desk import session_parts
    from harness.domain.cells import PROVIDER_DEPTH, VARIANT_DEPTH
    from harness.domain.questions import CONTRACT, LATENCY, PARITY
    from harness.results.record import ItemRecord

    def judged(question: Question, cell: Cell) -> ItemRecord:
        judgement = gate.check(question, cell)
        return ItemRecord.of(question.name, str(cell), judgement, duration_s=0.0)

    found: list[ItemRecord] = []
    for part in session_parts(cells):
        own = [cell for cell in cells if cell.part(PROVIDER_DEPTH) == part]
        timed = [judged(LATENCY, cell) for cell in own]
        found += timed
        if any(record.measured for record in timed):
            found.append(judged(CONTRACT, part.part(VARIANT_DEPTH)))
            names = desk.models[part.model].case_names()
            found += [judged(PARITY, replace(part, case=name)) for name in names]
    return found


def _required(desk: Desk, part: Cell) -> Required:
    """Return what the spec here asks of a part."""
    from harness.domain.providers import find
    from harness.refresh import Required
    from harness.runtimes.registry import known_providers

    provider = find(part.provider, known_providers(desk.project.settings))
    model = desk.models[part.model]
    session, latency = model.spec.session, model.spec.latency
    return Required(
        cases=model.case_names(),
        points=tuple(model.points()),
        recipe={
            "provider": provider.ep,
            "threads": latency.threads or session.threads,
            "optimization": session.optimization,
            "config": session.config,
            "custom_ops": session.custom_ops,
        },
    )


def _same_model(gate: Gate, desk: Desk, part: Cell, recipe: Recipe, size: int) -> Path:
    """Return the candidate's file, which must be the one that was measured."""
    from harness.cli.names import known_name
    from harness.domain.latency import GROWTH
    from harness.errors import ModelFileError

    variants = desk.models[part.model].spec.variant_names()
    known_name(part.variant, variants, "variant", where=str(part))
    path, facts = gate.model_file(part)
    if facts.hash == recipe.model:
        if abs(size - facts.size_bytes) <= GROWTH * facts.size_bytes:
            return path
        msg = f"The file of '{part}' here is not as large as the one that was measured"
        raise ModelFileError(
            msg,
            code="baseline.control",
            where=str(path),
            expected=f"within {GROWTH:.0%} of {size:,} bytes",
            got=f"{facts.size_bytes:,} bytes, external data included",
            next_step="take the record as --harness-json wrote it",
        )
    msg = f"The model of '{part}' here is not the one that was measured"
    raise ModelFileError(
        msg,
        code="baseline.control",
        where=str(path),
        expected=f"model hash {recipe.model}",
        got=facts.hash,
        next_step="check out the commit of the run, or measure here without --from-run",
    )


def _change(root: Path, reason: str) -> Change:
    import harness
    from harness.domain.baseline import Change
    from harness.files.commits import author, head

    now = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    return Change(
        who=author(root),
        when=now.isoformat(),
        commit=head(root),
        reason=reason,
        harness=harness.__version__,
    )


def _nothing(from_run: Path | None) -> UsageProblem:
    from harness.errors import UsageProblem

    msg = "Nothing to refresh: no latency item of the chosen models"
    advice = "see `onnx-harness model list`, and `providers` of the specs"
    if from_run is None:
        return UsageProblem(msg, where="--model, --provider", next_step=advice)
    return UsageProblem(
        msg,
        where=str(from_run),
        expected="a record of a run with the latency suite",
        next_step="run the suites with --measure-all --harness-json FILE",
    )


def _print(written: Sequence[Written]) -> None:
    rows = [(str(each.proposal.part), _state(each), *_figures(each)) for each in written]
    headers = ("cell", "baseline", "p50", "start-up", "memory", "file")
    print_table(headers, rows, styles={"refused": "red", "new": "green", "changed": "yellow"})
    for each in written:
        for text in each.proposal.refusals:
            print(f"refused: {text}")
        if not each.is_refused:
            for text in each.proposal.notes:
                print(f"note: {text}")
        for line in _recipe_lines(each):
            print(line)


def _state(written: Written) -> str:
    if written.is_refused:
        return "refused"
    if not written.is_changed:
        return "unchanged"
    return "new" if written.before is None else "changed"


def _figures(written: Written) -> tuple[str, str, str, str]:
    """Return what the table tells of the points: old and new where both are known."""
    before = written.figures_before.points if written.figures_before else {}
    after = written.proposal.points or (
        written.figures_after.points if written.figures_after else {}
    )
    old, new = written.before, written.proposal
    return (
        _column(before, after, lambda timing: timing.p50_ms, "ms"),
        _column(before, after, lambda timing: timing.startup_ms, "ms"),
        _column(before, after, lambda timing: timing.memory_bytes / 2**20, "MiB"),
        _move(old.file_bytes / 1000 if old else None, new.file_bytes / 1000 or None, "kB"),
    )


def _column(
    before: Mapping[str, Timing],
    after: Mapping[str, Timing],
    value: Callable[[Timing], float],
    unit: str,
) -> str:
    names = list(dict.fromkeys((*before, *after)))
    told = []
    for name in names:
        old, new = (value(each[name]) if name in each else None for each in (before, after))
        moved = _move(old, new, unit)
        told.append(moved if len(names) == 1 else f"{name} {moved}")
    return "; ".join(told)


def _move(old: float | None, new: float | None, unit: str) -> str:
    """Return old and new value with the change; stored figures of two times scatter widely."""
    if old is None or new is None:
        known = new if old is None else old
        return "" if known is None else f"{known:.4g} {unit}"
    if old == new:
        return f"{new:.4g} {unit}"
    return f"{old:.4g} -> {new:.4g} {unit} ({new / old - 1:+.1%})"


def _recipe_lines(written: Written) -> Iterator[str]:
    before, recipe = written.before, written.proposal.recipe
    if before is None or recipe is None:
        return
    for name, (new, old) in recipe.differences(before.recipe).items():
        yield f"{written.proposal.part}: {name} {old} -> {new}"


def _plain(written: Written) -> dict[str, Any]:
    return {
        "cell": str(written.proposal.part),
        "state": _state(written),
        "refusals": list(written.proposal.refusals),
        "notes": list(written.proposal.notes),
        "before": asdict(written.before) if written.before else None,
        "after": asdict(written.after) if written.after else None,
        "figures_before": asdict(written.figures_before) if written.figures_before else None,
        "figures_after": asdict(written.figures_after) if written.figures_after else None,
    }
