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
LATENCY = Question(
    name="latency",
    asks="is the candidate as fast, as small and as quick to start as its baseline?",
    depth=CASE_DEPTH,
    counters=("calls_timed|unchanged_by_hash",),
)
_ALL = (CONTRACT, PLACEMENT, PARITY, PROPERTIES, LATENCY)
QUESTIONS = {question.name: question for question in _ALL}

_ON_PROVIDER = (PLACEMENT, PARITY, PROPERTIES)
_OF_INTERFACE = (CONTRACT, PARITY, PROPERTIES)
#: Codes that a known failure may name -> the questions that are sure to show the failure while it
#: lasts, so that a pass of theirs disproves it. None: any question can meet such a failure by
#: itself, so the entry must name its suite. Not here: what no spec can excuse (a spec that could
#: not be read, what is blocked, which goes by its cause, and the codes of known failures).
SHOWN_BY: dict[str, tuple[Question, ...]] = {
    "model.missing": _ALL,
    "model.unreadable": _ALL,
    "model.invalid": (CONTRACT,),
    "model.external-data": _ALL,
    "model.no-outputs": _ALL,
    "model.hash": _ALL,
    "model.download": _ALL,
    "contract.input": _OF_INTERFACE,
    "contract.output": (CONTRACT,),
    "contract.dtype": _OF_INTERFACE,
    "contract.shape": _OF_INTERFACE,
    "export.failed": _ALL,
    "build.failed": _ALL,
    "provider.unavailable": _ON_PROVIDER,
    "provider.no-device": _ON_PROVIDER,
    "session.refused": _ON_PROVIDER,
    "session.option": _ON_PROVIDER,
    # placement may pass without them: these can also happen while the model runs
    "session.fallback": (PARITY,),
    "runtime.broken": (PARITY,),
    "worker.signal": (PARITY,),
    "worker.timeout": (PARITY,),
    "worker.exit": (PARITY,),
    "worker.protocol": (PARITY,),
    "spec.inputs": (PARITY,),
    "run.failed": (PARITY,),
    "value.unsupported": (PARITY,),
    "reference.failed": (PARITY,),
    "reference.timeout": (PARITY,),
    "reference.signal": (PARITY,),
    "reference.undeclared-file": (PARITY,),
    "reference.unstable": (PARITY,),
    "reference.recorded": (PARITY,),
    "placement.fallback": (PLACEMENT,),
    "placement.none": (PLACEMENT,),
    "placement.unknown": (PLACEMENT,),
    "parity.outputs": (PARITY,),
    "parity.kind": (PARITY,),
    "parity.count": (PARITY,),
    "parity.dtype": (PARITY,),
    "parity.shape": (PARITY,),
    "parity.finite": (PARITY,),
    "parity.tolerance": (PARITY,),
    "parity.mismatch": (PARITY,),
    "parity.measure": (PARITY,),
    "property.parity": (PROPERTIES,),
    "property.batch": (PROPERTIES,),
    "property.padding": (PROPERTIES,),
    "property.permutation": (PROPERTIES,),
    "property.repeat": (PROPERTIES,),
    "property.threads": (PROPERTIES,),
    "property.run": (PROPERTIES,),
    "property.refused": (PROPERTIES,),
    "latency.slower": (LATENCY,),
    "latency.budget": (LATENCY,),
    "startup.slower": (LATENCY,),
    "memory.larger": (LATENCY,),
    "size.larger": (LATENCY,),
    "nodes.moved": (LATENCY,),
    "nodes.more": (LATENCY,),
    "receipt.empty": (),
    "harness.bug": (),
}
