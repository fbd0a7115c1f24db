"""How much a model's outputs move when its inputs, or all of its weights, do."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from harness.domain.values import Values, leaves

Floats = npt.NDArray[np.float64]


def spread(runs: Sequence[Values]) -> float | None:
    """Return how far the outputs of runs are from their mean, as a share of their size.

    Root mean square of the deviations / root mean square of the values, for each tensor; the
    largest share of all, at most 1. None if no tensor has one shape in all runs.
    """
    shares = []
    for arrays in _by_path(runs).values():
        if len(arrays) == len(runs) and len({array.shape for array in arrays}) == 1:
            stack = np.stack(arrays)
            shares.append(_share(stack - stack.mean(axis=0), stack))
    return max(shares, default=None)


def moved(reference: Sequence[Values], candidate: Sequence[Values]) -> float:
    """Return how far outputs are from others, as a share of the others' size, at most 1."""
    shares = [0.0]
    expected, got = _by_path(reference), _by_path(candidate)
    for path, arrays in expected.items():
        others = got.get(path, [])
        if [array.shape for array in arrays] != [array.shape for array in others]:
            return 1.0
        for one, other in zip(arrays, others, strict=True):
            shares.append(_share(other - one, one))
    return max(shares)


def _by_path(runs: Sequence[Values]) -> dict[str, list[Floats]]:
    found: dict[str, list[Floats]] = {}
    for outputs in runs:
        for name, value in outputs.items():
            for path, array in leaves(value, name):
                if array.dtype.kind in "fiubV" and array.size:
                    found.setdefault(path, []).append(array.astype(np.float64))
    return found


def _share(differences: Floats, values: Floats) -> float:
    with np.errstate(all="ignore"):
        size = float(np.sqrt(np.mean(values**2)))
        moves = float(np.sqrt(np.mean(differences**2)))
    if not np.isfinite(moves) or not np.isfinite(size):
        return 1.0
    if moves == 0:
        return 0.0
    return min(moves / size, 1.0) if size else 1.0
