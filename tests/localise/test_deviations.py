"""How far values are apart, and which error stands out."""

from __future__ import annotations

import math

import numpy as np
import pytest

from harness.domain.values import Value
from harness.localise.deviations import (
    NONE,
    Deviation,
    Introduced,
    deviation,
    first_nan,
    first_origin,
    has_nan,
)
from harness.localise.graph import Block
from tests.localise.test_graph import node

EPSILON = float(np.finfo(np.float32).eps)


def floats(*values: float) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Return float32 values."""
    return np.array(values, dtype=np.float32)


def test_difference_is_relative_to_the_tensor() -> None:
    """A small element beside a large one is no reason for alarm."""
    found = deviation(reference=floats(100, 0.001), candidate=floats(100, 0.002))
    assert found.relative == pytest.approx(1e-5, rel=1e-3)
    assert found.absolute == pytest.approx(1e-3, rel=1e-3)
    assert found.ulps == pytest.approx(1e-5 / EPSILON, rel=1e-3)
    assert found.notable_alone


def test_rounding_is_not_notable() -> None:
    """A few units in the last place come from another order of summation."""
    found = deviation(reference=floats(1, 0.5), candidate=floats(1 + 4 * EPSILON, 0.5))
    assert 0 < found.ulps < 16
    assert not found.notable_alone


@pytest.mark.parametrize(
    ("reference", "candidate"),
    [
        (floats(1), floats(1, 2)),
        (floats(1), (floats(1),)),
        (floats(1), None),
        (np.array([1, 2]), np.array([1, 3])),
        (floats(1), floats(math.nan)),
        (floats(1), floats(math.inf)),
    ],
)
def test_what_rounding_cannot_explain_is_infinite(reference: Value, candidate: Value) -> None:
    """Other shapes, kinds, whole numbers, and values that are not finite."""
    assert math.isinf(deviation(reference=reference, candidate=candidate).ulps)


@pytest.mark.parametrize(
    "value",
    [
        floats(math.nan, 1),
        floats(-math.inf, 1),
        floats(),
        np.array([True]),
        np.array(["a"], dtype=object),
        (floats(1), floats(2)),
        None,
        np.array([1 + 2j], dtype=np.complex64),
    ],
)
def test_a_value_does_not_deviate_from_itself(value: Value) -> None:
    """Nor does a NaN at the same place, nor an empty tensor."""
    assert deviation(reference=value, candidate=value) == NONE


def test_bfloat16_has_its_own_units() -> None:
    """One unit in the last place of bfloat16 is 1/128."""
    import ml_dtypes

    one = np.array([1.0], dtype=ml_dtypes.bfloat16)
    more = np.array([1.0078125], dtype=ml_dtypes.bfloat16)
    assert deviation(reference=one, candidate=more).ulps == pytest.approx(1, rel=0.01)


def test_nan_is_seen_in_floating_tensors_only() -> None:
    """Text and whole numbers have none."""
    assert has_nan((floats(1), floats(math.nan)))
    assert not has_nan(np.array(["nan"], dtype=object))


def introduced(*ulps: float, ops: str = "") -> list[Introduced]:
    """Return blocks that introduce so many units; `ops` gives each a letter as operator."""
    return [
        Introduced(
            block=Block(
                nodes=(node(index, "x", "y", op=ops[index] if ops else "A"),),
                inputs=("x",),
                outputs=("y",),
            ),
            error=Deviation(relative=each * EPSILON, absolute=0, ulps=each),
        )
        for index, each in enumerate(ulps)
    ]


@pytest.mark.parametrize(
    ("ulps", "ops", "first", "alone"),
    [
        ((1, 2, 900, 1, 700), "ABCAB", 2, True),  # the first of two
        ((30, 2, 9000), "ABC", 2, True),  # the first explains nothing: below 1/20 of the greatest
        ((1, 2, 3), "AAA", None, False),  # rounding everywhere
        ((500, 510, 520, 490, 9000), "AAAAA", 4, True),  # coarse arithmetic everywhere, one wrong
        ((500, 510, 520, 490), "AAAA", 0, False),  # the operator itself
        ((500, 510), "AA", 0, True),  # too few of a kind for a median
        ((2, math.inf, 900), "AAA", 1, True),  # a NaN beats everything
        ((), "", None, False),
    ],
)
def test_which_error_stands_out(
    ulps: tuple[float, ...],
    ops: str,
    first: int | None,
    alone: bool,  # noqa: FBT001 - a value of the table above
) -> None:
    """The rule at the top of the module, case by case."""
    found, single = first_origin(introduced(*ulps, ops=ops))
    assert (found.block.last.index if found else None, single) == (first, alone)


def test_first_nan_needs_clean_inputs() -> None:
    """A block that hands a NaN on did not make it."""
    blocks = introduced(0, 0)
    assert first_nan(blocks) is None
    made = Introduced(block=blocks[1].block, error=NONE, makes_nan=True)
    assert first_nan([blocks[0], made]) is made
