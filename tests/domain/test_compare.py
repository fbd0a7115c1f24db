"""Comparing outputs: every way in which a candidate can be wrong, and what is said about it."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import example, given

from harness.domain.compare import Comparison, compare
from harness.domain.dtypes import DType
from harness.domain.findings import Finding
from harness.domain.spec import OutputSpec, Tolerance
from harness.domain.values import Value
from tests.strategies import VALUES

CELL = "m/fp32/cpu/a"
NAN, INF = float("nan"), float("inf")


def compared(reference: Value, candidate: Value, **rule: Any) -> Comparison:
    """Compare one output `y` on cpu under a rule."""
    return compare(
        reference={"y": reference},
        candidate={"y": candidate},
        outputs={"y": OutputSpec(**rule)},
        provider="cpu",
        cell=CELL,
    )


def codes(reference: Value, candidate: Value, **rule: Any) -> list[str]:
    """Return the codes of all findings on one output."""
    return [finding.code for finding in compared(reference, candidate, **rule).findings]


def floats(*numbers: float) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return a float32 vector."""
    return np.array(numbers, dtype=np.float32)


def texts(*words: str) -> np.ndarray[Any, np.dtype[np.object_]]:
    """Return a vector of strings."""
    return np.array(words, dtype=object)


# names


def test_missing_output() -> None:
    """An output that the candidate lacks is a finding, the others are compared all the same."""
    both = {"y": floats(1), "z": floats(1)}
    got = compare(reference=both, candidate={"z": floats(2)}, outputs={}, provider="cpu", cell=CELL)
    assert got.findings[0] == Finding(
        code="parity.outputs",
        what=f"Candidate lacks output 'y' for cell '{CELL}'",
        expected="['y', 'z']",
        got="['z']",
        next_step="check the exporter; outputs are never skipped",
    )
    assert [finding.code for finding in got.findings] == ["parity.outputs", "parity.tolerance"]
    assert got.receipt.counts == {"elements_compared": 1, "outputs_compared": 1}


def test_extra_output() -> None:
    """An output that the reference lacks is never left aside."""
    got = compare(
        reference={"y": floats(1)},
        candidate={"y": floats(1), "q": floats(1)},
        outputs={},
        provider="cpu",
        cell=CELL,
    )
    assert got.findings == (
        Finding(
            code="parity.outputs",
            what=f"Candidate has output 'q' that the reference lacks for cell '{CELL}'",
            expected="['y']",
            got="['y', 'q']",
            next_step="check the exporter; outputs are never skipped",
        ),
    )


def test_no_output_in_common_leaves_an_empty_receipt() -> None:
    """Nothing compared counts nothing."""
    got = compare(reference={"y": floats(1)}, candidate={}, outputs={}, provider="cpu", cell=CELL)
    assert got.receipt.counts == {}


# kinds, counts, keys


@pytest.mark.parametrize(
    ("reference", "candidate", "said"),
    [
        (floats(1), (floats(1),), "a sequence instead of a tensor"),
        ((floats(1),), floats(1), "a tensor instead of a sequence"),
        ({1: floats(1)}, (floats(1),), "a sequence instead of a map"),
        (None, floats(1), "a tensor instead of an empty optional"),
        (floats(1), None, "an empty optional instead of a tensor"),
    ],
)
def test_other_kind(reference: Value, candidate: Value, said: str) -> None:
    """A tensor is no sequence, and an empty optional is not zero elements."""
    (finding,) = compared(reference, candidate).findings
    assert finding.code == "parity.kind"
    assert finding.what == f"Output 'y' is {said} for cell '{CELL}'"


@pytest.mark.parametrize("count", [0, 1, 3])
def test_sequence_of_another_length(count: int) -> None:
    """A shorter candidate does not pass because the walk is over the reference."""
    (finding,) = compared((floats(1), floats(1)), (floats(1),) * count).findings
    assert finding == Finding(
        code="parity.count",
        what=f"Output 'y' has {count} items instead of 2 for cell '{CELL}'",
        where="output 'y'",
        expected="2 items",
        got=f"{count} items",
    )


def test_map_with_other_keys() -> None:
    """Keys must be the same; long lists are cut."""
    (finding,) = compared({n: floats(1) for n in range(10)}, {"a": floats(1)}).findings
    assert finding == Finding(
        code="parity.count",
        what=f"Output 'y' has other keys than the reference for cell '{CELL}'",
        where="output 'y'",
        expected="[0, 1, 2, 3, 4, 5, 6, 7, ...]",
        got="['a']",
    )


def test_values_inside_are_compared_under_their_path() -> None:
    """A fault deep inside is told with the whole path."""
    reference: Value = ({"a": floats(1)}, {"a": floats(1)})
    candidate: Value = ({"a": floats(1)}, {"a": floats(9)})
    (finding,) = compared(reference, candidate).findings
    assert finding.where == "output 'y[1]['a']', worst at [0]"


def test_order_of_keys_does_not_matter() -> None:
    """A map has no order."""
    one, two = floats(1), floats(2)
    assert codes({"a": one, "b": two}, {"b": two, "a": one}) == []


def test_many_findings_of_one_output_are_shortened() -> None:
    """Three findings stand for a thousand, and the rest is counted."""
    findings = compared((floats(1),) * 9, (floats(2),) * 9).findings
    assert [finding.where for finding in findings] == [
        f"output 'y[{n}]', worst at [0]" for n in range(3)
    ]
    assert findings[-1].got.endswith("\n6 more findings of this kind in output 'y'")


# types and shapes


@pytest.mark.parametrize(
    ("reference", "candidate"),
    [
        (np.float32, np.float64),
        (np.float64, np.float32),
        (np.float32, np.float16),
        (np.int64, np.int32),
        (np.int32, np.int64),
        (np.uint8, np.int8),
        (np.float32, np.int64),
        (np.int64, np.float32),
        (np.bool_, np.uint8),
        (np.float32, ml_dtypes.bfloat16),
    ],
)
def test_wider_and_narrower_types_are_not_forgiven(reference: Any, candidate: Any) -> None:
    """The type is part of the interface."""
    assert codes(np.ones(1, reference), np.ones(1, candidate)) == ["parity.dtype"]


def test_another_type_in_full() -> None:
    """The message says who promised which type."""
    (finding,) = compared(floats(1), np.ones(1, np.float64)).findings
    assert finding == Finding(
        code="parity.dtype",
        what=f"Output 'y' is float64 instead of float32 for cell '{CELL}'",
        where="output 'y'",
        expected="float32 (the reference's)",
        got="float64; the reference gives float32",
        next_step="if the candidate's type is meant, set outputs.y.dtype in the spec",
    )


def test_promised_type() -> None:
    """A spec may promise another width, but then exactly that one."""
    wide, narrow = np.array([0.1]), np.array([0.1], np.float16)
    assert codes(wide, narrow, dtype=DType.FLOAT16) == []
    assert codes(wide, wide, dtype=DType.FLOAT16) == ["parity.dtype"]


def test_promised_type_of_another_family_is_no_excuse() -> None:
    """No promise makes integers out of floating values."""
    assert codes(floats(1), np.array([1]), dtype=DType.INT64) == ["parity.dtype"]


@pytest.mark.parametrize(
    ("reference", "candidate"),
    [((2, 3), (3,)), ((3,), (1,)), ((1,), ()), ((), (1,)), ((2, 3), (3, 2)), ((2,), (0,))],
)
def test_nothing_is_broadcast(reference: tuple[int, ...], candidate: tuple[int, ...]) -> None:
    """Equal values in another shape are a finding."""
    (finding,) = compared(np.ones(reference), np.ones(candidate)).findings
    assert finding == Finding(
        code="parity.shape",
        what=f"Output 'y' has shape {list(candidate)} instead of {list(reference)} "
        f"for cell '{CELL}'",
        where="output 'y'",
        expected=f"{list(reference)}; nothing is broadcast",
        got=str(list(candidate)),
    )


# NaN and infinity


@pytest.mark.parametrize(
    ("reference", "candidate", "required", "same_positions", "allowed"),
    [
        (1.0, NAN, True, True, True),
        (NAN, 1.0, True, True, False),
        (NAN, NAN, True, False, False),
        (INF, INF, True, False, False),
        (INF, -INF, True, True, False),
        (-INF, NAN, True, True, False),
        (1.0, INF, True, True, True),
        (1.0, 1.0, False, False, False),
    ],
)
@pytest.mark.parametrize("how", ["close", "exact", "set", "labels"])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16, np.complex64])
def test_contract_for_nan_and_infinity(
    reference: float,
    candidate: float,
    *,
    required: bool,
    same_positions: bool,
    allowed: bool,
    how: str,
    dtype: Any,
) -> None:
    """Each contract breaks where it says, however finite values are compared."""
    expected = {"required": required, "same-positions": same_positions, "allowed": allowed}
    for finite, broken in expected.items():
        found = codes(
            np.array([reference]).astype(dtype),
            np.array([candidate]).astype(dtype),
            finite=finite,
            compare=how,
        )
        assert found == (["parity.finite"] if broken else []), finite


def test_nan_in_full() -> None:
    """The message counts both sides and shows the first element."""
    (finding,) = compared(floats(1, 2, INF), floats(1, NAN, NAN), finite="same-positions").findings
    assert finding == Finding(
        code="parity.finite",
        what="2 of 3 elements of output 'y' break the contract for NaN and infinity "
        f"for cell '{CELL}'",
        where="output 'y', first at [1]",
        expected="NaN, +inf and -inf at the reference's positions only",
        got="candidate 2 NaN; reference 1 inf; at [1] c = nan, r = 2",
        next_step="find the first node that makes it, or set outputs.y.finite",
    )


def test_finite_values_beside_allowed_nan_are_still_judged() -> None:
    """A NaN does not hide its neighbour."""
    assert codes(floats(NAN, 1), floats(NAN, 9), finite="same-positions") == ["parity.tolerance"]
    assert codes(floats(NAN, 1), floats(7, 9), finite="allowed") == ["parity.tolerance"]


def test_positions_that_are_not_judged_are_not_counted() -> None:
    """A reference of NaN only leaves nothing compared, which is never a pass."""
    got = compared(floats(NAN, NAN), floats(1, 2), finite="allowed")
    assert got.receipt.counts["elements_compared"] == 0
    got = compared(floats(NAN, 1), floats(1, 1), finite="allowed")
    assert got.receipt.counts["elements_compared"] == 1


# values


def test_tolerance_in_full() -> None:
    """The message has the worst element, the rule and its source, and what would have passed."""
    reference = np.zeros((2, 3), np.float32)
    candidate = reference.copy()
    candidate[1, 2], candidate[0, 1] = 0.5, 0.25
    got = compared(reference + 1, candidate + 1)
    assert got.findings == (
        Finding(
            code="parity.tolerance",
            what="Parity failed: 2 of 6 elements (33.3 %) of output 'y' exceed tolerance "
            f"for cell '{CELL}'",
            where="output 'y', worst at [1, 2]",
            expected="abs(c - r) <= 1e-05 + 0.0001 * abs(r) (tolerance table, float32 on cpu)",
            got="c = 1.5, r = 1, difference 0.5 (allowed 0.00011, 4.55e+03 times); "
            "greatest absolute difference 0.5, relative 0.5",
            next_step="would have passed with atol = 0.5; only evidence justifies "
            "outputs.y.tolerance, with a reason",
        ),
    )
    assert got.worst == pytest.approx(0.5 / 1.1e-4)


def test_every_element_outside_is_a_hundred_percent() -> None:
    """Shares read as percentages, not as 1e+02."""
    (finding,) = compared(floats(1), floats(2)).findings
    assert finding.what == (
        f"Parity failed: 1 of 1 elements (100 %) of output 'y' exceed tolerance for cell '{CELL}'"
    )


def test_one_wrong_element_among_many() -> None:
    """No mean hides a single wrong element."""
    reference = np.zeros(100_000, np.float32)
    candidate = reference.copy()
    candidate[54_321] = 1e-3
    (finding,) = compared(reference, candidate).findings
    assert finding.where == "output 'y', worst at [54321]"


@pytest.mark.parametrize(("difference", "passes"), [(0.9, True), (1.0, True), (1.001, False)])
def test_the_limit_itself_passes(difference: float, passes: bool) -> None:  # noqa: FBT001 - table
    """A difference equal to the allowed one is inside."""
    own = {"cpu": Tolerance(atol=1.0, rtol=0.0, reason="r")}
    got = compared(np.array([0.0]), np.array([difference]), tolerance=own)
    assert (not got.findings) is passes
    assert got.worst == difference


def test_the_criterion_is_relative_to_the_reference() -> None:
    """Swapping the two sides changes the allowed difference."""
    own = {"default": Tolerance(atol=0.0, rtol=0.5, reason="r")}
    assert codes(np.array([2.0]), np.array([1.0]), tolerance=own) == []
    assert codes(np.array([1.0]), np.array([2.0]), tolerance=own) == ["parity.tolerance"]


def test_no_tolerance_at_zero() -> None:
    """With atol 0 a reference of 0 allows no difference, and the ratio is infinite."""
    own = {"default": Tolerance(atol=0.0, rtol=0.5, reason="r")}
    got = compared(np.array([0.0]), np.array([1e-30]), tolerance=own)
    assert got.worst == INF
    assert compared(np.array([0.0]), np.array([0.0]), tolerance=own).worst == 0


def test_differences_beyond_the_largest_number() -> None:
    """A difference that overflows is a finding, not a warning."""
    assert codes(np.array([1e308]), np.array([-1e308])) == ["parity.tolerance"]


def test_complex_values() -> None:
    """Real and imaginary part both count."""
    one = np.array([1 + 1j], np.complex64)
    assert codes(one, one) == []
    assert codes(one, one.conj()) == ["parity.tolerance"]


@pytest.mark.parametrize("name", ["bfloat16", "float8_e4m3fn", "float8_e5m2"])
def test_narrow_floats_are_widened(name: str) -> None:
    """Differences are taken in float64, where narrow types would lose or overflow them."""
    dtype = np.dtype(getattr(ml_dtypes, name))
    one, other = np.array([-3.0]).astype(dtype), np.array([3.0]).astype(dtype)
    got = compared(one, other)
    assert "c = 3, r = -3, difference 6 " in got.findings[0].got
    assert codes(one, one) == []


# exact, labels, set


@pytest.mark.parametrize(
    ("reference", "candidate"),
    [
        (np.array([1, 2]), np.array([1, 3])),
        (np.array([True]), np.array([False])),
        (texts("a"), texts("b")),
        (np.array([1, -8], ml_dtypes.int4), np.array([1, -7], ml_dtypes.int4)),
        (np.array([0], np.uint8), np.array([255], np.uint8)),
        (np.array([2**63], np.uint64), np.array([2**63 + 1], np.uint64)),
    ],
)
def test_integers_booleans_and_texts_are_compared_exactly(
    reference: Value, candidate: Value
) -> None:
    """A difference of one is a difference, also where float64 could not tell."""
    assert codes(reference, candidate) == ["parity.mismatch"]
    assert codes(reference, reference) == []


def test_mismatch_in_full() -> None:
    """The message says why values are compared exactly."""
    got = compared(np.array([[1], [2]], np.int32), np.array([[1], [5]], np.int32))
    assert got.findings == (
        Finding(
            code="parity.mismatch",
            what=f"1 of 2 elements of output 'y' differ for cell '{CELL}'",
            where="output 'y', first at [1, 0]",
            expected="equal elements (int32 values are compared exactly)",
            got="c = np.int32(5), r = np.int32(2)",
        ),
    )
    assert got.worst == INF


def test_labels_in_full() -> None:
    """Labels are called labels."""
    (finding,) = compared(texts("cat"), texts("dog"), compare="labels").findings
    assert finding.what == f"1 of 1 labels of output 'y' differ for cell '{CELL}'"
    assert finding.expected == "equal labels (spec, compare = 'labels')"


def test_a_cast_to_the_promised_integer_does_not_wrap() -> None:
    """300 is not 44, though its lowest byte is."""
    wide, wrapped = np.array([300]), np.array([44], np.uint8)
    assert codes(wide, wrapped, dtype=DType.UINT8) == ["parity.mismatch"]
    assert codes(np.array([-8, 7]), np.array([-8, 7], ml_dtypes.int4), dtype=DType.INT4) == []
    assert codes(np.array([200], np.uint8), np.array([-8], ml_dtypes.int4), dtype=DType.INT4) == [
        "parity.mismatch"
    ]


def test_exact_forgives_no_rounding() -> None:
    """One unit in the last place is a difference; rounding to the promised type is none."""
    one = floats(1)
    assert codes(one, np.nextafter(one, floats(2)), compare="exact") == ["parity.mismatch"]
    wide, narrow = np.array([0.1]), floats(0.1)
    assert codes(wide, narrow, compare="exact", dtype=DType.FLOAT32) == []


def test_exact_of_a_reference_beyond_the_promised_type() -> None:
    """A reference that overflows the promised type is a mismatch, not a warning."""
    found = codes(np.array([1e300]), floats(1), compare="exact", dtype=DType.FLOAT32)
    assert found == ["parity.mismatch"]


@pytest.mark.parametrize(
    ("reference", "candidate", "found"),
    [
        (np.array([3, 1, 2]), np.array([1, 2, 3]), []),
        (np.array([1, 1, 2]), np.array([1, 2, 2]), ["parity.mismatch"]),
        (np.array([[1, 2], [3, 4]]), np.array([[4, 3], [2, 1]]), []),
        (np.array([1, 2]), np.array([[1, 2]]), ["parity.shape"]),
        (texts("b", "a"), texts("a", "b"), []),
        (floats(0.5, 0.25), floats(0.25, 0.5), []),
        (floats(0.5, 0.25), floats(0.25, 0.5001), ["parity.mismatch"]),
        (
            np.array([1, 2], ml_dtypes.bfloat16),
            np.array([2, 1], ml_dtypes.bfloat16),
            [],
        ),
    ],
)
def test_set(reference: Value, candidate: Value, found: list[str]) -> None:
    """The same values in any order, each as often."""
    assert codes(reference, candidate, compare="set") == found


# receipts


@pytest.mark.parametrize("empty", [np.empty((0, 4)), (), {}, None], ids=["tensor", "", "map", "no"])
def test_empty_values_are_counted_apart(empty: Value) -> None:
    """An output that is empty on both sides counts as one value compared, no element."""
    assert compared(empty, empty).receipt.counts == {
        "empty_values_compared": 1,
        "outputs_compared": 1,
    }


def test_elements_are_counted() -> None:
    """All leaves count."""
    value: Value = (np.ones((2, 3)), {1: floats(1)})
    assert compared(value, value).receipt.counts == {"elements_compared": 7, "outputs_compared": 1}


@given(VALUES)
@example(np.array([0.0, -0.0]))
def test_a_value_agrees_with_itself(value: Value) -> None:
    """No rule finds fault with equal values, whatever they are."""
    for how in ("close", "exact", "labels", "set"):
        got = compared(value, value, compare=how, finite="same-positions")
        assert (got.findings, got.worst) == ((), 0)


@given(VALUES)
def test_everything_compared_is_counted(value: Value) -> None:
    """Each output leaves a trace in the receipt."""
    counts = compared(value, value, finite="same-positions").receipt.counts
    assert counts.get("elements_compared", 0) + counts.get("empty_values_compared", 0) > 0
