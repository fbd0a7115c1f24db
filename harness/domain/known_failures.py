"""Known failures: what a spec declares to fail, weighed against what an item really showed.

An entry is strict (an item that passes although it is declared to fail does not pass), owned (it
names an issue) and expiring. `harness.domain.verdict` asks this module what is excused, and still
decides by itself.
"""

from __future__ import annotations

import datetime
import fnmatch
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from harness.domain.cells import ANY, CASE_DEPTH, PROVIDER_DEPTH, Cell, expand, parts, short_name
from harness.domain.findings import Finding
from harness.domain.questions import LATENCY, QUESTIONS, SHOWN_BY, Question
from harness.domain.spec import KnownFailure, ModelSpec

#: An entry is warned of from so many days before its last one.
WARNED_DAYS = 14
#: As many cells as a fault of the spec shows.
SHOWN_CELLS = 3
EXPIRED_ADVICE = "mend the failure and delete the entry, or agree on another day in the issue"


@dataclass(frozen=True, slots=True, kw_only=True)
class AsOf:
    """The day on which known failures are judged."""

    date: datetime.date
    """The day."""
    source: str
    """Where it comes from: an option, a commit, the clock and why."""

    def __str__(self) -> str:
        """Return day and origin: `2027-02-20, the date of commit 1a2b3c4`."""
        return f"{self.date}, {self.source}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """An entry that is about the item in question, with its place in the spec."""

    entry: KnownFailure
    """What is declared."""
    as_of: AsOf
    """The day that counts."""
    where: str = ""
    """File, dotted key and lines."""
    text: str = ""
    """The lines of the file that make up the entry."""

    @property
    def is_expired(self) -> bool:
        """Return whether its last day is over."""
        return self.as_of.date > self.entry.expires


@dataclass(frozen=True, slots=True, kw_only=True)
class Weighed:
    """An item's findings, told apart."""

    decisive: tuple[Finding, ...]
    """What counts for the verdict: findings that nothing excuses, and what is said of entries."""
    excused: tuple[Finding, ...]
    """What the spec declares to fail."""


def weigh(question: Question, findings: Sequence[Finding], known: Sequence[Declared]) -> Weighed:
    """Return which of an item's findings (without notes) count, and which are excused.

    An entry excuses its code wherever it shows in the cells that it names. What is blocked by
    another failure goes by the code of that failure, because which item of a run meets it first
    depends on the selection.
    """
    valid = [each for each in known if not each.is_expired]
    codes = {each.entry.code for each in valid}
    shown = {finding.root_code for finding in findings}
    counting = [finding for finding in findings if finding.root_code not in codes]
    expired = [each for each in known if each.is_expired and each.entry.code in shown - codes]
    disproved = [] if findings else [each for each in known if _is_sure(each.entry, question)]
    remarks = (
        *map(_passed, disproved),
        *map(_expired, expired),
        *(_expected(each) for each in valid if each.entry.code in shown),
    )
    return Weighed(
        decisive=(*counting, *remarks),
        excused=tuple(finding for finding in findings if finding.root_code in codes),
    )


def is_about(entry: KnownFailure, question: Question, cell: Cell) -> bool:
    """Return whether an entry is about one item.

    Each part of the glob must match its part of the cell. Where the item leaves a part open,
    because its question does not depend on it, the glob must do so too: an entry for one case
    says nothing about a placement that all cases share.
    """
    if entry.suite not in {None, question.name}:
        return False
    globs = (*entry.cell.split("/"), *[ANY] * CASE_DEPTH)[:CASE_DEPTH]
    names = (cell.model, cell.variant, cell.provider, cell.case)
    return all(
        glob == ANY if name == ANY else fnmatch.fnmatchcase(name, glob)
        for glob, name in zip(globs, names, strict=True)
    )


def is_expiring(entry: KnownFailure, as_of: AsOf) -> bool:
    """Return whether an entry's last day is near, and not over."""
    return 0 <= (entry.expires - as_of.date).days <= WARNED_DAYS


def entry_faults(
    name: str, spec: ModelSpec, cases: Iterable[str], points: Iterable[str] = ()
) -> list[str]:
    """Return the entries that can never excuse anything, or stand twice.

    Args:
        name: Of the model.
        spec: Its spec.
        cases: Its cases.
        points: What the latency suite has in their place.
    """
    entries = spec.known_failure
    faults = [
        f"'known_failure[{index}]' is the same as 'known_failure[{entries.index(entry)}]'"
        for index, entry in enumerate(entries)
        if entries.index(entry) != index
    ]
    cells, timed = ([*expand(name, spec, cases=each)] for each in (cases, points))
    for index, entry in enumerate(entries if cells else ()):
        concerned = [item for item in _items(spec, cells, timed) if _is_sure(entry, item[0])]
        ways = (entry, _in_any_runtime(entry))
        if not any(is_about(way, *item) for way in ways for item in concerned):
            faults.append(_dead(f"known_failure[{index}].cell", entry, concerned))
    return faults


def _in_any_runtime(entry: KnownFailure) -> KnownFailure:
    """Return an entry for `cpu@ort-1.31` as one for `cpu`: only command lines name runtimes."""
    globs = map(short_name, entry.cell.split("/"))
    return replace(entry, cell="/".join(glob or ANY for glob in globs))


def _items(
    spec: ModelSpec, cells: Sequence[Cell], timed: Sequence[Cell]
) -> Iterator[tuple[Question, Cell]]:
    """Yield the items that a spec declares and that can run."""
    for question in QUESTIONS.values():
        for part in parts(timed if question is LATENCY else cells, question.depth):
            use = spec.providers.get(short_name(part.provider))
            if question.depth < PROVIDER_DEPTH or use is None or use.not_applicable is None:
                yield question, part


def _is_sure(entry: KnownFailure, question: Question) -> bool:
    """Return whether a pass of this question's items disproves the entry."""
    if entry.suite is not None:
        return entry.suite == question.name
    return question in SHOWN_BY[entry.code]


def _dead(key: str, entry: KnownFailure, concerned: Sequence[tuple[Question, Cell]]) -> str:
    """Return that an entry matches nothing, with what it could match."""
    suites = " or ".join(dict.fromkeys(question.name for question, _ in concerned))
    ids = [str(cell) for _, cell in concerned]
    shown = ", ".join(ids[:SHOWN_CELLS]) + (", ..." if len(ids) > SHOWN_CELLS else "")
    if not ids:
        return f"'{key}' = '{entry.cell}' matches nothing: no item of this model can run"
    return f"'{key}' = '{entry.cell}' matches no {suites} item of this model: {shown}"


def _expected(known: Declared) -> Finding:
    entry = known.entry
    reason = f" ({entry.reason})" if entry.reason else ""
    return Finding(
        code="known-failure",
        what=f"Known failure '{entry.code}', excused until {entry.expires}: {entry.issue}{reason}",
        where=known.where,
    )


def _expired(known: Declared) -> Finding:
    entry = known.entry
    return Finding(
        code="known-failure.expired",
        what=f"Known failure '{entry.code}' expired on {entry.expires}: {entry.issue}",
        where=known.where,
        expected=f"'expires' on or after {known.as_of}",
        got=str(entry.expires),
        next_step=EXPIRED_ADVICE,
    )


def _passed(known: Declared) -> Finding:
    entry = known.entry
    advice = "if other cells still fail, narrow 'cell' to them, else delete these lines:"
    return Finding(
        code="known-failure.passed",
        what=f"Passed, although '{entry.code}' is declared a known failure here: {entry.issue}",
        where=known.where,
        expected=f"'{entry.code}' in every item that '{entry.cell}' matches",
        got="no finding",
        next_step=f"{advice}\n{known.text}",
    )
