"""The closing table: what was judged per model and provider, and what it rests on."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from rich.console import Console
from rich.table import Table

from harness.domain.verdict import Verdict
from harness.results.record import ItemRecord

TITLE = " onnx-harness "
#: Counters of the receipts that the last line adds up.
TOTALS = ("nodes_checked", "nodes_placed", "outputs_compared", "elements_compared")
#: Model names are never cut, so the table may be wider than a narrow terminal.
LEAST_WIDTH = 120


@dataclass(slots=True, kw_only=True)
class _Row:
    """What the items of one model on one provider add up to."""

    verdicts: Counter[Verdict] = field(default_factory=Counter)
    worst: float | None = None
    placed: str = ""


def summary_lines(records: Sequence[ItemRecord], *, width: int) -> Iterator[str]:
    """Yield the closing table and the totals of all receipts.

    The column `contract` is about the model's files; the counts are about the provider's items.
    """
    contracts, rows = _gathered(records)
    table = Table(box=None, pad_edge=False)
    for heading in ("model", "contract", "provider"):
        table.add_column(heading, no_wrap=True)
    for heading in (*(verdict.lower() for verdict in Verdict), "worst / allowed", "placement"):
        table.add_column(heading, justify="right", no_wrap=True)
    for (model, provider), row in rows.items():
        counts = [str(row.verdicts[verdict] or "-") for verdict in Verdict]
        worst = "-" if row.worst is None else f"{row.worst:.3g}"
        contract = contracts.get(model, "-").lower()
        table.add_row(model, contract, provider or "-", *counts, worst, row.placed or "-")
    yield TITLE.center(width, "=")
    yield from _rendered(table, max(width, LEAST_WIDTH))
    yield _totals(records)


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
    if record.question == "placement":
        row.placed = _placed(record)


def _placed(record: ItemRecord) -> str:
    """Return `placed/all` nodes; several variants of a model show the last."""
    spread = [int(number) for name, number in record.facts.items() if name.startswith("nodes on ")]
    return f"{record.counts.get('nodes_placed', 0)}/{sum(spread)}" if spread else ""


def _totals(records: Sequence[ItemRecord]) -> str:
    sums = Counter[str]()
    for record in records:
        sums.update({name: record.counts.get(name, 0) for name in TOTALS})
    verdicts = Counter(record.verdict for record in records)
    judged = ", ".join(f"{verdicts[verdict]} {verdict}" for verdict in Verdict if verdicts[verdict])
    done = ", ".join(f"{sums[name]:,} {name.replace('_', ' ')}" for name in TOTALS)
    return f"{len(records)} items: {judged}; {done}"


def _rendered(table: Table, width: int) -> Iterator[str]:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    with console.capture() as capture:
        console.print(table)
    for line in capture.get().splitlines():
        yield line.rstrip()
