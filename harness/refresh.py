"""Refreshing baselines: what a run's records propose, what speaks against it, what is written.

A live refresh judges the cells as the suites do and hands their records to the same code that takes
a record from another machine, so both obey the same rules. Nothing is written for an entry that
is refused, and nothing changes where the recipe did not.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from harness.domain.baseline import (
    Baseline,
    Change,
    Entry,
    Figures,
    LocalBaseline,
    Recipe,
    Timing,
    entry_key,
)
from harness.domain.cells import PROVIDER_DEPTH, VARIANT_DEPTH, Cell
from harness.domain.environment import Environment
from harness.domain.questions import CONTRACT, LATENCY, PARITY
from harness.domain.verdict import Verdict
from harness.errors import ModelFileError, UsageProblem
from harness.files import toml
from harness.files.artefacts import Artefacts
from harness.files.baselines import Baselines
from harness.results.record import ItemRecord

T = TypeVar("T")
#: Name of the question, id of what it was asked of -> records.
Vouchers = dict[tuple[str, str], list[ItemRecord]]

#: Findings that say that something got worse, or that nobody knows whether it did.
WORSE = frozenset({
    "latency.slower",
    "latency.budget",
    "startup.slower",
    "memory.larger",
    "size.larger",
    "nodes.moved",
    "nodes.more",
    "baseline.incomparable",
})
#: Findings of a cell whose figures would be worth nothing.
UNSETTLED = frozenset({
    "latency.undecided",
    "latency.contaminated",
    "latency.unstable",
    "startup.unsettled",
})
#: Findings that a first baseline, or a better one, goes with.
HARMLESS = frozenset({
    "baseline.missing",
    "latency.faster",
    "startup.faster",
    "memory.smaller",
    "size.smaller",
    "nodes.fewer",
})


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """What the records propose for one variant on one provider."""

    part: Cell
    """Model, variant and provider."""
    recipe: Recipe | None = None
    """What was measured; None if the recipe did not change and nothing was."""
    file_bytes: int = 0
    environment: Environment | None = None
    nodes: Mapping[str, int] = field(default_factory=dict)
    points: Mapping[str, Timing] = field(default_factory=dict)
    refusals: tuple[str, ...] = ()
    """What speaks against recording it, in words."""
    notes: tuple[str, ...] = ()
    """What else is to be known: improvements, accepted regressions."""


def proposals(records: Sequence[ItemRecord], *, accepted: Iterable[str] = ()) -> list[Proposal]:
    """Return what the latency items of a run propose.

    Args:
        records: Items of one run: contract, parity and latency.
        accepted: Models, or ids of cells, whose regressions are approved.

    Raises:
        UsageProblem: If a record's measurement is none that this version can read.
    """
    allowed = frozenset(accepted)
    timed: dict[Cell, list[ItemRecord]] = {}
    for record in records:
        if record.question == LATENCY.name and "baseline.orphan" not in _codes(record):
            timed.setdefault(_cell(record).part(PROVIDER_DEPTH), []).append(record)
    vouchers = _vouchers(records)
    return [_proposal(part, group, vouchers, allowed) for part, group in timed.items()]


def _vouchers(records: Sequence[ItemRecord]) -> Vouchers:
    """Return what may vouch for measurements: contracts by file, parities by session."""
    found: Vouchers = {}
    for record in records:
        if record.question == CONTRACT.name:
            found.setdefault((CONTRACT.name, record.cell), []).append(record)
        elif record.question == PARITY.name:
            part = str(_cell(record).part(PROVIDER_DEPTH))
            found.setdefault((PARITY.name, part), []).append(record)
    return found


def _proposal(
    part: Cell, timed: Sequence[ItemRecord], vouchers: Vouchers, accepted: frozenset[str]
) -> Proposal:
    measured = [record for record in timed if record.measured]
    refusals = [*_speaks_against(part, timed, accepted)]
    notes = [
        f"{_codes(record)[0]}: {record.findings[0]['what']}"
        for record in timed
        if set(_codes(record)) & (WORSE | HARMLESS - {"baseline.missing"})
    ]
    if not measured:
        return Proposal(part=part, refusals=tuple(refusals), notes=tuple(notes))
    refusals += _not_sound(part, vouchers)
    first = measured[0].measured
    recipes = {str(record.measured.get("recipe")) for record in measured}
    if len(recipes) > 1:
        refusals.append(f"items of {part} were measured with different recipes")
    return Proposal(
        part=part,
        recipe=_parsed(Recipe, first.get("recipe"), part),
        file_bytes=_parsed(int, first.get("file_bytes"), part),
        environment=_parsed(Environment, first.get("environment"), part),
        nodes=_parsed(dict[str, int], first.get("nodes"), part),
        points={
            _cell(record).case: _parsed(Timing, record.measured.get("timing"), part)
            for record in measured
        },
        refusals=tuple(refusals),
        notes=tuple(notes),
    )


def _speaks_against(
    part: Cell, timed: Sequence[ItemRecord], accepted: frozenset[str]
) -> Iterator[str]:
    """Yield what the latency items say against a new baseline."""
    for record in timed:
        names = {part.model, str(part), record.cell}
        for finding in record.findings:
            code = finding["code"]
            if code in UNSETTLED:
                yield f"{record.cell} is not settled: {code}"
            elif code in WORSE and not names & accepted:
                yield f"{record.cell}: {code}; approve it with --accept-regression {part.model}"
            elif code not in WORSE | HARMLESS | UNSETTLED | {"known-failure"}:
                yield f"{record.cell}: {code}: {finding['what']}"


def _not_sound(part: Cell, vouchers: Vouchers) -> Iterator[str]:
    """Yield why contract and parity do not vouch for what was measured."""
    for name, cell in ((CONTRACT.name, part.part(VARIANT_DEPTH)), (PARITY.name, part)):
        found = vouchers.get((name, str(cell)), [])
        if not found:
            yield f"{name} of {part} was not judged in this run"
        for record in found:
            if record.verdict is not Verdict.PASS and not record.is_expected_failure:
                first = record.findings[0]
                yield f"{name} of {record.cell}: {first['code']}: {first['what']}"


def _codes(record: ItemRecord) -> list[str]:
    return [finding["code"] for finding in record.findings]


def _cell(record: ItemRecord) -> Cell:
    return Cell(*record.cell.split("/"))


def _parsed(kind: type[T], plain: Any, part: Cell) -> T:
    """Return a measurement's value; records travel between machines and versions."""
    import json  # noqa: PLC0415 - only here

    try:
        return toml.adapter(kind).validate_json(json.dumps(plain), strict=True)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        msg = f"What was measured of '{part}' is not to be read: {fault['msg']}"
        raise UsageProblem(
            msg,
            where=".".join(map(str, fault["loc"])) or "measured",
            expected="a run record of this version of onnx-harness",
            next_step="judge the models again with --harness-json FILE --measure-all",
        ) from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What became of a proposal."""

    proposal: Proposal
    before: Entry | None
    after: Entry | None
    """None where nothing was written."""
    figures_before: Figures | None = None
    figures_after: Figures | None = None

    @property
    def is_refused(self) -> bool:
        """Return whether something spoke against it."""
        return bool(self.proposal.refusals)

    @property
    def is_changed(self) -> bool:
        """Return whether a file changed."""
        changed = (self.before, self.figures_before) != (self.after, self.figures_after)
        return not self.is_refused and changed


def write(
    found: Sequence[Proposal],
    *,
    baselines: Baselines,
    artefacts: Artefacts,
    model_file: Callable[[Cell, Recipe], Path],
    aliases: Mapping[str, tuple[str, ...]],
    change: Change,
    most_bytes: float | None = None,
) -> list[Written]:
    """Write what nothing speaks against, under a lock; artefacts before what names them.

    Args:
        found: Of `proposals`.
        baselines: Where they are written.
        artefacts: Where the controls' files go.
        model_file: Returns the file of a part's candidate, which must have the recipe's hash.
        aliases: Former names of each model.
        change: Who, when, why.
        most_bytes: Size beyond which no artefact is kept; None keeps all.

    Raises:
        HarnessError: If a baseline cannot be read or written, or a model file is another one.
    """
    with baselines.lock():
        return [
            _written(
                proposal,
                baselines=baselines,
                aliases=aliases.get(proposal.part.model, ()),
                change=change,
                has=artefacts.has,
                artefact=lambda each, recipe, size: (
                    ""
                    if most_bytes is not None and size > most_bytes
                    else artefacts.put(model_file(each, recipe))
                ),
            )
            for proposal in found
        ]


def _written(
    proposal: Proposal,
    *,
    baselines: Baselines,
    aliases: tuple[str, ...],
    change: Change,
    has: Callable[[str], bool],
    artefact: Callable[[Cell, Recipe, int], str],
) -> Written:
    part, recipe = proposal.part, proposal.recipe
    key = entry_key(part)
    portable = baselines.portable(part.model, aliases) or Baseline(model=part.model)
    before = portable.entries.get(key)
    if (
        before is not None
        and before.artefact
        and not has(before.artefact)
        and not proposal.refusals
    ):
        _restore(part, before, artefact)
    if proposal.refusals or recipe is None or proposal.environment is None:
        return Written(proposal=proposal, before=before, after=before)
    local = baselines.local(part.model, proposal.environment.id, aliases) or LocalBaseline(
        model=part.model, environment=proposal.environment
    )
    figures_before = local.entries.get(key)
    figures = _kept(figures_before, proposal, recipe) or Figures(
        model=recipe.model,
        build=recipe.build,
        nodes=dict(proposal.nodes),
        points=dict(proposal.points),
        change=change,
    )
    after = before
    if before is None or before.recipe != recipe:
        stored = artefact(part, recipe, proposal.file_bytes)
        after = Entry(recipe=recipe, artefact=stored, file_bytes=proposal.file_bytes, change=change)
    local = replace(local, model=part.model, entries={**local.entries, key: figures})
    baselines.write_local(local)
    if after is not None:
        entries = {**portable.entries, key: after}
        baselines.write(replace(portable, model=part.model, entries=entries))
    return Written(
        proposal=proposal,
        before=before,
        after=after,
        figures_before=figures_before,
        figures_after=figures,
    )


def _restore(part: Cell, entry: Entry, artefact: Callable[[Cell, Recipe, int], str]) -> None:
    """Store a lost artefact again, if the candidate still is what was approved."""
    with contextlib.suppress(ModelFileError):  # it changed: its new recipe brings a new one
        artefact(part, entry.recipe, entry.file_bytes)


def _kept(figures: Figures | None, proposal: Proposal, recipe: Recipe) -> Figures | None:
    """Return the stored figures if they are of this very recipe, these points and inputs."""
    if figures is None or (figures.model, figures.build) != (recipe.model, recipe.build):
        return None
    known = {name: timing.inputs for name, timing in figures.points.items()}
    measured = {name: timing.inputs for name, timing in proposal.points.items()}
    return figures if measured.items() <= known.items() else None
