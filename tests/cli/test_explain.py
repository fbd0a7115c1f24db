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
