"""Edits of a model's graph for the search of an error's origin: taps, cuts, and its outline.

These functions parse files that nobody vouches for, so they run in the inspection worker. Weights
in other files stay where they are: whoever opens an edited file says in which folder that is.
"""

from __future__ import annotations

import ast
import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper
from onnx.external_data_helper import load_external_data_for_model

from harness.domain import dtypes
from harness.domain.values import Value, Values
from harness.files.inspection import all_graphs, external_locations, type_name

#: Under which the dynamo exporter writes what a node was made from.
_FX_NODE, _SCOPES = "pkg.torch.onnx.fx_node", "pkg.torch.onnx.name_scopes"
_TRACE = "pkg.torch.onnx.stack_trace"
_FRAME = re.compile(r'File "([^"]+)", line (\d+), in (\S+)')
#: Appended to a value's name for what a cut computes, which is also fed under its own name.
ALONE = "__alone"
SIZE = "__size"

Json = dict[str, Any]


def outline(path: Path) -> Json:
    """Return the graph as JSON values: nodes in order, inputs, outputs, weights.

    `inputs` of a node hold also what its subgraphs read from outside; `bodies` are the operators
    inside them, which no tap reaches.
    """
    model = onnx.ModelProto.FromString(path.read_bytes())
    graph = model.graph
    return {
        "nodes": [_node(node, index) for index, node in enumerate(graph.node)],
        "inputs": [port.name for port in graph.input],
        "outputs": [[port.name, type_name(port.type)] for port in graph.output],
        "weights": _weights(graph),
        "external": sorted(set(external_locations(model))),
        "opset": next((o.version for o in model.opset_import if o.domain in {"", "ai.onnx"}), 0),
    }


def tap(path: Path, target: Path, *, names: Sequence[str], sizes: bool) -> Json:
    """Write the model with the values `names` as further outputs, or their sizes.

    A size is one int64 per value: so all values can be measured without keeping any of them.
    """
    model = onnx.ModelProto.FromString(path.read_bytes())
    present = {port.name for port in model.graph.output}
    for name in names:
        if sizes:
            model.graph.node.append(helper.make_node("Size", [name], [name + SIZE]))
            kind = helper.make_tensor_type_proto(onnx.TensorProto.INT64, [])
            model.graph.output.append(helper.make_value_info(name + SIZE, kind))
        elif name not in present:
            model.graph.output.append(onnx.ValueInfoProto(name=name))
    if sizes:
        del model.graph.output[: len(present)]
    target.write_bytes(model.SerializeToString())
    return {}


def cut(
    path: Path,
    target: Path,
    *,
    blocks: Sequence[Json],
    types: Mapping[str, tuple[int, Sequence[int | str | None] | None]],
    embed: bool = False,
) -> Json:
    """Write a model of these blocks side by side, each reading its inputs from outside.

    No block sees what another computes: what it gives on a reference's values is its own doing.

    Args:
        path: The whole model.
        target: File to write.
        blocks: `nodes` (positions), `inputs` and `outputs` of each, and the `suffix` that its
            own values get.
        types: Element type of each input, as ONNX numbers them, and its shape as far as the
            model knows it: some optimisers ask for it.
        embed: Whether weights in other files are taken into the file, which then stands alone.
    """
    model = onnx.ModelProto.FromString(path.read_bytes())
    graph, nodes = model.graph, list(model.graph.node)
    makers = {node.output[0]: node for node in nodes if node.op_type == "Constant"}
    kept = [_renamed(nodes, block) for block in blocks]
    made = [node for block in kept for node in block]
    read = {name for node in made for name in _reads(node)}
    constants = [makers[name] for name in sorted(read & set(makers))]
    _replace(graph.node, [*constants, *made])
    _replace(graph.initializer, [each for each in graph.initializer if each.name in read])
    _replace(
        graph.sparse_initializer,
        [each for each in graph.sparse_initializer if each.values.name in read],
    )
    fed = dict.fromkeys(name for block in blocks for name in block["inputs"])
    _replace(graph.input, [helper.make_tensor_value_info(name, *types[name]) for name in fed])
    given = [name + block["suffix"] for block in blocks for name in block["outputs"]]
    _replace(graph.output, [onnx.ValueInfoProto(name=name) for name in given])
    graph.ClearField("value_info")
    graph.ClearField("quantization_annotation")
    if embed:
        load_external_data_for_model(model, os.fspath(path.parent))
    target.write_bytes(model.SerializeToString())
    return {}


def structure(path: Path) -> Json:
    """Return an optimised graph as operator, inputs and outputs of each node, and its hash."""
    model = onnx.ModelProto.FromString(path.read_bytes())
    nodes = [
        [node.op_type, list(node.input), [name for name in node.output if name]]
        for node in model.graph.node
    ]
    digest = hashlib.sha256()
    for node in model.graph.node:
        digest.update(node.SerializeToString(deterministic=True))
    return {"nodes": nodes, "hash": digest.hexdigest()}


def evaluate(path: Path, feeds: Values, *, weights: Path) -> list[tuple[str, Value]]:
    """Return the outputs that the ONNX reference evaluator computes, by name.

    Args:
        path: The model, an edited one perhaps.
        feeds: Inputs by name.
        weights: Folder of its external data.
    """
    from onnx.reference import ReferenceEvaluator  # noqa: PLC0415 - slow, and rarely needed

    model = onnx.ModelProto.FromString(path.read_bytes())
    load_external_data_for_model(model, os.fspath(weights))
    evaluator = ReferenceEvaluator(model)
    results = evaluator.run(None, {name: _as_list(value) for name, value in feeds.items()})
    named = zip(evaluator.output_names, results, strict=True)
    return [(name, _as_value(result)) for name, result in named]


def _as_list(value: Value) -> Any:
    return [_as_list(item) for item in value] if isinstance(value, tuple) else value


def _as_value(result: Any) -> Value:
    if result is None:
        return None
    if isinstance(result, list | tuple):
        return tuple(_as_value(item) for item in result)
    return np.asarray(result)


def _node(node: onnx.NodeProto, index: int) -> Json:
    graphs = [graph for each in _subgraphs(node) for graph in all_graphs(each)]
    metadata = {entry.key: entry.value for entry in node.metadata_props}
    return {
        "index": index,
        "name": node.name,
        "op": node.op_type,
        "domain": node.domain,
        "inputs": list(dict.fromkeys(name for name in _reads(node) if name)),
        "outputs": [name for name in node.output if name],
        "bodies": [inner.op_type for graph in graphs for inner in graph.node],
        "fx_node": metadata.get(_FX_NODE, ""),
        "module": _module(metadata.get(_SCOPES, "")),
        "line": _line(metadata.get(_TRACE, "")),
        "rounds_to": _rounds_to(node),
    }


def _rounds_to(node: onnx.NodeProto) -> str:
    """Return the floating type below float32 that a Cast goes to; empty for any other node."""
    if node.op_type != "Cast":
        return ""
    targets = (attribute.i for attribute in node.attribute if attribute.name == "to")
    kinds = (dtypes.from_onnx_number(number) for number in targets)
    return next(
        (str(kind) for kind in kinds if kind.is_floating and kind.bits < dtypes.DType.FLOAT32.bits),
        "",
    )


def _module(scopes: str) -> str:
    """Return the innermost module of a list of scopes; the last scope is the operator itself."""
    try:
        names = ast.literal_eval(scopes)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return ""
    inner = [str(name) for name in names[:-1]] if isinstance(names, list) else []
    return inner[-1] if inner else ""


def _line(trace: str) -> str:
    """Return the innermost frame outside PyTorch itself, with its source, in one line."""
    frames = list(_FRAME.finditer(trace))
    if not frames:
        return ""
    own = [frame for frame in frames if "torch" not in Path(frame[1]).parts]
    last = (own or frames)[-1]
    source = trace[last.end() :].strip().splitlines()
    code = f": {source[0].strip()}" if source else ""
    return f"{last[1]}:{last[2]} in {last[3]}{code}"


def _reads(node: onnx.NodeProto) -> Iterator[str]:
    """Yield what a node reads: its inputs, and what its subgraphs read from outside."""
    yield from node.input
    for graph in _subgraphs(node):
        yield from _captured(graph)


def _captured(graph: onnx.GraphProto) -> Iterator[str]:
    own = {port.name for port in graph.input} | {each.name for each in graph.initializer}
    own |= {name for node in graph.node for name in node.output}
    read = [name for node in graph.node for name in _reads(node)]
    yield from (name for name in [*read, *(port.name for port in graph.output)] if name not in own)


def _subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def _weights(graph: onnx.GraphProto) -> list[str]:
    """Return what is the same in every run: initializers and the outputs of Constant nodes."""
    sparse = [each.values.name for each in graph.sparse_initializer]
    constants = [node.output[0] for node in graph.node if node.op_type == "Constant"]
    return [*(each.name for each in graph.initializer), *sparse, *constants]


def _renamed(nodes: Sequence[onnx.NodeProto], block: Json) -> list[onnx.NodeProto]:
    """Return copies of a block's nodes whose own values carry its suffix."""
    copies = []
    own = {name for index in block["nodes"] for name in nodes[index].output if name}
    names = {name: name + block["suffix"] for name in own}
    for index in block["nodes"]:
        copy = onnx.NodeProto()
        copy.CopyFrom(nodes[index])
        copy.name = f"{copy.name}{block['suffix']}" if copy.name else ""
        _rename(copy, names)
        _replace_names(copy.output, names)
        copies.append(copy)
    return copies


def _rename(node: onnx.NodeProto, names: Mapping[str, str]) -> None:
    """Rename what a node reads, also inside its subgraphs."""
    _replace_names(node.input, names)
    for graph in _subgraphs(node):
        for inner in graph.node:
            _rename(inner, names)
        for port in graph.output:
            port.name = names.get(port.name, port.name)


def _replace_names(field: Any, names: Mapping[str, str]) -> None:
    for position, name in enumerate(field):
        field[position] = names.get(name, name)


def _replace(field: Any, items: Iterable[Any]) -> None:
    fresh = list(items)
    del field[:]
    field.extend(fresh)
