"""The closing table: what was judged per model and provider, and what it rests on."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from harness.domain.findings import CODES, Severity
from harness.domain.verdict import Verdict
from harness.results.record import EXPECTED, ItemRecord

TITLE = " onnx-harness "
#: Counters of the receipts that the last line adds up.
TOTALS = ("nodes_checked", "nodes_placed", "outputs_compared", "elements_compared")
#: The same for counters that not every run has.
SOME_TOTALS = ("examples_judged", "calls_timed", "unchanged_by_hash")
HEADINGS = (
    *("model", "contract", "provider"),
    *(verdict.lower() for verdict in Verdict),
    *("worst / allowed", "bound", "placement", "p50"),
)
#: Columns of words; those after them hold numbers and are aligned at the right.
WORDS = 3


@dataclass(slots=True, kw_only=True)
class _Row:
    """What the items of one model on one provider add up to."""

    verdicts: Counter[Verdict] = field(default_factory=Counter)
    worst: float | None = None
    bounds: set[str] = field(default_factory=set)
    """What limits came from: `float64`, `table`."""
    placed: str = ""
    p50: tuple[float, str] = (-math.inf, "")
    """Greatest change beside the control, and how it is told."""


def summary_lines(records: Sequence[ItemRecord], *, width: int) -> Iterator[str]:
    """Yield the closing table and the totals of all receipts.

    The column `contract` is about the model's files; the counts are about the provider's items.
    """
    contracts, rows = _gathered(records)
    yield TITLE.center(width, "=")
    yield from _aligned([HEADINGS, *(_cells(*key, row, contracts) for key, row in rows.items())])
    yield _totals(records)


def _cells(
    model: str, provider: str, row: _Row, contracts: Mapping[str, Verdict]
) -> tuple[str, ...]:
    counts = [str(row.verdicts[verdict] or "-") for verdict in Verdict]
    worst = "-" if row.worst is None else f"{row.worst:.3g}"
    contract = contracts.get(model, "-").lower()
    bound = ", ".join(sorted(row.bounds)) or "-"
    placed, p50 = row.placed or "-", row.p50[1] or "-"
    return (model, contract, provider or "-", *counts, worst, bound, placed, p50)


def _aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield rows with columns as wide as their widest cell: names are never cut."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [
            text.ljust(width) if index < WORDS else text.rjust(width)
            for index, (text, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield "  ".join(cells).rstrip()


def _gathered(
    records: Sequence[ItemRecord],
) -> tuple[dict[str, Verdict], dict[tuple[str, str], _Row]]:
    """Return the worst contract verdict per model, and one row per model and provider."""
    contracts: dict[str, Verdict] = {}
    rows: dict[tuple[str, str], _Row] = {}
    for record in sorted(records, key=lambda record: record.cell.split("/")):
        model, _, *rest = record.cell.split("/")
        if rest:
            rows.pop((model, ""), None)
            _add(rows.setdefault((model, rest[0]), _Row()), record)
            continue
        contracts[model] = _worse(contracts.get(model, record.verdict), record.verdict)
        rows.setdefault((model, ""), _Row())
    return contracts, rows


def _worse(one: Verdict, other: Verdict) -> Verdict:
    order = (Verdict.PASS, Verdict.SKIP, Verdict.FAIL, Verdict.ERROR)
    return max(one, other, key=order.index)


def _add(row: _Row, record: ItemRecord) -> None:
    row.verdicts[record.verdict] += 1
    if "worst" in record.facts:
        row.worst = max(row.worst or 0.0, float(record.facts["worst"]))
        row.bounds.add(record.facts.get("tolerance", "table").partition(":")[0])
    if record.question == "placement":
        row.placed = _placed(record)
    if "change" in record.facts:
        change = float(record.facts["change"])
        row.p50 = max(row.p50, (change, f"{change:+.1%}"))
    elif "unchanged_by_hash" in record.counts:
        row.p50 = max(row.p50, (-math.inf, "unchanged"))


def _placed(record: ItemRecord) -> str:
    """Return `placed/all` nodes; several variants of a model show the last."""
    spread = [int(number) for name, number in record.facts.items() if name.startswith("nodes on ")]
    return f"{record.counts.get('nodes_placed', 0)}/{sum(spread)}" if spread else ""


def unjudged_lines(records: Sequence[ItemRecord]) -> Iterator[str]:
    """Yield why items were not judged, each reason once with its count and what mends it.

    What the spec declares not applicable is called that: it is no gap.
    """
    reasons = Counter(
        (finding["code"], finding["what"], finding["next_step"])
        for record in records
        if not record.is_judged
        for finding in record.findings[:1]
    )
    for (code, what, next_step), count in reasons.items():
        declared = CODES.get(code) is Severity.NOT_APPLICABLE
        label = "not applicable" if declared else "not judged"
        yield f"{label}: {_counted(count, 'items')}: {what}" + (
            f"; {next_step}" if next_step else ""
        )


def blocked_lines(records: Sequence[ItemRecord]) -> Iterator[str]:
    """Yield what kept items from being judged, each cause once with its count."""
    causes = Counter(
        finding["what"]
        for record in records
        for finding in record.findings
        if finding["code"] == "blocked" and not record.is_expected_failure
    )
    for what, count in causes.items():
        yield f"{_counted(count, 'items')}: {what}"


def expected_lines(records: Sequence[ItemRecord]) -> Iterator[str]:
    """Yield which known failures excused items, each once with its count."""
    remarks = Counter(
        finding["what"]
        for record in records
        if record.is_expected_failure
        for finding in record.findings
        if finding["code"] == EXPECTED
    )
    for what, count in remarks.items():
        yield f"expected to fail: {_counted(count, 'items')}: {what}"


def _totals(records: Sequence[ItemRecord]) -> str:
    sums = Counter[str]()
    for record in records:
        sums.update({name: record.counts.get(name, 0) for name in (*TOTALS, *SOME_TOTALS)})
    judged = ", ".join(_verdicts(records))
    shown = (*TOTALS, *(name for name in SOME_TOTALS if sums[name]))
    done = ", ".join(_counted(sums[name], *name.split("_")) for name in shown)
    return f"{_counted(len(records), 'items')}: {judged}; {done}"


def _verdicts(records: Sequence[ItemRecord]) -> Iterator[str]:
    """Yield the count of each verdict; expected failures are a part of SKIP."""
    verdicts = Counter(record.verdict for record in records)
    expected = sum(record.is_expected_failure for record in records)
    for verdict in Verdict:
        if count := verdicts[verdict]:
            excused = expected if verdict is Verdict.SKIP else 0
            yield f"{count} {verdict}" + (f" ({excused} expected to fail)" if excused else "")


def _counted(number: int, plural: str, *rest: str) -> str:
    noun = plural.removesuffix("s") if number == 1 else plural
    return " ".join((f"{number:,}", noun, *rest))
