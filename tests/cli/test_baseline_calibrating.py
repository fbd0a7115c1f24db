"""`onnx-harness baseline calibrate`: unchanged cells beside themselves."""

from __future__ import annotations

import json
import math
import sys

import pytest

from harness.domain import duet, power
from harness.domain.cells import Cell
from harness.files.noise import NoiseBook
from harness.latency.calibrating import asked
from harness.runtimes.machine import this_environment
from harness.testing import MiniProject
from tests.cli.baselines import add_model
from tests.cli.conftest import Command

pytest.importorskip("scipy")
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="pins processes to cores")

CELL = Cell("tiny", "fp32", "cpu", "one")


def test_a_calibration_is_told_and_kept(project: MiniProject, command: Command) -> None:
    """The printed scatter is the one on disk, and what is seen follows from it by the rule."""
    add_model(project)
    result = command("baseline", "calibrate", "--provider", "cpu", "--pairs", "8", "--json")
    assert result.code == 0, result.err
    (told,) = result.json["cells"]
    book = NoiseBook(project.root / "baselines")
    kept = book.scatter(this_environment().id, CELL)
    assert kept == float(f"{told['scatter']:.3g}")
    assert result.json["files"] == [str(book.path(this_environment().id))]
    scatter, rule = told["scatter"], asked(0.01, 2)
    seen = power.visible(max(scatter, power.LEAST_SCATTER), power.with_scatter(rule, scatter))
    assert told["seen"] == (None if seen is None else math.expm1(seen))
    assert (told["cell"], told["pairs"], told["p50_ms"] > 0) == (str(CELL), 8, True)


def test_the_table_has_a_line_for_each_cell(project: MiniProject, command: Command) -> None:
    """With the file that was written."""
    add_model(project)
    result = command("baseline", "calibrate", "--provider", "cpu", "--pairs", "8")
    assert result.code == 0
    assert str(CELL) in result.out
    path = NoiseBook(project.root / "baselines").path(this_environment().id)
    assert f"written: {path}" in "".join(result.out.splitlines())
    assert list(json.loads(path.read_text())["cells"]) == [str(CELL)]


def test_a_cell_that_cannot_be_run_is_told(project: MiniProject, command: Command) -> None:
    """The others are measured all the same; the exit code says that not all were."""
    add_model(project)
    add_model(project, "broken")
    (project.models / "broken" / "model.onnx").write_bytes(b"no model")
    result = command("baseline", "calibrate", "--provider", "cpu", "--pairs", "8", "--json")
    assert result.code == 1
    assert [each["cell"] for each in result.json["cells"]] == [str(CELL)]
    assert list(result.json["failed"]) == ["broken/fp32/cpu/one"]


def test_a_model_that_is_not_timed_is_left_out(project: MiniProject, command: Command) -> None:
    """Nothing measured is no success."""
    add_model(project)
    spec = project.models / "tiny" / "model.toml"
    reason = '[latency]\nnot_applicable = "its users run it once a day"\n'
    spec.write_text(f"{spec.read_text()}\n{reason}")
    result = command("baseline", "calibrate", "--provider", "cpu", "--json")
    assert (result.code, result.json["cells"], result.json["files"]) == (1, [], [])


def test_what_is_asked_is_the_gates_rule() -> None:
    """The bound of the spec, and its share of a run's alarms."""
    rule = asked(0.05, 400)
    assert rule.bound == math.log1p(0.05)
    assert rule.alarm == duet.BUILD_ALARMS / 400
