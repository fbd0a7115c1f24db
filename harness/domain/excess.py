"""What a bound that was exceeded says: where, by how much, and whether anything excuses it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from harness.domain.bounds import Rule, ScaledError, Standing, flattened
from harness.domain.dtypes import DType
from harness.domain.findings import Finding
from harness.domain.values import Values, leaves

#: A build in a coarser type would explain an error from 1 / 4 to 4 times that type's own.
ALIKE = 4.0


@dataclass(frozen=True, slots=True, kw_only=True)
class WorstElement:
    """The element of an output that is furthest from float64."""

    place: str
    """Where it lies, such as `[0, 9], step 3`."""
    candidate: float
    exact: float

    @property
    def difference(self) -> float:
        """Return the absolute difference, in the output's own unit."""
        return abs(self.candidate - self.exact)


def worst_element(
    candidate: Sequence[Values], exact: Sequence[Values], output: str
) -> WorstElement:
    """Return the element of an output, over all steps, with the largest error."""
    values, trusted = flattened(candidate, output), flattened(exact, output)
    with np.errstate(invalid="ignore"):
        errors = np.abs(values - trusted)
    at = int(np.argmax(np.where(np.isfinite(errors), errors, -1.0)))
    place = _place(candidate, output, at)
    return WorstElement(place=place, candidate=float(values[at]), exact=float(trusted[at]))


def _place(steps: Sequence[Values], output: str, index: int) -> str:
    for step, values in enumerate(steps):
        for path, array in leaves(values[output], output):
            if index < array.size:
                inside = [int(i) for i in np.unravel_index(index, array.shape)]
                place = f"{path.removeprefix(output)}{inside}"
                return f"{place}, step {step}" if len(steps) > 1 else place
            index -= array.size
    msg = f"output '{output}' has no element {index}"
    raise IndexError(msg)


def excess_finding(
    *, cell: str, output: str, rule: Rule, standing: Standing, worst: WorstElement, hint: str
) -> Finding:
    """Return the finding on an output beyond its bound.

    Args:
        cell: Id for messages.
        output: Its name.
        rule: K and floor.
        standing: What was found and what is allowed.
        worst: The element with the largest error.
        hint: Whether anything suggests that the error is deserved.
    """
    found, limit = standing.found, standing.limit
    return Finding(
        code="parity.tolerance",
        what=f"Parity failed: output '{output}' is further from float64 than its {rule.dtype} "
        f"reference explains for cell '{cell}'",
        where=f"output '{output}', worst at {worst.place}",
        expected=f"RMS error <= {limit.rms:.3g} and largest <= {limit.largest:.3g} of the output's "
        f"scale: {rule.factor:g} x the {rule.dtype} reference's + {rule.floor:.3g} "
        f"({rule.source}; {standing.basis})",
        got=f"RMS {found.rms:.3g} ({_times(found.rms, limit.rms)}), largest {found.largest:.3g} "
        f"({_times(found.largest, limit.largest)}); c = {worst.candidate:.9g}, "
        f"r = {worst.exact:.9g} in float64, difference {worst.difference:.3g}",
        next_step=f"would have passed with atol = {worst.difference:.3g}; {hint}",
    )


def _times(found: float, limit: float) -> str:
    return f"{found / limit:.3g} times" if limit else "nothing was allowed"


def what_excuses(found: ScaledError, own: ScaledError, coarser: Mapping[DType, ScaledError]) -> str:
    """Return whether the error looks like one that the build cannot avoid.

    Args:
        found: The candidate's error.
        own: The reference's in the candidate's type.
        coarser: The reference's in types of fewer bits.
    """
    for dtype, error in coarser.items():
        if error.rms / ALIKE <= found.rms <= error.rms * ALIKE:
            return (
                f"its size is that of {dtype} ({found.rms / error.rms:.2g} x the reference's "
                "error there): something computes so, or is wrong by as much; only a build that is "
                f'meant to declares dtype = "{dtype}", with the reason'
            )
    if not own.rms:
        return "nothing suggests that it is deserved: the reference has no error"
    times = f"{found.rms / own.rms:.3g} x the reference's own error"
    return f"nothing suggests that it is deserved: {times}"
