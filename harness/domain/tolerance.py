"""Which tolerance applies to an output, and where it came from.

The table gives `atol` and `rtol` per element type of the candidate's output. It starts from what
`torch.testing.assert_close` allows between two runs of the same program and widens it to what
different kernels for the same operators were measured to need; docs/tolerances.md has the
measurements. A spec overrides it per output and provider, with a reason.
"""

from __future__ import annotations

from dataclasses import dataclass

from harness.domain.cells import short_name
from harness.domain.dtypes import DType
from harness.domain.spec import ModelSpec, OutputSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class AllowedDifference:
    """A resolved tolerance: `abs(candidate - reference) <= atol + rtol * abs(reference)`."""

    atol: float
    """In the output's own unit."""
    rtol: float
    """Dimensionless."""
    source: str
    """The rule that gave it, for messages."""


#: Element type -> (atol, rtol). Integers, booleans and strings are compared exactly.
TABLE: dict[DType, tuple[float, float]] = {
    DType.FLOAT64: (1e-9, 1e-7),
    DType.FLOAT32: (1e-5, 1e-4),
    DType.FLOAT16: (1e-3, 1e-2),
    DType.BFLOAT16: (1e-2, 1.6e-2),
    DType.FLOAT8E4M3FN: (1e-1, 1.25e-1),
    DType.FLOAT8E4M3FNUZ: (1e-1, 1.25e-1),
    DType.FLOAT8E5M2: (2.5e-1, 2.5e-1),
    DType.FLOAT8E5M2FNUZ: (2.5e-1, 2.5e-1),
    DType.FLOAT8E8M0: (0.0, 1.0),
    DType.FLOAT4E2M1: (5e-1, 5e-1),
    DType.COMPLEX64: (1e-5, 1e-4),
    DType.COMPLEX128: (1e-9, 1e-7),
}
#: (provider, element type) -> factor on both parts, where a provider's default arithmetic is
#: coarser: CUDA and TensorRT multiply float32 matrices in TF32 (10 bits of mantissa) by default.
PROVIDER_FACTORS: dict[tuple[str, DType], float] = {
    ("cuda", DType.FLOAT32): 100.0,
    ("tensorrt", DType.FLOAT32): 100.0,
}


def own_tolerance(output: OutputSpec, provider: str) -> AllowedDifference | None:
    """Return the tolerance that the spec itself gives an output on a provider, None if none."""
    for key in (provider, short_name(provider), "default"):
        if key in output.tolerance:
            own = output.tolerance[key]
            source = f"spec, tolerance.{key}: {own.reason}"
            return AllowedDifference(atol=own.atol, rtol=own.rtol, source=source)
    return None


def resolve_tolerance(*, output: OutputSpec, dtype: DType, provider: str) -> AllowedDifference:
    """Return the tolerance of one output on one provider.

    The spec's entry for the provider wins over its `default`, which wins over the table.
    """
    own, short = own_tolerance(output, provider), short_name(provider)
    if own is not None:
        return own
    atol, rtol = TABLE.get(dtype, (0.0, 0.0))
    factor = PROVIDER_FACTORS.get((short, dtype), 1.0)
    source = f"tolerance table, {dtype} on {short}"
    return AllowedDifference(atol=atol * factor, rtol=rtol * factor, source=source)


def coarser(output: DType, computes_in: DType | None) -> DType:
    """Return the type whose row of the table applies: inside, fewer bits than an output may lie."""
    if computes_in is None or not computes_in.is_floating or computes_in.bits >= output.bits:
        return output
    return computes_in


def judged_whole(spec: ModelSpec, variant: str, provider: str) -> frozenset[str]:
    """Return the outputs of a quantised build that measures alone judge; none of other builds.

    Its elements are off by steps of the quantisation, which no table knows. Who gives a tolerance
    for one of its outputs has it judged element by element all the same.
    """
    if not spec.is_quantized(variant):
        return frozenset()
    return frozenset(
        name
        for name, rule in spec.of(variant).outputs.items()
        if rule.measures is not None and own_tolerance(rule, provider) is None
    )
