"""Plans: what a cell is held against, and with which inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from harness.domain.baseline import Baseline, Build, Entry, Recipe
from harness.domain.cells import Cell
from harness.domain.project import ProjectSettings, RuntimeSettings
from harness.domain.providers import BUILTIN
from harness.domain.values import Array
from harness.errors import EnvironmentProblem, HarnessError, SpecError, UsageProblem
from harness.evidence import Evidence, Selection
from harness.files.models import load_models
from harness.latency import plans
from harness.latency.plans import Approved, Plan, Planner
from harness.runtimes import registry
from harness.runtimes.launchers import Launcher, LocalLauncher
from harness.runtimes.registry import Runtime, RuntimeFacts, Runtimes
from harness.testing import MiniProject, file_spec, linear_model
from tests.baselines import CHANGE

CELL = Cell("m", "fp32", "cpu", "one")
OLD = Build(version="1.2.3", providers=("CPUExecutionProvider",))


class Bench:
    """A project whose cells are planned, with runtimes that answer without being there."""

    def __init__(self, project: MiniProject, launcher: Launcher) -> None:
        self.project = project
        self._launcher = launcher
        self.approved = Approved.at(
            project.root / "baselines",
            artefacts=project.root / "store",
            cache=project.root / "cache",
        )
        self.add()

    def add(self, spec: str = "", *, name: str = "m", scale: float = 1.0) -> Path:
        """Add a model, or change it."""
        model = linear_model(scale=scale).SerializeToString()
        return self.project.add_model(name, spec or file_spec(), {"model.onnx": model})

    def plan(self, cell: Cell = CELL, *, against: str | None = None) -> Plan:
        """Return the plan of a cell."""
        root = self.project.root
        named = {name: RuntimeSettings(python=f"{name}/python") for name in ("broken", "old")}
        settings = ProjectSettings(runtimes=named)
        runtimes = Runtimes(settings, root, root / "runtimes", self._launcher)
        evidence = Evidence(
            Selection(models=load_models(self.project.models)),
            runtimes=runtimes,
            launcher=self._launcher,
            cache=root / "cache",
            say=lambda _: None,
        )
        try:
            return Planner(evidence, self.approved, against_runtime=against).plan(cell)
        finally:
            evidence.close()

    def approve(self, recipe: Recipe, *, model: str = "m", artefact: str = "") -> None:
        """Write a baseline."""
        entry = Entry(recipe=recipe, artefact=artefact, file_bytes=1000, change=CHANGE)
        self.approved.baselines.write(Baseline(model=model, entries={"fp32/cpu": entry}))


@pytest.fixture(scope="module")
def launcher() -> Iterator[LocalLauncher]:
    """Yield a launcher for all tests of this module."""
    with LocalLauncher() as shared:
        yield shared


@pytest.fixture
def bench(project: MiniProject, launcher: LocalLauncher, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """Return a project with the model `m`, a runtime `old`, and one that is broken."""
    real: Callable[[Launcher, Runtime], RuntimeFacts] = registry.ask

    def ask(given: Launcher, runtime: Runtime) -> RuntimeFacts:
        if runtime.name == "broken":
            msg = "Interpreter ended before it was ready"
            raise EnvironmentProblem(msg, code="runtime.broken")
        if runtime.name == "old":
            return RuntimeFacts(version=OLD.version, available=OLD.providers, devices=())
        return real(given, runtime)

    monkeypatch.setattr(registry, "ask", ask)
    return Bench(project, launcher)


def test_without_a_baseline_there_is_no_control(bench: Bench) -> None:
    """Nor an obstacle: nothing was approved yet. The recipe is complete all the same."""
    plan = bench.plan()
    assert (plan.entry, plan.control, plan.obstacle) == (None, None, None)
    assert not plan.is_unchanged
    assert (plan.recipe.provider, plan.recipe.threads) == ("CPUExecutionProvider", 1)
    assert plan.file_bytes == (bench.project.models / "m/model.onnx").stat().st_size


def test_an_unchanged_recipe_is_its_own_control(bench: Bench) -> None:
    """It needs no artefact."""
    bench.approve(bench.plan().recipe)
    plan = bench.plan()
    assert plan.is_unchanged
    assert plan.control == plan.side


def test_a_changed_model_runs_beside_the_file_that_was_approved(bench: Bench) -> None:
    """The control's file comes from the store, whatever the folder has now."""
    old = bench.project.models / "m/model.onnx"
    artefact, approved = bench.approved.artefacts.put(old), old.read_bytes()
    bench.approve(bench.plan().recipe, artefact=artefact)
    bench.add(scale=2.0)
    plan = bench.plan()
    assert plan.control is not None
    assert plan.control.path.read_bytes() == approved
    assert plan.side.path.read_bytes() != approved
    assert list(plan.differences) == ["model"]
    assert not plan.is_unchanged


def test_a_control_that_is_not_kept_or_missing_is_an_obstacle(bench: Bench) -> None:
    """The entry stays known: a stored number may judge."""
    recipe = replace(bench.plan().recipe, model="9" * 64)
    for artefact, says in (("", "was not kept"), ("8" * 64, "is not in the artefact store")):
        bench.approve(recipe, artefact=artefact)
        plan = bench.plan()
        assert (plan.control, plan.control_recipe) == (None, None)
        assert plan.entry is not None
        assert says in str(plan.obstacle)
        assert list(plan.differences) == ["model"]


def test_a_control_with_other_bytes_is_an_error(bench: Bench) -> None:
    """It is no obstacle that a stored number could get around."""
    artefact = bench.approved.artefacts.put(bench.project.models / "m/model.onnx")
    (bench.project.root / "store" / artefact).write_bytes(b"other")
    bench.approve(replace(bench.plan().recipe, model="9" * 64), artefact=artefact)
    with pytest.raises(HarnessError) as caught:
        bench.plan()
    assert caught.value.code == "baseline.control"


def test_another_release_runs_in_the_runtime_that_has_it(bench: Bench) -> None:
    """The candidate's own file is run there; a broken runtime is passed over."""
    bench.approve(replace(bench.plan().recipe, build=OLD))
    plan = bench.plan()
    assert plan.control is not None
    assert plan.control.resolved.runtime.name == "old"
    assert plan.control.path == plan.side.path
    assert list(plan.differences) == ["build"]
    assert plan.told.against.endswith("on onnxruntime 1.2.3")


@pytest.mark.parametrize(
    "build",
    [replace(OLD, version="9.9"), replace(OLD, providers=("CUDAExecutionProvider", "x"))],
    ids=["version", "providers"],
)
def test_a_release_that_no_runtime_has_is_an_obstacle(bench: Bench, build: Build) -> None:
    """Another build of the same release is none of it; the message says how to get one."""
    bench.approve(replace(bench.plan().recipe, build=build))
    plan = bench.plan()
    assert plan.control is None
    assert plan.obstacle is not None
    assert plan.obstacle.code == "baseline.incomparable"
    assert str(build) in plan.obstacle.expected
    assert f'"onnxruntime=={build.version}"' in plan.obstacle.next_step


def test_another_library_of_custom_operators_is_no_unchanged_recipe(bench: Bench) -> None:
    """Its file is a part of what was approved; nobody has the old one, so nothing is compared."""
    spec = file_spec(more='[session]\ncustom_ops = ["./ops.so"]\n')
    folder = bench.add(spec)
    (folder / "ops.so").write_bytes(b"approved")
    bench.approve(bench.plan().recipe)
    assert bench.plan().is_unchanged
    (folder / "ops.so").write_bytes(b"another")
    plan = bench.plan()
    assert (plan.control, list(plan.differences)) == (None, ["build"])
    assert plan.obstacle is not None
    assert plan.obstacle.code == "baseline.incomparable"
    assert "with ./ops.so " in plan.obstacle.expected
    assert "approved libraries of custom operators" in plan.obstacle.next_step


def test_a_package_of_custom_operators_is_known_by_its_version(bench: Bench) -> None:
    """Its file differs from system to system, and so would every portable baseline."""
    extensions = pytest.importorskip("onnxruntime_extensions")
    bench.add(file_spec(more='[session]\ncustom_ops = ["onnxruntime_extensions"]\n'))
    libraries = bench.plan().recipe.build.libraries
    assert libraries == {"onnxruntime_extensions": extensions.__version__}


def test_changed_options_run_beside_the_approved_ones(bench: Bench) -> None:
    """Threads, optimisation and configuration of the control are those of its recipe."""
    recipe = bench.plan().recipe
    config = {"session.set_denormal_as_zero": "1"}
    bench.approve(replace(recipe, threads=2, optimization="basic", config=config))
    plan = bench.plan()
    assert plan.control is not None
    found = plan.control.config
    assert (found.threads, found.optimization, found.config) == (2, "basic", config)
    assert plan.side.config.threads == 1
    assert set(plan.differences) == {"threads", "optimization", "config"}


def test_threads_of_the_latency_section_come_first(bench: Bench) -> None:
    """They are for timing; the other suites use the session's."""
    bench.add(file_spec(more="[session]\nthreads = 3\n"))
    assert bench.plan().recipe.threads == 3
    bench.add(file_spec(more="[session]\nthreads = 3\n\n[latency]\nthreads = 2\n"))
    plan = bench.plan()
    assert (plan.recipe.threads, plan.side.config.threads) == (2, 2)


ON_DEVICE = '\n[latency]\nio_mode = "device"\n'


def test_values_lie_on_the_host_where_no_device_has_a_memory_of_its_own(bench: Bench) -> None:
    """What the spec says of a device is for providers that have one."""
    bench.approve(bench.plan().recipe)
    bench.add(file_spec(more=ON_DEVICE))
    plan = bench.plan()
    assert (plan.recipe.io_mode, plan.side.io_mode) == ("host", "host")
    assert plan.is_unchanged


def test_host_and_device_are_never_compared(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without copies a call takes less time, and nothing became faster."""
    bench.approve(bench.plan().recipe)
    monkeypatch.setitem(BUILTIN, "cpu", replace(BUILTIN["cpu"], device="cpu"))
    bench.add(file_spec(more=ON_DEVICE))
    plan = bench.plan()
    assert (plan.side.io_mode, plan.side.device) == ("device", ("cpu", 0))
    assert plan.control is None
    assert plan.obstacle is not None
    assert plan.obstacle.code == "baseline.incomparable"
    assert plan.obstacle.expected == "inputs and outputs on the host, as approved"
    bench.approve(plan.recipe)
    assert bench.plan().is_unchanged


def test_a_recipe_for_another_provider_is_no_control(bench: Bench) -> None:
    """Its session would fall back to the CPU in silence, and the duet would find no difference."""
    recipe = bench.plan().recipe
    bench.approve(replace(recipe, provider="CUDAExecutionProvider"))
    with pytest.raises(SpecError) as caught:
        bench.plan()
    assert caught.value.code == "baseline.unreadable"
    assert (caught.value.expected, caught.value.got) == (
        "'CPUExecutionProvider', as 'fp32/cpu' says",
        "'CUDAExecutionProvider'",
    )


def test_a_renamed_model_is_held_against_its_former_name(bench: Bench) -> None:
    """Its own baseline comes first once it has one."""
    recipe = bench.plan().recipe
    bench.approve(recipe)
    named = file_spec().replace("schema_version = 1\n", 'schema_version = 1\naliases = ["m"]\n')
    bench.add(named, name="new")
    cell = Cell("new", "fp32", "cpu", "one")
    assert bench.plan(cell).is_unchanged
    bench.approve(replace(recipe, threads=2), model="new")
    assert list(bench.plan(cell).differences) == ["threads"]


def test_against_a_runtime_no_baseline_counts(bench: Bench) -> None:
    """The control is the candidate itself there; a baseline that is broken does not matter."""
    bench.project.write("baselines/m.json", "{")
    plan = bench.plan(against="old")
    assert plan.control is not None
    assert (plan.entry, plan.control.resolved.runtime.name) == (None, "old")
    assert plan.control.path == plan.side.path
    assert list(plan.differences) == ["build"]
    assert (plan.told.against, plan.told.is_baseline) == (
        "the same model on onnxruntime 1.2.3",
        False,
    )
    assert bench.plan(against="own").is_unchanged
    with pytest.raises(SpecError):
        bench.plan()


@pytest.mark.parametrize(("name", "error"), [("broken", EnvironmentProblem), ("no", UsageProblem)])
def test_a_runtime_that_does_not_work_is_told(
    bench: Bench, name: str, error: type[HarnessError]
) -> None:
    """There is nothing else to hold the candidate against."""
    with pytest.raises(error):
        bench.plan(against=name)


# inputs


def test_sets_take_turns_and_are_the_same_every_time(bench: Bench) -> None:
    """Four different ones, whose hash depends on values and order."""
    first, again = bench.plan(), bench.plan()
    assert len(first.sets) == plans.SETS
    assert first.inputs == again.inputs
    arrays = [_array(each) for each in first.sets]
    assert len({array.tobytes() for array in arrays}) == plans.SETS
    assert replace(first, sets=first.sets[::-1]).inputs != first.inputs


@pytest.mark.parametrize(("room", "count"), [(0, 1), (12, 1), (24, 2), (35, 2), (48, 4), (999, 4)])
def test_sets_are_limited_in_bytes(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, room: int, count: int
) -> None:
    """One is there at least, however large."""
    monkeypatch.setattr(plans, "MOST_BYTES", room)
    assert len(bench.plan().sets) == count  # of 12 bytes each


def test_each_size_has_inputs_of_its_own(bench: Bench) -> None:
    """A point is named after its size."""
    bench.add(file_spec(more="[latency]\nbatch = [1, 4]\n"))
    for size in (1, 4):
        plan = bench.plan(replace(CELL, case=f"batch{size}"))
        assert {_array(each).shape for each in plan.sets} == {(size, 3)}


def test_a_case_with_inputs_brings_its_only_set(bench: Bench) -> None:
    """What it says is timed."""
    folder = bench.add(file_spec(case='[[case]]\nname = "one"\ninputs = "real.npz"'))
    given = np.full((2, 3), 0.5, np.float32)
    np.savez(folder / "real.npz", x=given)
    (only,) = bench.plan().sets
    np.testing.assert_array_equal(_array(only), given)


def _recorded(bench: Bench, more: str = "") -> None:
    given = np.full((2, 3), 0.5, np.float32)
    bench.project.add_zoo_model("z", linear_model(), [((given,), (np.ones((2, 2), np.float32),))])
    spec = file_spec(reference='recorded = "."', case="", more=more)
    bench.project.add_model("z", spec)


def test_a_recorded_model_is_timed_on_its_first_data_set(bench: Bench) -> None:
    """Its inputs are those that its outputs were recorded for."""
    _recorded(bench)
    (only,) = bench.plan(Cell("z", "fp32", "cpu", "test_data_set_0")).sets
    np.testing.assert_array_equal(_array(only), np.full((2, 3), 0.5, np.float32))


def test_sizes_of_a_recorded_model_are_drawn(bench: Bench) -> None:
    """No data set is recorded for them."""
    _recorded(bench, "[latency]\nbatch = [4]\n")
    plan = bench.plan(Cell("z", "fp32", "cpu", "batch4"))
    assert {_array(each).shape for each in plan.sets} == {(4, 3)}


def test_a_recurrent_model_is_timed_on_its_first_step(bench: Bench) -> None:
    """What it is fed later depends on what it gave."""
    state = '[state]\nfeedback = { y = "x" }\nsteps = 5\n'
    model = linear_model(classes=3).SerializeToString()
    bench.project.add_model("m", file_spec(more=state), {"model.onnx": model})
    plan = bench.plan()
    assert len(plan.sets) == plans.SETS
    assert {_array(each).shape for each in plan.sets} == {(1, 3)}


def _array(values: Mapping[str, object]) -> Array:
    found = values["x"]
    assert isinstance(found, np.ndarray)
    return found
