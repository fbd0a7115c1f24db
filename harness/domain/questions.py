"""The suites' questions: which part of a cell each is about, and what it must have counted."""

from __future__ import annotations

from dataclasses import dataclass

from harness.domain.cells import CASE_DEPTH, PROVIDER_DEPTH, VARIANT_DEPTH


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What one suite asks."""

    name: str
    """Name of the suite's marker."""
    asks: str
    """The question in words, for `--markers` and reports."""
    depth: int
    """Places of the cell that matter."""
    counters: tuple[str, ...]
    """Counters of the receipt that must be above zero; `a|b` asks for one of two."""


CONTRACT = Question(
    name="contract",
    asks="is the file a valid ONNX model with the interface that its spec promises?",
    depth=VARIANT_DEPTH,
    counters=("nodes_checked", "outputs_declared"),
)
PLACEMENT = Question(
    name="placement",
    asks="do the nodes really run on the provider that was asked for?",
    depth=PROVIDER_DEPTH,
    counters=("nodes_placed",),
)
PARITY = Question(
    name="parity",
    asks="does the candidate compute what its reference computes?",
    depth=CASE_DEPTH,
    counters=("outputs_compared", "elements_compared|empty_values_compared"),
)
PROPERTIES = Question(
    name="properties",
    asks="does parity hold over the whole input space that the spec declares?",
    depth=PROVIDER_DEPTH,
    counters=("examples_judged", "elements_compared|empty_values_compared"),
)
QUESTIONS = {question.name: question for question in (CONTRACT, PLACEMENT, PARITY, PROPERTIES)}
