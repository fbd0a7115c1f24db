"""Edits of a graph: outlines, taps, sizes and cuts, checked by running what came of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper
from onnx.reference import ReferenceEvaluator

from harness.domain.dtypes import DType
from harness.files import taps
from harness.testing import linear_model, make_model, tensor_info

FEEDS = {"x": np.array([[1, 2, 3]], dtype=np.float32)}


@pytest.fixture
def linear(tmp_path: Path) -> Path:
    """Return the file of `y = x @ w + b`; scope function."""
    path = tmp_path / "model.onnx"
    path.write_bytes(linear_model().SerializeToString())
    return path


def run(path: Path, feeds: dict[str, Any]) -> dict[str, Any]:
    """Return the outputs by name."""
    evaluator = ReferenceEvaluator(str(path))
    return dict(zip(evaluator.output_names, evaluator.run(None, feeds), strict=True))


def test_outline_tells_nodes_in_order(linear: Path) -> None:
    """With what they read and give."""
    told = taps.outline(linear)
    nodes = [(node["op"], node["inputs"], node["outputs"]) for node in told["nodes"]]
    assert nodes == [("MatMul", ["x", "w"], ["xw"]), ("Add", ["xw", "b"], ["y"])]
    assert (told["inputs"], told["outputs"]) == (["x"], [["y", "tensor(float)"]])
    assert (sorted(told["weights"]), told["external"], told["opset"]) == (["b", "w"], [], 20)


def test_metadata_of_the_exporter_is_read(tmp_path: Path) -> None:
    """Module, and the innermost line that is not PyTorch's own."""
    model = linear_model()
    trace = (
        'File "reference.py", line 8, in forward\n    return self.layer(x)\n'
        'File "torch/nn/modules/linear.py", line 134, in forward\n    return F.linear(input)'
    )
    for key, value in (
        ("pkg.torch.onnx.fx_node", "%linear"),
        ("pkg.torch.onnx.name_scopes", "['', 'net', 'net.layer', 'linear']"),
        ("pkg.torch.onnx.stack_trace", trace),
    ):
        model.graph.node[0].metadata_props.add(key=key, value=value)
    model.graph.node[1].metadata_props.add(key="pkg.torch.onnx.name_scopes", value="[broken")
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    first, second = taps.outline(path)["nodes"]
    assert (first["fx_node"], first["module"]) == ("%linear", "net.layer")
    assert first["line"] == "reference.py:8 in forward: return self.layer(x)"
    assert (second["fx_node"], second["module"], second["line"]) == ("", "", "")


def test_taps_are_further_outputs(linear: Path, tmp_path: Path) -> None:
    """The model's own stay as they are."""
    target = tmp_path / "tapped.onnx"
    taps.tap(linear, target, names=["xw", "y"], sizes=False)
    found = run(target, FEEDS)
    assert list(found) == ["y", "xw"]
    np.testing.assert_allclose(found["y"], found["xw"] + np.array([-1, 1]))


def test_sizes_come_without_values(linear: Path, tmp_path: Path) -> None:
    """One number per value and nothing else leaves the model."""
    target = tmp_path / "sizes.onnx"
    taps.tap(linear, target, names=["xw", "y"], sizes=True)
    found = run(target, {"x": np.zeros((5, 3), dtype=np.float32)})
    assert {name: int(size) for name, size in found.items()} == {"xw__size": 10, "y__size": 10}


def test_blocks_of_a_cut_do_not_see_each_other(linear: Path, tmp_path: Path) -> None:
    """The second one reads what it is fed, not what the first one computes."""
    target = tmp_path / "cut.onnx"
    blocks = [
        {"nodes": [0], "inputs": ["x"], "outputs": ["xw"], "suffix": "__alone0"},
        {"nodes": [1], "inputs": ["xw"], "outputs": ["y"], "suffix": "__alone1"},
    ]
    taps.cut(linear, target, blocks=blocks, types={"x": (1, ["n", 3]), "xw": (1, None)})
    fed = np.array([[10, 20]], dtype=np.float32)
    found = run(target, {**FEEDS, "xw": fed})
    assert list(found) == ["xw__alone0", "y__alone1"]
    np.testing.assert_array_equal(found["y__alone1"], [[9, 21]])
    np.testing.assert_array_equal(found["xw__alone0"], FEEDS["x"] @ weight("w"))


def weight(name: str) -> Any:
    """Return a weight of the linear model."""
    (tensor,) = [each for each in linear_model().graph.initializer if each.name == name]
    return onnx.numpy_helper.to_array(tensor)


def test_a_cut_takes_what_its_nodes_need_and_no_more(linear: Path, tmp_path: Path) -> None:
    """Weights of other nodes stay behind."""
    target = tmp_path / "cut.onnx"
    block = {"nodes": [1], "inputs": ["xw"], "outputs": ["y"], "suffix": ""}
    taps.cut(linear, target, blocks=[block], types={"xw": (1, None)})
    graph = onnx.load(target).graph
    assert [tensor.name for tensor in graph.initializer] == ["b"]
    assert [(node.op_type, list(node.output)) for node in graph.node] == [("Add", ["y"])]


def test_values_that_a_body_reads_from_outside_are_inputs(tmp_path: Path) -> None:
    """An If is cut with what its bodies capture, also where that is renamed."""
    bodies: dict[str, Any] = {
        branch: helper.make_graph(
            [helper.make_node(op, ["m"], ["out"])], branch, [], [tensor_info("out", shape=None)]
        )
        for branch, op in (("then_branch", "Neg"), ("else_branch", "Abs"))
    }
    nodes = [
        helper.make_node("Identity", ["x"], ["m"]),
        helper.make_node("If", ["c"], ["y"], **bodies),
    ]
    ports = [tensor_info("x", shape=["n"]), tensor_info("c", DType.BOOL)]
    model = make_model(nodes, ports, [tensor_info("y", shape=None)])
    path, target = tmp_path / "model.onnx", tmp_path / "cut.onnx"
    path.write_bytes(model.SerializeToString())
    choice = taps.outline(path)["nodes"][1]
    assert (choice["inputs"], choice["bodies"]) == (["c", "m"], ["Abs", "Neg"])

    given = {"x": np.array([2], dtype=np.float32), "c": np.array(True)}  # noqa: FBT003 - a value
    whole = {"nodes": [0, 1], "inputs": ["x", "c"], "outputs": ["y"], "suffix": "__alone0"}
    alone = {"nodes": [1], "inputs": ["m", "c"], "outputs": ["y"], "suffix": "__alone1"}
    types = {"x": (1, ["n"]), "c": (9, []), "m": (1, ["n"])}
    taps.cut(path, target, blocks=[whole, alone], types=types)
    found = run(target, {**given, "m": np.array([5], dtype=np.float32)})
    assert {name: float(value[0]) for name, value in found.items()} == {
        "y__alone0": -2.0,
        "y__alone1": -5.0,
    }


def test_structure_changes_with_the_graph(linear: Path, tmp_path: Path) -> None:
    """Names and order of values count; weights do not."""
    other = tmp_path / "other.onnx"
    other.write_bytes(linear_model(scale=2).SerializeToString())
    assert taps.structure(linear) == taps.structure(other)
    model = linear_model()
    model.graph.node[1].op_type = "Sub"
    other.write_bytes(model.SerializeToString())
    assert taps.structure(linear)["hash"] != taps.structure(other)["hash"]
    assert taps.structure(other)["nodes"][1] == ["Sub", ["xw", "b"], ["y"]]
