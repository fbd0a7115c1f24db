"""Refreshing baselines: what a run's records propose, what speaks against it, what is written.

A live refresh judges the cells as the suites do and hands their records to the same code that takes
a record from another machine, so both obey the same rules. Nothing is written for an entry that
is refused, and nothing changes where the recipe did not.
"""

from __future__ import annotations

from collections import Counter
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
from harness.domain.cells import CASE_DEPTH, PROVIDER_DEPTH, VARIANT_DEPTH, Cell
from harness.domain.environment import Environment
from harness.domain.findings import CODES, Severity
from harness.domain.questions import CONTRACT, LATENCY, PARITY
from harness.domain.verdict import Verdict
from harness.errors import ModelFileError, RunFailed, UsageProblem
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
    "latency.throttled",
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
#: Findings that leave nothing to approve unless figures were asked for.
UNMEASURED = frozenset({"baseline.missing", "baseline.incomparable"})
#: Findings of what the spec leaves out, or no longer has: there is nothing to approve.
NOTHING_TO_APPROVE = frozenset({
    "baseline.orphan",
    *(code for code, severity in CODES.items() if severity is Severity.NOT_APPLICABLE),
})
NO_CODE = "a finding without a code"


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
    held_against: frozenset[str] = frozenset()
    """Model hashes of the controls that its items were held against; empty text for none."""
    is_accepted: bool = False
    """Whether its regressions are approved."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Required:
    """What the spec here asks of a part, wherever it was measured."""

    cases: tuple[str, ...] = ()
    """Of parity; all must have been judged."""
    points: tuple[str, ...] = ()
    """Of latency; the same."""
    recipe: Mapping[str, object] = field(default_factory=dict)
    """Fields of the recipe that the spec decides."""


def proposals(
    records: Sequence[ItemRecord],
    *,
    accepted: Iterable[str] = (),
    required: Callable[[Cell], Required] = lambda _: Required(),
) -> list[Proposal]:
    """Return what the latency items of a run propose.

    Args:
        records: Items of one run: contract, parity and latency.
        accepted: Models, or ids of cells, whose regressions are approved.
        required: Returns what is asked of a part.

    Raises:
        UsageProblem: If a record's measurement is none that this version can read.
    """
    allowed = frozenset(accepted)
    timed: dict[Cell, list[ItemRecord]] = {}
    for record in records:
        if record.question == LATENCY.name and NOTHING_TO_APPROVE.isdisjoint(_codes(record)):
            timed.setdefault(_cell(record).part(PROVIDER_DEPTH), []).append(record)
    vouchers = _vouchers(records)
    return [
        _proposal(part, group, vouchers, allowed, required(part)) for part, group in timed.items()
    ]


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
    part: Cell,
    timed: Sequence[ItemRecord],
    vouchers: Vouchers,
    accepted: frozenset[str],
    required: Required,
) -> Proposal:
    measured = [record for record in timed if record.measured]
    refusals = [
        *_speaks_against(part, timed, accepted),
        *_not_told(timed),
        *_lacking(LATENCY.name, part, required.points, timed),
    ]
    notes = [
        f"{code}: {finding.get('what', '')}"
        for record in timed
        for code, finding in zip(_codes(record), record.findings, strict=True)
        if code in WORSE | HARMLESS - {"baseline.missing"}
    ]
    held_against = frozenset(record.facts.get("control", "") for record in measured or timed)
    if not measured:
        return Proposal(
            part=part, refusals=tuple(refusals), notes=tuple(notes), held_against=held_against
        )
    first = measured[0].measured
    recipe = _parsed(Recipe, first.get("recipe"), part)
    judged = vouchers.get((PARITY.name, str(part)), [])
    refusals += [
        *_not_sound(part, vouchers),
        *(_lacking(PARITY.name, part, required.cases, judged) if judged else ()),
        *_not_one(part, measured),
        *_not_asked(part, recipe, required),
    ]
    return Proposal(
        part=part,
        recipe=recipe,
        file_bytes=_file_bytes(first.get("file_bytes"), part),
        environment=_parsed(Environment, first.get("environment"), part),
        nodes=_parsed(dict[str, int], first.get("nodes"), part),
        points={
            _cell(record).case: _parsed(Timing, record.measured.get("timing"), part)
            for record in measured
        },
        refusals=tuple(refusals),
        notes=tuple(notes),
        held_against=held_against,
        is_accepted=all(_names(record) & accepted for record in measured),
    )


def _speaks_against(
    part: Cell, timed: Sequence[ItemRecord], accepted: frozenset[str]
) -> Iterator[str]:
    """Yield what the latency items say against a new baseline."""
    for record in timed:
        for finding in record.findings:
            code, what = finding.get("code", NO_CODE), finding.get("what", "")
            if code in UNSETTLED:
                yield f"{record.cell} is not settled: {code}"
            elif code in WORSE and not _names(record) & accepted:
                yield f"{record.cell}: {code}; approve it with --accept-regression {part.model}"
            elif code not in WORSE | HARMLESS | UNSETTLED | {"known-failure"}:
                yield f"{record.cell}: {code}: {what}"


def _not_told(timed: Sequence[ItemRecord]) -> Iterator[str]:
    """Yield where a record says nothing that can be believed."""
    for record in timed:
        if not record.findings and record.verdict is not Verdict.PASS:
            yield f"{record.cell} is {record.verdict.value}, and its record does not say why"
        if not record.measured and UNMEASURED.intersection(_codes(record)):
            yield f"{record.cell} was not measured; judge it with --measure-all"
    for cell, times in Counter(record.cell for record in timed).items():
        if times > 1:
            yield f"{cell} stands {times} times in this run"


def _lacking(
    question: str, part: Cell, names: Sequence[str], found: Sequence[ItemRecord]
) -> Iterator[str]:
    """Yield what the spec asks of a part and the run, maybe of a selection only, did not judge."""
    known = {record.cell for record in found}
    for name in names:
        cell = str(replace(part, case=name))
        if cell not in known:
            yield f"{question} of {cell} was not judged in this run"


def _not_asked(part: Cell, recipe: Recipe, required: Required) -> Iterator[str]:
    """Yield in what a recipe is not the one that the spec here describes."""
    for name, value in required.recipe.items():
        if getattr(recipe, name) != value:
            got = getattr(recipe, name)
            yield f"{part} was measured with {name} {got}, and its spec here says {value}"


def _not_sound(part: Cell, vouchers: Vouchers) -> Iterator[str]:
    """Yield why contract and parity do not vouch for what was measured."""
    for name, cell in ((CONTRACT.name, part.part(VARIANT_DEPTH)), (PARITY.name, part)):
        found = vouchers.get((name, str(cell)), [])
        if not found:
            yield f"{name} of {part} was not judged in this run"
        for record in found:
            if record.verdict is not Verdict.PASS and not record.is_expected_failure:
                yield f"{name} of {record.cell} is {record.verdict.value}: {_told(record)}"


def _not_one(part: Cell, measured: Sequence[ItemRecord]) -> Iterator[str]:
    """Yield what several points of one session do not share; a merged record can hold that."""
    for key, plural in (("recipe", "recipes"), ("environment", "environments")):
        if any(record.measured.get(key) != measured[0].measured.get(key) for record in measured):
            yield f"items of {part} were measured with different {plural}"


def _told(record: ItemRecord) -> str:
    """Return the first finding of a record with its code."""
    first = next(iter(record.findings), {})
    return f"{first.get('code', NO_CODE)}: {first.get('what', '')}".removesuffix(": ")


def _codes(record: ItemRecord) -> list[str]:
    return [finding.get("code", NO_CODE) for finding in record.findings]


def _names(record: ItemRecord) -> set[str]:
    """Return by which names a regression of an item can be accepted."""
    cell = _cell(record)
    return {cell.model, str(cell.part(PROVIDER_DEPTH)), record.cell}


def _cell(record: ItemRecord) -> Cell:
    """Return the cell of a latency or parity item.

    Raises:
        UsageProblem: If its id is none.
    """
    places = record.cell.split("/")
    if len(places) == CASE_DEPTH and all(places):
        return Cell(*places)
    msg = f"'{record.cell}' is not the id of a {record.question} item"
    raise UsageProblem(
        msg,
        expected="MODEL/VARIANT/PROVIDER/CASE, such as mnist/fp32/cpu/batch1",
        next_step="take the record as --harness-json wrote it",
    )


def _parsed(kind: type[T], plain: Any, part: Cell) -> T:
    """Return a measurement's value; records travel between machines and versions."""
    import json  # noqa: PLC0415 - only here

    try:
        return toml.adapter(kind).validate_json(json.dumps(plain), strict=True)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        where = ".".join(map(str, fault["loc"])) or "measured"
        raise _unreadable(part, str(fault["msg"]), where) from None


def _file_bytes(plain: Any, part: Cell) -> int:
    size = _parsed(int, plain, part)
    if size <= 0:
        raise _unreadable(part, f"a file of {size} bytes", "file_bytes")
    return size


def _unreadable(part: Cell, fault: str, where: str) -> UsageProblem:
    return UsageProblem(
        f"What was measured of '{part}' is not to be read: {fault}",
        where=where,
        expected="a run record of this version of onnx-harness",
        next_step="judge the models again with --harness-json FILE --measure-all",
    )


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
    model_file: Callable[[Cell, Recipe, int], Path],
    aliases: Mapping[str, tuple[str, ...]],
    change: Change,
    most_bytes: float | None = None,
) -> list[Written]:
    """Write what nothing speaks against, under a lock; artefacts before what names them.

    Args:
        found: Of `proposals`.
        baselines: Where they are written.
        artefacts: Where the controls' files go.
        model_file: Returns the file of a part's candidate, which must have the recipe's hash and
            about this size, bytes.
        aliases: Former names of each model.
        change: Who, when, why.
        most_bytes: Size beyond which no artefact is kept; None keeps all.

    Raises:
        HarnessError: If a baseline cannot be read or written, or a model file is another one.
    """

    def artefact(part: Cell, recipe: Recipe, size: int) -> str:
        path = model_file(part, recipe, size)
        return "" if most_bytes is not None and size > most_bytes else artefacts.put(path)

    with baselines.lock():
        return [
            _written(
                proposal,
                baselines=baselines,
                aliases=aliases.get(proposal.part.model, ()),
                change=change,
                has=artefacts.has,
                artefact=artefact,
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
    before = after = portable.entries.get(key)
    proposal = _held(proposal, before)
    if proposal.refusals:
        return Written(proposal=proposal, before=before, after=before)
    figures_before = figures = None
    if recipe is not None and proposal.environment is not None:
        local = baselines.local(part.model, proposal.environment.id, aliases) or LocalBaseline(
            model=part.model, environment=proposal.environment
        )
        figures_before = local.entries.get(key)
        is_same = before is not None and before.recipe == recipe
        figures = _figures(figures_before, proposal, recipe, change)
        if not is_same:
            stored = artefact(part, recipe, proposal.file_bytes)
            size = proposal.file_bytes
            after = Entry(recipe=recipe, artefact=stored, file_bytes=size, change=change)
        entries = {**local.entries, key: figures}
        baselines.write_local(replace(local, model=part.model, entries=entries))
    if before is not None and after == before:
        after = _with_control(part, before, has=has, artefact=artefact, change=change)
    if after is not None and (after != before or figures is not None):
        entries_of_all = {**portable.entries, key: after}
        baselines.write(replace(portable, model=part.model, entries=entries_of_all))
    return Written(
        proposal=proposal,
        before=before,
        after=after,
        figures_before=figures_before,
        figures_after=figures,
    )


def _held(proposal: Proposal, before: Entry | None) -> Proposal:
    """Return the proposal, refused if another baseline than the one here judged it, or none."""
    if proposal.recipe is None and before is None and not proposal.refusals:
        told = f"{proposal.part} was not measured, and has no baseline; judge it with --measure-all"
        return replace(proposal, refusals=(told,))
    if before is None or proposal.recipe == before.recipe or proposal.is_accepted:
        return proposal
    others = proposal.held_against - {before.recipe.model}
    if not others:
        return proposal
    other = ", ".join(sorted(each[:12] or "none" for each in others))
    told = (
        f"{proposal.part} was not held against the baseline that is here, "
        f"{before.recipe.model[:12]}, but against {other}; judge it with these baselines, or "
        f"approve it with --accept-regression {proposal.part.model}"
    )
    return replace(proposal, refusals=(*proposal.refusals, told))


def _with_control(
    part: Cell,
    entry: Entry,
    *,
    has: Callable[[str], bool],
    artefact: Callable[[Cell, Recipe, int], str],
    change: Change,
) -> Entry:
    """Return an entry whose control is stored again, if it was lost or had been too large.

    That needs a candidate which still is what was approved; its file may have other metadata.
    """
    if entry.artefact and has(entry.artefact):
        return entry
    try:
        stored = artefact(part, entry.recipe, entry.file_bytes)
    except (ModelFileError, RunFailed):  # it changed: its new recipe brings a new one
        return entry
    return (
        entry if stored in {"", entry.artefact} else replace(entry, artefact=stored, change=change)
    )


def _figures(known: Figures | None, proposal: Proposal, recipe: Recipe, change: Change) -> Figures:
    """Return what is stored of a recipe: known figures stay as long as their inputs do.

    Args:
        known: Stored figures of this very recipe.
        proposal: What was measured now, maybe of some points only.
        recipe: The one that was measured.
        change: Who, when, why.
    """
    if known is None or known.recipe != recipe:
        return Figures(
            recipe=recipe,
            nodes=dict(proposal.nodes),
            points=dict(proposal.points),
            change=change,
        )
    new = {
        name: timing
        for name, timing in proposal.points.items()
        if name not in known.points or known.points[name].inputs != timing.inputs
    }
    return replace(known, points={**known.points, **new}, change=change) if new else known
