"""Further measures of an output against its reference, for specs that ask for them.

They judge a whole output where single elements say little: embeddings by direction, quantised
builds by signal-to-noise ratio, rankings by their first places. All compute in float64.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from harness.domain import dtypes
from harness.domain.findings import Finding
from harness.domain.spec import Measures
from harness.domain.values import Array

FloatArray = npt.NDArray[np.float64]


def cosine(reference: FloatArray, candidate: FloatArray) -> float:
    """Return the cosine of the angle between two outputs taken as vectors; two zeros agree.

    Args:
        reference: Any shape S.
        candidate: Shape S.
    """
    lengths = float(np.linalg.norm(reference)) * float(np.linalg.norm(candidate))
    if lengths == 0:
        return float(not reference.any() and not candidate.any())
    return float(np.vdot(reference, candidate)) / lengths


def snr_db(reference: FloatArray, candidate: FloatArray) -> float:
    """Return the signal-to-noise ratio, 20 log10(|reference| / |difference|), in decibels."""
    signal, noise = (float(np.linalg.norm(each)) for each in (reference, candidate - reference))
    if noise == 0:
        return float("inf")
    return 20 * float(np.log10(signal / noise)) if signal else float("-inf")


def ulp_distance(reference: Array, candidate: Array) -> int:
    """Return the greatest number of representable values between two outputs.

    Args:
        reference: Any shape S; rounded to the candidate's type.
        candidate: Shape S, any real floating type.
    """
    steps = _ordered(candidate) - _ordered(reference.astype(candidate.dtype))
    return int(np.abs(steps).max(initial=0))


def _ordered(values: Array) -> npt.NDArray[np.object_]:
    """Return integers that count representable values, both zeros being 0; exact for float64."""
    bits = values.dtype.itemsize * 8
    raw = np.ascontiguousarray(values).view(np.dtype(f"u{values.dtype.itemsize}")).astype(object)
    sign = 1 << (bits - 1)
    return np.where(raw >= sign, sign - raw, raw)


def top_k_agreement(reference: FloatArray, candidate: FloatArray, k: int) -> float:
    """Return the share of rows whose K first places the reference accepts.

    A row agrees if each of the candidate's K first places is one that the reference ranks as high,
    so the order among them and ties at the last place do not matter.

    Args:
        reference: Shape [..., N]; the last axis is ranked.
        candidate: The same shape.
        k: Places; at most N.
    """
    rows, ours = (each.reshape(-1, each.shape[-1]) for each in (reference, candidate))
    least = np.sort(rows, axis=1)[:, -k]
    first = np.argsort(-ours, axis=1, kind="stable")[:, :k]
    chosen = np.take_along_axis(rows, first, axis=1)
    return float((chosen >= least[:, None]).all(axis=1).mean())


def kl_divergence(reference: FloatArray, candidate: FloatArray, *, logits: bool) -> float:
    """Return the greatest Kullback-Leibler divergence of a row, in nats.

    sum(p * log(p / q)) with p the reference's distribution and q the candidate's.

    Args:
        reference: Shape [..., N]; each row of the last axis is a distribution.
        candidate: The same shape.
        logits: Whether rows are to go through softmax first; else they are scaled to a sum of 1.
    """
    p, q = (_distribution(each, logits=logits) for each in (reference, candidate))
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(p > 0, p * (np.log(p) - np.log(q)), 0.0)
    return float(terms.sum(axis=-1).max(initial=0.0))


def _distribution(values: FloatArray, *, logits: bool) -> FloatArray:
    if logits:
        values = np.exp(values - values.max(axis=-1, keepdims=True))
    total = values.sum(axis=-1, keepdims=True)
    spread: FloatArray = values / np.where(total == 0, 1.0, total)
    return spread


def judge_measures(
    measures: Measures, path: str, cell: str, *, reference: Array, candidate: Array
) -> Iterator[Finding]:
    """Yield a finding for each measure that a tensor misses.

    Where one of both is NaN or infinite both count as 0: `finite` has judged that. Complex numbers
    count as pairs of real ones.

    Args:
        measures: What the spec asks for.
        path: Which tensor, such as `logits` or `boxes[3]`.
        cell: Id for messages.
        reference: Any shape S.
        candidate: Shape S.
    """
    if not dtypes.of_array(candidate).is_floating:
        kind = str(dtypes.of_array(candidate))
        yield _missed("measures", path, cell, expected="a floating output", got=kind)
        return
    judged = np.isfinite(reference) & np.isfinite(candidate)
    trusted, ours = (
        _real(np.where(judged, each, each.dtype.type(0))) for each in (reference, candidate)
    )
    if measures.top_k is not None and measures.top_k.k >= trusted.shape[-1]:
        yield _all_places(measures.top_k.k, path, cell, columns=trusted.shape[-1])
    for name, found, limit, holds in _measured(measures, trusted, ours):
        if not holds:
            yield _missed(name, path, cell, expected=f"{name} {limit}", got=f"{name} {found:.6g}")


def _missed(name: str, path: str, cell: str, *, expected: str, got: str) -> Finding:
    return Finding(
        code="parity.measure",
        what=f"Parity failed: {name} of output '{path}' for cell '{cell}'",
        where=f"output '{path}'",
        expected=f"{expected} (spec, outputs.{path}.measures)",
        got=got,
        next_step="compare the values; only evidence justifies another limit",
    )


def _all_places(k: int, path: str, cell: str, *, columns: int) -> Finding:
    """Return that the first places are all places, about which any two rows agree."""
    return Finding(
        code="parity.measure",
        what=f"Measure top_k of output '{path}' judges nothing: its rows have {columns} "
        f"{'value' if columns == 1 else 'values'}, k is {k} for cell '{cell}'",
        where=f"output '{path}'",
        expected=f"k below {columns} (spec, outputs.{path}.measures.top_k)",
        got=f"k = {k}",
        next_step="lower k, or drop top_k; where dims set the last axis, raise their min above k",
    )


def _real(values: Array) -> Array:
    """Return complex numbers as pairs of real ones, along the last axis."""
    if values.dtype.kind != "c":
        return np.atleast_1d(values)
    part = np.float32 if values.dtype.itemsize == np.dtype(np.complex64).itemsize else np.float64
    return np.ascontiguousarray(np.atleast_1d(values)).view(part)


def _measured(
    wanted: Measures, reference: Array, candidate: Array
) -> Iterator[tuple[str, float, str, bool]]:
    """Yield name, figure, limit and whether it is kept."""
    wide, ours = reference.astype(np.float64), candidate.astype(np.float64)
    if (least := wanted.cosine) is not None:
        value = cosine(wide, ours)
        yield "cosine", value, f">= {least:g}", value >= least
    if (least := wanted.snr_db) is not None:
        value = snr_db(wide, ours)
        yield "SNR in dB", value, f">= {least:g}", value >= least
    if (most := wanted.ulp) is not None:
        value = ulp_distance(reference, candidate)
        yield f"ULP distance in {dtypes.of_array(candidate)}", value, f"<= {most}", value <= most
    if (top := wanted.top_k) is not None and top.k < wide.shape[-1]:
        value = top_k_agreement(wide, ours, top.k)
        yield f"top-{top.k} agreement", value, f">= {top.agreement:g}", value >= top.agreement
    if (rule := wanted.kl) is not None:
        value = kl_divergence(wide, ours, logits=rule.logits)
        yield "KL divergence in nats", value, f"<= {rule.maximum:g}", value <= rule.maximum
