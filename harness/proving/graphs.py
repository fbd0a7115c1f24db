"""Where things are in an ONNX model: nodes by title, weights by name, and how nodes are added.

Runs in a worker. Subgraphs and functions count like the main graph.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, TensorProto, helper, numpy_helper

from harness.domain.values import Array
from harness.files.inspection import all_graphs

Body = onnx.GraphProto | onnx.FunctionProto
#: Begins the names of nodes that a mutator added.
ADDED = "onnx-harness-mutant"
FLOATING = frozenset({
    TensorProto.FLOAT,
    TensorProto.FLOAT16,
    TensorProto.BFLOAT16,
    TensorProto.DOUBLE,
})
#: Lists of numbers that operators of ai.onnx.ml hold as weights.
WEIGHT_ATTRIBUTES = frozenset({
    "coefficients",
    "intercepts",
    "offset",
    "scale",
    "nodes_values",
    "class_weights",
    "target_weights",
    "base_values",
    "leaf_weights",
    "nodes_splits",
    "support_vectors",
    "rho",
})


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A node, the graph or function that holds it, and a title that no other node has."""

    body: Body
    node: onnx.NodeProto
    title: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """Numbers that a model holds: an initializer, a constant, or a list in an attribute."""

    name: str
    """No other weights of the model have it."""
    value: str
    """Name of the value in the graph; empty for an attribute."""
    dims: tuple[int, ...]
    holder: TensorProto | AttributeProto
    body: Body

    def read(self) -> Array:
        """Return the numbers."""
        if isinstance(self.holder, TensorProto):
            return numpy_helper.to_array(self.holder).copy()
        return np.array(self.holder.floats, dtype=np.float32)

    def write(self, array: Array) -> None:
        """Replace the numbers; the type stays."""
        if isinstance(self.holder, TensorProto):
            dtype = numpy_helper.to_array(self.holder).dtype
            made = numpy_helper.from_array(np.ascontiguousarray(array, dtype), self.holder.name)
            self.holder.CopyFrom(made)
        else:
            self.holder.floats[:] = array.astype(np.float64).ravel().tolist()


def places(model: onnx.ModelProto) -> list[Place]:
    """Return all nodes in an order that depends on the file alone."""
    seen: Counter[str] = Counter()
    found = []
    for body in _bodies(model):
        for node in body.node:
            title = node.name or next(iter(filter(None, node.output)), node.op_type)
            seen[title] += 1
            unique = title if seen[title] == 1 else f"{title}#{seen[title]}"
            found.append(Place(body=body, node=node, title=unique))
    return found


def weights(model: onnx.ModelProto) -> list[Weights]:
    """Return all floating weights that some node can read."""
    seen: Counter[str] = Counter()
    found = []
    for name, value, holder, body in _holders(model):
        dims = tuple(holder.dims) if isinstance(holder, TensorProto) else (len(holder.floats),)
        if math.prod(dims):
            seen[name] += 1
            unique = name if seen[name] == 1 else f"{name}#{seen[name]}"
            found.append(Weights(name=unique, value=value, dims=dims, holder=holder, body=body))
    return found


def attributes(node: onnx.NodeProto) -> dict[str, AttributeProto]:
    """Return the attributes of a node by name."""
    return {attribute.name: attribute for attribute in node.attribute}


def set_attribute(node: onnx.NodeProto, name: str, value: Any) -> None:
    """Set an attribute, whether it is there or not."""
    kept = [attribute for attribute in node.attribute if attribute.name != name]
    del node.attribute[:]
    node.attribute.extend([*kept, helper.make_attribute(name, value)])


def insert_after(
    body: Body, output: str, nodes: Sequence[onnx.NodeProto], *, before: str, after: str
) -> None:
    """Put `nodes` behind the node that gives `output`, so that readers get their result.

    Args:
        body: Graph or function that holds the node.
        output: Name of the value that is replaced.
        nodes: They read `before`, the old value, and give `after`, the new one.
        before: Any name that is not taken.
        after: Any name that is not taken.
    """
    for number, node in enumerate(nodes):  # ONNX Runtime refuses two nodes of one name
        node.name = f"{ADDED} {number} {node.op_type} {output}"
        node.input[:] = [f"{output} {before}" if name == before else name for name in node.input]
        node.output[:] = [output if name == after else name for name in node.output]
    all_nodes = list(body.node)
    at = next(index for index, node in enumerate(all_nodes) if output in node.output)
    producer = all_nodes[at]
    producer.output[:] = [f"{output} {before}" if n == output else n for n in producer.output]
    copies = [_copy(node) for node in (*all_nodes[: at + 1], *nodes, *all_nodes[at + 1 :])]
    del body.node[:]
    body.node.extend(copies)


def forget_inferred_shapes(model: onnx.ModelProto) -> None:
    """Drop what was inferred of intermediate values: a mutant's are its own.

    Models with foreign operators keep theirs, because nobody could infer them again.
    """
    known = {"", "ai.onnx", "ai.onnx.ml"}
    if all(place.node.domain in known for place in places(model)):
        for graph in all_graphs(model.graph):
            del graph.value_info[:]


def _copy(node: onnx.NodeProto) -> onnx.NodeProto:
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    return copy


def _bodies(model: onnx.ModelProto) -> Iterator[Body]:
    yield from all_graphs(model.graph)
    for function in model.functions:
        yield function
        for node in function.node:
            for attribute in node.attribute:
                for graph in [attribute.g] if attribute.HasField("g") else []:
                    yield from all_graphs(graph)


def _holders(
    model: onnx.ModelProto,
) -> Iterator[tuple[str, str, TensorProto | AttributeProto, Body]]:
    """Yield each holder of weights with a name, its value in the graph, and where it is."""
    for body in _bodies(model):
        for tensor in body.initializer if isinstance(body, onnx.GraphProto) else ():
            if tensor.data_type in FLOATING:
                yield tensor.name, tensor.name, tensor, body
    for place in places(model):
        for attribute in place.node.attribute:
            holder = _held_by(attribute)
            if holder is None:
                continue
            if place.node.op_type == "Constant":
                yield place.node.output[0], place.node.output[0], holder, place.body
            else:
                yield f"{place.title}.{attribute.name}", "", holder, place.body


def _held_by(attribute: AttributeProto) -> TensorProto | AttributeProto | None:
    """Return what of an attribute holds weights."""
    if attribute.HasField("t") and attribute.t.data_type in FLOATING:
        return attribute.t
    if attribute.name in WEIGHT_ATTRIBUTES and attribute.floats:
        return attribute
    return None
