"""Placement: which provider each node got, judged against what the spec allows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from harness.domain.findings import Finding
from harness.domain.session import CPU_PROVIDER, NodeInfo
from harness.domain.spec import PlacementSpec

SHOWN_NODES = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """How the nodes of one session are spread."""

    provider: str
    """ONNX Runtime's name of the provider that was asked for."""
    nodes: dict[str, tuple[NodeInfo, ...]]
    """Provider to its nodes."""

    @property
    def placed(self) -> int:
        """Return the number of nodes on the provider that was asked for."""
        return len(self.nodes.get(self.provider, ()))

    @property
    def total(self) -> int:
        """Return the number of all nodes."""
        return sum(len(nodes) for nodes in self.nodes.values())

    def elsewhere(self, allowed_ops: tuple[str, ...]) -> tuple[tuple[str, NodeInfo], ...]:
        """Return the nodes outside the provider, except operators allowed on the CPU."""
        return tuple(
            (provider, node)
            for provider, nodes in self.nodes.items()
            if provider != self.provider
            for node in nodes
            if not (provider == CPU_PROVIDER and node.op in allowed_ops)
        )

    def ratio(self, allowed_ops: tuple[str, ...]) -> float:
        """Return nodes on the provider / nodes that are not allowed on the CPU; 0 if none."""
        counted = self.placed + len(self.elsewhere(allowed_ops))
        return self.placed / counted if counted else 0.0


def judge_placement(
    placement: Placement, *, rule: PlacementSpec, cell: str, short: str
) -> Iterator[Finding]:
    """Yield a finding if the provider took no node, or too few."""
    allowed = rule.allow_cpu.ops if rule.allow_cpu else ()
    strays = placement.elsewhere(allowed)
    if placement.total == 0:
        yield Finding(
            code="placement.none",
            what=f"No node of '{cell}' is left to run: ONNX Runtime folded the graph to constants",
            where=f"session with {placement.provider}",
            expected="at least one node",
            got="no node on any provider",
            next_step="check the export: the outputs do not depend on the inputs",
        )
    elif placement.placed == 0:
        yield Finding(
            code="placement.none",
            what=f"No node of '{cell}' runs on {placement.provider}",
            where=f"session with {placement.provider}",
            expected=f"at least one of {placement.total} nodes there",
            got=_spread(placement),
            next_step=f"leave '{short}' out for this model, or declare "
            f"providers.{short}.not_applicable with the reason",
        )
    elif placement.ratio(allowed) < rule.min_ratio:
        counted = placement.placed + len(strays)
        yield Finding(
            code="placement.fallback",
            what=f"{_nodes(len(strays))} of {counted} fell back from {placement.provider} "
            f"for cell '{cell}'",
            where=", ".join(f"{node.op} '{node.name}'" for _, node in strays[:SHOWN_NODES])
            + (", ..." if len(strays) > SHOWN_NODES else ""),
            expected=f"ratio >= {rule.min_ratio:g} (spec, placement.{short}.min_ratio)",
            got=f"ratio {placement.ratio(allowed):.4f}; {_spread(placement)}",
            next_step=f"list {_operators(strays)} in placement.{short}.allow_cpu with a reason, "
            "or drop the operators from the export",
        )


def _spread(placement: Placement) -> str:
    counts = Counter({name: len(nodes) for name, nodes in placement.nodes.items() if nodes})
    return ", ".join(f"{_nodes(count)} on {name}" for name, count in counts.most_common())


def _operators(strays: tuple[tuple[str, NodeInfo], ...]) -> str:
    return ", ".join(sorted({node.op for _, node in strays}))


def _nodes(count: int) -> str:
    return "1 node" if count == 1 else f"{count} nodes"
