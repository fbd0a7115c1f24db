"""Join the records of several runners, and say what none of them judged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.domain.verdict import Verdict
from harness.results.record import EXPECTED, DeclaredItem, ItemRecord, RunRecord

#: From harmless to serious; an expected failure stands between PASS and FAIL.
_ORDER = (Verdict.SKIP, Verdict.PASS, EXPECTED, Verdict.FAIL, Verdict.ERROR)


@dataclass(frozen=True, slots=True, kw_only=True)
class Merged:
    """Several records as one, with what is missing."""

    record: RunRecord
    unjudged: tuple[DeclaredItem, ...]
    """Declared items that no record judged."""

    @property
    def failed(self) -> tuple[ItemRecord, ...]:
        """Return the items whose verdict fails a build."""
        bad = (Verdict.FAIL, Verdict.ERROR)
        return tuple(item for item in self.record.items if item.verdict in bad)


def merge(records: Sequence[RunRecord]) -> Merged:
    """Return the union of all records; of several verdicts on one item the worst counts.

    A PASS or an expected failure beats a SKIP, because another runner judged what this one could
    not.
    """
    declared: dict[str, DeclaredItem] = {}
    items: dict[str, ItemRecord] = {}
    for record in records:
        declared.update({item.key: item for item in record.declared})
        for item in record.items:
            known = items.get(item.key)
            if known is None or _seriousness(item) > _seriousness(known):
                items[item.key] = item
    judged = {key for key, item in items.items() if item.is_judged}
    unjudged = [
        item for key, item in declared.items() if not item.not_applicable and key not in judged
    ]
    first = records[0]
    merged = RunRecord(
        harness_version=first.harness_version,
        created=max(record.created for record in records),
        machine={},
        asked={"merged": [record.created for record in records]},
        declared=tuple(declared.values()),
        items=tuple(items[key] for key in sorted(items)),
    )
    return Merged(record=merged, unjudged=tuple(unjudged))


def _seriousness(item: ItemRecord) -> int:
    return _ORDER.index(EXPECTED if item.is_expected_failure else item.verdict)
