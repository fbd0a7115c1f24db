"""What is collected while a run's outputs are walked: findings, counts, the worst element."""

from __future__ import annotations

from dataclasses import dataclass, field

from harness.domain.findings import Finding
from harness.domain.labels import Ranking


@dataclass(slots=True, kw_only=True)
class Walk:
    """The one mutable value of the domain; it never leaves a comparison."""

    cell: str
    """Id for messages."""
    provider: str
    bound: frozenset[str] = frozenset()
    """Outputs whose values are held against float64 elsewhere."""
    ranking: Ranking | None = None
    """Scores behind the labels being walked."""
    output: str = ""
    """Name of the output being walked, the key of its table in the spec."""
    findings: list[Finding] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    worst: float = 0.0
    """Greatest difference / allowed difference so far."""

    def fail(self, code: str, what: str, **parts: str) -> None:
        """Add a finding; `parts` are its other fields."""
        self.findings.append(Finding(code=code, what=f"{what} for cell '{self.cell}'", **parts))

    def count(self, name: str, number: int = 1) -> None:
        """Add to a counter of the receipt."""
        self.counts[name] = self.counts.get(name, 0) + number
