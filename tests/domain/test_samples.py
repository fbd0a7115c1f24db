"""Samples of large recorded tensors: what they hold, what they catch, what they cannot see."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.domain import samples
from harness.domain.compare import Comparison, compare
from harness.domain.dtypes import DType
from harness.domain.encoding import encode_all
from harness.domain.samples import COUNT, draw_positions, hash_tensor, sample
from harness.domain.spec import Measures, OutputSpec
from harness.domain.values import Array, SampledTensor, Value
from tests.strategies import array

KEY = ("model", "case", "y", "0")
SHAPE = (40, 50)
WHOLE = np.linspace(1, 2, 2000, dtype=np.float32).reshape(SHAPE)
SAMPLE = sample(WHOLE, KEY)
KEPT = int(SAMPLE.positions[-1])
LEFT_OUT = int(np.setdiff1d(np.arange(2000), SAMPLE.positions)[0])


def compared(candidate: Value, reference: Value = SAMPLE, **rule: object) -> Comparison:
    """Compare a candidate with a sample."""
    outputs = {"y": OutputSpec(**rule)}  # type: ignore[arg-type]  # a table of keywords
    return compare(
        reference={"y": reference},
        candidate={"y": candidate},
        outputs=outputs,
        provider="cpu",
        cell="m/fp32/cpu/c",
    )


def changed(position: int, value: float) -> Array:
    """Return the whole tensor with another value in one place."""
    other = WHOLE.copy()
    other.reshape(-1)[position] = value
    return other


def codes(comparison: Comparison) -> list[str]:
    """Return the codes of all findings."""
    return [finding.code for finding in comparison.findings]


@given(st.integers(COUNT, 10**12), st.text(max_size=5))
def test_one_position_from_each_stretch(size: int, case: str) -> None:
    """They rise, and no gap is longer than two stretches."""
    positions = draw_positions(size, ("m", case, "y", "0"))
    assert positions.shape == (COUNT,)
    gaps = np.diff(positions, prepend=-1, append=size)
    assert gaps.min() >= 1
    assert gaps.max() <= 2 * -(-size // COUNT)


def test_positions_depend_on_the_key_only() -> None:
    """The same on every machine: these were drawn once and written down."""
    positions = draw_positions(10**7, KEY)
    assert positions[:4].tolist() == [7029, 18318, 23093, 32475]
    assert (draw_positions(10**7, KEY) == positions).all()
    for other in (("n", *KEY[1:]), (*KEY[:3], "1")):
        assert (draw_positions(10**7, other) != positions).any()


@pytest.mark.parametrize("dtype", DType)
def test_every_type_can_be_sampled(dtype: DType) -> None:
    """Elements keep their type, and an identical tensor passes by hash and by comparison."""
    whole = array(dtype, SHAPE)
    held = sample(whole, KEY)
    assert held.elements.dtype == whole.dtype
    assert held.sha256 == hash_tensor(whole.copy())
    has_zero = dtype is not DType.FLOAT8E8M0  # there it becomes NaN
    for finite in ("required", "same-positions", "allowed")[not has_zero :]:
        assert codes(compared(whole, held, finite=finite)) == []


def test_the_hash_covers_type_shape_and_data() -> None:
    """Each of the three gives another one."""
    others = (WHOLE.reshape(50, 40), WHOLE.astype(np.float64), changed(0, 3), WHOLE.view(np.int32))
    assert len({hash_tensor(each) for each in (WHOLE, *others)}) == 5


def test_what_is_counted_is_the_sample() -> None:
    """One output, 1,000 elements: never the whole tensor."""
    comparison = compared(WHOLE)
    assert comparison.findings == ()
    assert comparison.receipt.counts == {"elements_compared": 1000, "outputs_compared": 1}


def test_the_receipt_says_of_how_many_and_whether_the_hash_is_the_same() -> None:
    """Both hashes are told."""
    told = samples.facts(reference={"y": SAMPLE, "z": WHOLE}, candidate={"y": WHOLE, "z": WHOLE})
    one, two = SAMPLE.sha256, hash_tensor(changed(LEFT_OUT, 9))
    assert told == {
        "sampled y": "1000 of 2000 elements",
        "sha256 y": f"unchanged by hash: reference {one}, candidate {one}",
    }
    told = samples.facts(reference={"y": SAMPLE}, candidate={"y": changed(LEFT_OUT, 9)})
    assert told["sha256 y"] == f"changed: reference {one}, candidate {two}"
    assert list(samples.facts(reference={"y": SAMPLE}, candidate={})) == ["sampled y"]


def test_a_difference_in_the_sample_is_told_with_its_place_in_the_whole() -> None:
    """Not with its number among the elements kept."""
    (finding,) = compared(changed(KEPT, 9)).findings
    assert finding.code == "parity.tolerance"
    assert finding.what == (
        "Parity failed: 1 of 1000 elements (0.1 %) of output 'y' exceed tolerance "
        "for cell 'm/fp32/cpu/c'"
    )
    place = list(divmod(KEPT, SHAPE[1]))
    assert finding.where == (f"output 'y', worst at {place}, a sample of 1000 of 2000 elements")


@pytest.mark.parametrize("rule", ["exact", "labels"])
def test_exact_rules_work_on_the_sample(rule: str) -> None:
    """A changed label in the sample is found, one outside is not."""
    whole = np.arange(2000).reshape(SHAPE)
    held, other = sample(whole, KEY), whole.copy()
    other.reshape(-1)[LEFT_OUT] = 7000
    assert codes(compared(other, held, compare=rule)) == []
    other.reshape(-1)[KEPT] = 7000
    assert codes(compared(other, held, compare=rule)) == ["parity.mismatch"]


def test_what_a_sample_cannot_see() -> None:
    """A finite value outside the sample: only the hash tells."""
    assert codes(compared(changed(LEFT_OUT, 9))) == []


@pytest.mark.parametrize(
    ("rule", "key"),
    [({"compare": "set"}, "compare"), ({"measures": Measures(cosine=0.9)}, "measures")],
)
def test_rules_that_need_all_elements(rule: dict[str, Any], key: str) -> None:
    """Refused, because nothing could be concluded."""
    (finding,) = compared(WHOLE, **rule).findings
    assert finding.code == "reference.recorded"
    assert finding.what == (
        f"Output 'y' is recorded as a sample, which is not enough for outputs.y.{key} "
        "for cell 'm/fp32/cpu/c'"
    )


def test_which_outputs_are_kept_whole() -> None:
    """Sets, outputs with measures, labels that may tie, and the scores that rank them."""
    outputs = {
        "set": OutputSpec(compare="set"),
        "measured": OutputSpec(measures=Measures(cosine=0.9)),
        "label": OutputSpec(compare="labels", scores="scores"),
        "other": OutputSpec(compare="labels"),
    }
    names = ("set", "measured", "label", "scores", "other", "unnamed")
    needed = [name for name in names if samples.needs_whole(name, outputs)]
    assert needed == ["set", "measured", "label", "scores"]


@pytest.mark.parametrize(
    ("candidate", "code"),
    [
        (WHOLE.reshape(50, 40), "parity.shape"),
        (WHOLE[:39], "parity.shape"),
        (WHOLE.astype(np.float64), "parity.dtype"),
        ((WHOLE,), "parity.kind"),
        (None, "parity.kind"),
    ],
    ids=["turned", "shorter", "wider", "sequence", "nothing"],
)
def test_kind_type_and_shape_come_first(candidate: Value, code: str) -> None:
    """As with whole tensors."""
    assert codes(compared(candidate)) == [code]


def test_nan_outside_the_sample_breaks_the_contract() -> None:
    """The rule that asks for finite values needs no reference: all elements are held to it."""
    (finding,) = compared(changed(LEFT_OUT, np.nan)).findings
    assert finding.code == "parity.finite"
    place = list(divmod(LEFT_OUT, SHAPE[1]))
    assert finding.where == f"output 'y', first at {place}, outside the recorded sample"


def test_nan_inside_the_sample_is_told_once() -> None:
    """By the comparison of the elements."""
    (finding,) = compared(changed(KEPT, np.inf)).findings
    assert finding.where == (
        f"output 'y', first at {list(divmod(KEPT, SHAPE[1]))}, a sample of 1000 of 2000 elements"
    )


@pytest.mark.parametrize("finite", ["same-positions", "allowed"])
def test_other_rules_for_nan_hold_on_the_sample(finite: str) -> None:
    """A NaN that the reference lacks is found inside only."""
    assert codes(compared(changed(LEFT_OUT, np.nan), finite=finite)) == []
    assert codes(compared(changed(KEPT, np.nan), finite=finite)) == ["parity.finite"]


def test_a_whole_reference_after_a_sample_is_compared_whole() -> None:
    """Nothing of the sample is left in the walk."""
    both: dict[str, Value] = {"a": SAMPLE, "b": WHOLE}
    comparison = compare(
        reference=both,
        candidate={"a": WHOLE, "b": changed(3, 9)},
        outputs={},
        provider="cpu",
        cell="m",
    )
    (finding,) = comparison.findings
    assert finding.where == "output 'b', worst at [0, 3]"
    assert comparison.receipt.counts["elements_compared"] == 3000


@pytest.mark.parametrize(
    ("value", "size"),
    [
        (None, 0),
        (np.zeros((2, 3), np.float16), 12),
        (array(DType.INT4, (3,)), 2),
        (np.array(["a", "ü"], dtype=object), 3),
        ((np.zeros(2, np.int8), {1: np.zeros(1)}), 10),
        (SAMPLE, 4000),
    ],
    ids=["none", "float16", "int4", "texts", "nested", "sample"],
)
def test_size(value: Value, size: int) -> None:
    """Bytes of all tensors, as ONNX lays them out."""
    assert samples.size_bytes(value) == size


def test_a_sample_is_never_sent() -> None:
    """No worker and no cache takes one for a tensor."""
    with pytest.raises(TypeError, match="never sent or cached"):
        encode_all({"y": SAMPLE})


def test_a_sample_is_no_tensor() -> None:
    """It is told apart by its type alone."""
    assert isinstance(SAMPLE, SampledTensor)
    assert not isinstance(SAMPLE, np.ndarray)
