"""What the search found, as values, as lines that fit a screen, and as a finding."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from harness.domain.findings import Finding

#: Things outside the search that one line names.
SHOWN_OUTSIDE = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """The block where the error begins."""

    node: str
    """Label of the node that gives the block's outputs."""
    operator: str
    position: int
    """Of the node in the graph, from 1."""
    others: tuple[str, ...]
    """Labels of the block's other nodes, which cannot be told apart from it."""
    outputs: tuple[str, ...]
    module: str
    """PyTorch module; empty without metadata."""
    line: str
    """PyTorch source line; empty without metadata."""
    introduced: float
    """Greatest difference / greatest magnitude, on the reference's inputs."""
    inherited: float
    """What of the whole run's difference is left without it."""
    note: str = ""
    """What is special: a NaN, or an operator that does it everywhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The outcome of one search."""

    cell: str
    kind: str
    """`graph`, `provider`, `optimisation`; empty if the search was not possible."""
    headline: str
    """First line, complete in itself."""
    origin: Origin | None = None
    culprit: str = ""
    """What ablation says of optimisations."""
    levels: tuple[tuple[str, str], ...] = ()
    """Optimisation level to what it gave."""
    truth: str = ""
    """Where the trusted values came from."""
    tapping: str = ""
    """Whether looking changed what was looked at."""
    greatest: str = ""
    """The nodes that introduce most, where none stands out."""
    outside: tuple[str, ...] = ()
    """What the search cannot look into."""
    judged: int = 0
    """Nodes whose own error was measured."""
    total: int = 0
    """Nodes of the graph."""
    batches: int = 0
    largest_batch_bytes: int = 0
    folder: str = ""
    """Where the block lies as a model with its inputs."""
    elapsed_s: float = 0.0
    """Wall time; not among the lines, which are the same in every run."""

    def as_json(self) -> dict[str, Any]:
        """Return plain JSON values; a number that JSON lacks becomes null."""
        return {key: _plain(value) for key, value in asdict(self).items()}

    def finding(self) -> Finding:
        """Return the finding that is added to a failed item; it changes no verdict."""
        first, *rest = self.lines()
        replay = f"onnx-harness replay {self.folder}" if self.folder else ""
        told = [line.strip() for line in rest if not line.strip().startswith("replay:")]
        return Finding(code="parity.origin", what=first, got="\n".join(told), next_step=replay)

    def lines(self) -> Iterator[str]:
        """Yield the report as text."""
        yield self.headline
        yield from (f"  {label + ':':<12}{text}" for label, text in self._parts() if text)

    def _parts(self) -> Iterator[tuple[str, str]]:
        if self.origin is not None:
            yield from _origin_parts(self.origin)
        yield "culprit", self.culprit
        yield "levels", ", ".join(f"{level} {said}" for level, said in self.levels)
        yield "truth", self.truth
        yield "tapping", self.tapping
        yield "greatest", self.greatest
        shown = "; ".join(self.outside[:SHOWN_OUTSIDE])
        more = len(self.outside) - SHOWN_OUTSIDE
        yield "outside", f"{shown}; and {more} more" if more > 0 else shown
        if self.batches:
            batches = "1 batch" if self.batches == 1 else f"{self.batches} batches"
            yield "searched", f"{self.judged} of {self.total} nodes judged in {batches}"
        yield "saved", self.folder
        if self.folder:
            yield "replay", f"onnx-harness replay {self.folder}"


def _origin_parts(origin: Origin) -> Iterator[tuple[str, str]]:
    yield "node", f"{origin.node} ({origin.operator}), number {origin.position} of the graph"
    yield "with", ", ".join(origin.others)
    yield "pytorch", " at ".join(part for part in (origin.module, origin.line) if part)
    yield "introduced", f"{share(origin.introduced)} {origin.note}".strip()
    yield "inherited", share(origin.inherited)


def share(relative: float) -> str:
    """Return a relative difference for messages."""
    if math.isinf(relative) or math.isnan(relative):
        return "values that are not finite where the reference's are"
    return f"{relative:.3g} of the output's greatest magnitude"


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    return value
