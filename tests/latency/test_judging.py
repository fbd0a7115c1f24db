"""The judge of latency items, on duets whose figures are given."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from pydantic import TypeAdapter

from harness.domain import duet as rules
from harness.domain.baseline import Baseline, Entry, Figures, LocalBaseline, Timing
from harness.domain.cells import Cell
from harness.domain.duet import Rule, Stage
from harness.domain.findings import Finding
from harness.domain.project import ProjectSettings
from harness.domain.providers import BUILTIN
from harness.domain.receipts import Receipt, Timed
from harness.domain.session import NodeInfo
from harness.duets import CANDIDATE, CONTROL, Quantity
from harness.errors import RunFailed
from harness.evidence import Evidence, Selection, TimingOptions
from harness.files.models import load_models
from harness.latency.judging import LatencyJudge, timing
from harness.latency.plans import Approved, other_sizes
from harness.measuring import Arm
from harness.runtimes.launchers import LocalLauncher
from harness.runtimes.machine import this_environment
from harness.runtimes.registry import Runtimes
from harness.serving import Load, Serving
from harness.testing import MiniProject, file_spec, linear_model
from tests.baselines import CHANGE

pytest.importorskip("scipy")

MIB = 2**20
CELL = Cell("m", "fp32", "cpu", "one")
CPU = "CPUExecutionProvider"
SERVING = Serving(
    loads=(Load(callers=1, sessions=1, calls=9, per_s=10.0, p50_ms=1.0, p90_ms=1.0, p99_ms=1.0),),
    saturated_by={},
    new_sizes=(),
    growth_bytes=None,
)


def arm(p50_ms: float = 1.0, *, memory: int = 50 * MIB, nodes: int = 2, calls: int = 400) -> Arm:
    """Return what eight workers of one side gave."""
    per_worker = np.full(calls // 8, p50_ms * 1e6, dtype=np.int64)
    return Arm(
        calls_ns=[per_worker] * 8,
        medians_ns=[p50_ms * 1e6] * 8,
        startup_ns=[40e6] * 8,
        memory_bytes=[memory] * 8,
        calls=calls,
        placement={CPU: (NodeInfo(name="n", op="MatMul"),) * nodes},
    )


@dataclass(slots=True)
class Measured:
    """What the workers of these tests would give, and what was asked of them."""

    effect: float = 0.0
    """Log ratio of candidate to control in every pair."""
    candidate: Arm = field(default_factory=arm)
    control: Arm = field(default_factory=arm)
    duets: list[str] = field(default_factory=list)
    """Models that were measured beside a control."""
    lone: list[str] = field(default_factory=list)
    """Models that were measured by themselves."""
    explained: list[bool] = field(default_factory=list)
    alone: bool = False

    @contextmanager
    def take(self) -> Iterator[None]:
        """Hold the machine."""
        assert not self.alone
        self.alone = True
        try:
            yield
        finally:
            self.alone = False


def _stages(effect: float) -> list[Stage]:
    pairs = [effect] * 16
    if effect == 0.0:
        return [Stage(candidate=pairs)]
    return [Stage(candidate=pairs), *[Stage(candidate=pairs, sentinel=[0.0] * 16)] * 2]


def _fakes(measured: Measured, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing be measured in earnest."""

    class FakeDuet:
        def __init__(self, _: object, *, candidate: Any, latency: Rule, **given: Any) -> None:
            measured.duets.append(candidate.path.parent.name)
            self.settled = False
            self.latency = Quantity(rule=latency, stages=_stages(measured.effect))
            self.startup = Quantity(rule=given["startup"], stages=_stages(0.0))
            self.arms = {CANDIDATE: measured.candidate, CONTROL: measured.control}

        def advance(self) -> None:
            assert measured.alone
            self.settled = True

        def gpu_facts(self) -> dict[str, str]:
            return {"gpu": "1,980 MHz"} if measured.candidate.gpu_bytes else {}

        def timed(self) -> Timed:
            return Timed(candidate_ns=np.ones(1, np.int64), control_ns=np.ones(1, np.int64))

    class FakeBench:
        def __init__(self, _: object, sides: Any, **__: Any) -> None:
            measured.lone.append(sides[CANDIDATE].path.parent.name)
            self.arms = {CANDIDATE: measured.candidate}

        def gpu_facts(self) -> dict[str, str]:
            return {}

        def round(self, names: Sequence[str]) -> None:
            assert measured.alone
            assert list(names) == [CANDIDATE]

    def explain(*_: object, **__: object) -> SimpleNamespace:
        measured.explained.append(measured.alone)
        return SimpleNamespace(lines=lambda: ["graph:    MatMul 1 -> 2"])

    monkeypatch.setattr("harness.latency.docket.Duet", FakeDuet)
    monkeypatch.setattr("harness.latency.judging.Bench", FakeBench)
    monkeypatch.setattr("harness.latency.judging.explain_regression", explain)


class Court:
    """A project with its baselines, and a judge whose measurements are given."""

    def __init__(self, project: MiniProject, launcher: LocalLauncher, measured: Measured) -> None:
        self.project = project
        self.measured = measured
        self._launcher = launcher
        self.approved = Approved.at(
            project.root / "baselines",
            artefacts=project.root / "store",
            cache=project.root / "cache",
        )

    def add(self, more: str = "", *, scale: float = 1.0, name: str = "m", **spec: str) -> None:
        """Add a model, or change it."""
        model = linear_model(scale=scale).SerializeToString()
        self.project.add_model(name, file_spec(more=more, **spec), {"model.onnx": model})

    def judge(self, cell: Cell = CELL, **options: Any) -> tuple[list[Finding], Receipt]:
        """Return findings and receipt of an item."""
        with self.judging(**{"cells": (cell,), **options}) as judge:
            findings, receipt = judge.judge(cell)
            return list(findings), receipt

    @contextmanager
    def judging(self, **options: Any) -> Iterator[LatencyJudge]:
        """Yield the judge of a run."""
        root = self.project.root
        evidence = Evidence(
            Selection(models=load_models(self.project.models)),
            runtimes=Runtimes(ProjectSettings(), root, root / "runtimes", self._launcher),
            launcher=self._launcher,
            cache=root / "cache",
            say=lambda _: None,
        )
        with closing(evidence):
            yield LatencyJudge(
                evidence,
                approved=self.approved,
                options=TimingOptions(**options),
                alone=self.measured.take,
            )

    def approve(self, *, with_figures: bool = True, version: str = "") -> None:
        """Approve what `m` is now."""
        receipt = self.judge(measures_all=True)[1]
        self.measured.lone.clear()
        entry: Entry = TypeAdapter(Entry).validate_python({
            "recipe": receipt.measured["recipe"],
            "artefact": self.approved.artefacts.put(self.project.models / "m/model.onnx"),
            "file_bytes": receipt.measured["file_bytes"],
            "change": CHANGE,
        })
        if version:
            build = replace(entry.recipe.build, version=version)
            entry = replace(entry, recipe=replace(entry.recipe, build=build))
        self.approved.baselines.write(Baseline(model="m", entries={"fp32/cpu": entry}))
        if with_figures:
            figures = Figures(
                recipe=entry.recipe,
                nodes=receipt.measured["nodes"],
                points={"one": Timing(**receipt.measured["timing"])},
                change=CHANGE,
            )
            local = LocalBaseline(
                model="m", environment=this_environment(gpu=False), entries={"fp32/cpu": figures}
            )
            self.approved.baselines.write_local(local)


@pytest.fixture(scope="module")
def launcher() -> Iterator[LocalLauncher]:
    """Yield a launcher for all tests of this module."""
    with LocalLauncher() as shared:
        yield shared


@pytest.fixture
def court(project: MiniProject, launcher: LocalLauncher, monkeypatch: pytest.MonkeyPatch) -> Court:
    """Return a court with the model `m`, without a baseline; scope function."""
    measured = Measured()
    _fakes(measured, monkeypatch)
    made = Court(project, launcher, measured)
    made.add()
    return made


def codes(findings: Sequence[Finding]) -> list[str]:
    """Return the codes of findings."""
    return [each.code for each in findings]


def test_what_a_run_measures_depends_on_what_it_was_asked_for(court: Court) -> None:
    """A refresh completes what is missing; --measure-all times everything."""
    found, receipt = court.judge()
    assert (codes(found), receipt.counts, court.measured.lone) == (["baseline.missing"], {}, [])
    found, receipt = court.judge(completes=True)
    assert (codes(found), court.measured.lone) == (["baseline.missing"], ["m"])
    assert receipt.measured["point"] == "one"
    court.approve(with_figures=False)
    assert court.judge()[1].counts == {"unchanged_by_hash": 1}
    assert court.judge(completes=True)[1].counts == {"calls_timed": 800}
    court.approve()
    assert court.judge(completes=True)[1].counts == {"unchanged_by_hash": 1}
    assert court.judge(measures_all=True)[1].counts == {"calls_timed": 800}
    assert court.measured.duets == ["m", "m", "m"]  # one of them to approve figures


def test_every_quantity_is_judged_at_once(court: Court) -> None:
    """A model that got worse in every way says so with one item, and is profiled for it."""
    court.approve()
    court.add(scale=2.0)
    court.measured.effect = math.log(1.5)
    court.measured.candidate = arm(1.5, memory=60 * MIB, nodes=3)
    found, receipt = court.judge()
    assert codes(found) == ["latency.slower", "memory.larger", "nodes.more"]
    assert "graph:    MatMul 1 -> 2" in found[0].got
    assert court.measured.explained == [True]
    assert receipt.facts["judged"].startswith("duet against the baseline ")
    assert float(receipt.facts["change"]) == pytest.approx(0.5)
    assert receipt.facts["control"] != receipt.facts["model"]
    assert receipt.timed is not None
    court.measured.effect = -math.log(1.5)
    court.measured.candidate = arm(0.5, memory=40 * MIB, nodes=1)
    assert codes(court.judge()[0]) == ["latency.faster", "memory.smaller", "nodes.fewer"]
    assert court.measured.explained == [True]


def test_memory_of_the_gpu_is_judged_like_that_of_the_worker(court: Court) -> None:
    """And told apart from it."""
    court.approve()
    court.add(scale=2.0)
    court.measured.candidate = replace(arm(), gpu_bytes=[610 * MIB] * 3)
    court.measured.control = replace(arm(), gpu_bytes=[600 * MIB] * 3)
    found, receipt = court.judge()
    assert codes(found) == ["memory.larger"]
    assert found[0].where == "memory of the GPU that a worker takes, its context included"
    assert receipt.facts["gpu"] == "1,980 MHz"
    assert receipt.measured["timing"]["gpu_bytes"] == 610 * MIB


def test_a_stored_number_of_the_other_io_mode_judges_nothing(
    court: Court, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be another quantity."""
    court.approve()
    monkeypatch.setitem(BUILTIN, "cpu", replace(BUILTIN["cpu"], device="cpu"))
    court.add('[latency]\nio_mode = "device"\n')
    found, _ = court.judge()
    assert codes(found) == ["baseline.incomparable"]
    assert court.measured.lone == []


def test_the_slowdown_of_the_spec_is_the_bound(court: Court) -> None:
    """Ten per cent are fine where the spec says so, with a reason."""
    court.approve()
    court.measured.effect = math.log(1.08)
    court.add(scale=2.0)
    assert codes(court.judge()[0]) == ["latency.slower"]
    court.add('[latency]\nslowdown = 0.2\nreason = "it does more"\n', scale=2.0)
    court.measured.effect = 0.0
    assert codes(court.judge()[0]) == []


def test_nodes_of_two_releases_are_not_compared(court: Court) -> None:
    """Another ONNX Runtime may fuse otherwise; a build that tells none is no reason either."""
    court.approve()
    court.add(scale=2.0)
    court.measured.candidate = replace(arm(), placement=None)
    assert codes(court.judge()[0]) == []


def test_a_stored_number_judges_what_has_no_control(court: Court) -> None:
    """Within its limit nothing is found; the receipt says that no duet judged."""
    court.approve(version="1.2.3")
    found, receipt = court.judge()
    assert (codes(found), court.measured.duets) == ([], [])
    assert receipt.facts["judged"] == "stored number 1 ms, within 25%"
    court.measured.candidate = arm(1.3)
    assert codes(court.judge()[0]) == ["latency.slower"]
    court.measured.candidate = arm(0.7)
    assert codes(court.judge()[0]) == ["latency.faster"]


def test_other_inputs_make_a_stored_number_worthless(court: Court) -> None:
    """Another range in the spec draws other values."""
    court.approve(version="1.2.3")
    inputs = '[inputs.x]\ndtype = "float32"\nshape = ["batch", 3]\nrange = [0.0, 0.5]\n\n'
    court.add(inputs=inputs + "[dims]\nbatch = { max = 8 }")
    found, _ = court.judge()
    assert codes(found) == ["baseline.incomparable"]
    assert "of another recipe or other inputs" in found[0].got
    assert court.measured.lone == []


def test_budgets_are_judged_beside_everything_else(court: Court) -> None:
    """Beside a duet, by themselves, and without any baseline."""
    budget = '[[latency.budget]]\nenvironment = "*"\nmax_ms = 0.5\n'
    court.add(budget)
    assert codes(court.judge()[0]) == ["latency.budget", "baseline.missing"]
    court.approve()
    assert codes(court.judge()[0]) == ["latency.budget"]
    court.add(budget, scale=2.0)
    assert codes(court.judge()[0]) == ["latency.budget"]
    assert court.measured.duets == ["m"]


def test_a_budget_is_for_its_point_and_provider(court: Court) -> None:
    """That of batch 4 says nothing of batch 1."""
    head = "[latency]\nbatch = [1, 4]\n\n"
    keys = 'environment = "*"\nmax_ms = 0.5\nbatch = 4\n'
    court.add(f"{head}[[latency.budget]]\n{keys}")
    first, second = (replace(CELL, case=f"batch{size}") for size in (1, 4))
    assert codes(court.judge(first)[0]) == ["baseline.missing"]
    assert codes(court.judge(second)[0]) == ["latency.budget", "baseline.missing"]
    court.add(
        f'{head}[[latency.budget]]\n{keys}provider = "cuda"\n', providers="cpu = {}\ncuda = {}"
    )
    assert codes(court.judge(second)[0]) == ["baseline.missing"]


def test_budgets_that_are_for_no_machine_like_this_one_are_told(court: Court) -> None:
    """A limit that is never asked for would look like one that holds."""
    court.add('[[latency.budget]]\nenvironment = "nowhere-*"\nmax_ms = 0.5\n')
    court.approve()
    receipt = court.judge()[1]
    assert receipt.facts["budgets"].startswith("none of 1 is for one on cpu in environment ")
    court.add('[[latency.budget]]\nenvironment = "*"\nmax_ms = 5000\n')
    assert "budgets" not in court.judge()[1].facts


def test_a_runtime_held_against_itself_is_not_judged(court: Court) -> None:
    """Nothing was compared; measured all the same, it is a check of the measurement itself."""
    findings, receipt = court.judge(against_runtime="own")
    assert codes(findings) == ["baseline.incomparable"]
    assert receipt.counts == {"unchanged_by_hash": 1}
    assert court.judge(against_runtime="own", measures_all=True)[0] == []


def test_what_is_not_timed_is_not_screened_ahead(court: Court) -> None:
    """Nor one whose spec is broken: their own items say so."""
    court.approve()
    court.add('[latency]\nnot_applicable = "no"\n', name="idle")
    court.add(name="away", providers='cpu = { not_applicable = "no" }')
    court.project.add_model("bad", "schema_version = 1\n")
    court.add(name="other")
    names = ("m", "idle", "away", "bad", "other")
    cells = tuple(replace(CELL, model=name) for name in names)
    with court.judging(cells=cells) as judge:
        assert [cell.model for cell in cells if judge.is_timed(cell)] == ["m", "other"]


def test_what_a_baseline_keeps_holds_whatever_was_measured() -> None:
    """One worker has no spread; quantiles rise; the greatest memory counts."""
    lone = replace(arm(), medians_ns=[1e6], startup_ns=[4e7], memory_bytes=[1, 3, 2])
    plan: Any = SimpleNamespace(inputs="4" * 64)
    found = timing(plan, lone)
    assert (found.spread, found.startup_spread, found.workers) == (0.0, 0.0, 1)
    assert (found.memory_bytes, found.p50_ms, found.startup_ms) == (3, 1.0, 40.0)
    assert set(found.quantiles_ms) == {"p1", "p10", "p25", "p50", "p75", "p90", "p99"}
    wide = replace(arm(), medians_ns=[1e6, math.e * 1e6])
    assert timing(plan, wide).spread == pytest.approx(math.sqrt(0.5))


def test_a_control_that_does_not_run_is_its_items_error(
    court: Court, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not passed over for a stored number."""
    court.approve()
    court.add(scale=2.0)

    def broken(*_: object, **__: object) -> None:
        msg = "control cannot be timed"
        raise RunFailed(msg, code="run.failed")

    monkeypatch.setattr("harness.latency.docket.Duet", broken)
    with pytest.raises(RunFailed, match="control cannot be timed"):
        court.judge()


def test_the_rules_share_the_alarms_of_a_run(court: Court) -> None:
    """Two decisions an item: p50 and start-up."""
    court.approve()
    cells = tuple(replace(CELL, model=f"m{number}") for number in range(99))
    _, receipt = court.judge(measures_all=True, cells=(CELL, *cells), screens_ahead=False)
    share = rules.BUILD_ALARMS / 200
    assert f"({1 - share:.3%} one-sided)" in receipt.facts["p50"]


def test_serving_is_recorded_if_asked_for(court: Court, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the recipe did not change, with the machine to itself; other sizes are found."""
    court.approve()
    given: list[Any] = []

    def measure(*arguments: Any) -> Serving:
        assert court.measured.alone
        given.append(arguments)
        return SERVING

    monkeypatch.setattr("harness.latency.judging.measure_serving", measure)
    assert court.judge()[1].serving == {}
    assert given == []
    findings, receipt = court.judge(records_serving=True)
    assert findings == []
    assert receipt.counts == {"unchanged_by_hash": 1}
    assert receipt.serving["loads"][0]["per_s"] == 10.0
    assert receipt.facts["serving"] == SERVING.line


def test_serving_that_fails_changes_no_verdict(
    court: Court, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is judged by nothing; the receipt says why there are no figures."""
    court.approve()

    def measure(*_: object) -> Serving:
        msg = "two callers at once crash"
        raise RunFailed(msg, code="run.failed")

    monkeypatch.setattr("harness.latency.judging.measure_serving", measure)
    findings, receipt = court.judge(records_serving=True)
    assert findings == []
    assert receipt.serving == {}
    assert receipt.facts["serving"] == "not recorded: run.failed: two callers at once crash"


def test_other_sizes_are_those_of_points_and_cases(court: Court) -> None:
    """Each shape once, the plan's own left out, two at most."""
    case = "".join(
        f'[[case]]\nname = "{name}"\ndims = {{ batch = {size} }}\n'
        for name, size in (("one", 1), ("again", 1), ("two", 2), ("three", 3), ("four", 4))
    )
    court.add(case=case)
    with court.judging(cells=(CELL,)) as judge:
        plan = judge._docket.plan(CELL)
        found = other_sizes(judge._evidence, plan)
    assert {name: np.shape(np.asarray(sets[0]["x"])) for name, sets in found.items()} == {
        "two": (2, 3),
        "three": (3, 3),
    }
