"""What a model's graph gives away about its inputs: the tables that they look up, its operators.

Read for `onnx-harness model add`, inside the inspection worker: nobody vouches for the file yet.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import onnx

from harness.files.inspection import all_graphs, external_locations

#: Operators that hand indices on as they are.
_PASSIVE = frozenset({
    "Cast",
    "Expand",
    "Flatten",
    "Identity",
    "Reshape",
    "Slice",
    "Squeeze",
    "Transpose",
    "Unsqueeze",
})
#: Operators between a stored table and the Gather that reads it.
_TABLE_PASSIVE = frozenset({"Cast", "DequantizeLinear", "Identity"})
#: Position of the indices -> position of their table, for ONNX Runtime's fused embedding.
_EMBEDDING = {0: 2, 1: 4}


def hints(path: Path) -> dict[str, Any]:
    """Return hints as JSON values.

    `tables` maps inputs to the rows of the smallest table that they index; `operators` counts
    operator types; `domains` are those of operators that the file does not define itself;
    `external` are the files that hold weights; `unsupported` is what the ONNX reference evaluator
    says if it lacks an operator.
    """
    model = onnx.ModelProto.FromString(path.read_bytes())
    nodes = [node for graph in all_graphs(model.graph) for node in graph.node]
    own = {(function.domain, function.name) for function in model.functions}
    foreign = {node.domain for node in nodes if (node.domain, node.op_type) not in own}
    return {
        "tables": _tables(model, nodes),
        "operators": dict(Counter(node.op_type for node in nodes)),
        "domains": sorted(foreign),
        "external": sorted(set(external_locations(model))),
        "unsupported": _unsupported(model),
    }


def _unsupported(model: onnx.ModelProto) -> str:
    """Return why the reference evaluator cannot take the model; nothing if it can, or may.

    The weights are taken away first (in place): only the operators are looked up.
    """
    from onnx.reference import ReferenceEvaluator  # noqa: PLC0415 - slow, and rarely needed

    model.graph.ClearField("initializer")
    try:
        ReferenceEvaluator(model)
    except NotImplementedError as error:
        return str(error).splitlines()[0] if str(error) else "an operator is not implemented"
    except Exception:  # noqa: BLE001 - without weights, anything else says nothing
        return ""
    return ""


def _tables(model: onnx.ModelProto, nodes: Iterable[onnx.NodeProto]) -> dict[str, int]:
    """Return input -> rows of the smallest table that it indexes."""
    shapes = _stored_shapes(model, nodes)
    readers: dict[str, list[tuple[onnx.NodeProto, int]]] = {}
    for node in nodes:
        for position, name in enumerate(node.input):
            readers.setdefault(name, []).append((node, position))
    found = {port.name: list(_rows(port.name, readers, shapes)) for port in model.graph.input}
    return {name: min(rows) for name, rows in found.items() if rows}


def _stored_shapes(
    model: onnx.ModelProto, nodes: Iterable[onnx.NodeProto]
) -> dict[str, tuple[int, ...]]:
    """Return the shapes of weights, also as they leave a dequantisation."""
    shapes = {
        tensor.name: tuple(tensor.dims)
        for graph in all_graphs(model.graph)
        for tensor in graph.initializer
    }
    for node in nodes:
        if node.op_type == "Constant" and node.attribute and node.attribute[0].HasField("t"):
            shapes[node.output[0]] = tuple(node.attribute[0].t.dims)
        elif node.op_type in _TABLE_PASSIVE and node.input and node.input[0] in shapes:
            shapes[node.output[0]] = shapes[node.input[0]]
    return shapes


def _rows(
    name: str,
    readers: Mapping[str, list[tuple[onnx.NodeProto, int]]],
    shapes: Mapping[str, tuple[int, ...]],
) -> Iterator[int]:
    """Yield the rows of each table that the value `name` indexes, through passive operators."""
    waiting, seen = [name], {name}
    while waiting:
        for node, position in readers.get(waiting.pop(), ()):
            if node.op_type in _PASSIVE and position == 0:
                fresh = set(node.output) - seen
                seen |= fresh
                waiting += fresh
            table = _table_of(node, position)
            if table in shapes and len(shapes[table]) > _axis(node):
                yield shapes[table][_axis(node)]


def _table_of(node: onnx.NodeProto, position: int) -> str:
    """Return the name of the table that an input of this node indexes, or nothing."""
    if node.op_type == "Gather" and position == 1:
        return str(node.input[0])
    if node.op_type == "EmbedLayerNormalization" and position in _EMBEDDING:
        table = _EMBEDDING[position]
        return str(node.input[table]) if len(node.input) > table else ""
    return ""


def _axis(node: onnx.NodeProto) -> int:
    axis = next((int(entry.i) for entry in node.attribute if entry.name == "axis"), 0)
    return max(axis, 0)
