"""Element types: numbers of ONNX, names of ONNX Runtime, types of numpy."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper

from harness.domain import dtypes
from harness.domain.dtypes import DType
from tests.strategies import array

#: No ONNX Runtime computes with 6 bit floats, and no reference hands any out.
NOT_HELD = {"UNDEFINED", "FLOAT6E2M3", "FLOAT6E3M2"}
KNOWN_TO_ONNX = {
    number for name, number in onnx.TensorProto.DataType.items() if name not in NOT_HELD
}


def test_every_type_of_onnx_is_known() -> None:
    """The numbers are those of TensorProto.DataType, none missing but the 6 bit floats."""
    assert {dtype.onnx_number for dtype in DType} >= KNOWN_TO_ONNX


@pytest.mark.parametrize("dtype", DType)
def test_numbers_and_names_are_those_of_onnx(dtype: DType) -> None:
    """A type has the number under which ONNX lists its name."""
    onnx_name = {DType.FLOAT32: "FLOAT", DType.FLOAT64: "DOUBLE"}.get(dtype, dtype.name)
    if onnx_name not in onnx.TensorProto.DataType.keys():  # noqa: SIM118 - an enum wrapper
        pytest.skip(f"this onnx does not know {onnx_name} yet")
    assert dtype.onnx_number == onnx.TensorProto.DataType.Value(onnx_name)
    assert dtypes.from_onnx_number(dtype.onnx_number) is dtype


@pytest.mark.parametrize("dtype", [each for each in DType if each.onnx_number in KNOWN_TO_ONNX])
def test_numpy_types_are_those_of_onnx(dtype: DType) -> None:
    """Values are held in the type in which onnx itself would hold them."""
    assert dtype.numpy == np.dtype(helper.tensor_dtype_to_np_dtype(dtype.onnx_number))


@pytest.mark.parametrize("dtype", DType)
def test_the_type_of_an_array_is_found(dtype: DType) -> None:
    """An array made for a type is recognised as that type."""
    assert dtypes.of_array(array(dtype, (2,))) is dtype


@pytest.mark.parametrize(
    "texts", [np.array(["a"]), np.array(["a"], dtype=object), np.array([b"a"])]
)
def test_every_kind_of_text_is_a_string(texts: np.ndarray[tuple[int], np.dtype[np.str_]]) -> None:
    """Unicode, byte and object arrays are strings."""
    assert dtypes.of_array(texts) is DType.STRING


def test_an_array_without_an_onnx_type_is_refused() -> None:
    """A date is no ONNX value."""
    with pytest.raises(ValueError, match="'datetime64\\[D\\]' is not a valid DType"):
        dtypes.of_array(np.array(["2026-01-01"], dtype="datetime64[D]"))


@pytest.mark.parametrize(
    ("name", "dtype"),
    [("float", DType.FLOAT32), ("double", DType.FLOAT64), ("int64", DType.INT64)],
)
def test_names_of_onnx_runtime(name: str, dtype: DType) -> None:
    """`tensor(float)` and `tensor(double)` mean float32 and float64."""
    assert dtypes.from_type_name(name) is dtype


def test_unknown_names_and_numbers_are_refused() -> None:
    """Nothing is guessed."""
    with pytest.raises(ValueError, match="'quaternion' is not a valid DType"):
        dtypes.from_type_name("quaternion")
    with pytest.raises(KeyError):
        dtypes.from_onnx_number(0)


@pytest.mark.parametrize(
    ("dtype", "bits"),
    [
        (DType.INT4, 4),
        (DType.UINT2, 2),
        (DType.FLOAT4E2M1, 4),
        (DType.BFLOAT16, 16),
        (DType.BOOL, 8),
        (DType.STRING, 0),
        (DType.COMPLEX128, 128),
    ],
)
def test_bits_are_those_of_raw_data(dtype: DType, bits: int) -> None:
    """4 and 2 bit types are packed, strings have no fixed size."""
    assert dtype.bits == bits


@pytest.mark.parametrize(
    ("dtype", "floating", "integer"),
    [
        (DType.BFLOAT16, True, False),
        (DType.FLOAT8E8M0, True, False),
        (DType.COMPLEX64, True, False),
        (DType.UINT4, False, True),
        (DType.BOOL, False, False),
        (DType.STRING, False, False),
    ],
)
def test_families(dtype: DType, floating: bool, integer: bool) -> None:  # noqa: FBT001 - a table
    """Booleans and strings belong to neither family."""
    assert (dtype.is_floating, dtype.is_integer) == (floating, integer)
