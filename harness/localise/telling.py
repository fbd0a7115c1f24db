"""What the search found, put together as a report."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from harness.localise.deviations import Deviation, Introduced
from harness.localise.graph import Block, Outline
from harness.localise.report import Origin
from harness.localise.scanning import Scan
from harness.localise.workbench import Measured

CONTROL_FLOW = frozenset({"If", "Loop", "Scan"})
SHOWN_NODES = 3


def origin_of(one: Introduced, note: str, total: Deviation) -> Origin:
    """Return the block where the error begins, with its error in the whole run."""
    last = one.block.last
    rounded = sorted({node.rounds_to for node in one.block.nodes if node.rounds_to})
    if rounded:
        note = f"{note} (rounds to {', '.join(rounded)})".strip()
    return Origin(
        node=last.label,
        operator=last.op,
        position=last.index + 1,
        others=tuple(f"{node.label} ({node.op})" for node in one.block.nodes[:-1]),
        outputs=one.block.outputs,
        module=last.module,
        line=next((node.line for node in reversed(one.block.nodes) if node.line), ""),
        introduced=one.error.relative,
        inherited=_rest(total.relative, one.error.relative),
        note=note,
    )


def outside_of(outline: Outline, measured: Measured) -> tuple[str, ...]:
    """Return what taps cannot reach: bodies of control flow, values that are no numbers."""
    bodies = [
        f"{len(node.bodies)} nodes inside the body of {node.op} {node.label}"
        for node in outline.nodes
        if node.op in CONTROL_FLOW or node.bodies
    ]
    values = [f"value '{name}' of type {kind}" for name, kind in measured.outside.items()]
    return (*bodies, *values)


def unjudged(
    outline: Outline, found: Sequence[Block], scan: Scan, measured: Measured
) -> tuple[str, ...]:
    """Return nodes that no block covers, blocks that did not run alone, and what came too late."""
    covered = {node.index for block in found for node in block.nodes}
    lost = [
        node
        for node in outline.nodes
        if node.index not in covered
        and node.op != "Constant"
        and not set(node.outputs) & set(measured.outside)
    ]
    names = ", ".join(f"{node.label} ({node.op})" for node in itertools.islice(lost, SHOWN_NODES))
    told = (f"{_nodes(len(lost))} without a trusted counterpart: {names}",) if lost else ()
    late = () if scan.complete else ("nodes that the budget did not reach",)
    return (*late, *scan.refused, *told)


def greatest(scan: Scan) -> str:
    """Return the blocks that introduce most, for a failure that has no single origin."""
    most = sorted(scan.introduced, key=lambda each: -each.error.ulps)[:SHOWN_NODES]
    return ", ".join(
        f"{each.block.last.label} ({each.block.last.op}) {each.error.relative:.2g}" for each in most
    )


def _nodes(count: int) -> str:
    return "1 node" if count == 1 else f"{count} nodes"


def _rest(total: float, introduced: float) -> float:
    if not math.isfinite(total) or not math.isfinite(introduced):
        return 0.0
    return max(0.0, total - introduced)
