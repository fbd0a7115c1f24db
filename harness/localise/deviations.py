"""How far a value is from its reference, and which of many deviations stands out.

The rule, in full. A block's introduced error is the greatest difference of its outputs from the
reference's, where it was fed with the reference's inputs, divided by the greatest magnitude in
that output. It is *notable* if it is above 16 units in the last place of its element type and at
least 1/20 of the greatest introduced error anywhere; a NaN or an infinity that the reference lacks
is always notable. The origin is the first notable block that introduces more than 8 times the
median of the blocks of the same operators; without one, the first notable block: then the
operator itself is what differs, wherever it stands. Without a notable block no single one is to
blame, and the error builds up.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.domain import dtypes
from harness.domain.values import Array, Value, leaves
from harness.localise.graph import Block

#: Units in the last place that correct kernels may differ by, relative to a tensor's maximum:
#: sums in another order stay below 4 in the convolutions and products that were measured.
NOISE_ULPS = 16
#: Share of the greatest introduced error below which another one cannot explain the failure.
SHARE = 1 / 20
#: Times the median of the same operators elsewhere.
TIMES_MEDIAN = 8
#: Blocks of the same operators that a median needs.
LEAST_PEERS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Deviation:
    """The difference of a value from its reference."""

    relative: float
    """Greatest difference / greatest magnitude; infinite for a NaN that the reference lacks."""
    absolute: float
    """Greatest difference."""
    ulps: float
    """`relative` in units in the last place of the element type; of integers any difference."""
    new_nan: int = 0
    """NaN where the reference has none."""
    new_inf: int = 0
    """Infinities where the reference has none."""
    same_shape: bool = True

    @property
    def notable_alone(self) -> bool:
        """Return whether rounding cannot explain it."""
        return self.ulps > NOISE_ULPS


NONE = Deviation(relative=0.0, absolute=0.0, ulps=0.0)
_OTHER = Deviation(relative=math.inf, absolute=math.inf, ulps=math.inf, same_shape=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Introduced:
    """What one block introduces."""

    block: Block
    error: Deviation
    makes_nan: bool = False
    """Whether it gives a NaN from inputs without one, in the reference too."""


def deviation(*, reference: Value, candidate: Value) -> Deviation:
    """Return how far `candidate` is from `reference`; all tensors inside count."""
    trusted, found = dict(leaves(reference, "")), dict(leaves(candidate, ""))
    if set(trusted) != set(found):
        return _OTHER
    parts = [_of_tensors(reference=trusted[path], candidate=found[path]) for path in trusted]
    return max(parts, key=lambda part: part.ulps, default=NONE)


def worst(parts: Sequence[Deviation]) -> Deviation:
    """Return the greatest deviation of several outputs."""
    return max(parts, key=lambda part: part.ulps, default=NONE)


def has_nan(value: Value) -> bool:
    """Return whether any floating tensor inside holds a NaN."""
    return any(
        dtypes.of_array(array).is_floating and bool(np.isnan(_wide(array)).any())
        for _, array in leaves(value, "")
    )


def first_origin(found: Sequence[Introduced]) -> tuple[Introduced | None, bool]:
    """Return the block where the error begins, and whether it alone is to blame.

    The rule stands at the top of this module.
    """
    finite = [each.error.ulps for each in found if math.isfinite(each.error.ulps)]
    least = SHARE * max(finite, default=0.0)
    notable = [each for each in found if each.error.notable_alone and each.error.ulps >= least]
    for each in notable:
        if _is_alone(each, found):
            return each, True
    return (notable[0], False) if notable else (None, False)


def first_nan(found: Sequence[Introduced]) -> Introduced | None:
    """Return the first block that gives a NaN from inputs without one."""
    return next((each for each in found if each.makes_nan or each.error.new_nan), None)


def _is_alone(one: Introduced, found: Sequence[Introduced]) -> bool:
    peers = [
        each.error.ulps for each in found if each is not one and each.block.kind == one.block.kind
    ]
    if len(peers) < LEAST_PEERS or math.isinf(one.error.ulps):
        return True
    return one.error.ulps > TIMES_MEDIAN * statistics.median(peers)


def _of_tensors(*, reference: Array, candidate: Array) -> Deviation:
    if reference.shape != candidate.shape:
        return _OTHER
    dtype = dtypes.of_array(reference)
    if reference.size == 0:
        return NONE
    if not dtype.is_floating or not dtypes.of_array(candidate).is_floating:
        unequal = int(np.count_nonzero(np.asarray(reference != candidate)))
        share = unequal / reference.size
        ulps = math.inf if unequal else 0.0
        return Deviation(relative=share, absolute=float(unequal), ulps=ulps)
    return _of_floats(_wide(reference), _wide(candidate), _epsilon(reference))


def _of_floats(reference: Array, candidate: Array, epsilon: float) -> Deviation:
    new_nan = int(np.count_nonzero(np.isnan(candidate) & ~np.isnan(reference)))
    new_inf = int(np.count_nonzero(np.isinf(candidate) & ~np.isinf(reference)))
    both = np.isfinite(reference) & np.isfinite(candidate)
    trusted, found = np.where(both, reference, 0), np.where(both, candidate, 0)
    absolute = float(np.abs(found - trusted).max())
    scale = max(float(np.abs(trusted).max()), float(np.abs(found).max()))
    relative = absolute / scale if scale else 0.0
    if new_nan or new_inf:
        relative = math.inf
    return Deviation(
        relative=relative,
        absolute=absolute,
        ulps=relative / epsilon,
        new_nan=new_nan,
        new_inf=new_inf,
    )


def _wide(array: Array) -> Array:
    return array.astype(np.complex128 if array.dtype.kind == "c" else np.float64)


def _epsilon(array: Array) -> float:
    """Return the distance of 1 from the next number of the element type."""
    if array.dtype.kind in "fc":
        return float(np.spacing(np.ones((), dtype=array.dtype).real))
    import ml_dtypes  # noqa: PLC0415 - 20 ms that most searches never need

    return float(ml_dtypes.finfo(array.dtype).eps)
