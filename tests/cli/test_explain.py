"""`onnx-harness explain`: the rule that judges an output, and the ids that it takes."""

from __future__ import annotations

import pytest

from harness.testing import MiniProject, file_spec, linear_model
from tests.cli.conftest import Command

pytest.importorskip("onnxruntime")


@pytest.fixture(autouse=True)
def _model(project: MiniProject) -> None:
    """Add the model `tiny`; scope function."""
    project.add_model("tiny", file_spec(), {"model.onnx": linear_model().SerializeToString()})


def test_the_deciding_rule_is_marked(command: Command) -> None:
    """The ONNX evaluator runs in float64, so the bound decides."""
    result = command("explain", "tiny/fp32/cpu/one", "y")
    assert result.code == 0
    marked = [line for line in result.out.splitlines() if line.startswith("  > ")]
    assert len(marked) == 1
    assert marked[0].startswith("  > bound from float64")


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_without_a_shared_output_there_is_nothing_to_explain(
    command: Command, project: MiniProject, form: tuple[str, ...]
) -> None:
    """An exporter that renamed all outputs: both lists of names, and exit code 1."""
    other = linear_model(output="z")
    files = {
        "model.onnx": linear_model().SerializeToString(),
        "right.onnx": other.SerializeToString(),
    }
    project.add_model("renamed", file_spec(reference='onnx = "right.onnx"'), files)
    result = command("explain", "renamed/fp32/cpu/one", *form)
    assert (result.code, result.out) == (1, "")
    assert result.err == (
        "error: Reference and candidate of 'renamed/fp32/cpu/one' have no output in common: no "
        "rule judges any\n"
        "  where:    renamed/fp32/cpu/one\n"
        "  expected: the reference's outputs ['z']\n"
        "  got:      the candidate's outputs ['y']\n"
        "  next:     check the exporter, and the names that the reference gives its outputs\n"
    )


@pytest.mark.parametrize(
    ("cell", "output", "what"),
    [
        ("tiny/fp32/cpu", "y", "'tiny/fp32/cpu' is not the id of a parity cell"),
        ("tinny/fp32/cpu/one", "y", "Unknown model 'tinny'"),
        ("tiny/fp16/cpu/one", "y", "Unknown variant 'fp16'"),
        ("tiny/fp32/cqu/one", "y", "Unknown provider 'cqu'"),
        ("tiny/fp32/cpu/two", "y", "Unknown case 'two'"),
        ("tiny/fp32/cpu/one", "z", "Unknown output 'z'"),
    ],
)
def test_a_name_that_is_not_there(command: Command, cell: str, output: str, what: str) -> None:
    """Told before anything is run, or as soon as the outputs are known."""
    result = command("explain", cell, output)
    assert result.code == 2
    assert result.err.startswith(f"error: {what}\n")
    assert "  expected: " in result.err
