"""The model-zoo layout: `model.onnx` with `test_data_set_N/{input,output}_i.pb`.

A folder of this layout is a model without any `model.toml`; a spec can also point at one with
`reference.recorded`. Values are TensorProto, SequenceProto, OptionalProto or MapProto, told apart
by the type that the model declares, because the files do not say.

One thing is ours: an output that is too large to keep is a sample of its elements, in
`output_i.sample.json` instead of `output_i.pb`.
"""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.unknown_fields import UnknownFieldSet
from onnx import numpy_helper

from harness.domain import dtypes, samples
from harness.domain.dtypes import DType
from harness.domain.encoding import from_raw, to_raw
from harness.domain.values import Array, SampledTensor, Value
from harness.errors import ModelFileError

MODEL_FILE = "model.onnx"
_SET = re.compile(r"test_data_set_(\d+)")
_FILE = re.compile(r"(input|output)_(\d+)(\.pb|\.sample\.json)")
#: How the name of a sample ends.
SAMPLE = ".sample.json"


def is_zoo_folder(folder: Path) -> bool:
    """Return whether `folder` is a model in this layout."""
    return (folder / MODEL_FILE).is_file() and bool(data_sets(folder))


def data_sets(folder: Path) -> tuple[str, ...]:
    """Return the names of the data sets, in the order of their numbers."""
    try:
        names = [entry.name for entry in folder.iterdir() if _SET.fullmatch(entry.name)]
    except OSError:
        return ()
    return tuple(sorted(names, key=lambda name: int(name.rpartition("_")[2])))


def following_sets(first: str, count: int) -> tuple[str, ...]:
    """Return the name of a data set and of those that follow it by number, `count` in all.

    Raises:
        ModelFileError: If several are asked for and the first name has no number.
    """
    match = _SET.fullmatch(first)
    if count == 1:
        return (first,)
    if match is None:
        msg = f"Recorded data set '{first}' cannot be the first of {count} steps"
        raise ModelFileError(
            msg,
            code="reference.recorded",
            expected="test_data_set_N, whose number says where the other steps are",
            next_step="give the case's data_set",
        )
    return tuple(f"test_data_set_{int(match[1]) + index}" for index in range(count))


def read_set(
    folder: Path, side: str, *, names: Sequence[str], types: Sequence[str]
) -> dict[str, Value]:
    """Return the recorded inputs or outputs of one data set by name.

    Args:
        folder: A `test_data_set_N` folder.
        side: `input` or `output`.
        names: The model's inputs or outputs in order: file `i` belongs to the i-th.
        types: Their types as ONNX Runtime prints them, such as `seq(tensor(float))`.

    Raises:
        ModelFileError: If files are missing, too many, or not readable.
    """
    found = [
        (int(match[2]), folder / match[0])
        for entry in sorted(folder.iterdir())
        if (match := _FILE.fullmatch(entry.name)) and match[1] == side
    ]
    files = dict(found)
    if sorted(number for number, _ in found) != list(range(len(names))):
        msg = f"Recorded {side}s do not match the model's {side}s"
        raise ModelFileError(
            msg,
            code="reference.recorded",
            where=str(folder),
            expected=", ".join(f"{side}_{i}.pb for '{name}'" for i, name in enumerate(names)),
            got=", ".join(path.name for _, path in found) or "no such file",
            next_step="record the data set again, with one file for each",
        )
    return {
        name: read_value(files[index], kind)
        for index, (name, kind) in enumerate(zip(names, types, strict=True))
    }


def read_value(path: Path, kind: str) -> Value:
    """Return the value in a `.pb` file, or the sample in a `.sample.json` file.

    Raises:
        ModelFileError: If the file does not hold a value of this type.
    """
    try:
        data = path.read_bytes()
        return _read_sample(data) if path.name.endswith(SAMPLE) else _read_value(data, kind)
    except Exception as error:  # noqa: BLE001 - protobuf and numpy raise anything on broken data
        msg = f"Recorded value '{path.name}' cannot be read as {kind}"
        raise ModelFileError(
            msg,
            code="reference.recorded",
            where=str(path),
            got=f"{type(error).__name__}: {str(error)[:300]}",
            next_step="record the data set again",
        ) from None


def _read_value(data: bytes, kind: str) -> Value:
    if not data:
        msg = "the file is empty"
        raise ValueError(msg)
    if kind.startswith("optional("):
        return _from_optional(onnx.OptionalProto.FromString(data))
    if kind.startswith("seq("):
        return _from_sequence(onnx.SequenceProto.FromString(data))
    if kind.startswith("map("):
        return _from_map(onnx.MapProto.FromString(data))
    return to_array(onnx.TensorProto.FromString(data))


def _read_sample(data: bytes) -> SampledTensor:
    told = json.loads(data)
    shape = tuple(int(size) for size in told["shape"])
    positions = np.array(told["positions"], dtype=np.int64)
    size = math.prod(shape)
    rising = positions.ndim == 1 and bool((np.diff(positions, prepend=-1, append=size) > 0).all())
    if positions.size != samples.COUNT or not rising or any(length < 0 for length in shape):
        msg = f"a sample has {samples.COUNT} rising positions below {size}, the size of {shape}"
        raise ValueError(msg)
    if not re.fullmatch(r"[0-9a-f]{64}", told["sha256"]):
        msg = f"'{told['sha256']}' is no SHA-256"
        raise ValueError(msg)
    raw = memoryview(base64.b64decode(told["elements"], validate=True))
    elements = from_raw(raw, DType(told["dtype"]), positions.shape)
    return SampledTensor(shape=shape, sha256=told["sha256"], positions=positions, elements=elements)


def _from_sequence(proto: onnx.SequenceProto) -> Value:
    _refuse_other_message(proto)
    kinds = onnx.SequenceProto
    match proto.elem_type:
        case kinds.TENSOR:
            return tuple(to_array(item) for item in proto.tensor_values)
        case kinds.SEQUENCE:
            return tuple(_from_sequence(item) for item in proto.sequence_values)
        case kinds.MAP:
            return tuple(_from_map(item) for item in proto.map_values)
        case kinds.OPTIONAL:
            return tuple(_from_optional(item) for item in proto.optional_values)
        case _:
            return _no_items(proto)


def _no_items(proto: onnx.SequenceProto) -> Value:
    count = len(proto.tensor_values) + len(proto.sequence_values) + len(proto.map_values)
    if count:
        msg = f"a sequence of {count} items has element type {proto.elem_type}"
        raise ValueError(msg)
    return ()


def _refuse_other_message(proto: onnx.SequenceProto | onnx.OptionalProto) -> None:
    """Refuse a message of another kind, which would read as an empty value."""
    if len(UnknownFieldSet(proto)):
        msg = f"not a {type(proto).__name__}"
        raise ValueError(msg)


def _from_map(proto: onnx.MapProto) -> Value:
    texts = proto.key_type == onnx.TensorProto.STRING
    keys = [key.decode() for key in proto.string_keys] if texts else list(proto.keys)
    values = _from_sequence(proto.values)
    if not isinstance(values, tuple) or len(values) != len(keys):
        msg = f"a map of {len(keys)} keys has other values"
        raise ValueError(msg)
    return dict(zip(keys, values, strict=True))


def _from_optional(proto: onnx.OptionalProto) -> Value:
    _refuse_other_message(proto)
    kinds = onnx.OptionalProto
    match proto.elem_type:
        case kinds.TENSOR:
            return to_array(proto.tensor_value)
        case kinds.SEQUENCE:
            return _from_sequence(proto.sequence_value)
        case kinds.MAP:
            return _from_map(proto.map_value)
        case kinds.OPTIONAL:
            return _from_optional(proto.optional_value)
        case _:
            return None


def to_array(proto: onnx.TensorProto) -> Array:
    """Return a tensor as the harness holds it (strings as `str`)."""
    if proto.data_location == onnx.TensorProto.EXTERNAL or any(size < 0 for size in proto.dims):
        msg = f"a recorded tensor with external data or a negative size: {list(proto.dims)}"
        raise ValueError(msg)
    if proto.data_type not in onnx.TensorProto.DataType.values():
        msg = f"ONNX knows no element type {proto.data_type}"
        raise ValueError(msg)
    array: Array = numpy_helper.to_array(proto)
    if proto.data_type == DType.STRING.onnx_number:
        texts = [
            item.decode(errors="backslashreplace") if isinstance(item, bytes) else str(item)
            for item in array.ravel().tolist()
        ]
        return np.array(texts, dtype=object).reshape(array.shape)
    expected = dtypes.from_onnx_number(proto.data_type).numpy
    return array if array.dtype == expected else array.view(expected)


# writing


def write_value(path: Path, value: Value, *, optional: bool = False, name: str = "") -> Path:
    """Write a value as a `.pb` file, a sample beside it with its own ending; return the path."""
    if isinstance(value, SampledTensor):
        path = path.with_suffix(SAMPLE)
        path.write_bytes(_sample_bytes(value, name))
    else:
        path.write_bytes(value_bytes(value, optional=optional, name=name))
    return path


def _sample_bytes(value: SampledTensor, name: str) -> bytes:
    """Return a sample as JSON; its elements are raw data, so that no bit of any type is lost."""
    dtype = dtypes.of_array(value.elements)
    told = {
        "name": name,
        "dtype": str(dtype),
        "shape": list(value.shape),
        "sha256": value.sha256,
        "positions": value.positions.tolist(),
        "elements": base64.b64encode(bytes(to_raw(value.elements, dtype))).decode(),
    }
    return f"{json.dumps(told, sort_keys=True)}\n".encode()


def value_bytes(value: Value, *, optional: bool = False, name: str = "") -> bytes:
    """Return a value as a `.pb` file holds it, the same bytes for the same value.

    Args:
        value: Tensor, sequence, map, or None for an empty optional.
        optional: Whether the model declares an optional; None always is one.
        name: Of the input or output, for other readers: this one goes by the file's number.
    """
    proto = _optional(value) if optional or value is None else _proto(value)
    if name:
        proto.name = name
    data: bytes = proto.SerializeToString(deterministic=True)
    return data


Proto = onnx.TensorProto | onnx.SequenceProto | onnx.MapProto | onnx.OptionalProto


def _proto(value: Value) -> Proto:
    match value:
        case None:
            return _optional(None)
        case tuple():
            return _sequence(value)
        case dict():
            return _map(value)
        case _:
            return _tensor(value)


def _tensor(array: Array | SampledTensor) -> onnx.TensorProto:
    if isinstance(array, SampledTensor):
        msg = "a sample has a file of its own, it is no part of a value"
        raise TypeError(msg)
    array = np.asarray(array)
    if dtypes.of_array(array) is DType.STRING:
        texts = [str(text).encode() for text in array.ravel().tolist()]
        return onnx.TensorProto(
            data_type=onnx.TensorProto.STRING, dims=array.shape, string_data=texts
        )
    return numpy_helper.from_array(array)


def _sequence(items: Sequence[Value]) -> onnx.SequenceProto:
    protos = [_proto(item) for item in items]
    sequence = onnx.SequenceProto(elem_type=onnx.SequenceProto.TENSOR)
    for proto in protos:
        match proto:
            case onnx.SequenceProto():
                sequence.elem_type = onnx.SequenceProto.SEQUENCE
                sequence.sequence_values.append(proto)
            case onnx.MapProto():
                sequence.elem_type = onnx.SequenceProto.MAP
                sequence.map_values.append(proto)
            case onnx.OptionalProto():
                sequence.elem_type = onnx.SequenceProto.OPTIONAL
                sequence.optional_values.append(proto)
            case _:
                sequence.tensor_values.append(proto)
    return sequence


def _map(value: Mapping[int | str, Value]) -> onnx.MapProto:
    proto = onnx.MapProto(values=_sequence(tuple(value.values())))
    texts = [key.encode() for key in value if isinstance(key, str)]
    proto.key_type = onnx.TensorProto.STRING if texts else onnx.TensorProto.INT64
    proto.string_keys.extend(texts)
    proto.keys.extend(key for key in value if isinstance(key, int))
    return proto


def _optional(value: Value) -> onnx.OptionalProto:
    kinds = onnx.OptionalProto
    match value:
        case None:
            return onnx.OptionalProto(elem_type=kinds.UNDEFINED)
        case tuple():
            return onnx.OptionalProto(elem_type=kinds.SEQUENCE, sequence_value=_sequence(value))
        case dict():
            return onnx.OptionalProto(elem_type=kinds.MAP, map_value=_map(value))
        case _:
            return onnx.OptionalProto(elem_type=kinds.TENSOR, tensor_value=_tensor(value))
