"""One cell from spec to verdict, readable as a sentence: the questions of the suites."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable, Collection, Iterable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from harness.bounds import Bounds, Held, NoYardstick, Yardstick
from harness.domain import dtypes, samples
from harness.domain.cells import ANY, PROVIDER_DEPTH, VARIANT_DEPTH, Cell, short_name
from harness.domain.compare import Comparison, compare
from harness.domain.dtypes import DType
from harness.domain.explanation import BoundFacts, Link, explain_output
from harness.domain.findings import Finding, Severity, from_error
from harness.domain.inputs import hash_values
from harness.domain.model_facts import ModelFacts, judge_contract
from harness.domain.placement import Placement, judge_placement
from harness.domain.questions import (
    CONTRACT,
    LATENCY,
    PARITY,
    PLACEMENT,
    PROPERTIES,
    Question,
)
from harness.domain.receipts import Receipt
from harness.domain.repetition import difference
from harness.domain.session import CPU_PROVIDER
from harness.domain.spec import OutputSpec, PlacementSpec
from harness.domain.tolerance import coarser, judged_whole
from harness.domain.values import Values, leaves
from harness.domain.verdict import Judgement, Verdict, judge
from harness.errors import HarnessBug, HarnessError, RunFailed, WorkerDied
from harness.evidence import Evidence, Selection, numbered
from harness.files.models import Model
from harness.properties import InputSearch, outside_search
from harness.runtimes.launchers import Launcher
from harness.runtimes.quiet import Quiet
from harness.runtimes.registry import Runtimes
from harness.runtimes.sessions import Session

if TYPE_CHECKING:
    from harness.latency.judging import LatencyJudge
    from harness.latency.plans import Approved
    from harness.localise.report import Report

#: Findings of the contract that leave nothing to feed.
INPUT_CODES = frozenset({"contract.input", "contract.dtype", "contract.shape"})

#: Findings of parity that have an origin inside the graph.
VALUE_CODES = frozenset({"parity.tolerance", "parity.finite", "parity.measure"})

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
        approved: Approved | None = None,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._timing, self._approved = selection.timing, approved
        self._latency_judge: LatencyJudge | None = None
        self._skips_allowed = selection.skips_allowed
        self._localises = selection.localises
        self._evidence = Evidence(
            selection, runtimes=runtimes, launcher=launcher, cache=cache, say=say
        )
        self._bounds = Bounds(self._evidence)
        self._providers = runtimes.providers
        self.quiet = Quiet(say=say)

    def check(self, question: Question, cell: Cell) -> Judgement:
        """Return the verdict on one item."""
        ask = {
            CONTRACT: self._contract,
            PLACEMENT: self._placement,
            PARITY: self._parity,
            PROPERTIES: self._properties,
            LATENCY: self._latency,
        }
        with ExitStack() as held:
            try:
                self._take_turn(held, question, cell)
                findings, receipt = ask[question](cell)
            except HarnessError as error:
                findings, receipt = (from_error(error),), Receipt()
            except Exception as error:  # noqa: BLE001 - a bug of ours must not look like the model's
                told = _unusable_cache(error, self._evidence.cache, cell) or _bug(error, cell)
                findings, receipt = (told,), Receipt()
            judgement = judge(
                question,
                findings=findings,
                receipt=receipt,
                skips_allowed=self._skips_allowed,
                known=self._evidence.known_failures(question, cell),
            )
            return self._with_origin(judgement, cell)

    def _take_turn(self, held: ExitStack, question: Question, cell: Cell) -> None:
        """Wait until nobody measures; who measures takes the machine alone, stage by stage."""
        if question == LATENCY:
            return
        held.enter_context(self.quiet.shared())
        provider = self._providers.get(short_name(cell.provider))
        if cell.provider != ANY and provider is not None and not provider.forks:
            held.enter_context(self.quiet.device(os.environ.get("CUDA_VISIBLE_DEVICES", "")))

    def origin(self, cell: Cell, *, budget_s: float) -> Report:
        """Return where the parity failure of a cell begins.

        Raises:
            HarnessError: If model, reference or provider cannot be had.
        """
        from harness.localise.search import localise  # noqa: PLC0415 - costs nothing till then

        with self._evidence.saying(f"searching where {cell} begins to fail"):
            return localise(self._evidence, cell, budget_s=budget_s)

    def model_file(self, cell: Cell) -> tuple[Path, ModelFacts]:
        """Return the file of a cell's candidate, and what inspecting it told.

        Raises:
            HarnessError: If there is none.
        """
        return self._evidence.sound_file(cell)

    def explain(self, cell: Cell) -> dict[str, tuple[Link, ...]]:
        """Return for each output of a cell the chain of rules that decides how it is judged.

        Raises:
            HarnessError: If reference or candidate cannot be run, or share no output.
        """
        evidence, spec = self._evidence, self._evidence.model(cell).spec
        steps = evidence.inputs(cell)
        reference, _ = evidence.reference(cell, steps)
        candidate = evidence.run(cell, steps)
        shared = [name for name in reference[0] if name in candidate[0]]
        if not shared:
            raise _nothing_shared(cell, reference=reference[0], candidate=candidate[0])
        yardstick = self._bounds.yardstick(cell, steps, reference)
        return {
            name: explain_output(
                name=name,
                spec=spec.of(cell.variant).outputs.get(name, OutputSpec()),
                dtype=coarser(_element_type(candidate[0], name), spec.source(cell.variant).dtype),
                provider=cell.provider,
                bound=self._bound_facts(cell, yardstick, candidate, name),
                whole=name in judged_whole(spec, cell.variant, cell.provider),
            )
            for name in shared
        }

    def _bound_facts(
        self,
        cell: Cell,
        yardstick: Yardstick | NoYardstick,
        candidate: tuple[Values, ...],
        output: str,
    ) -> BoundFacts | str:
        if isinstance(yardstick, NoYardstick):
            return yardstick.why
        if output not in yardstick.outputs:
            return yardstick.unfit.get(output, "the output is judged by another rule")
        standing = self._bounds.standing(cell, yardstick, candidate, output)
        return BoundFacts(rule=yardstick.rule, standing=standing) if standing else "no finite value"

    def close(self) -> None:
        """End all workers."""
        self._evidence.close()

    def _with_origin(self, judgement: Judgement, cell: Cell) -> Judgement:
        """Add where a failure of values begins; whatever the search meets changes no verdict."""
        codes = {finding.code for finding in judgement.findings}
        if not self._localises or judgement.verdict is not Verdict.FAIL or not codes & VALUE_CODES:
            return judgement
        budget_s = self._evidence.model(cell).spec.limits.localise_s
        try:
            note = self.origin(cell, budget_s=budget_s).finding()
        except Exception as error:  # noqa: BLE001 - a fault of the search must not hide parity's
            note = _no_origin(cell, error, budget_s)
        return replace(judgement, findings=(*judgement.findings, note))

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

    def _latency(self, cell: Cell) -> Found:
        if (orphan := self._timing.orphans.get(cell)) is not None:
            return (orphan,), Receipt()
        model = self._evidence.model(cell)
        if (declared := _not_applicable(model, cell)) is not None:
            return (declared,), Receipt()
        return self._judge_of_latency().judge(cell)

    def _judge_of_latency(self) -> LatencyJudge:
        from harness.latency.judging import LatencyJudge  # noqa: PLC0415 - many runs time nothing

        if self._latency_judge is None:
            if self._approved is None:
                msg = "This gate knows no baselines"
                raise HarnessBug(msg)
            self._latency_judge = LatencyJudge(
                self._evidence,
                approved=self._approved,
                options=self._timing,
                alone=self.quiet.exclusive,
            )
        return self._latency_judge

    def _compared(self, cell: Cell, steps: tuple[Values, ...]) -> Found:
        """Run reference and candidate on the same inputs, and compare what they give."""
        evidence, model = self._evidence, self._evidence.model(cell)
        provider = evidence.provider(cell).provider.ep
        reference, origin = evidence.reference(cell, steps)
        session = evidence.session(cell)
        if provider != CPU_PROVIDER:
            _refuse_empty_placement(evidence.placement(cell), cell)
        candidate = evidence.run(cell, steps)
        changed = difference(candidate[0], evidence.run(cell, steps[:1])[0])
        yardstick = self._bounds.yardstick(cell, steps, reference)
        bound = (
            yardstick.outputs
            if isinstance(yardstick, Yardstick)
            else judged_whole(model.spec, cell.variant, cell.provider)
        )
        comparisons = _compare_steps(
            model, cell, reference=reference, candidate=candidate, bound=bound
        )
        held = self._held(cell, yardstick, candidate, comparisons)
        findings = tuple(finding for each in comparisons for finding in each.findings)
        findings += held.findings
        findings += (_unsteady(cell, changed),) if changed else ()
        facts = {
            **_session_facts(session),
            "provider": provider,
            "model": evidence.file(cell)[1].hash,
            "inputs": hash_values(numbered(steps)),
            "reference": f"{model.spec.reference.kind}, {origin}",
            "reference_values": hash_values(numbered(reference)),
            "worst": f"{max(held.worst, *(each.worst for each in comparisons)):.4g}",
            **held.facts,
            **samples.facts(reference=numbered(reference), candidate=numbered(candidate)),
        }
        if any(finding.severity is not Severity.NOTE for finding in findings):
            facts["saved_inputs"] = str(evidence.save_inputs(cell, steps))
        return findings, _summed(comparisons).plus(facts=facts)

    def _held(
        self,
        cell: Cell,
        yardstick: Yardstick | NoYardstick,
        candidate: tuple[Values, ...],
        comparisons: list[Comparison],
    ) -> Held:
        """Hold the outputs that are sound so far against float64, where there is a float64 run."""
        if isinstance(yardstick, NoYardstick):
            return Held(
                findings=(_not_float64(cell, yardstick.why),) if yardstick.refused else (),
                facts={"tolerance": f"{yardstick.instead}: {yardstick.why}"},
            )
        broken = frozenset[str]().union(*(each.broken for each in comparisons))
        held = self._bounds.hold(cell, yardstick, candidate, broken=broken)
        unfit = yardstick.unfit
        return replace(
            held,
            findings=(*held.findings, *(_not_float64(cell, why) for why in unfit.values())),
            facts={
                "tolerance": "float64",
                **held.facts,
                **{f"tolerance {name}": f"table: {why}" for name, why in unfit.items()},
            },
        )


def _no_origin(cell: Cell, error: Exception, budget_s: float) -> Finding:
    why = (str(error) or type(error).__name__).splitlines()[0]
    if isinstance(error, WorkerDied) and error.code == "worker.timeout":
        why = f"the budget of {budget_s:g} s is spent: raise limits.localise_s"
    return Finding(
        code="parity.origin",
        what=f"Where '{cell}' begins to fail was not found: {why}",
        next_step=f"onnx-harness localise {cell}",
    )


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


def _nothing_shared(cell: Cell, *, reference: Values, candidate: Values) -> RunFailed:
    msg = f"Reference and candidate of '{cell}' have no output in common: no rule judges any"
    return RunFailed(
        msg,
        code="parity.outputs",
        where=str(cell),
        expected=f"the reference's outputs {list(reference)}",
        got=f"the candidate's outputs {list(candidate)}",
        next_step="check the exporter, and the names that the reference gives its outputs",
    )


def _element_type(outputs: Values, name: str) -> DType:
    """Return the type of the first tensor in an output; an empty one counts as float32."""
    found = (dtypes.of_array(array) for _, array in leaves(outputs[name], name))
    return next(found, DType.FLOAT32)


def _unsteady(cell: Cell, changed: str) -> Finding:
    return Finding(
        code="parity.unstable",
        what=f"Candidate gives other outputs for the same inputs in cell '{cell}'",
        expected="the same bits in both runs of the first step",
        got=changed,
        next_step="look for random operators, or for a provider that adds in varying order",
    )


def _not_float64(cell: Cell, why: str) -> Finding:
    return Finding(
        code="reference.not-float64",
        what=f"Reference of '{cell.model}' gives no bound: {why}",
        expected="a run in float64 throughout, and one in the candidate's type",
        got="the tolerance table applies",
        next_step="let the reference take the type of its inputs and weights everywhere; "
        "in float64 they need twice the memory",
    )


def _refuse_wrong_interface(model: Model, facts: ModelFacts, cell: Cell) -> None:
    """Refuse inputs that the model does not take: what it says to them would mislead."""
    which = str(cell.part(VARIANT_DEPTH))
    for finding in judge_contract(facts, model.spec, cell=which, path=""):
        if finding.code in INPUT_CODES:
            msg = f"Blocked by the contract: {finding.what}"
            raise RunFailed(msg, code="blocked", cause=finding.code)


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
    model: Model,
    cell: Cell,
    *,
    reference: tuple[Values, ...],
    candidate: tuple[Values, ...],
    bound: Collection[str],
) -> list[Comparison]:
    many = len(reference) > 1
    return [
        compare(
            reference=expected,
            candidate=got,
            outputs=model.spec.of(cell.variant).outputs,
            provider=cell.provider,
            cell=f"{cell}, step {step}" if many else str(cell),
            bound=bound,
            computes_in=model.spec.source(cell.variant).dtype,
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


def _unusable_cache(error: Exception, cache: Path, cell: Cell) -> Finding | None:
    """Return what keeps the cache from being read or written; None if the error is none of it."""
    if not isinstance(error, OSError):
        return None
    named = (each for each in (error.filename2, error.filename) if isinstance(each, str | Path))
    path = next((each for each in map(Path, named) if each.is_relative_to(cache)), None)
    if path is None:
        return None
    return Finding(
        code="cache.unusable",
        what=f"Cache cannot be used for '{cell}': {error.strerror}",
        where=str(path),
        expected="files and folders as the harness made them, which it may read and write",
        got=type(error).__name__,
        next_step="remove what is there; everything in the cache is made again",
    )


def _bug(error: Exception, cell: Cell) -> Finding:
    lines = traceback.format_exception(type(error), error, error.__traceback__)
    return Finding(
        code="harness.bug",
        what=f"Harness bug at '{cell}': {type(error).__name__}: {error}",
        got="".join(lines)[-3000:],
        next_step="please report it with the lines above",
    )
