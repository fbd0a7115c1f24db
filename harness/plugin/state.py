"""The harness inside one pytest run: options read once, items made, outcomes turned into pytest's.

Registered as a second plugin once an option or a suite asks for the harness, so that its hooks
cost nothing in a run that has no use for them.
"""

from __future__ import annotations

import os
import secrets
import shlex
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

import harness
from harness.domain.cells import ANY, Cell, parts, short_name
from harness.domain.findings import Finding
from harness.domain.known_failures import AsOf
from harness.domain.project import ProjectSettings
from harness.domain.providers import find
from harness.domain.questions import LATENCY, QUESTIONS, Question
from harness.domain.spec import KnownFailure
from harness.domain.verdict import Judgement, Verdict
from harness.errors import HarnessError, UsageProblem
from harness.evidence import Selection, TimingOptions
from harness.files import places
from harness.files.baselines import Baselines
from harness.files.commits import as_of
from harness.files.models import BrokenModel, Model, load_models, named_models, with_known_providers
from harness.files.project import artefacts_place, find_root, load_settings
from harness.latency.orphans import orphan_items
from harness.latency.plans import Approved
from harness.pipeline import Gate
from harness.plugin import refuse
from harness.plugin.progress import Progress
from harness.plugin.recording import OnlyBenchmarks
from harness.plugin.recording import record as record_calls
from harness.reports.known_failures import expiring_lines
from harness.reports.lines import judgement_lines
from harness.reports.plot import draw
from harness.reports.summary import blocked_lines, expected_lines, summary_lines, unjudged_lines
from harness.results.record import ItemRecord, RunRecord, write_record
from harness.runtimes.launchers import LocalLauncher
from harness.runtimes.probe import check_provider
from harness.runtimes.registry import Runtimes

STATE = pytest.StashKey["HarnessState"]()
NO_PROVIDER = """No provider of the specs is usable here: nothing would be checked
  next:     `onnx-harness doctor` tells what is missing"""
#: Where the wheel keeps the suites; a checkout has them beside it.
PACKAGE = Path(harness.__file__).resolve().parent
NO_SUITE = """Nothing would be checked: onnx-harness was asked for, but no suite was collected
  next:     name the suites: `pytest suites/`, or `pytest --pyargs harness.suites`"""
#: Findings whose cells are drawn beside the run record.
DRAWN = frozenset({"latency.slower", "latency.faster"})
#: Attribute of a test report that carries the item's record, also from xdist workers.
REPORT_ATTRIBUTE = "onnx_harness"


@dataclass(frozen=True, slots=True, kw_only=True)
class HarnessOptions:
    """The command line, read once."""

    models: Path
    model_globs: tuple[str, ...]
    providers: tuple[str, ...]
    provider_options: dict[str, dict[str, str]]
    skips_allowed: bool
    as_of: str | None
    excuses_allowed: bool
    localises: bool
    record: Path | None
    profile: str
    seed: int | None
    baselines: Path
    belong_together: bool
    """Whether the baselines are those of the models: both by default, or the folder was named."""
    artefacts: str | Path
    measures_all: bool
    records_serving: bool
    against_runtime: str | None


def activate(config: pytest.Config) -> HarnessState:
    """Return the state of this run, made on the first call.

    Raises:
        pytest.UsageError: If the command line or the project's settings are wrong.
    """
    state = config.stash.get(STATE, None)
    if state is None:
        try:
            state = HarnessState(config)
        except HarnessError as error:
            raise pytest.UsageError(str(error)) from None
        config.stash[STATE] = state
        config.add_cleanup(state.close)
        config.pluginmanager.register(state, "onnx-harness-state")
        config.pluginmanager.register(OnlyBenchmarks(), "onnx-harness-only-benchmarks")
    return state


class HarnessState:
    """Hooks and data of an active harness."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        root = find_root(config.invocation_params.dir)
        settings = load_settings(root)
        self.options = _options(config, root, settings)
        self._cache = places.writable(places.cache_folder(), "ONNX_HARNESS_CACHE")
        self._launcher = LocalLauncher()
        self._runtimes = Runtimes(settings, root, places.runtimes_folder(), self._launcher)
        for name in self.options.providers:
            self._runtimes.check_name(name)
        if self.options.against_runtime is not None:
            name = f"cpu@{self.options.against_runtime}"
            self._runtimes.check_name(name, where="--against-runtime")
        for name in self.options.provider_options:
            find(name, self._runtimes.providers, where="--provider-option")
        self._loaded = with_known_providers(
            load_models(self.options.models), self._runtimes.providers
        )
        self.models = named_models(self._loaded, self.options.model_globs)
        self._as_of = self._day(root)
        self.providers = self.options.providers
        self._left_out: dict[str, str] = {}
        self._judgements: dict[tuple[str, str], Judgement] = {}
        self._progress = Progress(config)
        self._gate: Gate | None = None
        self._made = 0
        self._timed: tuple[Cell, ...] = ()
        self._orphans: dict[Cell, Finding] = {}
        self._seed = self.options.seed
        if self._seed is None and self.options.profile == "nightly":
            self._seed = secrets.randbelow(2**32)

    def _day(self, root: Path) -> AsOf | None:
        """Return the day on which known failures are judged; None if there are none, or none count.

        pytest's --runxfail reports them as if they were not declared.
        """
        given = self.options.as_of
        day = as_of(root, given) if given is not None or any(self._known_failures()) else None
        return day if self.options.excuses_allowed else None

    def _known_failures(self) -> Iterator[tuple[str, tuple[KnownFailure, ...]]]:
        """Yield the models of this run that declare known failures, with those."""
        for name, model in self.models.items():
            if isinstance(model, Model) and model.spec.known_failure:
                yield name, model.spec.known_failure

    # making items

    def parametrize(self, metafunc: pytest.Metafunc, question: str) -> None:
        """Parametrise a suite with the parts of cells that its question is about."""
        found = self._found(question)
        self._made += len(found)
        metafunc.parametrize("cell", found, ids=list(map(str, found)))

    def _found(self, question: str) -> list[Cell]:
        """Return what a suite asks about: the file of a broken model, all of the others.

        Where every model is broken each suite says so.
        """
        sound = [model for model in self.models.values() if isinstance(model, Model)]
        asked = self.models.values() if question == "contract" or not sound else sound
        depth = QUESTIONS[question].depth
        providers = self._providers()
        if idle := sorted(set(self.options.provider_options) - set(map(short_name, providers))):
            what = f"Provider option for '{idle[0]}', which does not take part in this run"
            msg = f"{what}\n  next:     add --provider {idle[0]}, or drop the option"
            raise pytest.UsageError(msg)
        of_latency = question == LATENCY.name
        cells = [
            cell
            for model in asked
            for cell in (model.timed_cells if of_latency else model.cells)(
                self._providers_of(model)
            )
        ]
        if not cells:
            msg = f"Nothing would be checked: no {question} item for {_where(self.options)}"
            raise pytest.UsageError(msg)
        if of_latency and self.options.against_runtime is None:
            self._orphans = self._found_orphans()
            cells += self._orphans
        return list(parts(cells, depth))

    def _found_orphans(self) -> dict[Cell, Finding]:
        """Return the baselines that this run would pass over because they have no cell.

        Raises:
            pytest.UsageError: If there is something else than a folder of baselines.
        """
        try:
            return orphan_items(
                Baselines(self.options.baselines),
                self.models,
                loaded=self._loaded,
                providers=self.options.providers,
                is_narrowed=bool(self.options.model_globs) or not self.options.belong_together,
            )
        except HarnessError as error:
            raise pytest.UsageError(str(error)) from None

    def _providers(self) -> tuple[str, ...]:
        """Return the providers asked for, else the declared ones that are usable here.

        With --no-skips all declared ones count: a provider that is missing then fails.
        """
        if not self.providers:
            usable = self._is_usable if self.options.skips_allowed else bool
            self.providers = tuple(filter(usable, self._declared()))
        if not self.providers:
            raise pytest.UsageError("\n".join((NO_PROVIDER, *self._left_out_lines())))
        return self.providers

    def _providers_of(self, model: Model | BrokenModel) -> tuple[str, ...]:
        """Return the providers asked for, else the usable ones that this model's spec declares.

        A model without a usable one keeps those that it declares, and fails: it must not vanish.
        """
        if self.options.providers or isinstance(model, BrokenModel):
            return self._providers()
        declared = tuple(model.spec.providers)
        return tuple(name for name in declared if name in self._providers()) or declared

    def _declared(self) -> tuple[str, ...]:
        specs = [model.spec for model in self.models.values() if isinstance(model, Model)]
        return tuple(dict.fromkeys(name for spec in specs for name in spec.providers)) or ("cpu",)

    def _is_usable(self, name: str) -> bool:
        """Return whether a small model really opens and runs on the provider."""
        try:
            check_provider(self._launcher, self._runtimes.resolve(name))
        except HarnessError as error:
            self._left_out[name] = error.what
            return False
        return True

    def _left_out_lines(self) -> Iterator[str]:
        """Yield what was not judged because no --provider asked for it and it is not usable."""
        for name, reason in self._left_out.items():
            yield f"provider {name} is declared but left out: {reason}"

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Put items of one session together; refuse a selection that leaves a named model out.

        Latency comes last of all, also behind what is not ours: it needs the machine alone.
        """
        problem = self._unchecked(items)
        if problem:
            refuse(self._config, problem, items)
        ours = [index for index, item in enumerate(items) if _cell(item) is not None]
        by_session = sorted((items[index] for index in ours), key=_session_key)
        for index, item in zip(ours, by_session, strict=True):
            items[index] = item
        items.sort(key=_measures)
        timed = (_cell(item) for item in items if _question(item) == LATENCY.name)
        self._timed = tuple(
            cell for cell in timed if cell is not None and cell not in self._orphans
        )

    def _unchecked(self, items: list[pytest.Item]) -> str:
        """Return what the selection would leave out in silence, or nothing."""
        if self._config.option.collectonly:
            return ""
        if not self._made:
            return NO_SUITE
        left = {cell.model for item in items if (cell := _cell(item)) is not None}
        if not left:
            what = f"the selection leaves no item of {_where(self.options)}"
            return f"Nothing would be checked: {what}\n  next:     change -k, -m or --model"
        if self.options.model_globs and (lost := sorted(set(self.models) - left)):
            for model in map(self.models.__getitem__, lost):
                if isinstance(model, BrokenModel):  # it has a contract item only
                    return str(model.problem)
            what = f"The selection leaves no item of model '{lost[0]}', which --model names"
            return f"{what}\n  next:     change -k or -m, or drop it from --model"
        return ""

    # judging

    def require(
        self, question: Question, cell: Cell, nodeid: str, request: pytest.FixtureRequest | None
    ) -> None:
        """Judge one item; return on PASS, raise pytest's outcome for every other verdict."""
        judgement = self._kept(self._judge_of_run().check(question, cell), cell, request)
        self._judgements[question.name, str(cell)] = judgement
        if judgement.verdict is Verdict.PASS:
            return
        text = "\n".join(judgement_lines(judgement, reproduce=self._command(nodeid, cell)))
        if judgement.is_expected_failure:
            raise pytest.xfail.Exception(text, pytrace=False)
        if judgement.verdict is Verdict.SKIP:
            pytest.skip(text.splitlines()[0])
        pytest.fail(text, pytrace=False)

    def _kept(
        self, judgement: Judgement, cell: Cell, request: pytest.FixtureRequest | None
    ) -> Judgement:
        """Hand timed calls to pytest-benchmark, and draw those of a cell that differs."""
        receipt, timed = judgement.receipt, judgement.receipt.timed
        if timed is None:
            return judgement
        if request is not None:
            record_calls(request, timed.candidate_ns, receipt.facts)
        codes = {finding.code for finding in judgement.findings}
        if self.options.record is None or not codes & DRAWN or not timed.pairs:
            return judgement
        folder = self.options.record.with_suffix(".pictures")
        folder.mkdir(parents=True, exist_ok=True)
        picture = folder / f"{str(cell).replace('/', '__')}.png"
        note = draw(
            picture,
            timed,
            title=f"{cell}: p50 {float(receipt.facts['change']):+.1%}",
            caption=f"single calls of all workers; {receipt.facts['judged']}",
        )
        told = {"picture": note or str(picture)}
        return replace(judgement, receipt=receipt.plus(facts=told))

    def close(self) -> None:
        """End all workers."""
        if self._gate is not None:
            self._gate.close()
            self._gate = None
        self._launcher.close()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Attach the judgement to the report, and show an ERROR verdict as pytest's error."""
        report = yield
        if call.when != "call" or (cell := _cell(item)) is None:
            return report
        question = _question(item)
        judgement = self._judgements.pop((question, str(cell)), None)
        if judgement is None:
            return report
        record = ItemRecord.of(question, str(cell), judgement, duration_s=call.duration)
        setattr(report, REPORT_ATTRIBUTE, record.as_json())
        item.user_properties.extend(_properties(record))  # JUnit XML reads the teardown's report
        if judgement.verdict is Verdict.ERROR:
            report.when = "setup"  # what pytest calls an error is a failure outside the call
        if record.is_expected_failure:
            report.outcome = "skipped"
            report.wasxfail = record.findings[0]["what"]  # the whole message is in longrepr
        if isinstance(report.longrepr, tuple):  # a skip: show the suite, not this file
            file, line, _ = item.reportinfo()
            report.longrepr = (str(file), (line or 0) + 1, report.longrepr[2])
        return report

    # reporting

    def finish(self, found: Sequence[Mapping[str, Any]], *, width: int) -> Iterator[str]:
        """Write the run record if one is asked for, and yield the closing table."""
        records = [ItemRecord.from_json(plain) for plain in found]
        if self.options.record is not None:
            record = RunRecord.of(self._loaded.values(), records, asked=self._asked())
            write_record(self.options.record, record)
        yield from summary_lines(records, width=width)
        yield from blocked_lines(records)
        yield from unjudged_lines(records)
        yield from expected_lines(records)
        if self._as_of is not None:
            yield from expiring_lines(dict(self._known_failures()), records, self._as_of)
        self._providers()  # an xdist controller has not asked yet which ones are left out
        yield from self._left_out_lines()
        if self.options.record is not None:
            yield f"run record: {self.options.record}"

    def _asked(self) -> dict[str, Any]:
        """Return what the run record says about the selection."""
        asked: dict[str, Any] = {
            "models": list(self.options.model_globs),
            "providers": list(self.options.providers),
            "no_skips": not self.options.skips_allowed,
        }
        if self._as_of is not None:
            asked["as_of"] = [str(self._as_of.date), self._as_of.source]
        if not self.options.excuses_allowed:
            asked["runxfail"] = True
        if self.options.measures_all:
            asked["measure_all"] = True
        if self.options.records_serving:
            asked["record_serving"] = True
        if self.options.against_runtime is not None:
            asked["against_runtime"] = self.options.against_runtime
        return asked

    def _judge_of_run(self) -> Gate:
        if self._gate is None:
            selection = Selection(
                models=self.models,
                provider_options=self.options.provider_options,
                skips_allowed=self.options.skips_allowed,
                as_of=self._as_of,
                localises=self.options.localises,
                profile=self.options.profile,
                seed=self._seed,
                timing=TimingOptions(
                    cells=self._timed,
                    screens_ahead=not hasattr(self._config, "workerinput"),  # another's item else
                    measures_all=self.options.measures_all,
                    records_serving=self.options.records_serving,
                    against_runtime=self.options.against_runtime,
                    seed=secrets.randbits(32) if self._seed is None else self._seed,
                    orphans=self._orphans,
                ),
            )
            self._gate = Gate(
                selection,
                runtimes=self._runtimes,
                launcher=self._launcher,
                cache=self._cache,
                approved=Approved.at(
                    self.options.baselines, artefacts=self.options.artefacts, cache=self._cache
                ),
                say=self._progress.say,
            )
        return self._gate

    def _command(self, nodeid: str, cell: Cell) -> str:
        """Return the command that runs one item again, with the options that made it."""
        file, _, test = nodeid.partition("::")
        path = (self._config.rootpath / file).resolve()
        own = path.is_file() and not path.is_relative_to(PACKAGE)
        words = ["pytest", *([nodeid] if own else ["--pyargs", "harness.suites", "-k", test])]
        if cell.provider != ANY and cell not in self._orphans:  # its provider may be no cell's
            words += ["--provider", cell.provider]
        for value in self._config.getoption("provider_option"):
            words += ["--provider-option", value]
        if self.options.as_of is not None:
            words += ["--as-of", self.options.as_of]
        if self.options.profile != "ci":
            words += ["--harness-profile", self.options.profile]
        if self._seed is not None:
            words += ["--harness-seed", str(self._seed)]
        if self.options.measures_all:
            words += ["--measure-all"]
        if self.options.records_serving:
            words += ["--record-serving"]
        for name in ("models", "baselines", "against_runtime"):
            if self._config.getoption(name):
                words += [f"--{name.replace('_', '-')}", self._config.getoption(name)]
        return shlex.join(words)


class ItemGate:
    """What the fixture `gate` gives to a suite."""

    def __init__(self, state: HarnessState) -> None:
        self._state = state

    def require(
        self, question: Question, cell: Cell, request: pytest.FixtureRequest | None = None
    ) -> None:
        """Judge one item; return on PASS, raise pytest's outcome for every other verdict.

        Args:
            question: What is asked.
            cell: About what.
            request: The test's own; with it pytest-benchmark records what was timed.
        """
        current = os.environ.get("PYTEST_CURRENT_TEST", "").rpartition(" ")[0]
        self._state.require(question, cell, current, request)


def _options(config: pytest.Config, root: Path, settings: ProjectSettings) -> HarnessOptions:
    given = config.getoption("models")
    if given == "":
        msg = "--models names no folder"
        raise UsageProblem(msg, next_step="give a folder, or leave the option out")
    return HarnessOptions(
        models=root / settings.models
        if given is None
        else Path(config.invocation_params.dir, given),
        model_globs=tuple(config.getoption("model")),
        providers=tuple(dict.fromkeys(config.getoption("provider"))),
        provider_options=_provider_options(config.getoption("provider_option")),
        skips_allowed=not config.getoption("no_skips"),
        as_of=config.getoption("as_of"),
        excuses_allowed=not config.getoption("runxfail", default=False),
        localises=not config.getoption("no_localise"),
        record=_record_path(config),
        profile=config.getoption("harness_profile") or "ci",
        seed=config.getoption("harness_seed"),
        baselines=(baselines := _baselines(config, root, settings)),
        belong_together=given is None or config.getoption("baselines") is not None,
        artefacts=artefacts_place(settings, root, baselines),
        measures_all=config.getoption("measure_all"),
        records_serving=config.getoption("record_serving"),
        against_runtime=config.getoption("against_runtime"),
    )


def _baselines(config: pytest.Config, root: Path, settings: ProjectSettings) -> Path:
    given = config.getoption("baselines")
    if given is None:
        return root / settings.baselines
    folder = Path(config.invocation_params.dir, given)
    if not folder.is_dir():
        msg = f"Baselines folder '{given}' does not exist"
        raise UsageProblem(
            msg,
            where="--baselines",
            expected="a folder that `onnx-harness baseline refresh` wrote",
            next_step="correct the path, or leave the option out",
        )
    return folder


def _record_path(config: pytest.Config) -> Path | None:
    given = config.getoption("harness_json")
    if given is None:
        return None
    path = Path(config.invocation_params.dir, given)
    if path.is_dir():
        msg = f"Run record '{given}' is a folder"
        raise UsageProblem(msg, where="--harness-json", next_step="name a file in it")
    places.writable(path.parent, "--harness-json")
    return path


def _provider_options(given: Sequence[str]) -> dict[str, dict[str, str]]:
    options: dict[str, dict[str, str]] = {}
    for text in given:
        key, equals, value = text.partition("=")
        provider, dot, name = key.partition(".")
        if not (equals and dot and provider and name):
            msg = f"Provider option '{text}' is not of the form PROVIDER.KEY=VALUE"
            raise UsageProblem(
                msg, where="--provider-option", expected="for example cuda.use_tf32=0"
            )
        options.setdefault(provider, {})[name] = value
    return options


def _where(options: HarnessOptions) -> str:
    named = ", ".join(options.model_globs) or "any model"
    providers = ", ".join(options.providers) or "any provider"
    return f"{named} on {providers} in '{options.models}'"


def _cell(item: pytest.Item) -> Cell | None:
    """Return the cell of one of our items, None for any other test."""
    callspec = getattr(item, "callspec", None)
    cell = callspec.params.get("cell") if callspec is not None else None
    return cell if isinstance(cell, Cell) else None


def _question(item: pytest.Item) -> str:
    return next((name for name in QUESTIONS if item.get_closest_marker(name)), "")


def _measures(item: pytest.Item) -> bool:
    """Return whether an item measures, and so needs the machine alone."""
    return _cell(item) is not None and _question(item) == LATENCY.name


def _session_key(item: pytest.Item) -> tuple[str, str, str, int]:
    """Sort by session, then from the file outwards: contract, placement, parity."""
    cell = _cell(item)
    if cell is None:
        msg = f"{item.nodeid} has no cell"
        raise TypeError(msg)
    provider = "" if cell.provider == ANY else cell.provider  # the file's items come first
    return cell.model, cell.variant, provider, list(QUESTIONS).index(_question(item))


def _properties(record: ItemRecord) -> Iterator[tuple[str, str]]:
    """Yield what JUnit XML carries as properties of the test case."""
    yield "harness.verdict", record.verdict.value  # xdist sends plain types only
    for finding in record.findings:
        yield "harness.finding", finding["code"]
    for name, number in record.counts.items():
        yield f"harness.receipt.{name}", str(number)
    for name, fact in record.facts.items():
        yield f"harness.receipt.{name}", fact
