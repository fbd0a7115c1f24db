"""How far outputs are from others, output by output: maximum and root mean square."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from harness.domain.values import Array, Value, Values, leaves


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Differences of one output over any number of runs."""

    maximum: float = 0.0
    """Greatest absolute difference of floating elements; infinite where one is NaN alone."""
    squares: float = 0.0
    """Sum of squared differences."""
    count: int = 0
    """Floating elements."""
    mismatches: int = 0
    """Other elements (labels, texts, truth values) that are not equal, and lost shapes."""

    @property
    def rms(self) -> float:
        """Return the root mean square of the differences."""
        return math.sqrt(self.squares / self.count) if self.count else 0.0

    def plus(self, other: Difference) -> Difference:
        """Return both together."""
        return Difference(
            maximum=max(self.maximum, other.maximum),
            squares=self.squares + other.squares,
            count=self.count + other.count,
            mismatches=self.mismatches + other.mismatches,
        )

    def within(self, error: Difference) -> bool:
        """Return whether this is no more than `error`, by maximum, RMS and mismatches."""
        return (
            self.maximum <= error.maximum
            and self.rms <= error.rms
            and self.mismatches <= error.mismatches
        )


Differences = Mapping[str, Difference]


def differences(reference: Values, candidate: Values) -> dict[str, Difference]:
    """Return how far each output of `candidate` is from that of `reference`."""
    return {name: _difference(value, candidate.get(name)) for name, value in reference.items()}


def added(one: Differences, other: Differences) -> dict[str, Difference]:
    """Return both together, output by output."""
    return {
        name: one.get(name, Difference()).plus(other.get(name, Difference()))
        for name in (*one, *(name for name in other if name not in one))
    }


def all_within(found: Differences, error: Differences) -> bool:
    """Return whether every output is within its error."""
    return all(each.within(error.get(name, Difference())) for name, each in found.items())


def _difference(reference: Value, candidate: Value) -> Difference:
    expected, got = dict(leaves(reference, "")), dict(leaves(candidate, ""))
    total = Difference(mismatches=len(expected.keys() ^ got.keys()))
    for path in expected.keys() & got.keys():
        total = total.plus(_of_arrays(expected[path], got[path]))
    return total


def _of_arrays(reference: Array, candidate: Array) -> Difference:
    if reference.shape != candidate.shape:
        return Difference(maximum=math.inf, mismatches=1)
    if reference.dtype.kind not in "fcV":
        return Difference(mismatches=int(np.sum(reference != candidate)))
    wide = np.complex128 if reference.dtype.kind == "c" else np.float64
    expected, got = np.atleast_1d(reference.astype(wide)), np.atleast_1d(candidate.astype(wide))
    with np.errstate(all="ignore"):
        difference = np.abs(expected - got)
    difference[(expected == got) | (np.isnan(expected) & np.isnan(got))] = 0.0
    difference[np.isnan(difference)] = math.inf
    with np.errstate(over="ignore"):
        squares = float(np.sum(difference.astype(np.float64) ** 2))
    return Difference(
        maximum=float(difference.max(initial=0.0)), squares=squares, count=int(difference.size)
    )
