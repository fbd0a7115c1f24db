"""What is said of an output beyond its bound."""

from __future__ import annotations

import numpy as np
import pytest

from harness.domain.bounds import Rule, ScaledError, Standing
from harness.domain.dtypes import DType
from harness.domain.excess import excess_finding, what_excuses, worst_element

OWN = ScaledError(count=10, rms=1e-7, largest=2e-7)


@pytest.mark.parametrize(
    ("candidate", "exact", "place"),
    [
        (({"y": np.array([[1.0, 2.5]])},), ({"y": np.array([[1.0, 2.0]])},), "[0, 1]"),
        (
            ({"y": np.array([1.0])}, {"y": np.array([9.0])}),
            ({"y": np.array([1.0])}, {"y": np.array([2.0])}),
            "[0], step 1",
        ),
        (
            ({"y": ({"a": np.array(1.0), "b": np.array(7.0)},)},),
            ({"y": ({"a": np.array(1.0), "b": np.array(2.0)},)},),
            "[0]['b'][]",
        ),
        (
            ({"y": np.array([np.nan, 3.0, np.inf])},),
            ({"y": np.array([1.0, 2.0, 1.0])},),
            "[1]",
        ),
    ],
    ids=["array", "steps", "maps", "not-finite"],
)
def test_the_worst_element_is_found(
    candidate: tuple[dict[str, object], ...], exact: tuple[dict[str, object], ...], place: str
) -> None:
    """In arrays, steps and nested values alike."""
    assert worst_element(candidate, exact, "y").place == place  # type: ignore[arg-type]


def test_the_whole_message() -> None:
    """It tells what was allowed, why, what was found, and what would have passed."""
    rule = Rule(dtype=DType.FLOAT32, factor=4, floor=5e-7, source="bound table, float32 on cpu")
    standing = Standing(
        found=ScaledError(count=10, rms=9e-4, largest=18e-4),
        limit=ScaledError(count=10, rms=9e-7, largest=13e-7),
        basis="10 elements of this case",
    )
    worst = worst_element(({"y": np.array([1.5])},), ({"y": np.array([1.0])},), "y")
    found = excess_finding(
        cell="m/fp32/cpu/one", output="y", rule=rule, standing=standing, worst=worst, hint="hint"
    )
    assert found.what == (
        "Parity failed: output 'y' is further from float64 than its float32 reference explains "
        "for cell 'm/fp32/cpu/one'"
    )
    assert found.where == "output 'y', worst at [0]"
    assert found.expected == (
        "RMS error <= 9e-07 and largest <= 1.3e-06 of the output's scale: 4 x the float32 "
        "reference's + 5e-07 (bound table, float32 on cpu; 10 elements of this case)"
    )
    assert found.got == (
        "RMS 0.0009 (1e+03 times), largest 0.0018 (1.38e+03 times); c = 1.5, r = 1 in float64, "
        "difference 0.5"
    )
    assert found.next_step == "would have passed with atol = 0.5; hint"


def test_an_error_of_a_coarser_type_is_recognised() -> None:
    """What half precision would do is told as such."""
    half = {DType.FLOAT16: ScaledError(count=10, rms=2e-4, largest=3e-4)}
    found = ScaledError(count=10, rms=1.4e-4, largest=2e-4)
    assert what_excuses(found, OWN, half) == (
        "its size is that of float16 (0.7 x the reference's error there): something computes so, "
        "or is wrong by as much; only a build that is meant to declares "
        'dtype = "float16", with the reason'
    )


def test_a_smaller_error_is_not_that_of_a_coarser_type() -> None:
    """Half precision would have made a larger one."""
    half = {DType.FLOAT16: ScaledError(count=10, rms=2e-4, largest=3e-4)}
    found = ScaledError(count=10, rms=2e-5, largest=2e-5)
    assert what_excuses(found, OWN, half).startswith("nothing suggests that it is deserved: 200 x")


@pytest.mark.parametrize(
    ("own", "why"),
    [
        (OWN, "nothing suggests that it is deserved: 1e+06 x the reference's own error"),
        (
            ScaledError(count=1, rms=0.0, largest=0.0),
            "nothing suggests that it is deserved: the reference has no error",
        ),
    ],
)
def test_an_error_that_nothing_excuses(own: ScaledError, why: str) -> None:
    """Larger than half precision would make it."""
    half = {DType.FLOAT16: ScaledError(count=10, rms=2e-4, largest=3e-4)}
    assert what_excuses(ScaledError(count=10, rms=0.1, largest=0.1), own, half) == why
