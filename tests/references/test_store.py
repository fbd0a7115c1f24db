"""Live references: what they may read, when they are run again, and how states are fed back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from harness.domain.dtypes import DType
from harness.domain.model_facts import ModelFacts
from harness.domain.session import Port
from harness.domain.spec import Candidate, InputSpec, Limits, ModelSpec, Reference, StateSpec
from harness.domain.values import Values
from harness.errors import EnvironmentProblem, HarnessError, ModelFileError, RunFailed
from harness.files.models import Model, load_model
from harness.references.store import References, run_steps, source_key
from harness.runtimes.launchers import LocalLauncher

SPEC = """
schema_version = 1
requires = [{requires}]
candidate = {{ file = "model.onnx" }}
reference = {{ torch = "reference.py:build", depends = [{depends}] }}
limits = {{ reference_s = 60 }}
inputs.x = {{ dtype = "float32", shape = [2] }}
case = [{{ name = "one" }}]
"""
DOUBLE = """
import torch
from pathlib import Path
class Double(torch.nn.Module):
    def forward(self, x):
        return x * float(Path(__file__).with_name("factor.txt").read_text())
def build():
    return Double()
"""
OUTPUTS = (Port(name="y", type="tensor(float)", shape=(2,)),)
FACTS = ModelFacts(
    hash="0",
    size_bytes=0,
    ir_version=8,
    opsets={"": 17},
    producer="",
    nodes=1,
    parameters=0,
    inputs=(),
    outputs=OUTPUTS,
    faults=(),
)
STEPS: tuple[Values, ...] = ({"x": np.array([1.0, 2.0], dtype=np.float32)},)


@pytest.fixture(scope="module")
def launcher() -> Iterator[LocalLauncher]:
    """Yield a launcher that all tests of this module share."""
    with LocalLauncher() as made:
        yield made


def make_model(
    folder: Path, *, source: str = DOUBLE, depends: str = '"factor.txt"', requires: str = ""
) -> Model:
    """Return a model whose reference multiplies by the number in factor.txt."""
    folder.mkdir(exist_ok=True)
    (folder / "model.toml").write_text(SPEC.format(depends=depends, requires=requires))
    (folder / "reference.py").write_text(source)
    (folder / "factor.txt").write_text("2")
    model = load_model(folder)
    assert isinstance(model, Model), model.problem
    return model


def make_references(launcher: LocalLauncher, tmp_path: Path) -> References:
    """Return references with a cache of their own."""
    import sys

    return References(launcher, sys.executable, tmp_path / "cache")


def test_a_reference_is_run_once_and_then_read(launcher: LocalLauncher, tmp_path: Path) -> None:
    """The second question is answered from the cache with the same values."""
    references = make_references(launcher, tmp_path)
    model = make_model(tmp_path / "double")
    live, origin = references.outputs(model, "one", STEPS, FACTS)
    cached, second_origin = references.outputs(model, "one", STEPS, FACTS)
    references.close()
    assert (origin, second_origin) == ("live", "cached")
    np.testing.assert_array_equal(np.asarray(live[0]["y"]), np.array([2.0, 4.0]))
    np.testing.assert_array_equal(np.asarray(cached[0]["y"]), np.asarray(live[0]["y"]))


def test_a_changed_dependency_is_noticed(tmp_path: Path) -> None:
    """The key changes with a declared file, so that a stale reference is never read."""
    model = make_model(tmp_path / "double")
    before = source_key(model)
    (tmp_path / "double" / "factor.txt").write_text("3")
    assert source_key(model) != before


def test_an_undeclared_file_is_an_error(launcher: LocalLauncher, tmp_path: Path) -> None:
    """A reference that reads what its spec does not declare is refused, with the file's name."""
    references = make_references(launcher, tmp_path)
    model = make_model(tmp_path / "double", depends="")
    with pytest.raises(RunFailed) as caught:
        references.outputs(model, "one", STEPS, FACTS)
    references.close()
    assert caught.value.code == "reference.undeclared-file"
    assert caught.value.what == "Reference of 'double' read files that its spec does not declare"
    assert caught.value.got == str((tmp_path / "double" / "factor.txt").resolve())


def test_a_missing_dependency_is_named(tmp_path: Path) -> None:
    """A declared file that does not exist is told with its path."""
    model = make_model(tmp_path / "double", depends='"factor.txt", "gone.txt"')
    with pytest.raises(ModelFileError) as caught:
        source_key(model)
    assert caught.value.what == "File of the reference cannot be read: No such file or directory"
    assert caught.value.where == str(tmp_path / "double" / "gone.txt")


def test_a_missing_package_is_not_the_models_fault(tmp_path: Path) -> None:
    """A package that is not installed has a code of its own, which means "not judged"."""
    model = make_model(tmp_path / "double", requires='"no-such-distribution"')
    with pytest.raises(EnvironmentProblem) as caught:
        source_key(model)
    assert caught.value.code == "package.missing"
    assert caught.value.what == "Package 'no-such-distribution' is not installed"


def test_states_are_fed_back() -> None:
    """Each step gets the state of the step before, in the order of the spec's inputs."""
    scalar = InputSpec(dtype=DType.INT64)
    spec = ModelSpec(
        schema_version=1,
        candidate=Candidate(file="model.onnx"),
        reference=Reference(recorded="."),
        inputs={"x": scalar, "state": scalar},
        state=StateSpec(feedback={"next": "state"}, steps=3),
    )
    seen: list[list[str]] = []

    def add(feeds: Values) -> Values:
        seen.append(list(feeds))
        total = np.asarray(feeds["state"]) + np.asarray(feeds["x"])
        return {"y": total, "next": total}

    steps = ({"state": np.array(0), "x": np.array(1)}, {"x": np.array(2)}, {"x": np.array(3)})
    outputs = run_steps(add, steps, spec)
    assert [int(np.asarray(step["y"])) for step in outputs] == [1, 3, 6]
    assert seen == [["x", "state"]] * 3


def test_a_reference_that_hangs_is_met_once(launcher: LocalLauncher, tmp_path: Path) -> None:
    """The first case tells the time limit in full, the next one is blocked in a line."""
    references = make_references(launcher, tmp_path)
    source = "import time\ndef build():\n    time.sleep(60)\n"
    model = make_model(tmp_path / "slow", source=source)
    model = replace(model, spec=replace(model.spec, limits=Limits(reference_s=1.0)))
    for code, start in (
        ("reference.timeout", "Worker was killed while building the reference of 'slow'"),
        ("blocked", "Blocked by an earlier failure: Worker was killed while building"),
    ):
        with pytest.raises(HarnessError) as caught:
            references.outputs(model, "one", STEPS, FACTS)
        assert caught.value.code == code
        assert caught.value.what.startswith(start)
    references.close()


#: Writes a line into calls.txt, then hangs or dies in float64.
NOT_IN_FLOAT64 = """
import os, time, torch
from pathlib import Path
class Odd(torch.nn.Module):
    def forward(self, x):
        if x.dtype == torch.float64:
            with Path(__file__).with_name("calls.txt").open("a") as file:
                file.write("called\\n")
            {end}
        return x
def build():
    return Odd()
"""


def calls_of(model: Model) -> int:
    """Return how often the reference was run in float64."""
    return len((model.folder / "calls.txt").read_text().splitlines())


@pytest.mark.parametrize(
    ("end", "why"),
    [("time.sleep(60)", "no answer within 3 s"), ("os._exit(3)", "Worker ended with exit code 3")],
    ids=["hangs", "dies"],
)
def test_a_float64_run_that_ends_the_worker_is_met_once_in_a_run(
    launcher: LocalLauncher, tmp_path: Path, end: str, why: str
) -> None:
    """Further cases get the refusal at once; the next run, with any limit, asks anew."""
    model = make_model(tmp_path / "odd", source=NOT_IN_FLOAT64.format(end=end))
    model = replace(model, spec=replace(model.spec, limits=Limits(reference_s=3.0)))
    other: tuple[Values, ...] = ({"x": np.array([3.0, 4.0], dtype=np.float32)},)
    references = make_references(launcher, tmp_path)
    for steps in (STEPS, other, STEPS):
        assert why in references.precise(model, steps, FACTS, "float64").refused
    assert calls_of(model) == 1
    outputs, _ = references.outputs(model, "one", STEPS, FACTS)
    assert np.array_equal(np.asarray(outputs[0]["y"]), np.asarray(STEPS[0]["x"]))
    references.close()
    again = make_references(launcher, tmp_path)
    assert why in again.precise(model, STEPS, FACTS, "float64").refused
    assert calls_of(model) == 2
    again.close()
