"""Known failures that end soon: a line each, for the end of a run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from harness.domain.cells import Cell
from harness.domain.known_failures import AsOf, is_about, is_expiring
from harness.domain.questions import QUESTIONS
from harness.domain.spec import KnownFailure
from harness.results.record import ItemRecord


def expiring_lines(
    entries: Mapping[str, Sequence[KnownFailure]], records: Sequence[ItemRecord], as_of: AsOf
) -> Iterator[str]:
    """Yield a warning for each entry that excused something in this run and ends soon.

    Args:
        entries: Known failures by the model that declares them.
        records: What was judged.
        as_of: The day that counts.
    """
    for model, declared in entries.items():
        for index, entry in enumerate(declared):
            if is_expiring(entry, as_of) and any(_excuses(entry, record) for record in records):
                days = (entry.expires - as_of.date).days
                yield (
                    f"warning: known_failure[{index}] of '{model}' ('{entry.code}', '{entry.cell}')"
                    f" ends {_in_days(days)}, on {entry.expires}: {entry.issue}"
                )


def _excuses(entry: KnownFailure, record: ItemRecord) -> bool:
    codes = {finding.get("cause") or finding["code"] for finding in record.findings}
    cell = Cell(*record.cell.split("/"))
    return entry.code in codes and is_about(entry, QUESTIONS[record.question], cell)


def _in_days(days: int) -> str:
    return {0: "today", 1: "tomorrow"}.get(days, f"in {days} days")
