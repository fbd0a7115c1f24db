"""Whether two runs on the same inputs gave the same, to the last bit."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from harness.domain import dtypes
from harness.domain.values import Array, Values, leaves


def difference(one: Values, other: Values) -> str:
    """Return how two runs differ, such as `output 'y' in 3 of 10 elements by up to 1e-07`.

    Empty if names, shapes, types and bits are the same. NaN equals NaN here.
    """
    return "; ".join(_differences(one, other))


def _differences(one: Values, other: Values) -> Iterator[str]:
    if list(one) != list(other):
        yield f"outputs {list(one)} and then {list(other)}"
        return
    for name, value in one.items():
        first, second = dict(leaves(value, name)), dict(leaves(other[name], name))
        if list(first) != list(second):
            yield f"output '{name}' in its structure"
            continue
        for path, array in first.items():
            if said := _difference(array, second[path]):
                yield f"output '{path}' {said}"


def _difference(one: Array, other: Array) -> str:
    if one.shape != other.shape or one.dtype != other.dtype:
        return f"as {one.dtype} {list(one.shape)} and then {other.dtype} {list(other.shape)}"
    unequal = _unequal(one, other)
    count = int(unequal.sum())
    if not count:
        return ""
    return f"in {count} of {one.size} elements{_by_how_much(one[unequal], other[unequal])}"


def _unequal(one: Array, other: Array) -> Array:
    if one.dtype == object:
        return np.asarray(one != other)
    return np.asarray((one != other) & ~((one != one) & (other != other)))  # noqa: PLR0124 - NaN


def _by_how_much(one: Array, other: Array) -> str:
    kind = dtypes.of_array(one)
    if not (kind.is_floating or kind.is_integer):
        return ""
    wide = np.complex128 if one.dtype.kind == "c" else np.float64
    with np.errstate(invalid="ignore"):
        largest = np.abs(one.astype(wide) - other.astype(wide)).max()
    return f" by up to {float(largest):.3g}"
