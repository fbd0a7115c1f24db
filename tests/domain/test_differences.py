"""How far outputs are from others."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from harness.domain.differences import Difference, added, all_within, differences


def of(reference: Any, candidate: Any) -> Difference:
    """Return the deviation of one output."""
    return differences({"y": reference}, {"y": candidate})["y"]


def test_maximum_and_root_mean_square() -> None:
    """Over all elements, in float64."""
    found = of(np.array([1.0, 2.0, 3.0, 4.0]), np.array([1.0, 2.0, 3.5, 3.0]))
    assert (found.maximum, found.count, found.mismatches) == (1.0, 4, 0)
    assert found.rms == pytest.approx(math.sqrt(1.25 / 4))


def test_scalars_are_tensors_of_one_element() -> None:
    """The probabilities in a sequence of maps are such."""
    assert of(np.float64(1.0), np.float64(1.5)) == Difference(maximum=0.5, squares=0.25, count=1)
    assert of(({"a": np.asarray(1.0)},), ({"a": np.asarray(2.0)},)).maximum == 1.0


def test_integers_and_texts_are_equal_or_not() -> None:
    """A label that is off by one is as wrong as any other."""
    assert of(np.array([1, 2, 3]), np.array([1, 9, 3])).mismatches == 1
    texts = np.array(["a", "b"], dtype=object)
    assert of(texts, np.array(["a", "c"], dtype=object)).mismatches == 1


def test_nan_equals_nan_alone() -> None:
    """On one side only, it is infinitely far; so is one infinity from the other."""
    nan, infinite = np.array([math.nan]), np.array([math.inf])
    assert of(nan, nan).maximum == of(infinite, infinite).maximum == 0
    assert of(nan, np.array([1.0])).maximum == math.inf
    assert of(infinite, -infinite).maximum == math.inf


def test_other_shapes_are_never_within() -> None:
    """Nothing is broadcast."""
    found = of(np.zeros((1, 2)), np.zeros((2, 2)))
    assert found == Difference(maximum=math.inf, mismatches=1)


def test_a_missing_output_or_item_is_a_mismatch() -> None:
    """What is left out is not left out here."""
    assert differences({"y": np.zeros(2)}, {})["y"].mismatches == 1
    assert of((np.zeros(1), np.zeros(1)), (np.zeros(1),)).mismatches == 1
    assert of({"a": np.zeros(1)}, {"b": np.zeros(1)}).mismatches == 2


def test_runs_are_pooled_output_by_output() -> None:
    """Maxima stay, squares and counts add up."""
    one = {"y": of(np.zeros(2), np.array([0.0, 3.0]))}
    other = {"y": of(np.zeros(2), np.array([4.0, 0.0])), "z": Difference(mismatches=1)}
    both = added(one, other)
    assert both["y"] == Difference(maximum=4.0, squares=25.0, count=4)
    assert both["y"].rms == 2.5
    assert both["z"].mismatches == 1


@pytest.mark.parametrize(
    ("found", "within"),
    [
        (Difference(maximum=1.0, squares=1.0, count=4), True),
        (Difference(maximum=1.1, squares=1.0, count=4), False),
        (Difference(maximum=1.0, squares=1.5, count=4), False),
        (Difference(maximum=0.5, squares=0.5, count=4, mismatches=1), False),
    ],
)
def test_within_asks_for_maximum_rms_and_mismatches(found: Difference, within: bool) -> None:  # noqa: FBT001 - a column of the table
    """Each of them alone is enough to be outside."""
    error = Difference(maximum=1.0, squares=1.0, count=4)
    assert all_within({"y": found}, {"y": error}) is within


def test_an_output_without_a_known_error_must_be_the_same() -> None:
    """No error was measured, so none is allowed."""
    assert all_within({"y": Difference(count=3)}, {})
    assert not all_within({"y": Difference(maximum=1e-9, squares=1e-18, count=1)}, {})
