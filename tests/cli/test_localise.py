"""`onnx-harness localise` and `onnx-harness replay`."""

from __future__ import annotations

import pytest

from harness.testing import MiniProject, file_spec, linear_model
from tests.cli.conftest import Command
from tests.localise.graphs import CASE, INPUTS, chain

CELL = "m/fp32/cpu/one"


def add(project: MiniProject, *, off: int | None) -> None:
    """Add a chain of ten nodes whose node `off` has one channel off."""
    files = {
        "model.onnx": chain(10, off=off).SerializeToString(),
        "right.onnx": chain(10).SerializeToString(),
    }
    text = file_spec(reference='onnx = "right.onnx"', inputs=INPUTS, case=CASE)
    project.add_model("m", text, files)


def test_a_failing_cell_is_explained(project: MiniProject, command: Command) -> None:
    """The whole report, then the node alone."""
    add(project, off=4)
    result = command("localise", CELL)
    folder = project.root / ".cache/failures/m__fp32__cpu__one/node"
    lines = result.out.splitlines()
    assert (result.code, result.err) == (1, "")
    assert lines[0] == (
        f"'{CELL}' begins to fail at node 'n4' (MatMul): the graph itself computes something "
        "else than the reference"
    )
    assert lines[1] == "  node:       'n4' (MatMul), number 5 of the graph"
    assert lines[4:] == [
        "  culprit:    none: it fails on the CPU with every optimisation off",
        "  truth:      ONNX Runtime on the CPU with every optimisation off",
        "  searched:   10 of 10 nodes judged in 1 batch",
        f"  saved:      {folder}",
        f"  replay:     onnx-harness replay {folder}",
    ]
    again = command("replay", folder)
    assert (again.code, again.err) == (1, "")
    assert again.out.startswith("'n4' (MatMul) still differs from what is expected of it\n")
    figures = command("replay", folder, "--json").json
    assert (figures["agrees"], figures["node"]) == (False, "'n4' (MatMul)")


def test_the_report_as_json(project: MiniProject, command: Command) -> None:
    """Verdict, findings and report."""
    add(project, off=4)
    result = command("localise", CELL, "--json")
    assert result.code == 1
    assert result.json["verdict"] == "FAIL"
    assert [finding["code"] for finding in result.json["findings"]] == ["parity.tolerance"]
    assert result.json["report"]["origin"]["node"] == "'n4'"
    assert result.json["report"]["kind"] == "graph"


def test_a_sound_cell_has_no_origin(project: MiniProject, command: Command) -> None:
    """It says so, and nothing is searched."""
    add(project, off=None)
    result = command("localise", CELL)
    assert (result.code, result.out) == (
        0,
        f"'{CELL}': parity holds, so no error begins anywhere\n",
    )
    assert command("localise", CELL, "--json").json["report"] is None


def test_another_failure_is_told_as_it_is(project: MiniProject, command: Command) -> None:
    """Where shapes differ, no value has an origin."""
    files = {
        "model.onnx": linear_model(classes=3).SerializeToString(),
        "right.onnx": linear_model().SerializeToString(),
    }
    project.add_model("m", file_spec(reference='onnx = "right.onnx"'), files)
    result = command("localise", CELL)
    assert result.code == 1
    assert result.out.startswith("Output 'y' has shape [1, 3] instead of [1, 2]")


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("m/fp32/cpu", "error: 'm/fp32/cpu' is not the id of a parity cell\n"),
        ("n/fp32/cpu/one", "error: Unknown model 'n'\n"),
        ("m/int8/cpu/one", "error: Unknown variant 'int8'\n"),
        ("m/fp32/gpu/one", "error: Unknown provider 'gpu'\n"),
        ("m/fp32/cpu/two", "error: Unknown case 'two'\n"),
    ],
)
def test_what_is_no_cell_is_refused(
    project: MiniProject, command: Command, cell: str, message: str
) -> None:
    """Each part is checked, with the names that there are."""
    add(project, off=None)
    result = command("localise", cell)
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith(message)


def test_a_folder_that_holds_no_node_is_refused(project: MiniProject, command: Command) -> None:
    """With what belongs there."""
    result = command("replay", project.root)
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("error: Folder holds no saved node\n")
