"""One mutant under the model's own suite: which question of which item kills it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from harness.domain.cells import parts
from harness.domain.findings import Finding, Severity
from harness.domain.questions import CONTRACT, PARITY, PLACEMENT, PROPERTIES, Question
from harness.domain.spec import Candidate, ProviderUse
from harness.domain.verdict import Judgement, Verdict
from harness.errors import EnvironmentProblem, HarnessError, UsageProblem
from harness.evidence import Selection
from harness.files.models import Model
from harness.pipeline import Gate
from harness.runtimes.launchers import Launcher
from harness.runtimes.registry import Runtimes

PROVIDER = "cpu"
#: What a mutant is put to: how fast it is says nothing of what it computes.
OF_FUNCTION = (CONTRACT, PLACEMENT, PARITY, PROPERTIES)
#: Findings that speak of the machine or the reference, not of the model under test.
FOREIGN = ("spec.", "package.", "provider.", "runtime.", "reference.", "harness.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """What judging a model gave."""

    by: str = ""
    """`contract`, `session`, `run` or the suite whose item failed; empty if all passed."""
    finding: Finding | None = None
    """The first one that speaks against the model."""
    worst: Mapping[str, float] = field(default_factory=dict)
    """Case -> greatest difference / allowed difference, where it was told."""

    @property
    def passed(self) -> bool:
        """Return whether nothing speaks against the model."""
        return self.finding is None

    @property
    def most(self) -> float:
        """Return the greatest difference / allowed difference of all cases."""
        return max(self.worst.values(), default=0.0)


class Court:
    """Judges models like the one that it was made for."""

    def __init__(
        self, original: Model, path: Path, *, runtimes: Runtimes, launcher: Launcher, cache: Path
    ) -> None:
        self._original = original
        self._path = path
        self._runtimes = runtimes
        self._launcher = launcher
        self._cache = cache

    def judge(self, file: Path) -> Suite:
        """Return what the suite makes of `file` in place of the original; the first kill ends it.

        Raises:
            HarnessError: If something other than the model is broken.
        """
        model = self.with_candidate(file)
        gate = Gate(
            Selection(models={model.name: model}, localises=False),
            runtimes=self._runtimes,
            launcher=self._launcher,
            cache=self._cache,
        )
        try:
            return _ask(gate, model)
        finally:
            gate.close()

    def with_candidate(self, file: Path) -> Model:
        """Return the model with another candidate; its reference stays what it was."""
        spec = self._original.spec
        reference = spec.reference
        if reference.onnx is True:
            reference = replace(reference, onnx=str(self._path))
        use = spec.providers.get(PROVIDER, ProviderUse())
        spec = replace(
            spec,
            candidate=Candidate(file=str(file), dtype=spec.candidate.dtype),
            reference=reference,
            variants={},
            providers={PROVIDER: replace(use, variants=())},
        )
        return replace(self._original, spec=spec)


def _ask(gate: Gate, model: Model) -> Suite:
    cells, worst = model.cells((PROVIDER,)), dict[str, float]()
    for question in OF_FUNCTION:  # the search comes last: it takes longest
        for cell in parts(cells, question.depth):
            judgement = gate.check(question, cell)
            against = _against(judgement)
            if against is not None:
                return Suite(by=_killer(question, against), finding=against, worst=worst)
            if "worst" in judgement.receipt.facts:
                worst[cell.case] = float(judgement.receipt.facts["worst"])
    return Suite(worst=worst)


def _against(judgement: Judgement) -> Finding | None:
    """Return the finding that speaks against the model; a foreign fault is raised."""
    if judgement.verdict in {Verdict.PASS, Verdict.SKIP}:
        _refuse_skips(judgement)
        return None
    spoken = [finding for finding in judgement.findings if finding.severity is Severity.FAIL]
    finding = next(iter([*spoken, *judgement.findings]))
    if finding.code.startswith(FOREIGN):
        raise _as_error(finding)
    return finding


def _refuse_skips(judgement: Judgement) -> None:
    """Refuse a model that could not be judged here: nothing would be proved."""
    for finding in judgement.findings:
        if finding.severity is not Severity.NOTE and finding.code != "property.not-applicable":
            raise _as_error(finding)


def _killer(question: Question, finding: Finding) -> str:
    family = finding.code.partition(".")[0]
    if family in {"session", "run"}:
        return family
    return "run" if family == "worker" else question.name


def _as_error(finding: Finding) -> HarnessError:
    machine = finding.code.startswith(("package.", "runtime.", "provider.un", "provider.no-d"))
    kind = EnvironmentProblem if machine else UsageProblem
    return kind(
        finding.what,
        code=finding.code,
        where=finding.where,
        expected=finding.expected,
        got=finding.got,
        next_step=finding.next_step,
    )
