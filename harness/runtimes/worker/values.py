"""ONNX values on the wire, and how ONNX Runtime's Python interface takes and gives them.

A value is a JSON description whose tensors point at buffers laid out like
`TensorProto.raw_data` (little endian, 4-bit kinds two to a byte). Strings are one buffer: all
lengths as int64, then the UTF-8 bytes.
"""

from __future__ import annotations

import ctypes
import re
from typing import Any

import numpy as np

from .serve import Refused

#: ONNX element type numbers (TensorProto.DataType) that numpy has itself.
NATIVE = {
    1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64",
    9: "bool", 10: "float16", 11: "float64", 12: "uint32", 13: "uint64",
    14: "complex64", 15: "complex128",
}  # fmt: skip
NUMBERS = {name: number for number, name in NATIVE.items()}
STRING = 8
#: Element types without a numpy counterpart: number, name in `tensor(...)`, bits.
FOREIGN = {
    16: ("bfloat16", 16), 17: ("float8e4m3fn", 8), 18: ("float8e4m3fnuz", 8),
    19: ("float8e5m2", 8), 20: ("float8e5m2fnuz", 8), 21: ("uint4", 4), 22: ("int4", 4),
    23: ("float4e2m1", 4), 24: ("float8e8m0", 8), 25: ("uint2", 2), 26: ("int2", 2),
}  # fmt: skip
FOREIGN_NUMBERS = {name: number for number, (name, _) in FOREIGN.items()}
TENSOR_TYPE = re.compile(r"tensor\((\w+)\)")
ALIASES = {"float": "float32", "double": "float64"}


def is_foreign(type_name: str) -> bool:
    """Return whether ONNX Runtime's type string names an element type that numpy lacks."""
    return any(name in FOREIGN_NUMBERS for name in TENSOR_TYPE.findall(type_name))


def element_number(type_name: str) -> int:
    """Return the element type number of the last `tensor(...)` in ONNX Runtime's type string."""
    name = TENSOR_TYPE.findall(type_name)[-1]
    name = ALIASES.get(name, name)
    if name == "string":
        return STRING
    return NUMBERS.get(name) or FOREIGN_NUMBERS[name]


def to_numpy(value: dict[str, Any], buffers: list[memoryview]) -> Any:
    """Return a wire value as the Python object that `InferenceSession.run` takes."""
    kind = value["t"]
    if kind == "tensor":
        return _array(value, buffers)
    if kind == "sequence":
        return [to_numpy(item, buffers) for item in value["items"]]
    if kind == "map":
        keys, values = (to_numpy(value[part], buffers).tolist() for part in ("keys", "values"))
        return dict(zip(keys, values))
    return None


def _array(value: dict[str, Any], buffers: list[memoryview]) -> np.ndarray:
    number, shape, data = value["dtype"], value["shape"], buffers[value["b"]]
    if number == STRING:
        return _strings(data, shape)
    if number not in NATIVE:
        raise Refused("value.unsupported", f"numpy has no element type {FOREIGN[number][0]}")
    return np.frombuffer(data, dtype=NATIVE[number]).reshape(shape)


def _strings(data: memoryview, shape: list[int]) -> np.ndarray:
    count = int(np.prod(shape, dtype=np.int64))
    lengths = np.frombuffer(data[: 8 * count], dtype=np.int64)
    texts, position = np.empty(count, dtype=object), 8 * count
    for index, length in enumerate(lengths.tolist()):
        texts[index] = bytes(data[position : position + length]).decode()
        position += length
    return texts.reshape(shape)


def to_feed(ort: Any, value: dict[str, Any], buffers: list[memoryview]) -> Any:
    """Return a wire value as `InferenceSession.run` takes it: an OrtValue where numpy lacks it."""
    if value["t"] == "tensor" and value["dtype"] in FOREIGN:
        return to_ort_value(ort, value, buffers)
    return to_numpy(value, buffers)


def to_ort_value(ort: Any, value: dict[str, Any], buffers: list[memoryview]) -> Any:
    """Return a wire tensor as an OrtValue, whatever its element type (but no strings)."""
    if value["t"] != "tensor" or value["dtype"] == STRING:
        raise _beside_foreign("takes no")
    result = ort.OrtValue.ortvalue_from_shape_and_type(value["shape"], value["dtype"])
    data = buffers[value["b"]]
    if data.nbytes:
        source = np.frombuffer(data, dtype=np.uint8)
        ctypes.memmove(result.data_ptr(), source.ctypes.data, data.nbytes)
    return result


def _beside_foreign(does: str) -> Refused:
    return Refused(
        "value.unsupported",
        f"ONNX Runtime's Python interface {does} sequence, map, optional or text in a model "
        "that also gives element types which numpy lacks",
    )


def from_ort_value(result: Any, buffers: list[Any]) -> dict[str, Any]:
    """Describe a tensor OrtValue, reading types that numpy lacks from its memory."""
    if not result.is_tensor():
        raise _beside_foreign("gives no")
    number = element_number(result.data_type())
    if number not in FOREIGN:
        return from_numpy(result.numpy(), result.data_type(), buffers)
    shape = result.shape()
    size = -(-int(np.prod(shape, dtype=np.int64)) * FOREIGN[number][1] // 8)
    buffers.append(ctypes.string_at(result.data_ptr(), size) if size else b"")
    return {"t": "tensor", "dtype": number, "shape": shape, "b": len(buffers) - 1}


def from_numpy(result: Any, type_name: str, buffers: list[Any]) -> dict[str, Any]:
    """Describe what `InferenceSession.run` returned, appending its data to `buffers`.

    Args:
        result: Array, list, dict or None, nested as ONNX allows.
        type_name: ONNX Runtime's type string, which tells what Python floats and ints were.
        buffers: Receives one buffer per tensor.
    """
    if result is None:
        return {"t": "none"}
    if isinstance(result, list):
        return {"t": "sequence", "items": [from_numpy(item, type_name, buffers) for item in result]}
    if isinstance(result, dict):
        return _from_map(result, type_name, buffers)
    array = np.asarray(result)
    if array.dtype.kind == "O" and not all(isinstance(i, (str, bytes)) for i in array.flat):
        raise Refused("value.unsupported", f"an output of type {type_name} cannot be read")
    if array.dtype.kind in "OUS":
        buffers.append(_string_buffer(array))
        number = STRING
    else:
        buffers.append(np.ascontiguousarray(array).reshape(-1).view(np.uint8))
        number = NUMBERS[array.dtype.name]
    return {"t": "tensor", "dtype": number, "shape": list(array.shape), "b": len(buffers) - 1}


def _from_map(result: dict[Any, Any], type_name: str, buffers: list[Any]) -> dict[str, Any]:
    dtype = NATIVE.get(element_number(type_name), "object")
    texts = any(isinstance(key, str) for key in result)
    keys = np.array(list(result), dtype=object if texts else np.int64)
    values = np.array(list(result.values()), dtype=dtype)
    return {
        "t": "map",
        "keys": from_numpy(keys, "", buffers),
        "values": from_numpy(values, "", buffers),
    }


def _string_buffer(array: np.ndarray) -> bytes:
    texts = [
        text if isinstance(text, bytes) else str(text).encode() for text in array.ravel().tolist()
    ]
    lengths = np.array([len(text) for text in texts], dtype=np.int64)
    return lengths.tobytes() + b"".join(texts)
