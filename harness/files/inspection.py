"""What an ONNX file is, without running it: interface, size, external data, hash, faults.

These functions parse files that nobody vouches for, so they run in a worker. Faults are
collected, not raised: the contract suite wants all of them.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError, Message
from onnx import TensorProto

from harness.domain import dtypes

#: Fields that say nothing about what a model computes.
_SILENT_FIELDS = ("metadata_props", "doc_string", "producer_name", "producer_version")
_CHUNK = 1 << 22
#: Protobuf's limit for one message; larger files are not even read.
_LARGEST_MESSAGE = 2**31 - 1
#: The checker's messages can quote whole nodes.
_MESSAGE_CHARACTERS = 1500


def inspect(path: Path) -> dict[str, Any]:
    """Return the facts of a model file as JSON values.

    `faults` is a list of [finding code, message]; with a fault in `unreadable` the other keys
    are missing.
    """
    try:
        size = path.stat().st_size
        if size > _LARGEST_MESSAGE:
            return {"unreadable": ["model.unreadable", _too_large(size)]}
        model = onnx.ModelProto.FromString(path.read_bytes())
    except (OSError, DecodeError) as error:
        return {"unreadable": _unreadable(path, str(error))}
    if not model.HasField("graph") or not model.opset_import:
        return {"unreadable": _unreadable(path, "no graph, or no opset")}
    external = list(_external(model))
    faults = [*_external_faults(external, path.parent), *_interface_faults(model)]
    if not faults:
        faults += _checker_faults(path)
    outside = any(code == "model.external-data" for code, _ in faults)
    return {
        "faults": faults,
        "producer": f"{model.producer_name} {model.producer_version}".strip(),
        "hash": "" if outside else _hash(model, external, path.parent),
        "size_bytes": size + sum(_external_size(tensor, path.parent) for tensor in external),
        "ir_version": model.ir_version,
        "opsets": {entry.domain: entry.version for entry in model.opset_import},
        "nodes": sum(1 for _ in _nodes(model.graph)),
        "parameters": _parameters(model),
        "inputs": [_port(port) for port in _real_inputs(model.graph)],
        "outputs": [_port(port) for port in model.graph.output],
    }


def _unreadable(path: Path, error: str) -> list[str]:
    if not path.exists():
        return ["model.missing", f"file does not exist: {path}"]
    if path.stat().st_size == 0:
        return ["model.unreadable", "the file is empty"]
    return ["model.unreadable", f"not an ONNX model: {error}"]


def _too_large(size: int) -> str:
    return (
        f"the file holds {size} bytes, protobuf ends at {_LARGEST_MESSAGE}: "
        "weights of such models belong into external data"
    )


def _real_inputs(graph: onnx.GraphProto) -> list[onnx.ValueInfoProto]:
    """Return the inputs without a default: old models list their initializers as inputs."""
    defaults = {tensor.name for tensor in graph.initializer}
    return [port for port in graph.input if port.name not in defaults]


def _interface_faults(model: onnx.ModelProto) -> list[list[str]]:
    if model.graph.output:
        return []
    return [["model.no-outputs", "the graph has no output: there is nothing to check"]]


def _checker_faults(path: Path) -> list[list[str]]:
    """Run the checker by path, which reads models above 2 GB and their external data."""
    try:
        onnx.checker.check_model(os.fspath(path), full_check=True)
    except onnx.checker.ValidationError as error:
        return [["model.invalid", str(error)[:_MESSAGE_CHARACTERS]]]
    except Exception as error:  # noqa: BLE001 - shape inference raises types of its own
        return [["model.invalid", f"{type(error).__name__}: {str(error)[:_MESSAGE_CHARACTERS]}"]]
    return []


def _external_faults(external: list[TensorProto], folder: Path) -> list[list[str]]:
    faults = []
    for tensor in external:
        entry = _entry(tensor)
        problem = _external_problem(entry, folder, _data_size(tensor))
        if problem:
            faults.append(["model.external-data", f"tensor '{tensor.name}': {problem}"])
    return faults


def _data_size(tensor: TensorProto) -> int | None:
    """Return the bytes that a tensor's shape and type ask for; None for an unknown type."""
    try:
        bits = dtypes.from_onnx_number(tensor.data_type).bits
    except KeyError:
        return None
    return -(-math.prod(tensor.dims) * bits // 8)


def _external_problem(entry: dict[str, str], folder: Path, wanted: int | None) -> str:
    location = entry.get("location", "")
    file = folder / location
    if not location or "\0" in location or not file.resolve().is_relative_to(folder.resolve()):
        return f"external data '{location}' points outside the model's folder"
    if not file.is_file():
        return f"external data '{location}' is missing"
    try:
        offset, length = int(entry.get("offset", 0)), int(entry.get("length", wanted or 0))
    except ValueError:
        return f"external data '{location}' has an offset or length that is no number"
    if offset < 0 or (wanted is not None and length != wanted):
        return f"external data '{location}' gives {length} bytes from {offset}, needed are {wanted}"
    size, needed = file.stat().st_size, offset + length
    return f"external data '{location}' holds {size} of {needed} bytes" if size < needed else ""


def _external_size(tensor: TensorProto, folder: Path) -> int:
    entry = _entry(tensor)
    try:
        return int(entry.get("length", 0)) or (folder / entry["location"]).stat().st_size
    except (KeyError, ValueError, OSError):
        return 0


def _entry(tensor: TensorProto) -> dict[str, str]:
    return {pair.key: pair.value for pair in tensor.external_data}


def external_locations(model: onnx.ModelProto) -> Iterator[str]:
    """Yield the location of each tensor that lies in another file, relative to the model's."""
    for tensor in _external(model):
        yield _entry(tensor).get("location", "")


def _external(model: onnx.ModelProto) -> Iterator[TensorProto]:
    for tensor in _tensors(model):
        if tensor.data_location == TensorProto.EXTERNAL:
            yield tensor


def _tensors(model: onnx.ModelProto) -> Iterator[TensorProto]:
    """Yield all tensors: initializers and attributes, in subgraphs and functions too."""
    for graph in all_graphs(model.graph):
        yield from graph.initializer
    for node in _all_nodes(model):
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors


def _all_nodes(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    yield from _nodes(model.graph)
    for function in model.functions:
        for node in function.node:
            yield node
            for graph in _subgraphs(node):
                yield from _nodes(graph)


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for inner in all_graphs(graph):
        yield from inner.node


def all_graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """Yield `graph` and all graphs inside its nodes; a loop, because files can nest deeply."""
    waiting = [graph]
    while waiting:
        current = waiting.pop()
        yield current
        for node in current.node:
            waiting.extend(_subgraphs(node))


def _subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def _parameters(model: onnx.ModelProto) -> int:
    total = 0
    for graph in all_graphs(model.graph):
        for tensor in graph.initializer:
            count = 1
            for size in tensor.dims:
                count *= size
            total += count
    return total


def _port(port: onnx.ValueInfoProto) -> list[Any]:
    return [port.name, type_name(port.type), _shape(port.type)]


def type_name(kind: onnx.TypeProto) -> str:
    """Return a type as ONNX Runtime prints it: `tensor(float)`, `seq(tensor(int64))`."""
    match kind.WhichOneof("value"):
        case "tensor_type":
            return f"tensor({_element(kind.tensor_type.elem_type)})"
        case "sparse_tensor_type":
            return f"sparse_tensor({_element(kind.sparse_tensor_type.elem_type)})"
        case "sequence_type":
            return f"seq({type_name(kind.sequence_type.elem_type)})"
        case "optional_type":
            return f"optional({type_name(kind.optional_type.elem_type)})"
        case "map_type":
            key = _element(kind.map_type.key_type)
            return f"map({key},{type_name(kind.map_type.value_type)})"
        case _:
            return "undefined"


def _element(number: int) -> str:
    names = {1: "float", 11: "double"}
    try:
        return names.get(number) or str(dtypes.from_onnx_number(number))
    except KeyError:
        return f"type {number}"


def _shape(kind: onnx.TypeProto) -> list[int | str | None] | None:
    if not kind.HasField("tensor_type") or not kind.tensor_type.HasField("shape"):
        return None
    dims: list[int | str | None] = []
    for dim in kind.tensor_type.shape.dim:
        which = dim.WhichOneof("value")
        dims.append(getattr(dim, which) if which else None)
    return dims


def _hash(model: onnx.ModelProto, external: list[TensorProto], folder: Path) -> str:
    """Return the model hash: SHA-256 without metadata, doc strings and producer, plus data."""
    data_digest = hashlib.sha256()
    entries = [_entry(tensor) for tensor in external]
    for entry in {tuple(sorted(entry.items())): entry for entry in entries}.values():
        _hash_external(data_digest, entry, folder)  # shared weights are read once
    _silence(model)
    digest = hashlib.sha256(model.SerializeToString(deterministic=True))
    if external:
        digest.update(data_digest.digest())
    return digest.hexdigest()


def _hash_external(digest: Any, entry: dict[str, str], folder: Path) -> None:
    left = int(entry.get("length", 0)) or (folder / entry["location"]).stat().st_size
    with (folder / entry["location"]).open("rb") as file:
        file.seek(int(entry.get("offset", 0)))
        while left > 0 and (chunk := file.read(min(left, _CHUNK))):
            digest.update(chunk)
            left -= len(chunk)


def _silence(message: Message) -> None:
    """Clear, in place and at every level, what says nothing about the computation."""
    waiting = [message]
    while waiting:
        current = waiting.pop()
        for name in _SILENT_FIELDS:
            if name in current.DESCRIPTOR.fields_by_name:
                current.ClearField(name)
        for descriptor, value in current.ListFields():
            if descriptor.message_type is None:
                continue
            waiting.extend([value] if isinstance(value, Message) else value)
