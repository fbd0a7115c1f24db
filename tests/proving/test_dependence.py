"""How much outputs move."""

from __future__ import annotations

import numpy as np
import pytest

from harness.domain.values import Array, Values
from harness.proving.dependence import moved, spread


def runs(*values: Array) -> list[Values]:
    """Return one run for each value of y."""
    return [{"y": value} for value in values]


def test_a_constant_has_no_spread() -> None:
    """Whatever its size."""
    assert spread(runs(*[np.full(3, 7.0)] * 4)) == 0.0
    assert spread(runs(*[np.zeros(3)] * 4)) == 0.0


def test_the_spread_is_a_share_of_the_size() -> None:
    """Root mean square of the deviations from the mean of each element / that of the values."""
    found = spread(runs(np.array([9.0, 1.0]), np.array([11.0, 1.0])))
    assert found == pytest.approx(np.sqrt(2 / 4) / np.sqrt((81 + 121 + 2) / 4))


def test_one_lively_output_is_enough() -> None:
    """A constant output beside it does no harm."""
    lively = [{"y": np.array([float(n)]), "z": np.array([1.0])} for n in range(3)]
    assert spread(lively) == pytest.approx(np.sqrt(2 / 5))


def test_shapes_that_change_cannot_be_compared() -> None:
    """Then nothing is claimed."""
    assert spread(runs(np.zeros(2), np.zeros(3))) is None


def test_what_moves_is_a_share_at_most_one() -> None:
    """NaN and another shape count as moved altogether."""
    before = runs(np.array([3.0, 4.0]))
    assert moved(before, runs(np.array([3.0, 4.0]))) == 0.0
    assert moved(before, runs(np.array([3.3, 4.4]))) == pytest.approx(0.1)
    for other in (np.array([np.nan, 4.0]), np.zeros(3), np.array([900.0, 4.0])):
        assert moved(before, runs(other)) == 1.0
