"""Traces that float32 leaves in float64 results: numbers that float32 holds exactly."""

from __future__ import annotations

from typing import Any

import numpy as np

#: Values of one result that are looked at.
LOOKED_AT = 256
#: Fewer values that float32 holds exactly may be chance, or meant (0.5, 0.25).
TELLING = 8
#: Changes a number so little that no figure of ours moves, and so that float32 cannot hold it.
SHAKE = 1 + 2.0**-35


def shaken(value: Any) -> Any:
    """Return nearly the same value, floats no longer such that float32 holds them exactly."""
    if isinstance(value, np.ndarray) and value.dtype == np.float64:
        return value * SHAKE
    return [shaken(item) for item in value] if isinstance(value, list) else value


def fits_float32(values: Any) -> bool:
    """Return whether float32 holds all of these values exactly."""
    with np.errstate(over="ignore", under="ignore"):
        return bool((values.astype(np.float32) == values).all())


def holds_float32(array: Any) -> bool:
    """Return whether float32 holds all values exactly, and enough of them tell something."""
    if array.dtype != np.float64:
        return False
    some = array.ravel()[:LOOKED_AT]
    some = some[np.isfinite(some) & (some * 1024 != np.round(some * 1024))]
    return np.unique(some).size >= TELLING and fits_float32(some)
