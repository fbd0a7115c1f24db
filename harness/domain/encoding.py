"""Values as a JSON description and raw buffers, for workers and caches.

Tensors are laid out like `TensorProto.raw_data`. What is decoded is checked before it becomes an
array: it may come from a worker that runs a model nobody vouches for, or from a broken file.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.domain import dtypes
from harness.domain.dtypes import DType
from harness.domain.values import Array, SampledTensor, Value, Values

Description = dict[str, Any]
Bytes = npt.NDArray[np.uint8]
BITS_PER_BYTE = 8


def encode_all(values: Values) -> tuple[dict[str, Description], list[Any]]:
    """Return the wire form of named values: descriptions by name, and their buffers."""
    buffers: list[Any] = []
    return {name: encode(value, buffers) for name, value in values.items()}, buffers


def encode(value: Value, buffers: list[Any]) -> Description:
    """Describe `value`, appending one buffer per tensor."""
    match value:
        case None:
            return {"t": "none"}
        case tuple():
            return {"t": "sequence", "items": [encode(item, buffers) for item in value]}
        case dict():
            return {
                "t": "map",
                "keys": encode(_key_array(list(value)), buffers),
                "values": encode(_stack(list(value.values())), buffers),
            }
        case SampledTensor():
            msg = "a sample stands for a recorded output only; it is never sent or cached"
            raise TypeError(msg)
        case _:
            dtype = dtypes.of_array(value)
            buffers.append(to_raw(value, dtype))
            return {
                "t": "tensor",
                "dtype": dtype.onnx_number,
                "shape": list(value.shape),
                "b": len(buffers) - 1,
            }


def decode_all(described: list[Any], buffers: list[memoryview]) -> dict[str, Value]:
    """Return outputs by name, in the order in which they were sent.

    Raises:
        ValueError: If a description does not fit its buffers.
    """
    try:
        return {str(name): decode(value, buffers) for name, value in described}
    except (KeyError, IndexError, TypeError, OverflowError, AttributeError) as error:
        msg = f"a value's description is malformed: {type(error).__name__}: {error}"
        raise ValueError(msg) from None


def decode(described: Description, buffers: list[memoryview]) -> Value:
    """Return the value that `described` and its buffers stand for."""
    decoders: dict[str, Callable[[], Value]] = {
        "none": lambda: None,
        "sequence": lambda: tuple(decode(item, buffers) for item in described["items"]),
        "map": lambda: _map(described, buffers),
        "tensor": lambda: _tensor(described, buffers),
    }
    return decoders[described["t"]]()


def to_raw(array: Array, dtype: DType) -> Any:
    """Return the data of `array` as `TensorProto.raw_data` lays it out (strings: see below).

    Strings are all lengths as int64, then the UTF-8 bytes.
    """
    if dtype is DType.STRING:
        texts = [str(text).encode() for text in array.ravel().tolist()]
        lengths = np.array([len(text) for text in texts], dtype=np.int64)
        return lengths.tobytes() + b"".join(texts)
    flat = np.ascontiguousarray(array, dtype=dtype.numpy).reshape(-1).view(np.uint8)
    return _pack(flat, dtype.bits) if dtype.bits < BITS_PER_BYTE else flat


def from_raw(data: memoryview, dtype: DType, shape: tuple[int, ...]) -> Array:
    """Return the array that `to_raw` made.

    Raises:
        ValueError: If the data does not have the size that type and shape ask for.
    """
    count = math.prod(shape)
    if dtype is DType.STRING:
        return _strings(data, count).reshape(shape)
    expected = -(-count * dtype.bits // 8)
    if any(size < 0 for size in shape) or data.nbytes != expected:
        msg = f"{data.nbytes} bytes for {dtype} {list(shape)}, expected {expected}"
        raise ValueError(msg)
    raw = np.frombuffer(data, dtype=np.uint8)
    if dtype.bits < BITS_PER_BYTE:
        raw = _unpack(raw, dtype.bits, count)
    return raw.view(dtype.numpy).reshape(shape)


def _tensor(described: Description, buffers: list[memoryview]) -> Array:
    shape = tuple(int(size) for size in described["shape"])
    dtype = dtypes.from_onnx_number(described["dtype"])
    return from_raw(buffers[described["b"]], dtype, shape)


def _map(described: Description, buffers: list[memoryview]) -> Value:
    keys = _tensor(described["keys"], buffers)
    values = _tensor(described["values"], buffers)
    if keys.shape != values.shape[: keys.ndim]:
        msg = f"a map has keys {keys.shape} and values {values.shape}"
        raise ValueError(msg)
    return dict(zip(keys.tolist(), (np.asarray(value) for value in values), strict=True))


def _strings(data: memoryview, count: int) -> Array:
    lengths = np.frombuffer(data[: 8 * count], dtype=np.int64)
    ends = 8 * count + np.cumsum(lengths)
    if len(lengths) != count or (lengths < 0).any() or (count and ends[-1] != data.nbytes):
        msg = f"string lengths do not add up to {data.nbytes} bytes"
        raise ValueError(msg)
    texts = np.empty(count, dtype=object)
    for index, (length, end) in enumerate(zip(lengths.tolist(), ends.tolist(), strict=True)):
        texts[index] = bytes(data[end - length : end]).decode(errors="backslashreplace")
    return texts


def _pack(flat: Bytes, bits: int) -> Bytes:
    """Put 8 / bits elements into each byte, the first in the lowest bits."""
    per_byte = 8 // bits
    padded = np.zeros(-(-flat.size // per_byte) * per_byte, dtype=np.uint8)
    padded[: flat.size] = flat & np.uint8((1 << bits) - 1)
    shifts = np.arange(per_byte, dtype=np.uint8) * np.uint8(bits)
    packed: Bytes = np.bitwise_or.reduce(padded.reshape(-1, per_byte) << shifts, axis=1)
    return packed


def _unpack(raw: Bytes, bits: int, count: int) -> Bytes:
    """Undo `_pack`; a sign bit is spread because ml_dtypes reads the whole byte."""
    shifts = np.arange(8 // bits, dtype=np.uint8) * np.uint8(bits)
    parts = (raw[:, None] >> shifts) & np.uint8((1 << bits) - 1)
    flat: Bytes = parts.reshape(-1)[:count]
    return np.ascontiguousarray(flat)


def _key_array(keys: list[int | str]) -> Array:
    texts = any(isinstance(key, str) for key in keys)
    return np.array(keys, dtype=object if texts else np.int64)


def _stack(items: list[Value]) -> Array:
    arrays = [np.asarray(item) for item in items]
    return np.stack(arrays) if arrays else np.empty(0, dtype=np.float32)
