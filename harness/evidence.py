"""What the questions about a cell are made of: file, inputs, reference, provider, session.

Each is found when it is first needed. A failure is remembered, so that one broken provider,
model or reference is told once in full and then in one line per item.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar, cast

from harness.builds.builder import Builder
from harness.builds.candidates import candidate_file
from harness.domain.cells import ANY, PROVIDER_DEPTH, VARIANT_DEPTH, Cell, short_name
from harness.domain.findings import Finding
from harness.domain.known_failures import AsOf, Declared
from harness.domain.model_facts import ModelFacts
from harness.domain.placement import Placement
from harness.domain.questions import Question
from harness.domain.session import CPU_PROVIDER, NodeInfo, SessionConfig, check_config_keys
from harness.domain.spec import FIRST_VARIANT
from harness.domain.values import Values, leaves
from harness.errors import (
    EnvironmentProblem,
    HarnessError,
    RunFailed,
    SpecError,
    blocked_by,
)
from harness.files import cases, known_failures
from harness.files.models import BrokenModel, Model
from harness.files.recipes import failure_folder, write_arrays
from harness.references import recordings
from harness.references.store import PreciseOutputs, References, run_steps
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
class TimingOptions:
    """What a run was asked for about latency."""

    cells: tuple[Cell, ...] = ()
    """All latency items of the run, in their order: alarms are shared among them."""
    screens_ahead: bool = True
    """Whether later ones are screened while one waits for its confirmation."""
    measures_all: bool = False
    """Whether a cell is measured although its recipe did not change, or has no baseline."""
    records_serving: bool = False
    """Whether throughput, callers at once, new sizes and growth are recorded too."""
    completes: bool = False
    """Whether a cell is measured that lacks a baseline, or figures of this environment."""
    against_runtime: str | None = None
    """A runtime in which the candidate itself is run as its control."""
    seed: int = 0
    """Of every order that is drawn."""
    orphans: Mapping[Cell, Finding] = field(default_factory=dict)
    """Items about baselines without a cell, each with what is to be said of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What a run was asked for."""

    models: Mapping[str, Model | BrokenModel]
    """All models by name, also those that could not be read."""
    provider_options: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """From the command line: short name to options."""
    profile: str = "ci"
    """How far inputs are searched: `dev`, `ci` or `nightly`."""
    seed: int | None = None
    """Chooses the searched examples; None: by model."""
    skips_allowed: bool = True
    """False turns every "not judged" into a failure."""
    as_of: AsOf | None = None
    """The day on which known failures are judged; None lets none of them count."""
    localises: bool = True
    """Whether a parity failure is followed by the search for its origin."""
    timing: TimingOptions = field(default_factory=TimingOptions)
    """What is asked about latency."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """What the search of an error's origin works with, besides the evidence itself."""

    launcher: Launcher
    runtimes: Runtimes
    inspector: Inspector
    references: References
    cache: Path


class Evidence:
    """Finds what items need; holds one session, one reference and one inspector at a time."""

    def __init__(
        self,
        selection: Selection,
        *,
        runtimes: Runtimes,
        launcher: Launcher,
        cache: Path,
        say: Callable[[str], None],
    ) -> None:
        self._selection = selection
        self._runtimes = runtimes
        self._launcher = launcher
        self._cache = cache
        self._say = say
        self._inspector = Inspector(launcher, sys.executable)
        self._references = References(
            launcher,
            sys.executable,
            cache / "references",
            anew=selection.profile == "nightly",
        )
        self._builder = Builder(launcher, sys.executable, cache / "builds")
        self._memory: dict[tuple[str, ...], object] = {}
        self._session: tuple[tuple[str, ...], Session] | None = None
        self._last_run: tuple[Cell, tuple[Values, ...], tuple[Values, ...]] | None = None

    def close(self) -> None:
        """End all workers."""
        self._drop_session()
        self._references.close()
        self._inspector.close()

    def tools(self) -> Tools:
        """Return what else can be run for a cell that failed."""
        return Tools(
            launcher=self._launcher,
            runtimes=self._runtimes,
            inspector=self._inspector,
            references=self._references,
            cache=self._cache,
        )

    def config(self, cell: Cell) -> SessionConfig:
        """Return what the cell's session is opened from."""
        return self._config(self.model(cell), self.provider(cell))

    def saying(self, text: str) -> AbstractContextManager[None]:
        """Show what is being done while it is done."""
        return self._saying(text)

    def model(self, cell: Cell) -> Model:
        """Return the model of a cell; raises what is wrong with its spec."""
        model = self._selection.models[cell.model]
        if isinstance(model, BrokenModel):
            raise model.problem
        return model

    def file(self, cell: Cell) -> tuple[Path, ModelFacts]:
        """Return the variant's file and what inspecting it told, faults included."""
        return self._once(("file", cell.model, cell.variant), lambda: self._find_file(cell))

    def sound_file(self, cell: Cell) -> tuple[Path, ModelFacts]:
        """Return the variant's file; raises if its faults leave nothing meaningful to run."""
        path, facts = self.file(cell)
        for code, message in facts.faults:
            if code in BLOCKING:
                file = cell.part(VARIANT_DEPTH)
                msg = f"Blocked by the contract: the file of '{file}' cannot be run: {message}"
                advice = f"see the contract item of {file}"
                raise RunFailed(msg, code="blocked", cause=code, where=str(path), next_step=advice)
        return path, facts

    def known_failures(self, question: Question, cell: Cell) -> tuple[Declared, ...]:
        """Return what the spec declares to fail about one item."""
        model, as_of = self._selection.models.get(cell.model), self._selection.as_of
        if as_of is None or not isinstance(model, Model):
            return ()
        return known_failures.declared(model, question, cell, as_of)

    def provider(self, cell: Cell) -> Resolved:
        """Return the cell's provider after it has really run a small model."""
        return self._once(("provider", cell.provider), lambda: self._find_provider(cell.provider))

    def inputs(self, cell: Cell) -> tuple[Values, ...]:
        """Return the inputs of every step of the cell's case."""
        model, facts = self.model(cell), self._interface(cell)
        case = model.case(cell.case)
        if model.recorded is not None and not case.inputs:
            return recordings.read_inputs(model, cell.case, facts)
        return cases.build(cell.model, model.spec, case, model.folder)

    def reference(self, cell: Cell, steps: tuple[Values, ...]) -> tuple[tuple[Values, ...], str]:
        """Return the reference's outputs of every step, and where they came from."""
        model, facts = self.model(cell), self._interface(cell)
        if cell.case == ANY:  # an example: the next one may fare better
            return self._references.outputs(model, cell.case, steps, facts)
        key = ("reference", cell.model, cell.case)
        with self._saying(f"running the reference of {cell.model}"):
            return self._once(
                key, lambda: self._references.outputs(model, cell.case, steps, facts), keep=False
            )

    def precise(self, cell: Cell, steps: tuple[Values, ...], dtype: str) -> PreciseOutputs:
        """Return the reference's outputs of every step in a floating type, or why it has none."""
        model, (_, facts) = self.model(cell), self.sound_file(cell)
        with self._saying(f"running the reference of {cell.model} in {dtype}"):
            return self._references.precise(model, steps, facts, dtype)

    def reference_lives(self, cell: Cell) -> None:
        """Raise what keeps the reference from being built; what it says to inputs is no matter."""
        self._references.live(self.model(cell))

    @contextmanager
    def session_of_threads(self, cell: Cell, threads: int) -> Iterator[Session]:
        """Yield a further session of the cell, with this number of intra-op threads."""
        session = self._open(cell, self.provider(cell), threads=threads)
        try:
            yield session
        finally:
            session.close()

    def session(self, cell: Cell) -> Session:
        """Return the session of this model, variant and provider, opening it if need be."""
        key = ("session", cell.model, cell.variant, cell.provider)
        if self._session is not None:
            held, session = self._session
            if held == key and session.alive:
                return session
            self._drop_session()
        resolved = self.provider(cell)
        session = self._once(key, lambda: self._open(cell, resolved), keep=False)
        self._session = (key, session)
        return session

    def run(self, cell: Cell, steps: tuple[Values, ...]) -> tuple[Values, ...]:
        """Return the candidate's outputs of every step; on a failure the inputs are saved."""
        session, spec = self.session(cell), self.model(cell).spec

        def run(feeds: Values) -> Values:
            return session.run(feeds, limit_s=spec.limits.run_s).outputs

        try:
            outputs = run_steps(run, steps, spec)
        except HarnessError as error:
            raise in_cell(error, cell, inputs=self.save_inputs(cell, steps)) from None
        self._last_run = (cell, steps, outputs)
        return outputs

    def just_run(self, cell: Cell, steps: tuple[Values, ...]) -> tuple[Values, ...]:
        """Return what the last run gave if it was of these very inputs, else run them."""
        if self._last_run is not None:
            of_cell, of_steps, outputs = self._last_run
            if of_cell == cell and of_steps is steps:
                return outputs
        return self.run(cell, steps)

    @property
    def profile(self) -> str:
        """Return how far inputs are searched."""
        return self._selection.profile

    @property
    def seed(self) -> int | None:
        """Return the number that chooses examples, if one was given or drawn."""
        return self._selection.seed

    @property
    def cache(self) -> Path:
        """Return the folder of all caches."""
        return self._cache

    def placement(self, cell: Cell) -> Placement:
        """Return where the nodes are: as recorded, else as one profiled run shows."""
        resolved, nodes = self.provider(cell), self.session(cell).facts.placement
        if nodes is None:
            key = ("placement", cell.model, cell.variant, cell.provider)
            nodes = self._once(key, lambda: self._profile(cell, resolved))
        return Placement(provider=resolved.provider.ep, nodes=nodes)

    def _interface(self, cell: Cell) -> ModelFacts:
        """Return what tells names and order of values; recorded ones go by the candidate's own."""
        recorded = self.model(cell).recorded is not None
        return self.sound_file(replace(cell, variant=FIRST_VARIANT) if recorded else cell)[1]

    def save_inputs(self, cell: Cell, steps: tuple[Values, ...]) -> Path:
        """Write the inputs of a failed item as `.npz`, so that it can be replayed by hand."""
        arrays = {
            leaf: array
            for name, value in numbered(steps).items()
            for leaf, array in leaves(value, name)
        }
        return write_arrays(failure_folder(self._cache, cell) / "inputs.npz", arrays)

    def _find_file(self, cell: Cell) -> tuple[Path, ModelFacts]:
        model = self.model(cell)
        steps = model.spec.steps(cell.variant)
        base = self.sound_file(replace(cell, variant=FIRST_VARIANT))[0] if steps else None
        with self._saying(f"preparing {cell.model}/{cell.variant}"):
            path = (
                candidate_file(model, cell.variant, references=self._references, cache=self._cache)
                if base is None
                else self._builder.build(base, steps, name=f"{cell.model}/{cell.variant}").path
            )
            return path, self._inspector.inspect(path, limit_s=model.spec.limits.load_s)

    def _find_provider(self, name: str) -> Resolved:
        resolved = self._runtimes.resolve(name)
        with self._saying(f"checking provider {name}"):
            check_provider(self._launcher, resolved)
        return resolved

    def _open(self, cell: Cell, resolved: Resolved, *, threads: int = 0) -> Session:
        model, (path, _) = self.model(cell), self.sound_file(cell)
        try:
            config = self._config(model, resolved)
            session = open_session(
                self._launcher,
                resolved.runtime,
                replace(config, threads=threads or config.threads),
                path,
                fork=resolved.provider.forks,
                limit_s=model.spec.limits.load_s,
            )
        except RunFailed as error:
            raise _refused(error, cell) from None
        except HarnessError as error:
            raise (error if error.code == "package.missing" else in_cell(error, cell)) from None
        if resolved.provider.ep not in session.facts.providers:
            log = session.log_tail()
            session.close()
            raise _fell_back(cell, resolved, session.facts.providers, log)
        return session

    def _profile(self, cell: Cell, resolved: Resolved) -> dict[str, tuple[NodeInfo, ...]]:
        model, (path, _) = self.model(cell), self.sound_file(cell)
        first = replace(cell, case=model.case_names()[0])
        return profile_placement(
            self._launcher,
            resolved.runtime,
            self._config(model, resolved),
            path,
            self.inputs(first)[0],
            fork=resolved.provider.forks,
            limit_s=model.spec.limits.load_s,
        )

    def _config(self, model: Model, resolved: Resolved) -> SessionConfig:
        spec, provider = model.spec, resolved.provider
        check_config_keys(spec.session.config, where=f"{model.spec_file}, session.config")
        use = spec.providers.get(provider.name)
        options = {
            **provider.options,
            **(use.options if use else {}),
            **self._selection.provider_options.get(provider.name, {}),
        }
        if options and provider.ep == CPU_PROVIDER:
            msg = f"{CPU_PROVIDER} takes no options, and would ignore them without a word"
            raise SpecError(
                msg,
                code="session.option",
                where=resolved.name,
                got=str(options),
                next_step="drop them from spec, settings and --provider-option",
            )
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

    def _drop_session(self) -> None:
        if self._session is not None:
            self._session[1].close()
            self._session = None

    def _once(self, key: tuple[str, ...], make: Callable[[], T], *, keep: bool = True) -> T:
        """Return what `make` returns, once; tell its failure in full once, then in a line."""
        known = self._memory.get(key)
        if isinstance(known, HarnessError):
            raise blocked_by(known)
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

    @contextmanager
    def _saying(self, text: str) -> Iterator[None]:
        """Show what is being done while it is done."""
        self._say(text)
        try:
            yield
        finally:
            self._say("")


def numbered(steps: tuple[Values, ...]) -> Values:
    """Return the values of all steps under names such as `input`, or `input.step3` of several."""
    if len(steps) == 1:
        return steps[0]
    return {
        f"{name}.step{n}": value for n, step in enumerate(steps) for name, value in step.items()
    }


def in_cell(error: HarnessError, cell: Cell, inputs: Path | None = None) -> HarnessError:
    """Return `error` with the cell in its first line, and where its inputs were saved."""
    saved = f"inputs {inputs}" if inputs else ""
    return type(error)(
        f"{error.what} for cell '{cell}'",
        code=error.code,
        where=", ".join(part for part in (error.where, saved) if part),
        expected=error.expected,
        got=error.got,
        next_step=error.next_step,
        cause=error.cause,
    )


def _library(name: str, folder: Path) -> str:
    """Return a custom operator library: a file of the model's folder, else a package's name."""
    return str(folder / name) if (folder / name).exists() else name


def _refused(error: RunFailed, cell: Cell) -> HarnessError:
    if error.code != "run.failed":
        return in_cell(error, cell.part(PROVIDER_DEPTH))
    short = short_name(cell.provider)
    return RunFailed(
        f"Session of '{cell.part(PROVIDER_DEPTH)}' was refused: {error.what}",
        code="session.refused",
        where=cell.provider,
        expected="a session",
        got=error.got,
        next_step=f"mend the model, or declare providers.{short}.not_applicable with the reason",
    )


def _fell_back(
    cell: Cell, resolved: Resolved, providers: tuple[str, ...], log: str
) -> EnvironmentProblem:
    which = cell.part(PROVIDER_DEPTH)
    return EnvironmentProblem(
        f"{resolved.provider.ep} was requested but the session of '{which}' opened "
        f"with {list(providers)}",
        code="session.fallback",
        where=f"runtime '{resolved.runtime.name}'",
        expected=f"{resolved.provider.ep} among the session's providers",
        got=log,
        next_step="`onnx-harness doctor` shows whether the provider works at all",
    )
