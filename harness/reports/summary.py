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

TITLE = "onnx-harness"
#: Counters of the receipts that the last line adds up.
TOTALS = ("nodes_checked", "nodes_placed", "outputs_compared", "elements_compared")


@dataclass(slots=True, kw_only=True)
class _Row:
    """What the items of one model on one provider add up to."""

    verdicts: Counter[Verdict] = field(default_factory=Counter)
    worst: float | None = None
    placed: str = ""


def summary_lines(records: Sequence[ItemRecord], *, width: int) -> Iterator[str]:
    """Yield the closing table and the totals of all receipts."""
    rows = _rows(records)
    table = Table(title=None, box=None, pad_edge=False, header_style="bold")
    table.add_column("model")
    table.add_column("provider")
    for verdict in Verdict:
        table.add_column(verdict.lower(), justify="right")
    table.add_column("worst / allowed", justify="right")
    table.add_column("placement")
    for (model, provider), row in rows.items():
        counts = [str(row.verdicts[verdict] or "-") for verdict in Verdict]
        worst = "-" if row.worst is None else f"{row.worst:.3g}"
        table.add_row(model, provider or "(file)", *counts, worst, row.placed or "-")
    yield TITLE.center(width, "=") if width < len(TITLE) + 2 else f" {TITLE} ".center(width, "=")
    yield from _rendered(table, width)
    yield _totals(records)


def _rows(records: Sequence[ItemRecord]) -> dict[tuple[str, str], _Row]:
    rows: dict[tuple[str, str], _Row] = {}
    for record in sorted(records, key=lambda record: record.cell):
        model, _, *rest = record.cell.split("/")
        row = rows.setdefault((model, rest[0] if rest else ""), _Row())
        row.verdicts[record.verdict] += 1
        if "worst" in record.facts:
            row.worst = max(row.worst or 0.0, float(record.facts["worst"]))
        if record.question == "placement":
            row.placed = _placed(record)
    return rows


def _placed(record: ItemRecord) -> str:
    """Return `placed/all` nodes; several variants of a model show the last."""
    spread = {
        name: int(count) for name, count in record.facts.items() if name.startswith("nodes on ")
    }
    return f"{record.counts.get('nodes_placed', 0)}/{sum(spread.values())}" if spread else ""


def _totals(records: Sequence[ItemRecord]) -> str:
    sums = Counter[str]()
    for record in records:
        sums.update({name: record.counts.get(name, 0) for name in TOTALS})
    verdicts = Counter(record.verdict for record in records)
    judged = ", ".join(f"{verdicts[verdict]} {verdict}" for verdict in Verdict if verdicts[verdict])
    done = ", ".join(f"{sums[name]:,} {name.replace('_', ' ')}" for name in TOTALS)
    return f"{len(records)} items: {judged}; {done}"


def _rendered(table: Table, width: int) -> Iterator[str]:
    console = Console(file=io.StringIO(), width=max(width, 60), color_system=None)
    with console.capture() as capture:
        console.print(table)
    for line in capture.get().splitlines():
        yield line.rstrip()
