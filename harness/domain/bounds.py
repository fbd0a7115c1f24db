"""The bound from evidence: how far a candidate may be from float64.

No two programs add in the same order, so a candidate has an error, and so has its reference. Both
are measured against a float64 run of the reference. The candidate's error may be K times that of
the reference run in the candidate's own type, plus a floor:

    error(candidate) <= K * error(reference) + FLOOR

once for the root mean square over all elements of an output, and once for the largest one. Errors
are in units of the output's scale: its root mean square, and its largest magnitude. The form is
that of PyTorch's own check of compiled models (`torch._dynamo.utils.same`).

Numbers of several units may stand side by side in one output (boxes and scores, a time stamp and a
speed). Where the slices along an axis are more than `APART` apart in scale, each element counts in
units of the scale of its own slice, or the large ones would hide every error of the small ones.

A reference that keeps less than half of its digits says nothing: its own error would allow
anything. Then there is no bound (`has_digits`).

Few elements give a poor estimate of an error. Beyond the bound a case is therefore held against a
pool: all cases of the variant, and fresh draws up to `POOL_ELEMENTS`. The pool must keep the bound,
the single case twice K with the reference's error as the pool shows it. A case within the bound by
itself needs no pool: if every case keeps it, the pool does (triangle inequality).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from harness.domain.cells import short_name
from harness.domain.dtypes import DType
from harness.domain.values import Values, leaves

FloatArray = npt.NDArray[np.float64]

#: Elements of an output that a pool holds at least, where that can be had.
POOL_ELEMENTS = 1000
#: What a single case may reach in multiples of K.
SINGLE_CASE = 2.0
#: Type -> (K, floor in units in the last place). docs/tolerances.md has what was measured.
FACTORS: dict[DType, tuple[float, float]] = {
    DType.FLOAT64: (4.0, 4.0),
    DType.FLOAT32: (4.0, 4.0),
    DType.FLOAT16: (4.0, 4.0),
    DType.BFLOAT16: (4.0, 4.0),
}
#: The floor where the reference has no error of its own in that type: scikit-learn computes in
#: float64 throughout, so nothing stands for the sums that the candidate adds up with fewer bits.
LONE_FLOOR = 32.0
#: Distance of 1 to the next number: 2 to the power of minus the bits of the mantissa.
EPSILON: dict[DType, float] = {
    DType.FLOAT64: 2.0**-52,
    DType.FLOAT32: 2.0**-23,
    DType.FLOAT16: 2.0**-10,
    DType.BFLOAT16: 2.0**-7,
}
#: Scales of slices along one axis that are judged apart, the elements that tell a slice's scale at
#: least, and the share of the whole output's scale below which a slice counts as that share: where
#: numbers vanish (a probability of 1e-30), two correct programs may flush them to zero or not.
APART, LEAST_ELEMENTS, LEAST_SHARE = 100.0, 16, 2.0**-20
#: (provider, type) -> type whose mantissa its default arithmetic has: TF32 has that of float16.
ARITHMETIC: dict[tuple[str, DType], DType] = {
    ("cuda", DType.FLOAT32): DType.FLOAT16,
    ("tensorrt", DType.FLOAT32): DType.FLOAT16,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """The two numbers of a bound, and where they come from."""

    dtype: DType
    """What the candidate computes in."""
    factor: float
    """K: multiple of the reference's own error."""
    floor: float
    """In units of the output's scale."""
    source: str
    """The rule that gave them, for messages."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaledError:
    """How far an output is from float64, in units of its scale."""

    count: int
    """Elements compared."""
    rms: float
    """Root mean square of the errors / root mean square of the float64 values."""
    largest: float
    """Greatest error / greatest magnitude of the float64 values."""
    scale: float = 0.0
    """That magnitude; over a pool the median of its cases'."""

    def beside(self, pool: ScaledError) -> ScaledError:
        """Return this error in units of the pool's scale, if it has too few elements for its own.

        One result can be tiny by cancellation; an error that is ordinary beside the others of its
        kind is then as large as the result itself.
        """
        if self.count >= LEAST_ELEMENTS or self.scale >= pool.scale:
            return self
        share = self.scale / pool.scale
        return ScaledError(
            count=self.count, rms=self.rms * share, largest=self.largest * share, scale=pool.scale
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Candidate and reference against float64, over the same elements."""

    candidate: ScaledError
    reference: ScaledError


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A candidate's error beside what is allowed."""

    found: ScaledError
    limit: ScaledError
    basis: str
    """What the limit rests on: the case alone, or the pool."""

    @property
    def share(self) -> float:
        """Return error / limit, the greater of both kinds; 1 is the limit."""
        pairs = ((self.found.rms, self.limit.rms), (self.found.largest, self.limit.largest))
        return max(_ratio(found, most) for found, most in pairs)


def rule_for(dtype: DType, provider: str, *, lone: bool = False) -> Rule | None:
    """Return the rule for a build that computes in `dtype`; None where there is none.

    A provider whose default arithmetic is coarser than the type gets the floor of that arithmetic.

    Args:
        dtype: What the candidate computes in.
        provider: Its name; a runtime after `@` is left aside.
        lone: Whether the reference cannot compute in `dtype`, so that its values are only rounded.
    """
    if dtype not in FACTORS:
        return None
    factor, units = FACTORS[dtype]
    short = short_name(provider)
    epsilon = EPSILON[ARITHMETIC.get((short, dtype), dtype)]
    floor = (LONE_FLOOR if lone else units) * epsilon
    source = f"bound table, {dtype} on {short}"
    return Rule(dtype=dtype, factor=factor, floor=floor, source=source)


def flattened(steps: Sequence[Values], output: str) -> FloatArray:
    """Return all elements of an output over all steps, sequences and maps included, as float64."""
    parts = [
        array.astype(np.float64).reshape(-1)
        for step in steps
        for _, array in leaves(step[output], output)
    ]
    return np.concatenate(parts) if parts else np.empty(0)


def units(steps: Sequence[Values], output: str) -> FloatArray:
    """Return what each element of `flattened` counts in: the scale of its slice / of its tensor."""
    parts = [
        _units(array.astype(np.float64)).reshape(-1)
        for step in steps
        for _, array in leaves(step[output], output)
    ]
    return np.concatenate(parts) if parts else np.empty(0)


def _units(array: FloatArray) -> FloatArray:
    """Return ones, or along the axis whose slices differ most in scale their shares of it."""
    magnitudes = np.where(np.isfinite(array), np.abs(array), 0.0)
    whole = magnitudes.max(initial=0.0)
    widest, found = APART, np.ones(array.shape)
    for axis in range(array.ndim):
        if array.size < LEAST_ELEMENTS * array.shape[axis] or not array.size:
            continue
        others = tuple(each for each in range(array.ndim) if each != axis)
        scales = magnitudes.max(axis=others, keepdims=True)
        least = scales[scales > 0].min(initial=whole)
        if least and whole / least > widest:
            widest = whole / least
            shares = np.where(scales > 0, scales / whole, 1.0)
            found = np.broadcast_to(np.maximum(shares, LEAST_SHARE), array.shape)
    return found


def measure(
    *, exact: FloatArray, reference: FloatArray, candidate: FloatArray, unit: FloatArray
) -> Measured | None:
    """Return both errors; None if no element is finite in all three.

    Args:
        exact: The reference's float64 values, shape [N].
        reference: Its values in the candidate's own type, shape [N].
        candidate: The values under test, shape [N].
        unit: What each element counts in, shape [N].
    """
    judged = np.isfinite(exact) & np.isfinite(reference) & np.isfinite(candidate)
    if not judged.any():
        return None
    values, unit = exact[judged] / unit[judged], unit[judged]
    return Measured(
        candidate=_scaled_error(candidate[judged] / unit, values),
        reference=_scaled_error(reference[judged] / unit, values),
    )


def has_digits(own: ScaledError, dtype: DType) -> bool:
    """Return whether a reference keeps half of its type's digits: else its error allows anything.

    Args:
        own: The reference's error in the candidate's type.
        dtype: That type.
    """
    return own.rms <= float(np.sqrt(EPSILON.get(dtype, 1.0)))  # coarser types have none to keep


def _scaled_error(values: FloatArray, exact: FloatArray) -> ScaledError:
    error, scale = values - exact, float(np.abs(exact).max())
    return ScaledError(
        count=error.size,
        rms=_rms(error) / (_rms(exact) or 1.0),  # what is zero throughout has no scale
        largest=float(np.abs(error).max() / (scale or 1.0)),
        scale=scale,
    )


def _rms(values: FloatArray) -> float:
    """Return the root mean square, without overflow for values near the greatest float64."""
    largest = float(np.abs(values).max())
    return largest * float(np.sqrt(np.mean((values / largest) ** 2))) if largest else 0.0


def pooled(errors: Iterable[ScaledError]) -> ScaledError:
    """Return the error over the elements of all cases, each in units of its own scale."""
    found = list(errors)
    count = sum(each.count for each in found)
    squares = sum(each.count * each.rms**2 for each in found)
    return ScaledError(
        count=count,
        rms=float(np.sqrt(squares / count)) if count else 0.0,
        largest=max((each.largest for each in found), default=0.0),
        scale=float(np.median([each.scale for each in found])) if found else 0.0,
    )


def larger(one: ScaledError, other: ScaledError) -> ScaledError:
    """Return the greater of two errors in each respect."""
    return ScaledError(
        count=max(one.count, other.count),
        rms=max(one.rms, other.rms),
        largest=max(one.largest, other.largest),
    )


def allowed(reference: ScaledError, rule: Rule, *, multiple: float = 1.0) -> ScaledError:
    """Return the greatest error that a candidate may have.

    Args:
        reference: The reference's own error in the candidate's type.
        rule: K and floor.
        multiple: What K is multiplied with.
    """
    factor = multiple * rule.factor
    return ScaledError(
        count=reference.count,
        rms=factor * reference.rms + rule.floor,
        largest=factor * reference.largest + rule.floor,
    )


def _ratio(found: float, most: float) -> float:
    if most:
        return found / most
    return float(np.inf) if found else 0.0
