"""Receipts: what an item really did, so that nothing checked can never look like a pass."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Timed:
    """Calls that were timed, for pictures and for pytest-benchmark; no record holds them."""

    candidate_ns: npt.NDArray[np.int64]
    """Single calls, shape [calls]."""
    control_ns: npt.NDArray[np.int64]
    """The same of the control; empty where there was none."""
    pairs: tuple[float, ...] = ()
    """Log ratio of candidate to control of each pair of workers."""
    effect: float = 0.0
    """Estimate over all pairs, a log ratio."""
    interval: tuple[float, float] = (0.0, 0.0)
    """Its confidence bounds."""
    bound: float = 0.0
    """Change that matters, a log ratio."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """The evidence of one item.

    `counts` are what was really done (outputs compared, elements compared, nodes placed, ...);
    `facts` are hashes, versions and figures that identify it; `measured` holds all that a baseline
    needs of what was measured, as JSON values; `serving` what is recorded besides and judged by
    nothing.
    """

    counts: dict[str, int] = field(default_factory=dict)
    facts: dict[str, str] = field(default_factory=dict)
    measured: dict[str, Any] = field(default_factory=dict)
    serving: dict[str, Any] = field(default_factory=dict)
    timed: Timed | None = None

    def plus(
        self, *, counts: dict[str, int] | None = None, facts: dict[str, str] | None = None
    ) -> Receipt:
        """Return this receipt with `counts` added up and `facts` added."""
        added = {name: self.counts.get(name, 0) + number for name, number in (counts or {}).items()}
        return replace(self, counts={**self.counts, **added}, facts={**self.facts, **(facts or {})})

    def zeros(self, required: Iterable[str]) -> tuple[str, ...]:
        """Return the counters of `required` that are zero or absent (`a|b`: both of them)."""
        return tuple(
            names
            for names in required
            if not any(self.counts.get(name, 0) > 0 for name in names.split("|"))
        )
