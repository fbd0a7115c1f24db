"""Compare the values of two tensors of one shape: within a tolerance, or exactly.

Values are widened to float64 (complex128) first, so that float16 and bfloat16 do not lose the
digits under test, and NaN and infinity are dealt with before any difference is taken.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from harness.domain import dtypes
from harness.domain.spec import OutputSpec
from harness.domain.tolerance import AllowedDifference
from harness.domain.values import Array
from harness.domain.walk import Walk

FloatArray = npt.NDArray[np.float64]


def compare_close(
    walk: Walk,
    rule: OutputSpec,
    path: str,
    allowed: AllowedDifference,
    *,
    reference: Array,
    candidate: Array,
) -> None:
    """Compare floating values within a tolerance, after the contract for NaN and infinity."""
    wide_reference, wide_candidate = _widen(reference), _widen(candidate)
    judged = _finite_positions(walk, rule, path, reference=wide_reference, candidate=wide_candidate)
    if judged is None:
        return
    excess = max_excess(
        reference=wide_reference, candidate=wide_candidate, allowed=allowed, judged=judged
    )
    walk.worst = max(walk.worst, excess.ratio)
    if excess.count:
        _report_excess(walk, path, allowed, excess)


def check_finite(
    walk: Walk, rule: OutputSpec, path: str, *, reference: Array, candidate: Array
) -> None:
    """Apply the contract for NaN and infinity alone."""
    _finite_positions(walk, rule, path, reference=_widen(reference), candidate=_widen(candidate))


@dataclass(frozen=True, slots=True, kw_only=True)
class Excess:
    """How far a candidate is outside its tolerance, and where the most."""

    count: int
    """Elements outside."""
    size: int
    """Elements compared."""
    ratio: float
    """Greatest difference / allowed difference."""
    index: tuple[int, ...]
    """Where that is."""
    reference: complex
    candidate: complex
    difference: float
    allowed: float
    max_absolute: float
    """Greatest absolute difference: the `atol` that passes with `rtol = 0`."""
    max_relative: float
    """Greatest difference / abs(reference) where the reference is not 0."""


def max_excess(
    *,
    reference: FloatArray,
    candidate: FloatArray,
    allowed: AllowedDifference,
    judged: npt.NDArray[np.bool_],
) -> Excess:
    """Return the element that is furthest outside (or nearest to) its tolerance.

    The allowed difference of element i is `atol + rtol * abs(reference[i])`, the criterion of
    `numpy.isclose`, asymmetric in the reference.

    Args:
        reference: Trusted values, any shape S, float64 or complex128.
        candidate: Values under test, shape S.
        allowed: The tolerance.
        judged: Shape S; False where a NaN or an infinity was dealt with before.
    """
    magnitude = np.abs(np.where(judged, reference, 0))
    with np.errstate(over="ignore"):
        difference = np.abs(np.where(judged, candidate, 0) - np.where(judged, reference, 0))
    limit = allowed.atol + allowed.rtol * magnitude
    ratios = _ratio(difference, limit)
    at = int(np.argmax(ratios))
    relative = _ratio(difference[magnitude > 0], magnitude[magnitude > 0])
    return Excess(
        count=int(np.count_nonzero(difference > limit)),
        size=reference.size,
        ratio=float(ratios.flat[at]),
        index=tuple(int(i) for i in np.unravel_index(at, reference.shape)),
        reference=reference.flat[at],
        candidate=candidate.flat[at],
        difference=float(difference.flat[at]),
        allowed=float(limit.flat[at]),
        max_absolute=float(difference.max()),
        max_relative=float(relative.max()) if relative.size else 0.0,
    )


def _ratio(difference: FloatArray, limit: FloatArray) -> FloatArray:
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio: FloatArray = np.where(difference == 0, 0.0, difference / limit)
    return ratio


def _report_excess(walk: Walk, path: str, allowed: AllowedDifference, excess: Excess) -> None:
    share = 100 * excess.count / excess.size
    elements = f"{excess.count} of {excess.size} elements ({share:.3g} %)"
    walk.fail(
        "parity.tolerance",
        f"Parity failed: {elements} of output '{path}' exceed tolerance",
        where=f"output '{path}', worst at {walk.place(excess.index)}",
        expected=f"abs(c - r) <= {allowed.atol:g} + {allowed.rtol:g} * abs(r) ({allowed.source})",
        got=f"c = {excess.candidate:.9g}, r = {excess.reference:.9g}, difference "
        f"{excess.difference:.3g} (allowed {excess.allowed:.3g}, {excess.ratio:.3g} times); "
        f"greatest absolute difference {excess.max_absolute:.3g}, "
        f"relative {excess.max_relative:.3g}",
        next_step=f"would have passed with atol = {excess.max_absolute:.3g}; "
        f"only evidence justifies outputs.{walk.output}.tolerance, with a reason",
    )


def _finite_positions(
    walk: Walk, rule: OutputSpec, path: str, *, reference: FloatArray, candidate: FloatArray
) -> npt.NDArray[np.bool_] | None:
    """Apply the spec's contract for NaN and infinity; None if it is broken.

    Returns the positions whose values are left to compare.
    """
    finite_reference, finite_candidate = np.isfinite(reference), np.isfinite(candidate)
    if rule.finite == "required":
        broken = ~finite_candidate | ~finite_reference
        expected = f"finite values only (outputs.{walk.output}.finite = 'required')"
    elif rule.finite == "same-positions":
        same = (reference == candidate) | (np.isnan(reference) & np.isnan(candidate))
        broken = (~finite_reference | ~finite_candidate) & ~same
        expected = "NaN, +inf and -inf at the reference's positions only"
    else:
        broken = finite_reference & ~finite_candidate
        expected = "finite values wherever the reference has one"
    if not broken.any():
        return finite_reference & finite_candidate
    first = tuple(int(i) for i in np.argwhere(broken)[0])
    walk.fail(
        "parity.finite",
        f"{int(broken.sum())} of {broken.size} elements of output '{path}' break the "
        "contract for NaN and infinity",
        where=f"output '{path}', first at {walk.place(first)}",
        expected=expected,
        got=f"candidate {_tally(candidate)}; reference {_tally(reference)}; "
        f"at {walk.place(first)} c = {candidate[first]:g}, r = {reference[first]:g}",
        next_step=f"find the first node that makes it, or set outputs.{walk.output}.finite",
    )
    return None


def compare_exactly(
    walk: Walk, rule: OutputSpec, path: str, *, reference: Array, candidate: Array
) -> None:
    """Compare values for equality: integers, booleans, strings, labels, sets."""
    unequal = _unequal(walk, rule, path, reference=reference, candidate=candidate)
    if unequal is None or not unequal.any():
        return
    labels = {"reference": reference, "candidate": candidate}
    if walk.ranking is not None and walk.ranking.explains(unequal, **labels):
        walk.findings.append(walk.ranking.finding(path, walk.cell, unequal))
        return
    walk.worst = float("inf")
    first = tuple(int(i) for i in np.argwhere(unequal)[0])
    noun = "labels" if rule.compare == "labels" else "elements"
    walk.fail(
        "parity.mismatch",
        f"{int(unequal.sum())} of {unequal.size} {noun} of output '{path}' differ",
        where=f"output '{path}', first at {walk.place(first)}",
        expected=f"equal {noun} ({_why_exact(rule, candidate)})",
        got=f"c = {candidate[first]!r}, r = {reference[first]!r}",
        next_step=walk.ranking.advice(unequal, **labels)
        if walk.ranking
        else _label_advice(walk, rule),
    )


def _label_advice(walk: Walk, rule: OutputSpec) -> str:
    if rule.compare != "labels":
        return ""
    if rule.scores is None:
        return f"if scores may tie, name their output in outputs.{walk.output}.scores"
    return f"outputs.{walk.output}.scores names '{rule.scores}', which gives no rows of scores"


def _unequal(
    walk: Walk, rule: OutputSpec, path: str, *, reference: Array, candidate: Array
) -> npt.NDArray[np.bool_] | None:
    """Return where values differ; None if the contract for NaN and infinity is broken.

    Floating values are rounded to the type that the spec promises; integers never, because a
    cast would wrap: 300 is not 44 in uint8.
    """
    if not dtypes.of_array(candidate).is_floating:
        return np.asarray(_whole(reference) != _whole(candidate))
    judged = _finite_positions(
        walk, rule, path, reference=_widen(reference), candidate=_widen(candidate)
    )
    if judged is None:
        return None
    with np.errstate(over="ignore"):
        return np.asarray(reference.astype(candidate.dtype) != candidate) & judged


def _whole(array: Array) -> Array:
    """Return 2 and 4 bit integers in a type that numpy compares with every other one."""
    return array.astype(np.int16) if array.dtype.kind == "V" else array


def elements_judged(rule: OutputSpec, reference: Array) -> int:
    """Return how many elements the contract for NaN and infinity leaves to judge."""
    if rule.finite == "allowed" and dtypes.of_array(reference).is_floating:
        return int(np.isfinite(_widen(reference)).sum())
    return int(reference.size)


def _why_exact(rule: OutputSpec, candidate: Array) -> str:
    if rule.compare == "close":
        return f"{dtypes.of_array(candidate)} values are compared exactly"
    return f"spec, compare = '{rule.compare}'"


def _widen(array: Array) -> FloatArray:
    wide = np.complex128 if array.dtype.kind == "c" else np.float64
    return array.astype(wide)


def _tally(array: FloatArray) -> str:
    kinds: dict[str, Callable[[FloatArray], npt.NDArray[np.bool_]]] = {
        "NaN": np.isnan,
        "inf": np.isinf,
    }
    counts = {name: int(test(array).sum()) for name, test in kinds.items()}
    return ", ".join(f"{count} {name}" for name, count in counts.items() if count) or "all finite"
