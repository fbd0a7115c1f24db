"""One model proved: its mutants made, judged by its suite, and the survivors examined."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from harness.domain.cells import Cell
from harness.domain.mutants import (
    Dependence,
    Fate,
    Mutant,
    Proof,
    Trial,
    sample,
    sample_curve,
)
from harness.domain.values import Values
from harness.errors import HarnessError, RunFailed, UsageProblem
from harness.evidence import Evidence, Selection
from harness.files.models import BrokenModel, Model
from harness.proving.bench import Bench
from harness.proving.dependence import moved, spread
from harness.proving.examining import Examiner
from harness.proving.judging import PROVIDER, Court, Suite
from harness.proving.probes import Probe, Probes
from harness.runtimes.launchers import Launcher
from harness.runtimes.registry import Runtimes

#: Mutants of one model, unless the command line says otherwise.
USUAL_LIMIT = 60
#: Mutants for each draw of the curve.
PER_DRAW = 10
#: Drawn probes that show how much the outputs depend on the inputs.
SPREAD_PROBES = 16
#: All weights are this much larger to show how much the outputs depend on them.
LARGER = 1.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """What proving needs of the machine."""

    runtimes: Runtimes
    launcher: Launcher
    cache: Path
    say: Callable[[str], None] = lambda _: None


def prove(model: Model | BrokenModel, tools: Tools, *, limit: int = USUAL_LIMIT) -> Proof:
    """Return what the mutants of `model` show; at most `limit` are made.

    Raises:
        HarnessError: If the model cannot be judged, or fails its own suite as it is.
    """
    if isinstance(model, BrokenModel):
        raise model.problem
    with tempfile.TemporaryDirectory(prefix="onnx-harness-prove-") as folder:
        evidence = _evidence(model, tools)
        try:
            return _Prover(model, tools, Path(folder), evidence).prove(limit)
        finally:
            evidence.close()


class _Prover:
    """Holds what all mutants of one model share."""

    def __init__(self, model: Model, tools: Tools, folder: Path, evidence: Evidence) -> None:
        self._model = model
        self._tools = tools
        self._folder = folder
        self._evidence = evidence
        self._cell = _any_cell(model)
        path, _ = evidence.file(self._cell)
        self._path = path.resolve()
        self._court = Court(
            model,
            self._path,
            runtimes=tools.runtimes,
            launcher=tools.launcher,
            cache=_mutants_cache(folder, tools.cache),
        )
        self._bench = Bench(
            tools.launcher, sys.executable, self._path, limit_s=model.spec.limits.reference_s
        )

    def prove(self, limit: int) -> Proof:
        self._say("the suite itself")
        unmutated = self._court.judge(self._path)
        if unmutated.finding is not None:
            raise _fails_unmutated(self._model, unmutated)
        try:
            return self._proof(unmutated, limit)
        finally:
            self._bench.close()

    def _proof(self, unmutated: Suite, limit: int) -> Proof:
        listed = self._bench.listed()
        examiner = Examiner(
            self._model,
            self._cell,
            evidence=self._evidence,
            bench=self._bench,
            unmutated=unmutated,
        )
        chosen = sample(listed.mutants, limit)
        trials = [
            trial
            for number, mutant in enumerate(chosen, start=1)
            if (trial := self._try(mutant, examiner, f"mutant {number} of {len(chosen)}"))
        ]
        return Proof(
            model=self._model.name,
            minimum=self._model.spec.prove.minimum,
            listed=len(listed.mutants),
            trials=tuple(trials),
            curve=self._curve(listed.curve, max(1, limit // PER_DRAW)),
            dependence=self._dependence(),
            inputs=examiner.inputs,
        )

    def _try(self, mutant: Mutant, examiner: Examiner, said: str) -> Trial | None:
        """Return the fate of one mutant; None if the amount is lost in the type of its weights."""
        self._say(said)
        if not self._bench.make(mutant.id, self._target):
            return None
        suite = self._court.judge(self._target)
        if suite.finding is None:
            self._say(f"{said}, which survived: why")
            with closing(self._altered()) as altered:
                return examiner.examine(mutant, suite, altered)
        code = suite.finding.code
        return Trial(mutant=mutant, fate=Fate.KILLED, killed_by=suite.by, code=code)

    def _curve(self, ids: Sequence[str], draws: int) -> dict[str, tuple[int, int]]:
        """Return amount -> single weights killed, single weights changed."""
        curve = {}
        for amount, names in sample_curve(ids, draws).items():
            self._say(f"single weights by {amount}")
            fates = [self._kills(name) for name in names]
            made = [killed for killed in fates if killed is not None]
            if made:
                curve[amount] = (sum(made), len(made))
        return curve

    def _kills(self, name: str) -> bool | None:
        if not self._bench.make(name, self._target):
            return None
        return not self._court.judge(self._target).passed

    def _dependence(self) -> Dependence:
        self._say("what its outputs depend on")
        probes = list(islice(Probes(self._model, self._evidence).drawn(), SPREAD_PROBES))
        runs = self._outputs(self._evidence, probes)
        return Dependence(inputs=spread(runs), weights=self._weight_dependence(probes, runs))

    def _weight_dependence(self, probes: Iterable[Probe], runs: Sequence[Values]) -> float | None:
        if not self._bench.scale(LARGER, self._target):
            return None
        try:
            with closing(self._altered()) as altered:
                return moved(runs, self._outputs(altered, probes))
        except HarnessError:  # it does not even run any more
            return 1.0

    def _altered(self) -> Evidence:
        """Return evidence about the mutant that was made last."""
        model = self._court.with_candidate(self._target)
        return _evidence(model, replace(self._tools, cache=self._folder / "cache"))

    def _outputs(self, evidence: Evidence, probes: Iterable[Probe]) -> list[Values]:
        """Return the outputs of the last step of each probe."""
        return [evidence.run(self._cell, probe.steps)[-1] for probe in probes]

    @property
    def _target(self) -> Path:
        return self._folder / "mutant.onnx"

    def _say(self, text: str) -> None:
        self._tools.say(f"{self._model.name}: {text}")


def _evidence(model: Model, tools: Tools) -> Evidence:
    return Evidence(
        Selection(models={model.name: model}, localises=False),
        runtimes=tools.runtimes,
        launcher=tools.launcher,
        cache=tools.cache,
        say=lambda _: None,
    )


def _any_cell(model: Model) -> Cell:
    use = model.spec.providers.get(PROVIDER)
    if use is not None and use.not_applicable is not None:
        msg = f"'{model.name}' does not run on {PROVIDER}, where mutants are judged"
        raise UsageProblem(msg, where=f"{model.spec_file}, providers.{PROVIDER}.not_applicable")
    return model.cells((PROVIDER,))[0]


def _mutants_cache(folder: Path, cache: Path) -> Path:
    """Return a cache that shares its references only: inputs of killed mutants do not stay."""
    (cache / "references").mkdir(parents=True, exist_ok=True)
    own = folder / "cache"
    own.mkdir()
    (own / "references").symlink_to((cache / "references").resolve())
    return own


def _fails_unmutated(model: Model, suite: Suite) -> HarnessError:
    finding = suite.finding
    return RunFailed(
        f"'{model.name}' fails its own suite without any mutation: nothing can be proved",
        code="run.failed",
        where=str(model.spec_file),
        expected="a model that passes contract, placement and parity on the CPU",
        got="" if finding is None else f"{suite.by}: {finding.what}",
        next_step=f"`pytest --pyargs harness.suites --provider {PROVIDER} --model {model.name}`, "
        "and mend it first",
    )
