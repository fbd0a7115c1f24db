"""What is collected while a run's outputs are walked: findings, counts, the worst element."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from harness.domain.dtypes import DType
from harness.domain.findings import Finding
from harness.domain.labels import Ranking
from harness.domain.values import SampledTensor


@dataclass(slots=True, kw_only=True)
class Walk:
    """The one mutable value of the domain; it never leaves a comparison."""

    cell: str
    """Id for messages."""
    provider: str
    bound: frozenset[str] = frozenset()
    """Outputs whose values are held against float64 elsewhere."""
    computes_in: DType | None = None
    """Floating type that the candidate computes in; None if it is that of its outputs."""
    ranking: Ranking | None = None
    """Scores behind the labels being walked."""
    output: str = ""
    """Name of the output being walked, the key of its table in the spec."""
    findings: list[Finding] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    worst: float = 0.0
    """Greatest difference / allowed difference so far."""
    sampled: SampledTensor | None = None
    """The sample whose elements are being compared, if the reference is one."""

    def fail(self, code: str, what: str, **parts: str) -> None:
        """Add a finding; `parts` are its other fields."""
        self.findings.append(Finding(code=code, what=f"{what} for cell '{self.cell}'", **parts))

    def count(self, name: str, number: int = 1) -> None:
        """Add to a counter of the receipt."""
        self.counts[name] = self.counts.get(name, 0) + number

    def place(self, index: tuple[int, ...]) -> list[int]:
        """Return where in the output an element is; in a sample, `index` counts its elements."""
        if self.sampled is not None:
            position, shape = self.sampled.positions[index[0]], self.sampled.shape
            index = tuple(int(each) for each in np.unravel_index(position, shape))
        return list(index)
