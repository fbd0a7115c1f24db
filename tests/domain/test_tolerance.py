"""Which tolerance applies, and where it says it comes from."""

from __future__ import annotations

import pytest

from harness.domain.dtypes import DType
from harness.domain.spec import (
    Candidate,
    Measures,
    ModelSpec,
    OutputSpec,
    Reference,
    Tolerance,
    Variant,
)
from harness.domain.tolerance import (
    TABLE,
    AllowedDifference,
    coarser,
    judged_whole,
    resolve_tolerance,
)


def own(atol: float) -> Tolerance:
    """Return a tolerance that can be told from others."""
    return Tolerance(atol=atol, rtol=0.0, reason="measured")


@pytest.mark.parametrize("dtype", [dtype for dtype in DType if dtype.is_floating])
def test_every_floating_type_has_an_entry(dtype: DType) -> None:
    """No floating type falls back to zero unseen."""
    assert dtype in TABLE


def test_coarser_types_allow_more() -> None:
    """The table rises from float64 to float8."""
    order = (
        DType.FLOAT64,
        DType.FLOAT32,
        DType.FLOAT16,
        DType.BFLOAT16,
        DType.FLOAT8E4M3FN,
        DType.FLOAT8E5M2,
        DType.FLOAT4E2M1,
    )
    allowed = [TABLE[dtype] for dtype in order]
    assert allowed == sorted(allowed)


def test_the_table_names_itself() -> None:
    """Without an entry of the spec the table holds for type and provider."""
    got = resolve_tolerance(output=OutputSpec(), dtype=DType.FLOAT64, provider="cpu@ort-1.31")
    source = "tolerance table, float64 on cpu"
    assert got == AllowedDifference(atol=1e-9, rtol=1e-7, source=source)


def test_providers_with_coarser_arithmetic_are_allowed_more() -> None:
    """CUDA's TF32 has a factor on float32 and on nothing else."""
    cpu, cuda = (
        resolve_tolerance(output=OutputSpec(), dtype=DType.FLOAT32, provider=provider)
        for provider in ("cpu", "cuda")
    )
    assert (cuda.atol, cuda.rtol) == (100 * cpu.atol, 100 * cpu.rtol)
    double = resolve_tolerance(output=OutputSpec(), dtype=DType.FLOAT64, provider="cuda")
    assert (double.atol, double.rtol) == TABLE[DType.FLOAT64]


@pytest.mark.parametrize(
    ("provider", "atol", "key"),
    [
        ("cpu", 0.25, "default"),
        ("openvino", 0.5, "openvino"),
        ("openvino@ort-1.24", 0.75, "openvino@ort-1.24"),
        ("openvino@other", 0.5, "openvino"),
    ],
)
def test_the_nearest_entry_of_the_spec_wins(provider: str, atol: float, key: str) -> None:
    """Runtime beats provider beats default beats table."""
    output = OutputSpec(
        tolerance={
            "default": own(0.25),
            "openvino": own(0.5),
            "openvino@ort-1.24": own(0.75),
        }
    )
    got = resolve_tolerance(output=output, dtype=DType.FLOAT32, provider=provider)
    assert got == AllowedDifference(atol=atol, rtol=0.0, source=f"spec, tolerance.{key}: measured")


def test_types_outside_the_table_allow_nothing() -> None:
    """Integers have no tolerance."""
    got = resolve_tolerance(output=OutputSpec(), dtype=DType.INT64, provider="cpu")
    assert (got.atol, got.rtol) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("output", "computes_in", "row"),
    [
        (DType.FLOAT32, DType.FLOAT16, DType.FLOAT16),
        (DType.FLOAT16, DType.FLOAT32, DType.FLOAT16),
        (DType.FLOAT16, DType.BFLOAT16, DType.FLOAT16),
        (DType.FLOAT32, DType.FLOAT32, DType.FLOAT32),
        (DType.FLOAT32, DType.INT8, DType.FLOAT32),
        (DType.FLOAT32, None, DType.FLOAT32),
    ],
)
def test_an_output_has_the_row_of_the_fewest_bits(
    output: DType, computes_in: DType | None, row: DType
) -> None:
    """A build that computes in halves and returns floats has the errors of halves."""
    assert coarser(output, computes_in) == row


def test_measures_alone_judge_a_quantised_build() -> None:
    """Except outputs that have a tolerance of their own; never another build's."""
    whole = OutputSpec(measures=Measures(snr_db=20))
    own_too = OutputSpec(measures=Measures(snr_db=20), tolerance={"cpu": own(0.5)})
    spec = ModelSpec(
        schema_version=1,
        candidate=Candidate(file="m.onnx"),
        reference=Reference(torch="r.py:build"),
        outputs={"y": whole, "z": whole},
        variants={
            "int8": Variant(file="q.onnx", dtype=DType.INT8, reason="r", outputs={"z": own_too}),
            "half": Variant(file="h.onnx", dtype=DType.FLOAT16, reason="r"),
        },
    )
    assert judged_whole(spec, "int8", "cpu@old") == {"y"}
    assert judged_whole(spec, "int8", "openvino") == {"y", "z"}
    assert judged_whole(spec, "half", "cpu") == judged_whole(spec, "fp32", "cpu") == frozenset()
