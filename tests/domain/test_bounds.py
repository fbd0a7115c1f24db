"""The bound from evidence: rules, errors, pools, and when they are exceeded."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.domain import bounds
from harness.domain.bounds import EPSILON, FloatArray, Rule, ScaledError, Standing
from harness.domain.dtypes import DType
from harness.domain.values import Values

EXACT = np.array([3.0, -4.0, 0.0, 5.0])
ONES = np.ones(4)
RULE = Rule(dtype=DType.FLOAT32, factor=4.0, floor=0.5, source="test")


def error(rms: float, largest: float, count: int = 10) -> ScaledError:
    """Return an error."""
    return ScaledError(count=count, rms=rms, largest=largest)


def test_errors_are_in_units_of_the_scale() -> None:
    """The same relative error gives the same figures at every scale."""
    error = np.array([0.03, 0.0, 0.0, -0.04])
    for scale in (1.0, 1e-30, 1e200):
        found = bounds.measure(
            exact=EXACT * scale,
            reference=EXACT * scale,
            candidate=(EXACT + error) * scale,
            unit=ONES,
        )
        assert found is not None
        assert found.reference == ScaledError(count=4, rms=0.0, largest=0.0, scale=5 * scale)
        assert found.candidate.rms == pytest.approx(0.05 / np.sqrt(50))
        assert found.candidate.largest == pytest.approx(0.04 / 5)


def test_an_output_of_zeros_has_no_scale() -> None:
    """Its errors count as they are."""
    zeros = np.zeros(4)
    found = bounds.measure(exact=zeros, reference=zeros, candidate=zeros + 1e-3, unit=zeros + 1)
    assert found is not None
    assert found.candidate == ScaledError(count=4, rms=1e-3, largest=1e-3)


def test_what_is_not_finite_is_left_out() -> None:
    """NaN and infinity have a contract of their own."""
    broken = np.array([np.nan, -4.0, np.inf, 5.0])
    found = bounds.measure(exact=EXACT, reference=EXACT, candidate=broken, unit=ONES)
    assert found is not None
    assert (found.candidate.count, found.candidate.rms) == (2, 0.0)
    nothing = np.full(4, np.nan)
    assert bounds.measure(exact=EXACT, reference=nothing, candidate=EXACT, unit=ONES) is None


def units(array: FloatArray) -> FloatArray:
    """Return the units of an output's elements, in its shape."""
    return bounds.units([{"y": array}], "y").reshape(array.shape)


def test_columns_of_other_units_have_a_scale_each() -> None:
    """A time stamp does not hide the speed beside it."""
    rows = np.random.default_rng(0).uniform(0.5, 1.0, size=(16, 2))
    rows[:, 0] *= 1.7e5
    found = units(rows)
    assert (found[:, 0] == 1.0).all()
    np.testing.assert_allclose(found[:, 1], rows[:, 1].max() / rows[:, 0].max())
    wrong = rows.copy()
    wrong[:, 1] *= 1.001
    row, flat = found.reshape(-1), rows.reshape(-1)
    measured = bounds.measure(exact=flat, reference=flat, candidate=wrong.reshape(-1), unit=row)
    assert measured is not None
    assert measured.candidate.largest == pytest.approx(1e-3)


@pytest.mark.parametrize(
    "array",
    [
        np.array([1e6, 1.0]),
        np.array([[1e6, 1.0]] * 15),
        np.random.default_rng(0).normal(size=(64, 10)),
        np.zeros((32, 4)),
        np.zeros((0, 4)),
        np.array(3.0),
    ],
    ids=["one row", "few rows", "one scale", "zeros", "empty", "scalar"],
)
def test_one_scale_is_enough(array: FloatArray) -> None:
    """Few elements tell no scale, and columns of one kind need no other."""
    assert (units(array) == 1.0).all()


def test_what_vanishes_keeps_a_share_of_the_scale() -> None:
    """Below it, correct programs may flush to zero or not; a column of zeros has no scale."""
    columns = np.tile([1.0, 1e-30, 0.0], (16, 1))
    assert (units(columns) == [1.0, bounds.LEAST_SHARE, 1.0]).all()


def test_units_go_along_the_axis_whose_scales_differ_most() -> None:
    """Boxes and scores stand along the middle axis of a detector's output."""
    output = np.random.default_rng(0).uniform(0.5, 1.0, size=(1, 6, 50))
    output[:, :4] *= 640
    found = units(output)
    assert (found[:, :4] > 0.5).all()
    assert (found[:, 4:] < 0.01).all()


def test_few_elements_count_in_the_scale_of_their_pool() -> None:
    """A single result that is tiny by cancellation is no scale for its error."""
    pool = ScaledError(count=1000, rms=1e-7, largest=1e-7, scale=2.0)
    tiny = ScaledError(count=1, rms=1.0, largest=1.0, scale=6e-8)
    found = tiny.beside(pool)
    assert (found.rms, found.largest, found.scale) == (3e-8, 3e-8, 2.0)
    many = ScaledError(count=bounds.LEAST_ELEMENTS, rms=1.0, largest=1.0, scale=6e-8)
    assert many.beside(pool) is many
    large = ScaledError(count=1, rms=1.0, largest=1.0, scale=3.0)
    assert large.beside(pool) is large


@pytest.mark.parametrize(
    ("dtype", "rms", "keeps"),
    [
        (DType.FLOAT32, 3e-4, True),
        (DType.FLOAT32, 4e-4, False),
        (DType.FLOAT16, 0.03, True),
        (DType.FLOAT16, 0.04, False),
    ],
)
def test_half_of_the_digits_must_be_left(dtype: DType, rms: float, *, keeps: bool) -> None:
    """The square root of the type's epsilon is where half of them are gone."""
    assert bounds.has_digits(error(rms, rms), dtype) is keeps


def test_nested_outputs_are_flattened_in_order() -> None:
    """Steps, sequences and maps add up to one row of elements."""
    steps: tuple[Values, ...] = (
        {"y": ({"a": np.array([1.0], np.float32), "b": np.array([2.0], np.float32)},)},
        {"y": (np.array([[3.0], [4.0]], np.float32),)},
    )
    assert bounds.flattened(steps, "y").tolist() == [1.0, 2.0, 3.0, 4.0]
    assert bounds.flattened(({"y": None},), "y").size == 0


def test_rules_of_types_and_providers() -> None:
    """TF32 has the mantissa of float16; a reference that is only rounded gets a wider floor."""
    own = bounds.rule_for(DType.FLOAT32, "cpu@ort-1.31")
    assert own is not None
    assert own.floor == 4 * EPSILON[DType.FLOAT32]
    cuda = bounds.rule_for(DType.FLOAT32, "cuda")
    assert cuda is not None
    assert cuda.floor == 4 * EPSILON[DType.FLOAT16]
    lone = bounds.rule_for(DType.FLOAT32, "cpu", lone=True)
    assert lone is not None
    assert lone.floor == 32 * EPSILON[DType.FLOAT32]
    assert bounds.rule_for(DType.INT8, "cpu") is None


@pytest.mark.parametrize("dtype", bounds.FACTORS)
def test_epsilon_is_the_distance_to_the_next_number(dtype: DType) -> None:
    """The table agrees with the types."""
    one = np.array(1, dtype=dtype.numpy)
    half = np.array(1 + EPSILON[dtype] / 4, dtype=dtype.numpy)
    after = np.array(1 + EPSILON[dtype], dtype=dtype.numpy)
    assert one == half < after


def test_a_multiple_applies_to_the_factor_alone() -> None:
    """The floor stays."""
    limit = bounds.allowed(error(1.0, 2.0), RULE, multiple=2)
    assert (limit.rms, limit.largest) == (8.5, 16.5)


@pytest.mark.parametrize(
    ("found", "share"),
    [
        (error(1.0, 2.0), 0.5),
        (error(4.0, 2.0), 2.0),
        (error(1.0, 12.0), 3.0),
        (error(0.0, 0.0), 0.0),
    ],
)
def test_the_worse_of_both_kinds_counts(found: ScaledError, share: float) -> None:
    """One element far off is as bad as all of them a little."""
    assert Standing(found=found, limit=error(2.0, 4.0), basis="").share == share


def test_nothing_allowed() -> None:
    """Without reference error and floor every error is beyond."""
    none = error(0.0, 0.0)
    assert Standing(found=error(1e-9, 0.0), limit=none, basis="").share == np.inf
    assert Standing(found=none, limit=none, basis="").share == 0.0


CASES = st.lists(
    st.tuples(st.integers(1, 50), *(st.floats(0, 10, allow_subnormal=False) for _ in range(3))),
    min_size=1,
    max_size=6,
)


@given(CASES)
def test_a_pool_keeps_the_bound_if_every_case_does(cases: list[tuple[int, ...]]) -> None:
    """So a case within the bound by itself needs no pool."""
    references = [error(rms, largest, count) for count, rms, largest, _ in cases]
    candidates = [
        error(share / 10 * limit.rms, share / 10 * limit.largest, each.count)
        for (*_, share), each in zip(cases, references, strict=True)
        for limit in (bounds.allowed(each, RULE),)
    ]
    together = Standing(
        found=bounds.pooled(candidates),
        limit=bounds.allowed(bounds.pooled(references), RULE),
        basis="",
    )
    assert together.share <= 1 + 1e-12


def test_pools_weigh_by_elements() -> None:
    """A thousand elements count more than ten."""
    found = bounds.pooled([error(1.0, 3.0, 990), error(2.0, 5.0, 10)])
    assert found.count == 1000
    assert found.rms == pytest.approx(np.sqrt(1.03))
    assert found.largest == 5.0
    assert bounds.pooled([]) == error(0.0, 0.0, 0)
    assert bounds.larger(error(1, 4, 3), error(2, 3, 9)) == error(2, 4, 9)
