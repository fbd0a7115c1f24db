"""The chain of rules: exactly one decides, in the order in which parity asks them."""

from __future__ import annotations

import pytest

from harness.domain.bounds import Rule, ScaledError, Standing
from harness.domain.dtypes import DType
from harness.domain.explanation import BoundFacts, explain_output
from harness.domain.spec import Measures, OutputSpec, Tolerance

OWN = Tolerance(atol=1, rtol=0, reason="whole percent")
BOUND = BoundFacts(
    rule=Rule(dtype=DType.FLOAT32, factor=4, floor=5e-7, source="bound table, float32 on cpu"),
    standing=Standing(
        found=ScaledError(count=3, rms=1e-7, largest=2e-7),
        limit=ScaledError(count=3, rms=9e-7, largest=1e-6),
        basis="3 elements of this case",
    ),
)
WHY = "recorded outputs cannot be computed again"


@pytest.mark.parametrize(
    ("spec", "dtype", "bound", "decides"),
    [
        (OutputSpec(), DType.FLOAT32, BOUND, "bound from float64"),
        (OutputSpec(), DType.FLOAT32, WHY, "tolerance table"),
        (OutputSpec(), DType.INT64, WHY, "outputs.y.compare"),
        (OutputSpec(compare="exact"), DType.FLOAT32, WHY, "outputs.y.compare"),
        (OutputSpec(tolerance={"cpu": OWN}), DType.FLOAT32, WHY, "outputs.y.tolerance.cpu"),
        (OutputSpec(tolerance={"default": OWN}), DType.FLOAT32, WHY, "outputs.y.tolerance.default"),
        (OutputSpec(tolerance={"cpu": OWN}), DType.FLOAT32, BOUND, "outputs.y.tolerance.cpu"),
        (OutputSpec(tolerance={"cuda": OWN}), DType.FLOAT32, BOUND, "bound from float64"),
    ],
)
def test_exactly_one_rule_decides(
    spec: OutputSpec, dtype: DType, bound: BoundFacts | str, decides: str
) -> None:
    """Exactness, then the spec's tolerance, then the bound, then the table."""
    chain = explain_output(name="y", spec=spec, dtype=dtype, provider="cpu@old", bound=bound)
    assert [link.rule for link in chain if link.applies] == [decides]


@pytest.mark.parametrize(
    ("dtype", "decides"),
    [(DType.FLOAT32, "outputs.y.measures"), (DType.INT64, "outputs.y.compare")],
)
def test_measures_decide_alone_where_a_build_is_quantised(dtype: DType, decides: str) -> None:
    """In place of the table; what is compared exactly stays exact."""
    spec = OutputSpec(measures=Measures(snr_db=20))
    chain = explain_output(name="y", spec=spec, dtype=dtype, provider="cpu", bound=WHY, whole=True)
    assert [link.rule for link in chain if link.applies] == [decides]


def test_every_rule_says_what_it_would_give() -> None:
    """Also those that do not decide."""
    chain = explain_output(
        name="y", spec=OutputSpec(), dtype=DType.FLOAT32, provider="cpu", bound=BOUND
    )
    assert [link.says for link in chain] == [
        "'close'",
        "not set",
        "not set",
        (
            "4 x the float32 reference's error + 5e-07 (bound table, float32 on cpu): RMS 1e-07 "
            "of 9e-07, largest 2e-07 of 1e-06 (3 elements of this case)"
        ),
        "atol 1e-05, rtol 0.0001 (tolerance table, float32 on cpu)",
    ]
