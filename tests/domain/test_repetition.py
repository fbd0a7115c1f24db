"""Two runs on the same inputs: the same to the last bit, or how they differ."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given

from harness.domain.dtypes import DType
from harness.domain.repetition import difference
from harness.domain.values import Value
from tests.strategies import VALUES

ONE = np.array([1.0, 2.0, np.nan], np.float32)


@given(VALUES)
def test_everything_equals_itself(value: Value) -> None:
    """NaN included."""
    assert difference({"y": value}, {"y": value}) == ""


@pytest.mark.parametrize(
    ("one", "other", "said"),
    [
        (
            np.array([1.0, 2.0], np.float32),
            np.array([1.0, 2.5], np.float32),
            "output 'y' in 1 of 2 elements by up to 0.5",
        ),
        (
            ONE,
            np.array([np.nan, 2.0, np.nan], np.float32),
            "output 'y' in 1 of 3 elements by up to nan",
        ),
        (np.array([1, 2]), np.array([1, 4]), "output 'y' in 1 of 2 elements by up to 2"),
        (np.array([True]), np.array([False]), "output 'y' in 1 of 1 elements"),
        (
            np.array(["a"], dtype=object),
            np.array(["b"], dtype=object),
            "output 'y' in 1 of 1 elements",
        ),
        (np.zeros(2), np.zeros(3), "output 'y' as float64 [2] and then float64 [3]"),
        (np.zeros(2), np.zeros(2, int), "output 'y' as float64 [2] and then int64 [2]"),
        ((np.zeros(1),), (), "output 'y' in its structure"),
        ((np.zeros(1),), (np.ones(1),), "output 'y[0]' in 1 of 1 elements by up to 1"),
        (
            np.array([1], DType.BFLOAT16.numpy),
            np.array([2], DType.BFLOAT16.numpy),
            "output 'y' in 1 of 1 elements by up to 1",
        ),
    ],
)
def test_what_differs_is_told(one: Value, other: Value, said: str) -> None:
    """Where, how often, and by how much where that can be said."""
    assert difference({"y": one}, {"y": other}) == said


def test_other_outputs() -> None:
    """Names come first."""
    assert difference({"a": ONE}, {"b": ONE}) == "outputs ['a'] and then ['b']"


def test_zeros_of_both_signs_are_equal() -> None:
    """They compare equal everywhere else too."""
    assert difference({"y": np.array([0.0])}, {"y": np.array([-0.0])}) == ""
