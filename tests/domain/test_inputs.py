"""Drawn inputs: the same everywhere, in the declared range, and told apart by their hash."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.domain import inputs
from harness.domain.dtypes import DType
from harness.domain.spec import InputSpec
from harness.domain.values import Array
from harness.errors import SpecError
from tests.strategies import SHAPES

KEY = ("model", "case", "x", "0")
PINNED: dict[str, list[Any]] = {
    "float32": [0.489357590675354, -0.14358758926391602, -0.22657647728919983],
    "float64": [74.46787880762061, 42.820620497886644],
    "int64": [2, -1, -2, 0, 1, -5],
    "bool": [True, False, False, False, True, False],
    "string": ["bea344e0cfeda8e9", "6d9eebfe5418d018"],
    "choices": ["c", "b", "c", "a"],
}
NUMERIC = [dtype for dtype in DType if dtype not in {DType.STRING, DType.BOOL}]


def drawn(dtype: DType, *shape: int, key: tuple[str, ...] = KEY, **more: Any) -> Array:
    """Draw one input."""
    return inputs.draw(InputSpec(dtype=dtype, **more), shape, key=key)


def test_pinned_values() -> None:
    """These numbers never change: approved baselines rest on them."""
    assert drawn(DType.FLOAT32, 3).tolist() == PINNED["float32"]
    assert drawn(DType.FLOAT64, 2, range=(0, 100)).tolist() == PINNED["float64"]
    assert drawn(DType.INT64, 6, range=(-5, 5)).tolist() == PINNED["int64"]
    assert drawn(DType.BOOL, 6).tolist() == PINNED["bool"]
    assert drawn(DType.STRING, 2).tolist() == PINNED["string"]
    assert drawn(DType.STRING, 4, values=("a", "b", "c")).tolist() == PINNED["choices"]


def test_a_draw_depends_on_its_key_alone() -> None:
    """Another draw in between, or another order, changes nothing."""
    first = drawn(DType.FLOAT32, 5)
    other = drawn(DType.FLOAT32, 5, key=("model", "case", "x", "1"))
    assert drawn(DType.FLOAT32, 5).tobytes() == first.tobytes()
    assert other.tobytes() != first.tobytes()


def test_parts_of_a_key_are_kept_apart() -> None:
    """`a` with `bc` is not `ab` with `c`."""
    one = drawn(DType.FLOAT32, 4, key=("a", "bc"))
    assert one.tobytes() != drawn(DType.FLOAT32, 4, key=("ab", "c")).tobytes()


@pytest.mark.parametrize("dtype", DType)
def test_every_type_can_be_drawn(dtype: DType) -> None:
    """The array has the declared type and shape."""
    array = drawn(dtype, 2, 3)
    assert (array.dtype, array.shape) == (dtype.numpy, (2, 3))


@pytest.mark.parametrize("dtype", [DType.FLOAT32, DType.FLOAT16, DType.BFLOAT16, DType.FLOAT64])
def test_floats_stay_in_their_range(dtype: DType) -> None:
    """Rounding to a narrow type does not leave [low, high]."""
    array = drawn(dtype, 5000, range=(2.0, 3.0)).astype(np.float64)
    assert array.min() >= 2
    assert array.max() <= 3
    assert abs(array.mean() - 2.5) < 0.02


@pytest.mark.parametrize("dtype", [DType.INT64, DType.UINT8, DType.INT8, DType.UINT4])
def test_integers_take_every_value_of_their_range(dtype: DType) -> None:
    """The upper end is exclusive."""
    assert sorted(set(drawn(dtype, 500, range=(1, 5)).tolist())) == [1, 2, 3, 4]


def test_default_ranges() -> None:
    """Without a range floats lie around zero and integers are 0 and 1."""
    assert abs(drawn(DType.FLOAT32, 5000).astype(np.float64).mean()) < 0.05
    assert set(drawn(DType.INT32, 100).tolist()) == {0, 1}


@given(SHAPES, st.sampled_from(NUMERIC))
def test_shapes(shape: tuple[int, ...], dtype: DType) -> None:
    """Scalars and empty arrays can be drawn too."""
    assert inputs.draw(InputSpec(dtype=dtype), shape, key=KEY).shape == shape


def test_a_smaller_draw_is_the_beginning_of_a_larger_one() -> None:
    """The generator is counter based."""
    assert drawn(DType.FLOAT64, 100)[:7].tolist() == drawn(DType.FLOAT64, 7).tolist()


def test_named_dimensions_are_filled_in() -> None:
    """Numbers stay, names take the case's size."""
    spec = InputSpec(dtype=DType.FLOAT32, shape=("batch", 3, "time"))
    assert inputs.resolve_shape(spec, {"batch": 2, "time": 7}, where="w") == (2, 3, 7)


def test_a_dimension_without_a_size() -> None:
    """The message names all open dimensions and what to add."""
    spec = InputSpec(dtype=DType.FLOAT32, shape=("batch", "time"))
    with pytest.raises(SpecError) as caught:
        inputs.resolve_shape(spec, {}, where="model.toml, case 'a'")
    assert caught.value.code == "spec.inputs"
    assert str(caught.value) == (
        "Case does not fix dimension 'batch'\n"
        "  where:    model.toml, case 'a'\n"
        "  expected: a size for each of batch, time\n"
        "  next:     add batch to the case's dims"
    )


ONE = np.array([1, 2], np.int32)


@pytest.mark.parametrize(
    "other",
    [
        {"y": ONE},
        {"x": ONE.astype(np.int64)},
        {"x": ONE.reshape(1, 2)},
        {"x": np.array([1, 3], np.int32)},
        {"x": (ONE,)},
        {"x": {"a": ONE}},
        {"x": ONE, "y": ONE},
        {},
    ],
)
def test_the_hash_tells_values_apart(other: dict[str, Any]) -> None:
    """Name, type, shape, kind and bytes all enter."""
    assert inputs.hash_values(other) != inputs.hash_values({"x": ONE})


def test_the_hash_does_not_depend_on_order_or_layout() -> None:
    """Equal values have equal hashes."""
    square = np.arange(4, dtype=np.float32).reshape(2, 2)
    one = inputs.hash_values({"a": square, "b": ONE})
    assert inputs.hash_values({"b": ONE, "a": np.asfortranarray(square)}) == one


def test_texts_are_hashed_one_by_one() -> None:
    """Two texts are not one."""
    two, one = np.array(["a", "b"], object), np.array(["ab", ""], object)
    assert inputs.hash_values({"x": two}) != inputs.hash_values({"x": one})


@pytest.mark.parametrize("dtype", DType)
def test_a_state_starts_at_zero(dtype: DType) -> None:
    """Zeros of every type, empty strings for text."""
    state = inputs.zeros(dtype, (2,))
    assert isinstance(state, np.ndarray)
    assert (state.dtype, state.shape) == (dtype.numpy, (2,))
    wanted = "" if dtype is DType.STRING else np.zeros((), dtype.numpy)
    assert all(item == wanted for item in state) or dtype is DType.FLOAT8E8M0
