"""One cell from spec to verdict, readable as a sentence: the questions of the suites."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable
from pathlib import Path

from harness.domain.cells import PROVIDER_DEPTH, VARIANT_DEPTH, Cell, short_name
from harness.domain.compare import Comparison, compare
from harness.domain.findings import Finding, from_error
from harness.domain.inputs import hash_values
from harness.domain.model_facts import ModelFacts, judge_contract
from harness.domain.placement import Placement, judge_placement
from harness.domain.questions import CONTRACT, PARITY, PLACEMENT, PROPERTIES, Question
from harness.domain.receipts import Receipt
from harness.domain.session import CPU_PROVIDER
from harness.domain.spec import PlacementSpec
from harness.domain.values import Values
from harness.domain.verdict import Judgement, judge
from harness.errors import HarnessError, RunFailed
from harness.evidence import Evidence, Selection, numbered
from harness.files.models import Model
from harness.properties import InputSearch, outside_search
from harness.runtimes.launchers import Launcher
from harness.runtimes.registry import Runtimes
from harness.runtimes.sessions import Session

#: Findings of the contract that leave nothing to feed.
INPUT_CODES = frozenset({"contract.input", "contract.dtype", "contract.shape"})

Found = tuple[Iterable[Finding], Receipt]


class Gate:
    """Judges items; whatever goes wrong becomes a finding."""

    def __init__(
        self,
        selection: Selection,
        *,
        runtimes: Runtimes,
        launcher: Launcher,
        cache: Path,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._skips_allowed = selection.skips_allowed
        self._evidence = Evidence(
            selection, runtimes=runtimes, launcher=launcher, cache=cache, say=say
        )

    def check(self, question: Question, cell: Cell) -> Judgement:
        """Return the verdict on one item."""
        ask = {
            CONTRACT: self._contract,
            PLACEMENT: self._placement,
            PARITY: self._parity,
            PROPERTIES: self._properties,
        }
        try:
            findings, receipt = ask[question](cell)
        except HarnessError as error:
            findings, receipt = (from_error(error),), Receipt()
        except Exception as error:  # noqa: BLE001 - a bug of ours must not look like the model's
            findings, receipt = (_bug(error, cell),), Receipt()
        return judge(
            question, findings=findings, receipt=receipt, skips_allowed=self._skips_allowed
        )

    def close(self) -> None:
        """End all workers."""
        self._evidence.close()

    def _contract(self, cell: Cell) -> Found:
        model, (path, facts) = self._evidence.model(cell), self._evidence.file(cell)
        findings = tuple(judge_contract(facts, model.spec, cell=str(cell), path=str(path)))
        receipt = Receipt(
            counts={"nodes_checked": facts.nodes, "outputs_declared": len(facts.outputs)},
            facts={"model": facts.hash, "bytes": str(facts.size_bytes), "file": str(path)},
        )
        return findings, receipt

    def _placement(self, cell: Cell) -> Found:
        model = self._evidence.model(cell)
        if (declared := _not_applicable(model, cell)) is not None:
            return (declared,), Receipt()
        placement, session = self._evidence.placement(cell), self._evidence.session(cell)
        short = short_name(cell.provider)
        rule = model.spec.placement.get(short, PlacementSpec())
        findings = tuple(judge_placement(placement, rule=rule, cell=str(cell), short=short))
        spread = {f"nodes on {name}": str(len(nodes)) for name, nodes in placement.nodes.items()}
        facts = {**_session_facts(session), "provider": placement.provider, **spread}
        return findings, Receipt(counts={"nodes_placed": placement.placed}, facts=facts)

    def _parity(self, cell: Cell) -> Found:
        evidence, model = self._evidence, self._evidence.model(cell)
        if (declared := _not_applicable(model, cell)) is not None:
            return (declared,), Receipt()
        _refuse_wrong_interface(model, evidence.file(cell)[1], cell)
        return self._compared(cell, evidence.inputs(cell))

    def _properties(self, cell: Cell) -> Found:
        evidence, model = self._evidence, self._evidence.model(cell)
        if (declared := _not_applicable(model, cell)) is not None:
            return (declared,), Receipt()
        if (outside := outside_search(model.spec, cell)) is not None:
            return (outside,), Receipt()
        _refuse_wrong_interface(model, evidence.file(cell)[1], cell)
        return InputSearch(evidence, cell, compared=self._compared).judge()

    def _compared(self, cell: Cell, steps: tuple[Values, ...]) -> Found:
        """Run reference and candidate on the same inputs, and compare what they give."""
        evidence, model = self._evidence, self._evidence.model(cell)
        provider = evidence.provider(cell).provider.ep
        reference, origin = evidence.reference(cell, steps)
        session = evidence.session(cell)
        if provider != CPU_PROVIDER:
            _refuse_empty_placement(evidence.placement(cell), cell)
        candidate = evidence.run(cell, steps)
        comparisons = _compare_steps(model, cell, reference=reference, candidate=candidate)
        findings = tuple(finding for each in comparisons for finding in each.findings)
        facts = {
            **_session_facts(session),
            "provider": provider,
            "model": evidence.file(cell)[1].hash,
            "inputs": hash_values(numbered(steps)),
            "reference": f"{model.spec.reference.kind}, {origin}",
            "reference_values": hash_values(numbered(reference)),
            "worst": f"{max(each.worst for each in comparisons):.4g}",
        }
        if findings:
            facts["saved_inputs"] = str(evidence.save_inputs(cell, steps))
        return findings, _summed(comparisons).plus(facts=facts)


def _not_applicable(model: Model, cell: Cell) -> Finding | None:
    short = short_name(cell.provider)
    use = model.spec.providers.get(short)
    if use is None or use.not_applicable is None:
        return None
    return Finding(
        code="provider.not-applicable",
        what=f"'{cell.model}' does not run on {short}: {use.not_applicable}",
        where=f"spec, providers.{short}.not_applicable",
    )


def _refuse_wrong_interface(model: Model, facts: ModelFacts, cell: Cell) -> None:
    """Refuse inputs that the model does not take: what it says to them would mislead."""
    which = str(cell.part(VARIANT_DEPTH))
    for finding in judge_contract(facts, model.spec, cell=which, path=""):
        if finding.code in INPUT_CODES:
            msg = f"Blocked by the contract: {finding.what}"
            raise RunFailed(msg, code="blocked")


def _refuse_empty_placement(placement: Placement, cell: Cell) -> None:
    """Refuse a session none of whose nodes is on the provider: it proves nothing about it."""
    if placement.placed:
        return
    which, provider = cell.part(PROVIDER_DEPTH), placement.provider
    msg = f"No node of '{which}' runs on {provider}: parity would be the CPU's"
    raise RunFailed(
        msg,
        code="placement.none",
        where=f"session with {provider}",
        expected="at least one node there",
        got=", ".join(f"{len(found)} on {name}" for name, found in placement.nodes.items()),
        next_step=f"see the placement item of {which}",
    )


def _compare_steps(
    model: Model, cell: Cell, *, reference: tuple[Values, ...], candidate: tuple[Values, ...]
) -> list[Comparison]:
    many = len(reference) > 1
    return [
        compare(
            reference=expected,
            candidate=got,
            outputs=model.spec.outputs,
            provider=cell.provider,
            cell=f"{cell}, step {step}" if many else str(cell),
        )
        for step, (expected, got) in enumerate(zip(reference, candidate, strict=True))
    ]


def _summed(comparisons: list[Comparison]) -> Receipt:
    receipt = Receipt(counts={"steps": len(comparisons)})
    for each in comparisons:
        receipt = receipt.plus(counts=each.receipt.counts)
    return receipt


def _session_facts(session: Session) -> dict[str, str]:
    facts = session.facts
    return {
        "runtime": f"{facts.runtime}, onnxruntime {facts.version}",
        "start_method": facts.start_method,
    }


def _bug(error: Exception, cell: Cell) -> Finding:
    lines = traceback.format_exception(type(error), error, error.__traceback__)
    return Finding(
        code="harness.bug",
        what=f"Harness bug at '{cell}': {type(error).__name__}: {error}",
        got="".join(lines)[-3000:],
        next_step="please report it with the lines above",
    )
