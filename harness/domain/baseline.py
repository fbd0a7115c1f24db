"""Baselines: what was approved, as a recipe that can be run again and the figures that it gave.

The portable part of a model's baseline holds on every machine; what a clock or a memory counter
told belongs to the environment in which it was read. `harness.files.baselines` keeps both.
"""

from __future__ import annotations

import datetime
import math
import re
from dataclasses import asdict, dataclass, field, fields
from typing import Any, ClassVar, Literal

from harness.domain.cells import Cell, short_name
from harness.domain.environment import Environment
from harness.domain.spec import STRICT, IoMode, Level

SCHEMA_VERSION = 1
_SHA256 = re.compile(r"[0-9a-f]{64}")
_QUANTILE = re.compile(r"p[1-9][0-9]?")
#: What the clock counts in.
TICK_MS = 1e-6
#: Workers of one recipe never differ by a factor of e^10.
MOST_SPREAD = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """One build of ONNX Runtime, with the libraries of custom operators that a model needs."""

    __pydantic_config__: ClassVar = STRICT

    version: str
    """Such as `1.32.0`."""
    providers: tuple[str, ...]
    """What is built in: two builds of one version differ in this."""
    libraries: dict[str, str] = field(default_factory=dict)
    """Libraries of custom operators, by the name that the spec gives them: a package's version,
    which is the same on every system, or the SHA-256 of a file."""

    def __str__(self) -> str:
        """Return it as messages name it."""
        told = "".join(f" with {name} {each[:12]}" for name, each in self.libraries.items())
        return f"onnxruntime {self.version} ({', '.join(self.providers)}){told}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """All that is needed to run a cell again, its inputs aside: the model's spec draws those."""

    __pydantic_config__: ClassVar = STRICT

    model: str
    """Model hash."""
    build: Build
    """The runtime's build of ONNX Runtime."""
    provider: str
    """Execution provider by ONNX Runtime's name."""
    options: dict[str, str] = field(default_factory=dict)
    """Provider options."""
    threads: int = 1
    """Intra-op threads."""
    optimization: Level = "all"
    """Graph optimisation level."""
    config: dict[str, str] = field(default_factory=dict)
    """Session configuration entries."""
    custom_ops: tuple[str, ...] = ()
    """Libraries of custom operators, as the spec names them."""
    io_mode: IoMode = "host"
    """Where inputs and outputs are bound: timings of different modes are never compared."""

    def __post_init__(self) -> None:
        """Check what no recipe can be without."""
        _check_hash("model", self.model)
        if self.threads < 1:
            msg = f"'threads' must be at least 1, got {self.threads}"
            raise ValueError(msg)

    def differences(self, other: Recipe) -> dict[str, tuple[str, str]]:
        """Return the fields in which two recipes differ: name -> (this one's, the other's)."""
        pairs = ((each.name, getattr(self, each.name), getattr(other, each.name))
                 for each in fields(self))  # fmt: skip
        return {name: (str(ours), str(theirs)) for name, ours, theirs in pairs if ours != theirs}


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Who approved an entry, when, at which commit and why."""

    __pydantic_config__: ClassVar = STRICT

    who: str
    when: str
    """UTC, ISO 8601."""
    commit: str
    """Of the project; empty outside a repository."""
    reason: str
    harness: str
    """Version of onnx-harness."""

    def __post_init__(self) -> None:
        """Check the time."""
        try:
            datetime.datetime.fromisoformat(self.when)
        except ValueError:
            msg = f"'when' must be a time as ISO 8601 writes it, got '{self.when}'"
            raise ValueError(msg) from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """The portable baseline of a variant on a provider."""

    __pydantic_config__: ClassVar = STRICT

    recipe: Recipe
    artefact: str
    """SHA-256 of the control's file in the artefact store; empty if it is not kept."""
    file_bytes: int
    """Size of the model file with its external data."""
    change: Change

    def __post_init__(self) -> None:
        """Check that hash and size can be what they say."""
        if self.artefact:
            _check_hash("artefact", self.artefact)
        if self.file_bytes <= 0:
            msg = f"'file_bytes' must be above 0, got {self.file_bytes}"
            raise ValueError(msg)


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """The portable baselines of one model."""

    __pydantic_config__: ClassVar = STRICT

    schema_version: Literal[1] = 1
    model: str
    """Name of the model."""
    entries: dict[str, Entry] = field(default_factory=dict)
    """By variant and provider, such as `fp32/cpu`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """What several fresh workers measured of one latency point."""

    __pydantic_config__: ClassVar = STRICT

    inputs: str
    """Hash of the input sets."""
    p50_ms: float
    """Median over workers of the median call."""
    spread: float
    """Standard deviation of the log of those medians: what runs of one recipe differ by."""
    workers: int
    calls: int
    quantiles_ms: dict[str, float]
    """Sketch of all calls: `p1` to `p99` -> ms."""
    startup_ms: float
    """Median over workers: creating the session, and its first run."""
    startup_spread: float
    """The same as `spread`, of that."""
    memory_bytes: int
    """Greatest resident memory of the worker above what it had before the session; the greatest of
    all workers."""
    gpu_bytes: int = 0
    """What one worker takes of the GPU's memory, its context included; 0 without a GPU."""

    def __post_init__(self) -> None:
        """Refuse what no clock and no memory counter can have told."""
        for name in ("p50_ms", "startup_ms"):
            if not TICK_MS <= getattr(self, name) < math.inf:
                msg = f"'{name}' must be a time from {TICK_MS:g} ms, got {getattr(self, name)}"
                raise ValueError(msg)
        for name in ("spread", "startup_spread"):
            if not 0 <= getattr(self, name) <= MOST_SPREAD:
                msg = f"'{name}' must be from 0 to {MOST_SPREAD:g}, got {getattr(self, name)}"
                raise ValueError(msg)
        if min(self.workers, self.calls) < 1 or min(self.memory_bytes, self.gpu_bytes) < 0:
            msg = "'workers' and 'calls' must be at least 1, bytes at least 0"
            raise ValueError(msg)
        _check_quantiles(self.quantiles_ms)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What was measured of a variant on a provider in one environment."""

    __pydantic_config__: ClassVar = STRICT

    recipe: Recipe
    """What was measured."""
    nodes: dict[str, int]
    """Execution provider -> nodes that it got; empty where ONNX Runtime does not tell."""
    points: dict[str, Timing]
    """By latency point."""
    change: Change


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalBaseline:
    """The figures of one model in one environment."""

    __pydantic_config__: ClassVar = STRICT

    schema_version: Literal[1] = 1
    model: str
    environment: Environment
    entries: dict[str, Figures] = field(default_factory=dict)
    """By variant and provider, such as `fp32/cpu`."""


def entry_key(cell: Cell) -> str:
    """Return under which key a cell's baseline stands; the runtime is part of the recipe."""
    return f"{cell.variant}/{short_name(cell.provider)}"


def plain(baseline: Baseline | LocalBaseline) -> dict[str, Any]:
    """Return JSON values."""
    return asdict(baseline)


def _check_quantiles(quantiles_ms: dict[str, float]) -> None:
    strange = [name for name in quantiles_ms if not _QUANTILE.fullmatch(name)]
    if strange:
        msg = f"'quantiles_ms' must have names from 'p1' to 'p99', got '{strange[0]}'"
        raise ValueError(msg)
    ordered = [quantiles_ms[name] for name in sorted(quantiles_ms, key=_percent)]
    is_possible = all(math.isfinite(each) and each > 0 for each in ordered)
    if not ordered or not is_possible or ordered != sorted(ordered):
        msg = f"'quantiles_ms' must be times above 0 that rise, got {ordered}"
        raise ValueError(msg)


def _percent(name: str) -> int:
    return int(name.removeprefix("p"))


def _check_hash(name: str, text: str) -> None:
    if not _SHA256.fullmatch(text):
        msg = f"'{name}' must be a SHA-256 of 64 lower-case hexadecimal digits, got '{text}'"
        raise ValueError(msg)
