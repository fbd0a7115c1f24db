"""The model-zoo layout: `model.onnx` with `test_data_set_N/{input,output}_i.pb`.

A folder of this layout is a model without any `model.toml`; a spec can also point at one with
`reference.recorded`. Values are TensorProto, SequenceProto, OptionalProto or MapProto, told apart
by the type that the model declares, because the files do not say.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.unknown_fields import UnknownFieldSet
from onnx import numpy_helper

from harness.domain import dtypes
from harness.domain.dtypes import DType
from harness.domain.values import Array, Value
from harness.errors import ModelFileError

MODEL_FILE = "model.onnx"
_SET = re.compile(r"test_data_set_(\d+)")
_FILE = re.compile(r"(input|output)_(\d+)\.pb")


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
    files = {
        int(match[2]): folder / match[0]
        for entry in sorted(folder.iterdir())
        if (match := _FILE.fullmatch(entry.name)) and match[1] == side
    }
    if sorted(files) != list(range(len(names))):
        msg = f"Recorded {side}s do not match the model's {side}s"
        raise ModelFileError(
            msg,
            code="reference.recorded",
            where=str(folder),
            expected=", ".join(f"{side}_{i}.pb for '{name}'" for i, name in enumerate(names)),
            got=", ".join(path.name for path in files.values()) or "no such file",
            next_step="record the data set again, with one file for each",
        )
    return {
        name: read_value(files[index], kind)
        for index, (name, kind) in enumerate(zip(names, types, strict=True))
    }


def read_value(path: Path, kind: str) -> Value:
    """Return the value in a `.pb` file.

    Raises:
        ModelFileError: If the file does not hold a value of this type.
    """
    try:
        return _read_value(path.read_bytes(), kind)
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
