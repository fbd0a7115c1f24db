"""Steps of builds: what each makes of a graph, and what it refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from harness.builds import steps
from harness.domain.builds import BuildStep
from harness.errors import ModelFileError
from harness.testing import identity_model, make_model, tensor_info

onnxruntime = pytest.importorskip("onnxruntime")

FEEDS = {"x": np.linspace(-2, 2, 64, dtype=np.float32).reshape(2, 32)}


def chain(*, dead: bool = False) -> onnx.ModelProto:
    """Return two products with a Relu between, and maybe a node that nobody reads."""
    random = np.random.default_rng(0)
    weights = {
        name: random.standard_normal((32, 32), dtype=np.float32) / np.float32(6) for name in "ab"
    }
    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["xa"], name="first"),
        helper.make_node("Relu", ["xa"], ["h"], name="middle"),
        *([helper.make_node("Identity", ["h"], ["h2"], name="copy")] if dead else ()),
        helper.make_node("MatMul", ["h2" if dead else "h", "b"], ["y"], name="last"),
    ]
    ends = [tensor_info(name, shape=["batch", 32]) for name in "xy"]
    return make_model(nodes, ends[:1], ends[1:], weights)


def applied(model: onnx.ModelProto, **keys: Any) -> onnx.ModelProto:
    """Return the model after one step with these keys."""
    step = BuildStep(**keys)
    return steps.apply(model, {name: getattr(step, name) for name in BuildStep.__slots__})


def outputs(model: onnx.ModelProto) -> np.ndarray:
    """Return what ONNX Runtime gives."""
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return np.asarray(session.run(None, FEEDS)[0])


@pytest.mark.parametrize(
    ("step", "package"),
    [("simplify", "onnxsim"), ("optimize", "onnxoptimizer"), ("onnxruntime", "onnxruntime")],
)
def test_what_does_nothing_is_taken_out(step: str, package: str) -> None:
    """Outputs stay what they were."""
    pytest.importorskip(package)
    made = applied(chain(dead=True), step=step)
    assert "Identity" not in steps.counted(made)
    np.testing.assert_allclose(outputs(made), outputs(chain()), atol=1e-5)


def test_passes_can_be_chosen() -> None:
    """A pass that has nothing to do leaves the rest alone; one that does not exist is told."""
    pytest.importorskip("onnxoptimizer")
    made = applied(chain(dead=True), step="optimize", passes=("eliminate_nop_pad",))
    assert steps.counted(made)["Identity"] == 1
    with pytest.raises(ModelFileError, match="'passes' names 'eliminate_nope'"):
        applied(chain(), step="optimize", passes=("eliminate_nope",))


def test_extended_fusions_are_more_than_basic_ones() -> None:
    """The level reaches ONNX Runtime: a Conv and its Relu are one node afterwards."""
    weight = np.random.default_rng(0).standard_normal((4, 4, 3, 3), dtype=np.float32)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["y"]),
    ]
    ends = [tensor_info(name, shape=[1, 4, 8, 8]) for name in "xy"]
    model = make_model(nodes, ends[:1], ends[1:], {"w": weight})
    basic = steps.counted(applied(model, step="onnxruntime"))
    extended = steps.counted(applied(model, step="onnxruntime", level="extended"))
    assert basic == {"Conv": 1, "Relu": 1}
    assert extended == {"FusedConv": 1}


def test_float16_keeps_the_interface() -> None:
    """Weights take half the room, inputs and outputs stay float32, and the values are near."""
    made = applied(chain(), step="float16")
    assert {each.data_type for each in made.graph.initializer} == {onnx.TensorProto.FLOAT16}
    assert made.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    assert made.ByteSize() < 0.6 * chain().ByteSize()
    np.testing.assert_allclose(outputs(made), outputs(chain()), atol=0.02)


def test_what_is_kept_stays_float32() -> None:
    """By a node's name, or by an operator's."""
    by_name = applied(chain(), step="float16", keep=("last",))
    kinds = {each.name: each.data_type for each in by_name.graph.initializer}
    assert sorted(kinds.values()) == [onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16]
    with pytest.raises(ModelFileError, match="left the model as it was"):
        applied(chain(), step="float16", keep=("MatMul",))
    with pytest.raises(ModelFileError, match="'keep' names 'Softmax', which is not there"):
        applied(chain(), step="float16", keep=("Softmax",))


@pytest.mark.parametrize("weights", ["int8", "uint8"])
@pytest.mark.parametrize("per_channel", [False, True])
def test_dynamic_quantisation_takes_a_quarter(*, weights: str, per_channel: bool) -> None:
    """Products are made of integers, and near what they were."""
    made = applied(chain(), step="quantize-dynamic", weights=weights, per_channel=per_channel)
    assert steps.counted(made)["MatMulInteger"] == 2
    assert made.ByteSize() < 0.5 * chain().ByteSize()
    expected = outputs(chain())
    assert np.abs(outputs(made) - expected).max() < 0.05 * np.abs(expected).max()


def test_nodes_can_be_kept_from_quantisation() -> None:
    """One product stays; with both of them nothing is left to do, which is refused."""
    made = steps.counted(applied(chain(), step="quantize-dynamic", keep=("first",)))
    assert (made["MatMul"], made["MatMulInteger"]) == (1, 1)
    with pytest.raises(ModelFileError, match="left the model as it was"):
        applied(chain(), step="quantize-dynamic", keep=("MatMul",))


@pytest.mark.parametrize("step", ["float16", "quantize-dynamic"])
def test_a_model_without_weights_is_refused(step: str) -> None:
    """The build would be the candidate under another name; the message names its operators."""
    with pytest.raises(ModelFileError, match=f"Step '{step}' left the model as it was") as caught:
        applied(identity_model(), step=step)
    assert caught.value.code == "build.failed"


def test_a_tool_that_raises_is_told_with_its_words() -> None:
    """Whatever it raises becomes one error with the step's name."""
    model = chain()
    model.graph.node[0].op_type = "Nonsense"
    with pytest.raises(ModelFileError, match="Step 'onnxruntime' failed: ") as caught:
        applied(model, step="onnxruntime")
    assert "Nonsense" in str(caught.value)


def test_nodes_of_subgraphs_are_counted() -> None:
    """A branch is a part of the graph."""
    branch = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["z"])], "branch", [], [tensor_info("z")]
    )
    node = helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)
    model = make_model([node], [tensor_info("x"), tensor_info("c")], [tensor_info("y")])
    assert steps.counted(model) == {"If": 1, "Relu": 2}
