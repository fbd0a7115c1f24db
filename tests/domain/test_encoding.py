"""Values as descriptions and buffers: there and back, and what is refused on the way back."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from onnx import TensorProto, numpy_helper

from harness.domain import encoding
from harness.domain.dtypes import DType
from harness.domain.values import Value
from tests.strategies import VALUES, array, same

ONE_FLOAT = np.array([1.0], dtype=np.float32)


def there_and_back(value: Value) -> Value:
    """Return what a reader makes of the wire form, descriptions as JSON."""
    described, buffers = encoding.encode_all({"y": value})
    pairs = json.loads(json.dumps(list(described.items())))
    return encoding.decode_all(pairs, [memoryview(buffer).cast("B") for buffer in buffers])["y"]


@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 2), (3, 5)], ids=str)
@pytest.mark.parametrize("dtype", DType)
def test_tensors_survive(dtype: DType, shape: tuple[int, ...]) -> None:
    """Every type survives as scalar, empty, odd and even number of elements."""
    value = array(dtype, shape)
    assert same(there_and_back(value), value)


@given(VALUES)
@example((None, (ONE_FLOAT, {1: np.array(2, np.float32)})))
def test_values_survive(value: Value) -> None:
    """Sequences, maps and empty optionals survive, however nested."""
    assert same(there_and_back(value), value)


def test_names_keep_their_order() -> None:
    """Outputs come back in the order in which they were sent."""
    described, buffers = encoding.encode_all({"z": ONE_FLOAT, "a": ONE_FLOAT})
    decoded = encoding.decode_all(list(described.items()), [memoryview(b) for b in buffers])
    assert list(decoded) == ["z", "a"]


def test_nan_payloads_survive() -> None:
    """Bits are carried, not numbers."""
    bits = np.array([0x7FC00001, 0xFFC00000, 0x7F800000], dtype=np.uint32)
    back = there_and_back(bits.view(np.float32))
    assert np.asarray(back).view(np.uint32).tolist() == bits.tolist()


def test_arrays_that_are_not_contiguous_survive() -> None:
    """A transposed or strided array is sent as what it shows."""
    value = np.arange(12, dtype=np.int16).reshape(3, 4).T[::2]
    assert same(there_and_back(value), np.ascontiguousarray(value))


@pytest.mark.parametrize(
    "dtype", [each for each in DType if each.bits and each.onnx_number <= DType.INT2.onnx_number]
)
def test_raw_data_is_that_of_tensor_proto(dtype: DType) -> None:
    """What is sent equals `TensorProto.raw_data`, packed types included."""
    if dtype.name not in TensorProto.DataType.keys() and dtype.bits < 4:  # noqa: SIM118 - enum
        pytest.skip(f"this onnx does not know {dtype} yet")
    value = array(dtype, (5,))
    assert bytes(encoding.to_raw(value, dtype)) == numpy_helper.from_array(value).raw_data


TENSOR = {"t": "tensor", "dtype": 1, "shape": [1], "b": 0}
NO_FLOATS = {**TENSOR, "shape": [0], "b": 1}
FOUR = memoryview(b"\0\0\0\0")
LENGTH = memoryview((5).to_bytes(8, "little") + b"abc")


@pytest.mark.parametrize(
    ("described", "buffers", "message"),
    [
        ({}, [], "a value's description is malformed: KeyError: 't'"),
        ({"t": "pickle"}, [], "a value's description is malformed: KeyError: 'pickle'"),
        ({**TENSOR, "dtype": 99}, [FOUR], "a value's description is malformed: KeyError: 99"),
        (
            {**TENSOR, "b": 3},
            [FOUR],
            "a value's description is malformed: IndexError: list index out of range",
        ),
        ({**TENSOR, "shape": [2]}, [FOUR], "4 bytes for float32 [2], expected 8"),
        ({**TENSOR, "shape": [-1, -1]}, [FOUR], "4 bytes for float32 [-1, -1], expected 4"),
        ({**TENSOR, "shape": [10**6]}, [FOUR], "4 bytes for float32 [1000000], expected 4000000"),
        (
            {**TENSOR, "shape": 3},
            [FOUR],
            "a value's description is malformed: TypeError: 'int' object is not iterable",
        ),
        ({**TENSOR, "dtype": 8}, [LENGTH], "string lengths do not add up to 11 bytes"),
        (
            {"t": "map", "keys": {**TENSOR, "dtype": 6}, "values": NO_FLOATS},
            [FOUR, FOUR[:0]],
            "a map has keys (1,) and values (0,)",
        ),
        (
            {"t": "sequence", "items": 3},
            [],
            "a value's description is malformed: TypeError: 'int' object is not iterable",
        ),
    ],
)  # fmt: skip
def test_malformed_descriptions_are_refused(
    described: dict[str, Any], buffers: list[memoryview], message: str
) -> None:
    """A description that does not fit its buffers is a ValueError, never an array."""
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the whole message is compared
        encoding.decode_all([["y", described]], buffers)
    assert str(caught.value) == message


def test_a_list_of_outputs_that_is_no_list_of_pairs_is_refused() -> None:
    """The outermost level is checked as well."""
    with pytest.raises(ValueError, match=r"^not enough values to unpack"):
        encoding.decode_all([["y"]], [])


def test_text_that_is_not_utf8_is_shown_escaped() -> None:
    """Bytes that a model made up do not end the harness."""
    data = (2).to_bytes(8, "little") + b"\xffa"
    assert encoding.from_raw(memoryview(data), DType.STRING, (1,)).tolist() == ["\\xffa"]
