"""Models and references that answer differently each time, in whole runs."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import helper

from harness.domain.verdict import Verdict
from harness.testing import MiniProject, file_spec, linear_model, make_model, tensor_info

PARITY = "parity tiny/fp32/cpu/one"


def test_a_candidate_that_wavers_is_labelled(project: MiniProject) -> None:
    """Within its limits it passes, and the record tells by how much it wavers."""
    nodes = [
        helper.make_node("RandomNormalLike", ["x"], ["noise"], scale=1e-7),
        helper.make_node("Add", ["x", "noise"], ["y"]),
    ]
    model = make_model(nodes, [tensor_info("x", shape=[4])], [tensor_info("y", shape=[4])])
    x = np.ones(4, np.float32)
    project.add_zoo_model("tiny", model, [([x], [x])])
    item = project.run("--provider", "cpu").items["parity tiny/fp32/cpu/test_data_set_0"]
    assert item.verdict is Verdict.PASS
    (finding,) = item.findings
    assert finding["code"] == "parity.unstable"
    assert finding["got"].startswith("output 'y' in ")


def test_a_steady_candidate_is_not(project: MiniProject) -> None:
    """No finding."""
    project.add_model("tiny", file_spec(), {"model.onnx": linear_model().SerializeToString()})
    assert project.run("--provider", "cpu").items[PARITY].findings == ()


def test_a_reference_that_wavers_is_an_error(project: MiniProject) -> None:
    """Nothing can be held against it."""
    pytest.importorskip("torch")
    reference = (
        "import torch\n\n\nclass Net(torch.nn.Module):\n    def forward(self, x):\n"
        "        return torch.nn.functional.dropout(x[:, :2], training=True)\n\n\n"
        "def build():\n    return Net()\n"
    )
    spec = file_spec(reference='torch = "reference.py:build"')
    files = {"model.onnx": linear_model().SerializeToString(), "reference.py": reference.encode()}
    project.add_model("tiny", spec, files)
    item = project.run("--provider", "cpu").items[PARITY]
    assert item.verdict is Verdict.ERROR
    (finding,) = item.findings
    assert finding["code"] == "reference.unstable"
    assert finding["what"] == "Reference of 'tiny' gives other outputs for the same inputs"
    assert "elements by up to" in finding["got"]
