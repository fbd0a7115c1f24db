"""One cell from spec to verdict, readable as a sentence.

A `Gate` holds what items share: runtimes, references, the session in use, and the memory of what
already failed, so that one broken provider or model is told once in full and then in one line.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar, cast

import numpy as np

from harness.builds.candidates import candidate_file
from harness.domain.cells import Cell, short_name
from harness.domain.compare import Comparison, compare
from harness.domain.findings import Finding, from_error
from harness.domain.inputs import hash_values
from harness.domain.model_facts import ModelFacts, judge_contract
from harness.domain.placement import Placement, judge_placement
from harness.domain.questions import CONTRACT, PARITY, PLACEMENT, Question
from harness.domain.receipts import Receipt
from harness.domain.session import SessionConfig, check_config_keys
from harness.domain.spec import PlacementSpec
from harness.domain.values import Values, leaves
from harness.domain.verdict import Judgement, judge
from harness.errors import EnvironmentProblem, HarnessError, RunFailed
from harness.files import cases
from harness.files.cache import write_atomically
from harness.files.models import BrokenModel, Model
from harness.references.store import References, read_recorded, run_steps
from harness.runtimes.inspectors import Inspector
from harness.runtimes.launchers import Launcher
from harness.runtimes.probe import check_provider
from harness.runtimes.registry import Resolved, Runtimes
from harness.runtimes.sessions import Session, open_session, profile_placement

T = TypeVar("T")
#: Faults of a file that leave nothing meaningful to run.
BLOCKING = frozenset({
    "model.missing",
    "model.unreadable",
    "model.external-data",
    "model.no-outputs",
})


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What this run was asked for."""

    models: Mapping[str, Model | BrokenModel]
    providers: tuple[str, ...] | None = None
    """None: those of each spec."""
    provider_options: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """From the command line: short name to options."""
    skips_allowed: bool = True


class Gate:
    """Judges items; opens sessions as it needs them."""

    def __init__(
        self,
        selection: Selection,
        *,
        runtimes: Runtimes,
        launcher: Launcher,
        cache: Path,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._selection = selection
        self._runtimes = runtimes
        self._launcher = launcher
        self._cache = cache
        self._say = say
        self._inspector = Inspector(launcher, sys.executable)
        self._references = References(launcher, sys.executable, cache / "references")
        self._memory: dict[tuple[str, ...], object] = {}
        self._session: tuple[tuple[str, ...], Session] | None = None

    def check(self, question: Question, cell: Cell) -> Judgement:
        """Return the verdict on one item; whatever goes wrong becomes a finding."""
        ask = {CONTRACT: self._contract, PLACEMENT: self._placement, PARITY: self._parity}
        try:
            findings, receipt = ask[question](cell)
        except HarnessError as error:
            findings, receipt = (from_error(error),), Receipt()
        except Exception as error:  # noqa: BLE001 - a bug of ours must not look like the model's
            findings, receipt = (_bug(error, cell),), Receipt()
        return judge(
            question,
            findings=findings,
            receipt=receipt,
            skips_allowed=self._selection.skips_allowed,
        )

    def close(self) -> None:
        """End all workers of this gate."""
        self._drop_session()
        self._references.close()
        self._inspector.close()

    # the three questions

    def _contract(self, cell: Cell) -> tuple[Iterable[Finding], Receipt]:
        model = self._model(cell)
        path, facts = self._file(cell)
        findings = tuple(judge_contract(facts, model.spec, cell=str(cell), path=str(path)))
        receipt = Receipt(
            counts={"nodes_checked": facts.nodes, "outputs_declared": len(facts.outputs)},
            facts={"model": facts.hash, "bytes": str(facts.size_bytes), "file": str(path)},
        )
        return findings, receipt

    def _placement(self, cell: Cell) -> tuple[Iterable[Finding], Receipt]:
        if (declared := self._not_applicable(cell)) is not None:
            return (declared,), Receipt()
        model, resolved = self._model(cell), self._provider(cell)
        placement = self._placed(cell, resolved)
        short = short_name(cell.provider)
        rule = model.spec.placement.get(short, PlacementSpec())
        findings = tuple(judge_placement(placement, rule=rule, cell=str(cell), short=short))
        spread = {f"nodes on {name}": str(len(nodes)) for name, nodes in placement.nodes.items()}
        receipt = Receipt(
            counts={"nodes_placed": placement.placed},
            facts={**self._session_facts(cell, resolved), **spread},
        )
        return findings, receipt

    def _parity(self, cell: Cell) -> tuple[Iterable[Finding], Receipt]:
        if (declared := self._not_applicable(cell)) is not None:
            return (declared,), Receipt()
        model, resolved = self._model(cell), self._provider(cell)
        _, facts = self._sound_file(cell)
        steps = self._inputs(model, cell, facts)
        reference, origin = self._reference(model, cell, steps, facts)
        session = self._open(cell, resolved)
        self._refuse_empty_placement(session, resolved, cell)
        limit_s = model.spec.limits.run_s
        run = lambda feeds: session.run(feeds, limit_s=limit_s).outputs  # noqa: E731
        try:
            candidate = run_steps(run, steps, model.spec)
        except HarnessError as error:
            self._save_inputs(cell, steps)
            raise _in_cell(error, cell) from None
        comparisons = self._compare(model, cell, reference=reference, candidate=candidate)
        receipt = _parity_receipt(comparisons).plus(
            facts={
                **self._session_facts(cell, resolved),
                "model": facts.hash,
                "inputs": hash_values(_numbered(steps)),
                "reference": f"{model.spec.reference.kind}, {origin}",
                "reference_values": hash_values(_numbered(reference)),
            }
        )
        findings = tuple(finding for each in comparisons for finding in each.findings)
        if findings:
            receipt = receipt.plus(facts={"saved_inputs": str(self._save_inputs(cell, steps))})
        return findings, receipt

    # what the questions are made of; each is found once

    def _model(self, cell: Cell) -> Model:
        model = self._selection.models[cell.model]
        if isinstance(model, BrokenModel):
            raise model.problem
        return model

    def _not_applicable(self, cell: Cell) -> Finding | None:
        use = self._model(cell).spec.providers.get(short_name(cell.provider))
        if use is None or use.not_applicable is None:
            return None
        return Finding(
            code="provider.not-applicable",
            what=f"'{cell.model}' does not run on {short_name(cell.provider)}: "
            f"{use.not_applicable}",
            where=f"spec, providers.{short_name(cell.provider)}.not_applicable",
        )

    def _file(self, cell: Cell) -> tuple[Path, ModelFacts]:
        return self._once(("file", cell.model, cell.variant), lambda: self._find_file(cell))

    def _find_file(self, cell: Cell) -> tuple[Path, ModelFacts]:
        model = self._model(cell)
        with self._saying(f"preparing {cell.model}/{cell.variant}"):
            path = candidate_file(
                model, cell.variant, references=self._references, cache=self._cache
            )
            return path, self._inspector.inspect(path, limit_s=model.spec.limits.load_s)

    def _sound_file(self, cell: Cell) -> tuple[Path, ModelFacts]:
        path, facts = self._file(cell)
        for code, message in facts.faults:
            if code in BLOCKING:
                raise RunFailed(
                    f"Model file of '{cell.part(2)}' cannot be run: {message}",
                    code="blocked",
                    where=str(path),
                    next_step=f"see the contract item of {cell.part(2)}",
                )
        return path, facts

    def _provider(self, cell: Cell) -> Resolved:
        return self._once(("provider", cell.provider), lambda: self._find_provider(cell.provider))

    def _find_provider(self, name: str) -> Resolved:
        resolved = self._runtimes.resolve(name)
        with self._saying(f"checking provider {name}"):
            check_provider(self._launcher, resolved)
        return resolved

    def _inputs(self, model: Model, cell: Cell, facts: ModelFacts) -> tuple[Values, ...]:
        if model.recorded is not None and not model.case(cell.case).inputs:
            return (read_recorded(model, cell.case, "input", facts.inputs),)
        return cases.build(cell.model, model.spec, model.case(cell.case), model.folder)

    def _reference(
        self, model: Model, cell: Cell, steps: tuple[Values, ...], facts: ModelFacts
    ) -> tuple[tuple[Values, ...], str]:
        key = ("reference", cell.model, cell.case)
        with self._saying(f"running the reference of {cell.model}"):
            return self._once(
                key, lambda: self._references.outputs(model, cell.case, steps, facts), keep=False
            )

    def _open(self, cell: Cell, resolved: Resolved) -> Session:
        """Return the session of this model, variant and provider, opening it if need be."""
        key = ("session", cell.model, cell.variant, cell.provider)
        if self._session is not None:
            held, session = self._session
            if held == key and session.alive:
                return session
            self._drop_session()
        session = self._once(key, lambda: self._open_anew(cell, resolved), keep=False)
        self._session = (key, session)
        return session

    def _open_anew(self, cell: Cell, resolved: Resolved) -> Session:
        model, (path, _) = self._model(cell), self._sound_file(cell)
        config = self._config(model, resolved)
        try:
            session = open_session(
                self._launcher,
                resolved.runtime,
                config,
                path,
                fork=resolved.provider.forks,
                limit_s=model.spec.limits.load_s,
            )
        except RunFailed as error:
            raise _refused(error, cell) from None
        except HarnessError as error:
            raise _in_cell(error, cell) from None
        if resolved.provider.ep not in session.facts.providers:
            log = session.log_tail()
            session.close()
            raise _fell_back(cell, resolved, session.facts.providers, log)
        return session

    def _config(self, model: Model, resolved: Resolved) -> SessionConfig:
        spec, provider = model.spec, resolved.provider
        check_config_keys(spec.session.config, where=f"{model.spec_file}, session.config")
        use = spec.providers.get(provider.name)
        options = {
            **provider.options,
            **(use.options if use else {}),
            **self._selection.provider_options.get(provider.name, {}),
        }
        return SessionConfig(
            provider=provider.ep,
            options=options,
            plugin=provider.plugin,
            threads=spec.session.threads,
            optimization=spec.session.optimization,
            custom_ops=tuple(_library(name, model.folder) for name in spec.session.custom_ops),
            config=spec.session.config,
            preload=provider.preload,
        )

    def _placed(self, cell: Cell, resolved: Resolved) -> Placement:
        """Return where the nodes are: as recorded, else as one profiled run shows."""
        session = self._open(cell, resolved)
        nodes = session.facts.placement
        if nodes is None:
            model = self._model(cell)
            path, facts = self._sound_file(cell)
            first = Cell(cell.model, cell.variant, cell.provider, model.case_names()[0])
            nodes = profile_placement(
                self._launcher,
                resolved.runtime,
                self._config(model, resolved),
                path,
                self._inputs(model, first, facts)[0],
                fork=resolved.provider.forks,
                limit_s=model.spec.limits.load_s,
            )
        return Placement(provider=resolved.provider.ep, nodes=nodes)

    def _refuse_empty_placement(self, session: Session, resolved: Resolved, cell: Cell) -> None:
        """A session none of whose nodes is on the provider proves nothing about it."""
        nodes = session.facts.placement
        if nodes is None or nodes.get(resolved.provider.ep):
            return
        raise RunFailed(
            f"No node of '{cell.part(3)}' runs on {resolved.provider.ep}: parity would be the CPU's",
            code="placement.none",
            where=f"session with {resolved.provider.ep}",
            expected="at least one node there",
            got=", ".join(f"{len(found)} on {name}" for name, found in nodes.items()),
            next_step=f"see the placement item of {cell.part(3)}",
        )

    def _compare(
        self,
        model: Model,
        cell: Cell,
        *,
        reference: tuple[Values, ...],
        candidate: tuple[Values, ...],
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

    def _session_facts(self, cell: Cell, resolved: Resolved) -> dict[str, str]:
        facts = self._open(cell, resolved).facts
        return {
            "runtime": f"{facts.runtime}, onnxruntime {facts.version}",
            "provider": resolved.provider.ep,
            "start_method": facts.start_method,
        }

    def _save_inputs(self, cell: Cell, steps: tuple[Values, ...]) -> Path:
        """Write the inputs of a failed item, so that it can be replayed by hand."""
        path = self._cache / "failures" / str(cell).replace("/", "__") / "inputs.npz"
        arrays = {
            f"{path_}": array
            for name, value in _numbered(steps).items()
            for path_, array in leaves(value, name)
        }
        as_text = {n: a.astype(str) if a.dtype == object else a for n, a in arrays.items()}

        def write(target: Path) -> None:
            with target.open("wb") as file:
                np.savez(file, allow_pickle=False, **as_text)

        return write_atomically(path, write)

    def _drop_session(self) -> None:
        if self._session is not None:
            self._session[1].close()
            self._session = None

    def _once(self, key: tuple[str, ...], make: Callable[[], T], *, keep: bool = True) -> T:
        """Return what `make` returns, once; tell its failure in full once, then in a line."""
        known = self._memory.get(key)
        if isinstance(known, HarnessError):
            raise _again(known)
        if known is not None and keep:
            return cast("T", known)  # stored below under the same key
        try:
            made = make()
        except HarnessError as error:
            self._memory[key] = error
            raise
        if keep:
            self._memory[key] = made
        return made

    def _saying(self, text: str) -> _Saying:
        return _Saying(self._say, text)


class _Saying:
    """Shows what is being done while it is done."""

    def __init__(self, say: Callable[[str], None], text: str) -> None:
        self._say, self._text = say, text

    def __enter__(self) -> None:
        self._say(self._text)

    def __exit__(self, *_: object) -> None:
        self._say("")


def _numbered(steps: tuple[Values, ...]) -> Values:
    """Return the values of all steps under names such as `input` or `input.step3`."""
    if len(steps) == 1:
        return steps[0]
    return {
        f"{name}.step{n}": value for n, step in enumerate(steps) for name, value in step.items()
    }


def _parity_receipt(comparisons: list[Comparison]) -> Receipt:
    receipt = Receipt(counts={"steps": len(comparisons)})
    for each in comparisons:
        receipt = receipt.plus(counts=each.receipt.counts)
    worst = max((each.worst for each in comparisons), default=0.0)
    return receipt.plus(facts={"worst": f"{worst:.4g}"})


def _library(name: str, folder: Path) -> str:
    """Return a custom operator library: a file of the model's folder, else a package's name."""
    return str(folder / name) if (folder / name).exists() else name


def _again(error: HarnessError) -> HarnessError:
    """Return the one-line form of a failure that another item has told in full.

    What was not judged stays so; everything else is an ERROR of this item.
    """
    code = error.code if error.code == "package.missing" else "blocked"
    return type(error)(f"Blocked by an earlier failure: {error.what}", code=code)


def _refused(error: RunFailed, cell: Cell) -> RunFailed:
    code = "session.refused" if error.code == "run.failed" else error.code
    return RunFailed(
        f"Session of '{cell.part(3)}' was refused: {error.what}",
        code=code,
        where=f"{cell.provider}",
        expected="a session",
        got=error.got,
        next_step="mend the model, or declare providers."
        f"{short_name(cell.provider)}.not_applicable with the reason",
    )


def _fell_back(
    cell: Cell, resolved: Resolved, providers: tuple[str, ...], log: str
) -> EnvironmentProblem:
    return EnvironmentProblem(
        f"{resolved.provider.ep} was requested but the session of '{cell.part(3)}' opened "
        f"with {list(providers)}",
        code="session.fallback",
        where=f"runtime '{resolved.runtime.name}'",
        expected=f"{resolved.provider.ep} among the session's providers",
        got=log,
        next_step="`onnx-harness doctor` shows whether the provider works at all",
    )


def _in_cell(error: HarnessError, cell: Cell) -> HarnessError:
    return type(error)(
        f"{error.what} for cell '{cell}'",
        code=error.code,
        where=error.where,
        expected=error.expected,
        got=error.got,
        next_step=error.next_step,
    )


def _bug(error: Exception, cell: Cell) -> Finding:
    lines = traceback.format_exception(type(error), error, error.__traceback__)
    return Finding(
        code="harness.bug",
        what=f"Harness bug at '{cell}': {type(error).__name__}: {error}",
        got="".join(lines)[-3000:],
        next_step="please report it with the lines above",
    )
