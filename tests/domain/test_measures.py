"""Measures of whole outputs: their values, their limits, and what they are judged on."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from harness.domain import measures
from harness.domain.dtypes import DType
from harness.domain.findings import Finding
from harness.domain.measures import judge_measures
from harness.domain.spec import Divergence, Measures, TopK
from harness.domain.values import Array

R = np.array([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]])


R32: Array = R.astype(np.float32)


def judged(wanted: Measures, candidate: Array, reference: Array = R32) -> list[Finding]:
    """Return what missing measures give."""
    return list(judge_measures(wanted, "y", "m/c", reference=reference, candidate=candidate))


@pytest.mark.parametrize(
    ("one", "other", "value"),
    [
        ([1.0, 0.0], [2.0, 0.0], 1.0),
        ([1.0, 0.0], [0.0, 3.0], 0.0),
        ([1.0, 1.0], [-1.0, -1.0], -1.0),
        ([0.0, 0.0], [0.0, 0.0], 1.0),
        ([0.0, 0.0], [1.0, 0.0], 0.0),
    ],
)
def test_cosine(one: list[float], other: list[float], value: float) -> None:
    """Length does not matter; nothing agrees with nothing alone."""
    assert measures.cosine(np.array(one), np.array(other)) == pytest.approx(value)


@pytest.mark.parametrize(
    ("one", "other", "value"),
    [
        ([10.0], [9.0], 20.0),
        ([1.0], [1.0], np.inf),
        ([0.0], [1.0], -np.inf),
        ([3.0, 4.0], [3.0, 4.5], 20.0),
    ],
)
def test_signal_to_noise(one: list[float], other: list[float], value: float) -> None:
    """A tenth of the signal as noise is 20 dB."""
    assert measures.snr_db(np.array(one), np.array(other)) == pytest.approx(value)


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_ulp_distance_counts_representable_values(kind: type) -> None:
    """Across zero, between the smallest numbers, and up to the greatest."""
    one: Array = np.array([1.0], kind)
    zero: Array = np.array([0.0], kind)
    below_zero: Array = np.array([-0.0], kind)
    above = np.nextafter(one, np.array([2.0], kind))
    tiny = np.finfo(kind).smallest_subnormal
    assert measures.ulp_distance(one, above) == 1
    assert measures.ulp_distance(zero, below_zero) == 0
    assert measures.ulp_distance(np.array([-tiny], kind), np.array([tiny], kind)) == 2
    most = np.finfo(kind).max
    span = measures.ulp_distance(np.array([-most], kind), np.array([most], kind))
    assert span == 2 * measures.ulp_distance(zero, np.array([most], kind))


def test_ulp_distance_of_types_that_numpy_lacks() -> None:
    """bfloat16 has neighbours too."""
    bfloat16 = DType.BFLOAT16.numpy
    values = np.array([1.0, 1.0 + 2**-7], bfloat16)
    assert measures.ulp_distance(values[:1], values[1:]) == 1


@given(
    st_numpy.arrays(
        np.float32, 4, elements=st.floats(width=32, allow_nan=False, allow_infinity=False)
    )
)
def test_ulp_distance_is_symmetric(values: Array) -> None:
    """And zero to itself."""
    other = values[::-1].copy()
    assert measures.ulp_distance(values, values) == 0
    assert measures.ulp_distance(values, other) == measures.ulp_distance(other, values)


@pytest.mark.parametrize(
    ("candidate", "k", "share"),
    [
        ([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]], 1, 1.0),
        ([[3.0, 2.0, 1.0], [3.0, 2.0, 1.0]], 1, 0.5),
        ([[1.0, 3.0, 2.0], [2.0, 3.0, 1.0]], 2, 1.0),
        ([[3.0, 1.0, 2.0], [1.0, 2.0, 3.0]], 2, 0.0),
        ([[3.0, 1.0, 2.0], [1.0, 2.0, 3.0]], 3, 1.0),
    ],
)
def test_top_k(candidate: list[list[float]], k: int, share: float) -> None:
    """The set of first places counts, not their order."""
    assert measures.top_k_agreement(R, np.array(candidate), k) == share


def test_ties_at_the_last_place_agree() -> None:
    """Either of two equal values may take it."""
    tied = np.array([[1.0, 1.0, 0.0]])
    assert measures.top_k_agreement(tied, np.array([[0.9, 1.0, 0.0]]), 1) == 1.0
    assert measures.top_k_agreement(tied, np.array([[0.0, 0.9, 1.0]]), 1) == 0.0


@pytest.mark.parametrize(
    ("one", "other", "logits", "value"),
    [
        ([0.5, 0.5], [0.5, 0.5], False, 0.0),
        ([1.0, 0.0], [0.5, 0.5], False, np.log(2)),
        ([2.0, 2.0], [1.0, 3.0], False, 0.5 * np.log(2) + 0.5 * np.log(2 / 3)),
        ([0.5, 0.5], [1.0, 0.0], False, np.inf),
        ([1000.0, 1000.0], [0.0, 0.0], True, 0.0),
        ([0.0, np.log(3)], [0.0, 0.0], True, 0.25 * np.log(0.5) + 0.75 * np.log(1.5)),
    ],
)
def test_kl_divergence(
    one: list[float],
    other: list[float],
    logits: bool,  # noqa: FBT001 - a table
    value: float,
) -> None:
    """In nats, the worst row counts."""
    rows = np.array([[0.5, 0.5], one]), np.array([[0.5, 0.5], other])
    assert measures.kl_divergence(*rows, logits=logits) == pytest.approx(value)


NEAR = (R + [[0.0, 0.0, 0.1]]).astype(np.float32)  # noqa: RUF005 - numbers are added
SWAPPED = R[:, ::-1].astype(np.float32)
ONE_SWAPPED = R32[[0, 0]]


@pytest.mark.parametrize(
    ("kept", "missed", "candidate", "got"),
    [
        (Measures(cosine=0.99), Measures(cosine=0.9999), NEAR, "cosine 0.999752"),
        (Measures(snr_db=30), Measures(snr_db=32), NEAR, "SNR in dB 31.4613"),
        (Measures(ulp=900000), Measures(ulp=1000), NEAR, "ULP distance in float32 838861"),
        (
            Measures(top_k=TopK(k=1, agreement=0.5)),
            Measures(top_k=TopK(k=1)),
            ONE_SWAPPED,
            "top-1 agreement 0.5",
        ),
        (
            Measures(kl=Divergence(maximum=0.1)),
            Measures(kl=Divergence(maximum=1e-9, logits=True)),
            NEAR,
            "KL divergence in nats 0.00110091",
        ),
    ],
    ids=["cosine", "snr", "ulp", "top-k", "kl"],
)
def test_each_limit_can_be_kept_and_missed(
    kept: Measures, missed: Measures, candidate: Array, got: str
) -> None:
    """The finding names the measure, its limit and the figure."""
    assert judged(kept, candidate) == []
    (finding,) = judged(missed, candidate)
    assert finding.code == "parity.measure"
    assert finding.got == got
    assert finding.expected.endswith("(spec, outputs.y.measures)")


def test_all_missed_measures_are_told() -> None:
    """One finding each."""
    wanted = Measures(cosine=0.99999, snr_db=90, ulp=1, top_k=TopK(k=1), kl=Divergence(maximum=0))
    assert len(judged(wanted, SWAPPED)) == 5


@pytest.mark.parametrize("k", [3, 4, 100])
def test_as_many_places_as_there_are_judge_nothing(k: int) -> None:
    """Any two rows agree about all places, so the measure is a fault instead of kept."""
    (finding,) = judged(Measures(top_k=TopK(k=k), cosine=0.1), SWAPPED)
    assert finding.code == "parity.measure"
    assert finding.what == (
        f"Measure top_k of output 'y' judges nothing: its rows have 3 values, k is {k} for "
        "cell 'm/c'"
    )
    assert (finding.expected, finding.got) == (
        "k below 3 (spec, outputs.y.measures.top_k)",
        f"k = {k}",
    )


def test_what_is_not_finite_counts_as_zero() -> None:
    """The rest is still judged."""
    candidate = R.astype(np.float32)
    candidate[0, 0] = np.nan
    assert judged(Measures(snr_db=90, ulp=0), candidate) == []
    candidate[1, 1] = 9
    assert len(judged(Measures(snr_db=90, ulp=0), candidate)) == 2


def test_complex_numbers_are_pairs() -> None:
    """A turned phase shows."""
    values = np.array([1 + 1j, 2.0], np.complex64)
    turned = (values * 1j).astype(np.complex64)
    assert judged(Measures(cosine=0.999), values, values) == []
    assert len(judged(Measures(cosine=0.999), turned, values)) == 1


def test_a_single_value() -> None:
    """Scalars are judged like rows of one."""
    one = np.array(1.0, np.float32)
    assert judged(Measures(ulp=0, snr_db=10), one, one) == []
    (finding,) = judged(Measures(top_k=TopK(k=1)), one, one)
    assert "its rows have 1 value, k is 1" in finding.what


def test_measures_of_whole_numbers_are_a_fault() -> None:
    """They are never skipped in silence."""
    (finding,) = judged(Measures(cosine=0.5), np.array([1, 2]), np.array([1, 2]))
    assert (finding.code, finding.got) == ("parity.measure", "int64")
