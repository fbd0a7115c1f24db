"""Where trusted intermediate values come from: the graph itself, another graph, PyTorch."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol

from harness.domain.spec import LONGEST_S
from harness.domain.values import Values
from harness.localise.graph import Node, Outline
from harness.localise.workbench import Deadline, Trusted, Workbench, measure
from harness.references.store import LiveReference


class Truth(Protocol):
    """Trusted values of one run."""

    @property
    def sizes(self) -> Mapping[str, int]:
        """Return the values that it knows, with their bytes."""

    @property
    def name(self) -> str:
        """Return what messages call it."""

    def values(self, names: Collection[str]) -> Values:
        """Return these values."""


class GraphTruth:
    """The values of a graph under trusted arithmetic."""

    def __init__(
        self, bench: Workbench, trusted: Trusted, sizes: Mapping[str, int], feeds: Values
    ) -> None:
        self._bench = bench
        self._trusted = trusted
        self._feeds = feeds
        self.sizes = sizes

    @property
    def name(self) -> str:
        """Return what messages call it."""
        return self._trusted.name

    def values(self, names: Collection[str]) -> Values:
        """Return these values; inputs are known without a run."""
        given = {name: self._feeds[name] for name in names if name in self._feeds}
        inner = [name for name in names if name not in given]
        if not inner:
            return given
        found = self._trusted.run(self._bench.tapped(inner), self._feeds)
        return {**given, **{name: found[name] for name in inner if name in found}}


def other_graph(bench: Workbench, trusted: Trusted, shared: Outline, feeds: Values) -> GraphTruth:
    """Return the values of another file that have the names of this graph's values."""
    names = frozenset(shared.values) | frozenset(shared.outputs)
    common = [name for name in bench.outline().values if name in names]
    return GraphTruth(bench, trusted, measure(bench, trusted, common, feeds).sizes, feeds)


class TorchTruth:
    """The values of a PyTorch module, under the names that its export gives them."""

    def __init__(
        self,
        live: LiveReference,
        outline: Outline,
        *,
        feeds: Values,
        example: Values,
        fields: dict[str, Any],
        deadline: Deadline,
    ) -> None:
        self._live = live
        self._deadline = deadline
        self._feeds = feeds
        self._example = example
        self._fields = fields
        _, reply = self._traced(None)
        known = {name: nbytes for name, _, _, nbytes in reply["known"]}
        self.method = str(reply["method"])
        if self.method == "operators":
            names = _by_operator(outline, frozenset(known))
        else:
            names = _by_module(outline, frozenset(known))
        self._names = names
        self.sizes: Mapping[str, int] = {ours: known[theirs] for ours, theirs in names.items()}

    @property
    def name(self) -> str:
        """Return what messages call it."""
        return f"the PyTorch reference's own {self.method}"

    def values(self, names: Collection[str]) -> Values:
        """Return these values."""
        given = {name: self._feeds[name] for name in names if name in self._feeds}
        wanted = {name: self._names[name] for name in names if name not in given}
        found, _ = self._traced(sorted(set(wanted.values())))
        theirs = {ours: found[name] for ours, name in wanted.items() if name in found}
        return {**given, **theirs}

    def _traced(self, names: Sequence[str] | None) -> tuple[Values, dict[str, Any]]:
        fields = {**self._fields, "names": names}
        limit_s = self._deadline.limit(LONGEST_S)
        return self._live.trace(self._feeds, self._example, fields, limit_s=limit_s)


def _by_operator(outline: Outline, known: Collection[str]) -> dict[str, str]:
    """Return the graph's values that are called like an operator's result, and the outputs."""
    names = {name: name for name in outline.values if name in known}
    return {**names, **_outputs(outline, known)}


def _outputs(outline: Outline, known: Collection[str]) -> dict[str, str]:
    """Return the outputs by position: the export may have renamed them."""
    names = {name: f"output:{index}" for index, name in enumerate(outline.outputs)}
    return {ours: theirs for ours, theirs in names.items() if theirs in known}


def _by_module(outline: Outline, known: Collection[str]) -> dict[str, str]:
    """Return the values that leave a module's nodes, where a module has just one such value."""
    found = _outputs(outline, known)
    for module in known:
        inside = [node for node in outline.nodes if _is_inside(node, module)]
        leaving = _leaving(inside, outline)
        if len(leaving) == 1:
            found.setdefault(leaving[0], module)
    return found


def _is_inside(node: Node, module: str) -> bool:
    return node.module == module or node.module.startswith(f"{module}.")


def _leaving(inside: Sequence[Node], outline: Outline) -> list[str]:
    members = {node.index for node in inside}
    read = {
        name for node in outline.nodes if node.index not in members for name in node.inputs
    } | set(outline.outputs)
    return [name for node in inside for name in node.outputs if name in read]
