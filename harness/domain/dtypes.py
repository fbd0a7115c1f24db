"""ONNX element types: their numbers, their names and the numpy types that hold them.

Numbers are those of `onnx.TensorProto.DataType`; names are the lower-case ones that ONNX Runtime
prints, with `float32` and `float64` for FLOAT and DOUBLE. numpy lacks some of them: `ml_dtypes`
supplies these, one element per byte for the 4 and 2 bit kinds.
"""

from __future__ import annotations

from enum import StrEnum

import numpy as np
import numpy.typing as npt


class DType(StrEnum):
    """An ONNX element type."""

    FLOAT32 = "float32"
    UINT8 = "uint8"
    INT8 = "int8"
    UINT16 = "uint16"
    INT16 = "int16"
    INT32 = "int32"
    INT64 = "int64"
    STRING = "string"
    BOOL = "bool"
    FLOAT16 = "float16"
    FLOAT64 = "float64"
    UINT32 = "uint32"
    UINT64 = "uint64"
    COMPLEX64 = "complex64"
    COMPLEX128 = "complex128"
    BFLOAT16 = "bfloat16"
    FLOAT8E4M3FN = "float8e4m3fn"
    FLOAT8E4M3FNUZ = "float8e4m3fnuz"
    FLOAT8E5M2 = "float8e5m2"
    FLOAT8E5M2FNUZ = "float8e5m2fnuz"
    UINT4 = "uint4"
    INT4 = "int4"
    FLOAT4E2M1 = "float4e2m1"
    FLOAT8E8M0 = "float8e8m0"
    UINT2 = "uint2"
    INT2 = "int2"

    @property
    def onnx_number(self) -> int:
        """Return the number in `onnx.TensorProto.DataType`."""
        return _NUMBERS[self]

    @property
    def bits(self) -> int:
        """Return the bits per element in `raw_data`; 0 for strings."""
        return _BITS.get(self, 0 if self is DType.STRING else self.numpy.itemsize * 8)

    @property
    def numpy(self) -> np.dtype[np.generic]:
        """Return the numpy (or ml_dtypes) type; `object` for strings."""
        if self is DType.STRING:
            return np.dtype(object)
        if self in _ML_NAMES:
            import ml_dtypes  # noqa: PLC0415 - 20 ms that most runs never need

            foreign: np.dtype[np.generic] = np.dtype(getattr(ml_dtypes, _ML_NAMES[self]))
            return foreign
        return np.dtype(self.value)

    @property
    def is_floating(self) -> bool:
        """Return whether values are floating-point numbers, complex ones included."""
        return self.value.startswith(("float", "bfloat", "complex"))

    @property
    def is_integer(self) -> bool:
        """Return whether values are whole numbers."""
        return self.value.startswith(("int", "uint"))

    def holds(self, value: float | str) -> bool:
        """Return whether a value of a spec can be an element; floats may be rounded."""
        if self is DType.STRING or isinstance(value, str):
            return self is DType.STRING and isinstance(value, str)
        if self is DType.BOOL:
            return value in {0, 1}
        if not self.is_integer:
            return True
        least = 0 if self.value.startswith("u") else -(1 << (self.bits - 1))
        return isinstance(value, int) and least <= value < least + (1 << self.bits)


_NUMBERS: dict[DType, int] = {dtype: number for number, dtype in enumerate((*DType,), start=1)}
_BITS = {DType.UINT4: 4, DType.INT4: 4, DType.FLOAT4E2M1: 4, DType.UINT2: 2, DType.INT2: 2}
_ML_NAMES = {
    DType.BFLOAT16: "bfloat16",
    DType.FLOAT8E4M3FN: "float8_e4m3fn",
    DType.FLOAT8E4M3FNUZ: "float8_e4m3fnuz",
    DType.FLOAT8E5M2: "float8_e5m2",
    DType.FLOAT8E5M2FNUZ: "float8_e5m2fnuz",
    DType.FLOAT8E8M0: "float8_e8m0fnu",
    DType.FLOAT4E2M1: "float4_e2m1fn",
    DType.UINT4: "uint4",
    DType.INT4: "int4",
    DType.UINT2: "uint2",
    DType.INT2: "int2",
}
#: Names under which other code knows the same types.
_ALIASES = {"float": DType.FLOAT32, "double": DType.FLOAT64, "str": DType.STRING}


def from_onnx_number(number: int) -> DType:
    """Return the type with this number in `onnx.TensorProto.DataType`.

    Raises:
        KeyError: If ONNX knows no such number.
    """
    return _BY_NUMBER[number]


def from_type_name(name: str) -> DType:
    """Return the type that ONNX Runtime calls `name` inside `tensor(...)`.

    Raises:
        ValueError: If there is no such type.
    """
    return _ALIASES[name] if name in _ALIASES else DType(name)


def of_array(array: npt.NDArray[np.generic]) -> DType:
    """Return the ONNX type of a numpy array.

    Raises:
        ValueError: If ONNX has no such type.
    """
    if array.dtype.kind in "OUST":
        return DType.STRING
    name = array.dtype.name
    known = _BY_NUMPY_NAME.get(name)
    return DType(name) if known is None else known


_BY_NUMBER: dict[int, DType] = {number: dtype for dtype, number in _NUMBERS.items()}
_BY_NUMPY_NAME: dict[str, DType] = {name: dtype for dtype, name in _ML_NAMES.items()}
