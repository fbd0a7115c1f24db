"""Compare a candidate's outputs with its reference's: names, kinds, counts, types, shapes, values.

The order matters: whatever could make a comparison of values meaningless is found first, and the
walk is always over the reference, so that nothing the candidate leaves out is left out here.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from harness.domain import dtypes
from harness.domain.dtypes import DType
from harness.domain.elementwise import (
    check_finite,
    compare_close,
    compare_exactly,
    elements_judged,
)
from harness.domain.findings import Finding
from harness.domain.labels import Ranking, ranking
from harness.domain.measures import judge_measures
from harness.domain.receipts import Receipt
from harness.domain.samples import compare_sample
from harness.domain.spec import OutputSpec
from harness.domain.tolerance import coarser, resolve_tolerance
from harness.domain.values import Array, SampledTensor, Value, Values, kind
from harness.domain.walk import Walk

#: Keys of a map that a message shows.
SHOWN_KEYS = 8
#: Findings that one output may add to a report.
SHOWN_FINDINGS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What comparing all outputs of one run gave."""

    findings: tuple[Finding, ...]
    receipt: Receipt
    worst: float
    """Greatest difference / allowed difference over all elements; 1 is the limit."""
    broken: frozenset[str]
    """Outputs with a finding, or which the candidate lacks."""


def compare(
    *,
    reference: Values,
    candidate: Values,
    outputs: Mapping[str, OutputSpec],
    provider: str,
    cell: str,
    bound: Collection[str] = (),
    computes_in: DType | None = None,
) -> Comparison:
    """Return all findings on one run, with the receipt of what was compared.

    Args:
        reference: Trusted outputs by name.
        candidate: Outputs under test by name.
        outputs: How each output is compared; one that is not named takes the defaults.
        provider: Short name, for the tolerance.
        cell: Id for messages.
        bound: Outputs whose values are held against float64 elsewhere; all else is judged here.
        computes_in: Type that the candidate computes in, where its outputs do not tell; the table
            then has its row.
    """
    walk = Walk(cell=cell, provider=provider, bound=frozenset(bound), computes_in=computes_in)
    _compare_names(walk, reference=reference, candidate=candidate)
    broken: set[str] = set()
    for name, expected in reference.items():
        before = len(walk.findings)
        if name in candidate:
            rule = outputs.get(name, OutputSpec())
            walk.output = name
            walk.ranking = _ranking(rule, reference=reference, candidate=candidate)
            _compare_value(walk, rule, name, reference=expected, candidate=candidate[name])
            walk.findings[before:] = _shortened(walk.findings[before:], name)
            walk.count("outputs_compared")
        if name not in candidate or len(walk.findings) > before:
            broken.add(name)
    return Comparison(
        findings=tuple(walk.findings),
        receipt=Receipt(counts=walk.counts),
        worst=walk.worst,
        broken=frozenset(broken),
    )


def _ranking(rule: OutputSpec, *, reference: Values, candidate: Values) -> Ranking | None:
    if rule.scores is None:
        return None
    return ranking(rule.scores, reference=reference, candidate=candidate)


def _shortened(findings: list[Finding], name: str) -> list[Finding]:
    """Keep a long sequence of maps from telling the same fault a thousand times."""
    if len(findings) <= SHOWN_FINDINGS:
        return findings
    shown = findings[:SHOWN_FINDINGS]
    more = f"{len(findings) - SHOWN_FINDINGS} more findings of this kind in output '{name}'"
    last = shown[-1]
    return [*shown[:-1], replace(last, got=f"{last.got}\n{more}" if last.got else more)]


def _compare_names(walk: Walk, *, reference: Values, candidate: Values) -> None:
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
    walk: Walk, rule: OutputSpec, path: str, *, reference: Value, candidate: Value
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
    elif isinstance(reference, SampledTensor) and isinstance(candidate, np.ndarray):
        tensors = partial(_compare_tensors, walk, rule, path)
        compare_sample(
            walk, rule, path, reference=reference, candidate=candidate, compare_tensors=tensors
        )


def _compare_sequences(
    walk: Walk,
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
    walk: Walk,
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
    walk: Walk, rule: OutputSpec, path: str, *, reference: Array, candidate: Array
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
    walk.count("elements_compared", elements_judged(rule, reference))
    if rule.compare == "set":
        reference, candidate = np.sort(reference, axis=None), np.sort(candidate, axis=None)
    if rule.measures is not None:
        walk.findings += judge_measures(
            rule.measures, path, walk.cell, reference=reference, candidate=candidate
        )
    if walk.output in walk.bound:
        check_finite(walk, rule, path, reference=reference, candidate=candidate)
    elif rule.compare == "close" and dtype.is_floating:
        row = coarser(dtype, walk.computes_in)
        allowed = resolve_tolerance(output=rule, dtype=row, provider=walk.provider)
        compare_close(walk, rule, path, allowed, reference=reference, candidate=candidate)
    else:
        compare_exactly(walk, rule, path, reference=reference, candidate=candidate)


def _dtype_fits(
    walk: Walk, rule: OutputSpec, path: str, *, reference: DType, candidate: DType
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


def _a(noun: str) -> str:
    return f"an {noun}" if noun.startswith("e") else f"a {noun}"


def _shape(array: Array) -> str:
    return str(list(array.shape))


def _shorten(items: list[int | str]) -> str:
    shown = ", ".join(map(repr, items[:SHOWN_KEYS]))
    return f"[{shown}{', ...' if len(items) > SHOWN_KEYS else ''}]"
