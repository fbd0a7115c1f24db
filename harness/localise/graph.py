"""A model's graph as the search sees it: nodes, blocks of them, and batches of blocks.

A block is what computes known values from known values. Where every value can be tapped each node
is a block of its own; where only some values have a counterpart in the reference, the nodes
between them belong together, because nothing tells their errors apart.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.files.taps import ALONE


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One node of the graph itself, not of the bodies inside it."""

    index: int
    """Position in the file, which is topological order."""
    name: str
    op: str
    domain: str
    inputs: tuple[str, ...]
    """What it reads, also through its bodies."""
    outputs: tuple[str, ...]
    bodies: tuple[str, ...]
    """Operators inside the bodies of an `If`, `Loop` or `Scan`."""
    fx_node: str
    """What the exporter noted of the operator in PyTorch's program; empty without."""
    module: str
    """Path of the innermost PyTorch module; empty without metadata."""
    line: str
    """PyTorch source line; empty without metadata."""
    rounds_to: str = ""
    """Floating type below float32 that a Cast goes to; empty for any other node."""

    @property
    def label(self) -> str:
        """Return how messages call it; nodes may lack names."""
        return f"'{self.name}'" if self.name else f"number {self.index}, which makes {self.made}"

    @property
    def made(self) -> str:
        """Return its outputs for messages."""
        return ", ".join(f"'{name}'" for name in self.outputs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outline:
    """A graph without its weights' values."""

    nodes: tuple[Node, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    weights: frozenset[str]
    """What is the same in every run."""
    external: tuple[str, ...]
    """Files with weights, relative to the model's folder."""
    opset: int

    @property
    def rounds(self) -> bool:
        """Return whether a Cast goes below float32."""
        return any(node.rounds_to for node in self.nodes)

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> Outline:
        """Return what `harness.files.taps.outline` tells."""
        nodes = tuple(
            Node(**{
                **node,
                "inputs": tuple(node["inputs"]),
                "outputs": tuple(node["outputs"]),
                "bodies": tuple(node["bodies"]),
            })
            for node in told["nodes"]
        )
        return cls(
            nodes=nodes,
            inputs=tuple(told["inputs"]),
            outputs=tuple(name for name, _ in told["outputs"]),
            weights=frozenset(told["weights"]),
            external=tuple(told["external"]),
            opset=int(told["opset"]),
        )

    @property
    def values(self) -> tuple[str, ...]:
        """Return all values that nodes compute from the inputs, in order."""
        return tuple(
            name for node in self.nodes for name in node.outputs if name not in self.weights
        )

    @property
    def has_metadata(self) -> bool:
        """Return whether the exporter left PyTorch's names in the nodes."""
        return any(node.fx_node for node in self.nodes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Nodes that compute known values from known values."""

    nodes: tuple[Node, ...]
    """In topological order; the last one gives its outputs."""
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    @property
    def last(self) -> Node:
        """Return the node that the block is named after."""
        return self.nodes[-1]

    @property
    def kind(self) -> str:
        """Return what it is compared with elsewhere: blocks of the same operators."""
        return " + ".join(f"{node.domain}:{node.op}" for node in self.nodes)

    def as_json(self, suffix: str) -> dict[str, Any]:
        """Return it as `harness.files.taps.cut` takes it."""
        return {
            "nodes": [node.index for node in self.nodes],
            "inputs": list(self.inputs),
            "outputs": list(self.outputs),
            "suffix": suffix,
        }


def suffix(number: int) -> str:
    """Return what the own values of a cut's block are called after their names."""
    return f"{ALONE}{number}"


def blocks(outline: Outline, known: Collection[str]) -> tuple[Block, ...]:
    """Return the blocks between the values `known`, in topological order of their last nodes.

    A block that would need a value from outside that cannot be fed is left out: see
    `unreachable`.
    """
    makers = {name: node for node in outline.nodes for name in node.outputs}
    ends = {*known, *outline.weights, *outline.inputs}
    found = (_block(node, makers, ends) for node in outline.nodes)
    return tuple(block for block in found if block is not None)


def _block(node: Node, makers: Mapping[str, Node], ends: Collection[str]) -> Block | None:
    """Return the block that ends in `node`; None if nothing is known of what it gives."""
    given = tuple(name for name in node.outputs if name in ends)
    if not given or node.op == "Constant":
        return None
    members, fed = {node.index: node}, dict[str, None]()
    waiting = list(node.inputs)
    while waiting:
        name = waiting.pop()
        if name in ends:
            fed[name] = None
        elif name in makers and makers[name].index not in members:
            members[makers[name].index] = makers[name]
            waiting.extend(makers[name].inputs)
    return Block(
        nodes=tuple(members[index] for index in sorted(members)),
        inputs=tuple(fed),
        outputs=given,
    )


def feedable(found: Iterable[Block], weights: Collection[str]) -> tuple[Block, ...]:
    """Return the blocks without weights among their inputs: those lie in the model."""
    return tuple(
        Block(
            nodes=block.nodes,
            inputs=tuple(name for name in block.inputs if name not in weights),
            outputs=block.outputs,
        )
        for block in found
    )


def batches(
    found: Sequence[Block], sizes: Mapping[str, int], *, limit_bytes: int
) -> Iterator[tuple[Block, ...]]:
    """Yield the blocks in order, so many at a time that their values stay below a limit.

    A block whose own values are larger than the limit is a batch of its own.
    """
    batch: list[Block] = []
    held: set[str] = set()
    for block in found:
        names = held | {*block.inputs, *block.outputs}
        if batch and bytes_of(names, sizes) > limit_bytes:
            yield tuple(batch)
            batch, names = [], {*block.inputs, *block.outputs}
        batch.append(block)
        held = names
    if batch:
        yield tuple(batch)


def bytes_of(names: Iterable[str], sizes: Mapping[str, int]) -> int:
    """Return the bytes of these values; one of unknown size counts as nothing."""
    return sum(sizes.get(name, 0) for name in names)
