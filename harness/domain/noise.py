"""What single pairs of one unchanged model scatter by in an environment, cell by cell."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from harness.domain.environment import Environment
from harness.domain.spec import STRICT

SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Noise:
    """What a cell's calibration measured."""

    __pydantic_config__: ClassVar = STRICT

    scatter: float
    """Standard deviation of the log ratios of single pairs, as `duet.estimate` tells it."""
    pairs: int
    p50_ms: float
    """Median over workers of the median call."""
    when: str
    """UTC, ISO 8601."""

    def __post_init__(self) -> None:
        """Refuse what no measurement can have told."""
        if not 0 <= self.scatter < math.inf:
            msg = f"'scatter' must be 0 or above, got {self.scatter}"
            raise ValueError(msg)
        if not 0 < self.p50_ms < math.inf:
            msg = f"'p50_ms' must be a time above 0, got {self.p50_ms}"
            raise ValueError(msg)
        if self.pairs < 1:
            msg = f"'pairs' must be at least 1, got {self.pairs}"
            raise ValueError(msg)


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalNoise:
    """The noise of all calibrated cells in one environment."""

    __pydantic_config__: ClassVar = STRICT

    schema_version: Literal[1] = 1
    environment: Environment
    cells: dict[str, Noise] = field(default_factory=dict)
    """By cell, such as `mnist/fp32/cpu/batch1`."""
