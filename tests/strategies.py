"""Hypothesis strategies for ONNX values."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from harness.domain.dtypes import DType
from harness.domain.values import Array, Value

SHAPES = st.lists(st.integers(0, 3), max_size=3).map(tuple)
DTYPES = st.sampled_from(tuple(DType))


def array(dtype: DType, shape: tuple[int, ...], seed: int = 0) -> Array:
    """Return an array of small whole numbers, 0 to 3 where the type allows."""
    count = int(np.prod(shape, dtype=int))
    numbers = (np.arange(count) + seed) % 4
    if dtype is DType.STRING:
        return np.array([f"ü{number}" for number in numbers], dtype=object).reshape(shape)
    if dtype is DType.INT2:
        numbers = numbers - 2
    return numbers.astype(np.float32).astype(dtype.numpy).reshape(shape)


TENSORS = st.builds(array, DTYPES, SHAPES, st.integers(0, 3))


@st.composite
def maps(draw: st.DrawFn) -> dict[int | str, Value]:
    """Return a map whose values are scalars of one type."""
    kinds: tuple[st.SearchStrategy[int | str], ...] = (
        st.integers(-(2**63), 2**63 - 1),
        st.text(max_size=4),
    )
    keys = draw(st.lists(kinds[draw(st.integers(0, 1))], unique=True, max_size=4))
    numbers = draw(st.lists(st.floats(width=32), min_size=len(keys), max_size=len(keys)))
    values: dict[int | str, Value] = {}
    for key, number in zip(keys, numbers, strict=True):
        values[key] = np.array(number, dtype=np.float32)
    return values


VALUES: st.SearchStrategy[Value] = st.recursive(
    st.one_of(TENSORS, st.none(), maps()),
    lambda inner: st.lists(inner, max_size=3).map(tuple),
    max_leaves=6,
)


def same(one: Value, other: Value) -> bool:
    """Return whether two values agree in kind, type, shape and every bit, NaN included."""
    if isinstance(one, tuple) and isinstance(other, tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if one is None or other is None or isinstance(one, tuple | dict):
        return one is other
    if not isinstance(other, np.ndarray):
        return False
    first, second = np.asarray(one), np.asarray(other)
    if (first.dtype, first.shape) != (second.dtype, second.shape):
        return False
    return bool(first.tolist() == second.tolist() or first.tobytes() == second.tobytes())
