"""Compare a candidate's outputs with its reference's: names, kinds, counts, types, shapes, values.

The order matters: whatever could make a comparison of values meaningless is found first, and the
walk is always over the reference, so that nothing the candidate leaves out is left out here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from harness.domain import dtypes
from harness.domain.dtypes import DType
from harness.domain.findings import Finding
from harness.domain.receipts import Receipt
from harness.domain.spec import OutputSpec
from harness.domain.tolerance import AllowedDifference, resolve_tolerance
from harness.domain.values import Array, Value, Values, kind

#: Keys of a map that a message shows.
SHOWN_KEYS = 8
#: Findings that one output may add to a report.
SHOWN_FINDINGS = 3

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What comparing all outputs of one run gave."""

    findings: tuple[Finding, ...]
    receipt: Receipt
    worst: float
    """Greatest difference / allowed difference over all elements; 1 is the limit."""


@dataclass(slots=True, kw_only=True)
class _Walk:
    """What is collected while the outputs are walked."""

    cell: str
    provider: str
    output: str = ""
    """Name of the output being walked, the key of its table in the spec."""
    findings: list[Finding] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    worst: float = 0.0

    def fail(self, code: str, what: str, **parts: str) -> None:
        self.findings.append(Finding(code=code, what=f"{what} for cell '{self.cell}'", **parts))

    def count(self, name: str, number: int = 1) -> None:
        self.counts[name] = self.counts.get(name, 0) + number


def compare(
    *,
    reference: Values,
    candidate: Values,
    outputs: Mapping[str, OutputSpec],
    provider: str,
    cell: str,
) -> Comparison:
    """Return all findings on one run, with the receipt of what was compared.

    Args:
        reference: Trusted outputs by name.
        candidate: Outputs under test by name.
        outputs: How each output is compared; one that is not named takes the defaults.
        provider: Short name, for the tolerance.
        cell: Id for messages.
    """
    walk = _Walk(cell=cell, provider=provider)
    _compare_names(walk, reference=reference, candidate=candidate)
    for name, expected in reference.items():
        if name in candidate:
            rule = outputs.get(name, OutputSpec())
            walk.output, before = name, len(walk.findings)
            _compare_value(walk, rule, name, reference=expected, candidate=candidate[name])
            walk.findings[before:] = _shortened(walk.findings[before:], name)
            walk.count("outputs_compared")
    return Comparison(
        findings=tuple(walk.findings), receipt=Receipt(counts=walk.counts), worst=walk.worst
    )


def _shortened(findings: list[Finding], name: str) -> list[Finding]:
    """Keep a long sequence of maps from telling the same fault a thousand times."""
    if len(findings) <= SHOWN_FINDINGS:
        return findings
    shown = findings[:SHOWN_FINDINGS]
    more = f"{len(findings) - SHOWN_FINDINGS} more findings of this kind in output '{name}'"
    last = shown[-1]
    return [*shown[:-1], replace(last, got=f"{last.got}\n{more}" if last.got else more)]


def _compare_names(walk: _Walk, *, reference: Values, candidate: Values) -> None:
    if set(reference) == set(candidate):
        return
    lacking = [name for name in reference if name not in candidate]
    extra = [name for name in candidate if name not in reference]
    said = [f"lacks output '{name}'" for name in lacking]
    said += [f"has output '{name}' that the reference lacks" for name in extra]
    walk.fail(
        "parity.outputs",
        f"Candidate {', '.join(said)}",
        expected=str(list(reference)),
        got=str(list(candidate)),
        next_step="check the exporter; outputs are never skipped",
    )


def _compare_value(
    walk: _Walk, rule: OutputSpec, path: str, *, reference: Value, candidate: Value
) -> None:
    if kind(reference) != kind(candidate):
        walk.fail(
            "parity.kind",
            f"Output '{path}' is {_a(kind(candidate))} instead of {_a(kind(reference))}",
            where=f"output '{path}'",
            expected=kind(reference),
            got=kind(candidate),
        )
        return
    if reference is None:
        walk.count("empty_values_compared")
    elif isinstance(reference, tuple) and isinstance(candidate, tuple):
        _compare_sequences(walk, rule, path, reference=reference, candidate=candidate)
    elif isinstance(reference, dict) and isinstance(candidate, dict):
        _compare_maps(walk, rule, path, reference=reference, candidate=candidate)
    elif isinstance(reference, np.ndarray) and isinstance(candidate, np.ndarray):
        _compare_tensors(walk, rule, path, reference=reference, candidate=candidate)


def _compare_sequences(
    walk: _Walk,
    rule: OutputSpec,
    path: str,
    *,
    reference: tuple[Value, ...],
    candidate: tuple[Value, ...],
) -> None:
    if len(reference) != len(candidate):
        walk.fail(
            "parity.count",
            f"Output '{path}' has {len(candidate)} items instead of {len(reference)}",
            where=f"output '{path}'",
            expected=f"{len(reference)} items",
            got=f"{len(candidate)} items",
        )
        return
    if not reference:
        walk.count("empty_values_compared")
    for index, (expected, got) in enumerate(zip(reference, candidate, strict=True)):
        _compare_value(walk, rule, f"{path}[{index}]", reference=expected, candidate=got)


def _compare_maps(
    walk: _Walk,
    rule: OutputSpec,
    path: str,
    *,
    reference: dict[int | str, Value],
    candidate: dict[int | str, Value],
) -> None:
    if set(reference) != set(candidate):
        walk.fail(
            "parity.count",
            f"Output '{path}' has other keys than the reference",
            where=f"output '{path}'",
            expected=_shorten(list(reference)),
            got=_shorten(list(candidate)),
        )
        return
    if not reference:
        walk.count("empty_values_compared")
    for key, expected in reference.items():
        _compare_value(walk, rule, f"{path}[{key!r}]", reference=expected, candidate=candidate[key])


def _compare_tensors(
    walk: _Walk, rule: OutputSpec, path: str, *, reference: Array, candidate: Array
) -> None:
    dtype = dtypes.of_array(candidate)
    if not _dtype_fits(walk, rule, path, reference=dtypes.of_array(reference), candidate=dtype):
        return
    if reference.shape != candidate.shape:
        walk.fail(
            "parity.shape",
            f"Output '{path}' has shape {_shape(candidate)} instead of {_shape(reference)}",
            where=f"output '{path}'",
            expected=f"{_shape(reference)}; nothing is broadcast",
            got=_shape(candidate),
        )
        return
    if reference.size == 0:
        walk.count("empty_values_compared")
        return
    walk.count("elements_compared", _elements_judged(rule, reference))
    if rule.compare == "set":
        reference, candidate = np.sort(reference, axis=None), np.sort(candidate, axis=None)
    if rule.compare == "close" and dtype.is_floating:
        allowed = resolve_tolerance(output=rule, dtype=dtype, provider=walk.provider)
        _compare_close(walk, rule, path, allowed, reference=reference, candidate=candidate)
    else:
        _compare_exactly(walk, rule, path, reference=reference, candidate=candidate)


def _dtype_fits(
    walk: _Walk, rule: OutputSpec, path: str, *, reference: DType, candidate: DType
) -> bool:
    """Compare element types: with the one the spec promises, else with the reference's."""
    promised = rule.dtype or reference
    same_family = (reference.is_floating, reference.is_integer) == (
        candidate.is_floating,
        candidate.is_integer,
    )
    if candidate is promised and same_family:
        return True
    source = f"spec, outputs.{walk.output}.dtype" if rule.dtype else "the reference's"
    walk.fail(
        "parity.dtype",
        f"Output '{path}' is {candidate} instead of {promised}",
        where=f"output '{path}'",
        expected=f"{promised} ({source})",
        got=f"{candidate}; the reference gives {reference}",
        next_step=f"if the candidate's type is meant, set outputs.{walk.output}.dtype in the spec",
    )
    return False


def _compare_close(
    walk: _Walk,
    rule: OutputSpec,
    path: str,
    allowed: AllowedDifference,
    *,
    reference: Array,
    candidate: Array,
) -> None:
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


def _report_excess(walk: _Walk, path: str, allowed: AllowedDifference, excess: Excess) -> None:
    share = 100 * excess.count / excess.size
    elements = f"{excess.count} of {excess.size} elements ({share:.3g} %)"
    walk.fail(
        "parity.tolerance",
        f"Parity failed: {elements} of output '{path}' exceed tolerance",
        where=f"output '{path}', worst at {list(excess.index)}",
        expected=f"abs(c - r) <= {allowed.atol:g} + {allowed.rtol:g} * abs(r) ({allowed.source})",
        got=f"c = {excess.candidate:.9g}, r = {excess.reference:.9g}, difference "
        f"{excess.difference:.3g} (allowed {excess.allowed:.3g}, {excess.ratio:.3g} times); "
        f"greatest absolute difference {excess.max_absolute:.3g}, "
        f"relative {excess.max_relative:.3g}",
        next_step=f"would have passed with atol = {excess.max_absolute:.3g}; "
        f"only evidence justifies outputs.{walk.output}.tolerance, with a reason",
    )


def _finite_positions(
    walk: _Walk, rule: OutputSpec, path: str, *, reference: FloatArray, candidate: FloatArray
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
        where=f"output '{path}', first at {list(first)}",
        expected=expected,
        got=f"candidate {_tally(candidate)}; reference {_tally(reference)}; "
        f"at {list(first)} c = {candidate[first]:g}, r = {reference[first]:g}",
        next_step=f"find the first node that makes it, or set outputs.{walk.output}.finite",
    )
    return None


def _compare_exactly(
    walk: _Walk, rule: OutputSpec, path: str, *, reference: Array, candidate: Array
) -> None:
    unequal = _unequal(walk, rule, path, reference=reference, candidate=candidate)
    if unequal is None or not unequal.any():
        return
    walk.worst = float("inf")
    first = tuple(int(i) for i in np.argwhere(unequal)[0])
    noun = "labels" if rule.compare == "labels" else "elements"
    walk.fail(
        "parity.mismatch",
        f"{int(unequal.sum())} of {unequal.size} {noun} of output '{path}' differ",
        where=f"output '{path}', first at {list(first)}",
        expected=f"equal {noun} ({_why_exact(rule, candidate)})",
        got=f"c = {candidate[first]!r}, r = {reference[first]!r}",
    )


def _unequal(
    walk: _Walk, rule: OutputSpec, path: str, *, reference: Array, candidate: Array
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


def _elements_judged(rule: OutputSpec, reference: Array) -> int:
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


def _a(noun: str) -> str:
    return f"an {noun}" if noun.startswith("e") else f"a {noun}"


def _shape(array: Array) -> str:
    return str(list(array.shape))


def _shorten(items: list[int | str]) -> str:
    shown = ", ".join(map(repr, items[:SHOWN_KEYS]))
    return f"[{shown}{', ...' if len(items) > SHOWN_KEYS else ''}]"
