"""Models in float64: what is widened, and which nodes still compute in less."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from harness.domain.dtypes import DType
from harness.references.widening import WideEvaluator, in_float64, widen
from harness.testing import linear_model, make_model, tensor_info

ROWS = np.linspace(-1, 1, 30, dtype=np.float32).reshape(10, 3)
THIRD = np.float32(1 / 3)


def one(nodes: list[onnx.NodeProto], **weights: Any) -> onnx.ModelProto:
    """Return a model from x of [n, 3] to y of open rank."""
    outputs = [tensor_info("y", shape=None)]
    return make_model(nodes, [tensor_info("x", shape=["n", 3])], outputs, weights)


def evaluate(model: onnx.ModelProto) -> tuple[Any, tuple[str, ...]]:
    """Return y for ROWS, and the nodes that fell short."""
    evaluator = WideEvaluator(model)
    outputs = evaluator.run({"x": ROWS})
    return outputs["y"], evaluator.narrow


def graph(name: str, nodes: list[onnx.NodeProto], output: str, **weights: Any) -> onnx.GraphProto:
    """Return the body of a control flow operator."""
    made = [numpy_helper.from_array(np.asarray(value), key) for key, value in weights.items()]
    return helper.make_graph(nodes, name, [], [tensor_info(output, shape=None)], made)


def test_a_widened_model_computes_what_numpy_computes_in_float64() -> None:
    """Weights keep their values, sums get the precision."""
    model = linear_model()
    w, b = (numpy_helper.to_array(tensor).astype(np.float64) for tensor in model.graph.initializer)
    result, narrow = evaluate(model)
    np.testing.assert_allclose(result, ROWS.astype(np.float64) @ w + b, rtol=1e-15)
    assert narrow == ()


def test_the_original_is_left_alone() -> None:
    """What is widened is a copy."""
    model = linear_model()
    before = model.SerializeToString(deterministic=True)
    in_float64(model)
    assert model.SerializeToString(deterministic=True) == before


@pytest.mark.parametrize("dtype", [DType.FLOAT32, DType.FLOAT16, DType.BFLOAT16])
def test_declared_types_and_weights_become_float64(dtype: DType) -> None:
    """Inputs, outputs, intermediate values and weights, of 32 and 16 bits alike."""
    weight = np.array([1, 2, 3]).astype(dtype.numpy)
    model = make_model(
        [helper.make_node("Mul", ["x", "w"], ["y"])],
        [tensor_info("x", dtype, ["n", 3])],
        [tensor_info("y", dtype, ["n", 3])],
        {"w": weight},
    )
    model.graph.value_info.append(tensor_info("between", dtype, ["n", 3]))
    wide = in_float64(model).graph
    ports = [*wide.input, *wide.output, *wide.value_info]
    assert {port.type.tensor_type.elem_type for port in ports} == {TensorProto.DOUBLE}
    assert [tensor.data_type for tensor in wide.initializer] == [TensorProto.DOUBLE]
    assert wide.initializer[0].name == "w"


def test_integers_keep_their_type() -> None:
    """Indices and shapes are no floating values."""
    shape = np.array([-1], dtype=np.int64)
    result, narrow = evaluate(one([helper.make_node("Reshape", ["x", "to"], ["y"])], to=shape))
    assert (result.dtype, result.shape, narrow) == (np.float64, (30,), ())


@pytest.mark.parametrize("target", [TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16])
def test_casts_to_less_become_casts_to_float64(target: int) -> None:
    """A cast that would round rounds no more."""
    result, narrow = evaluate(one([helper.make_node("Cast", ["x"], ["y"], to=target)]))
    np.testing.assert_array_equal(result, ROWS.astype(np.float64))
    assert narrow == ()


def test_a_cast_to_integers_stays() -> None:
    """Only floating targets are widened."""
    result, _ = evaluate(one([helper.make_node("Cast", ["x"], ["y"], to=TensorProto.INT32)]))
    assert result.dtype == np.int32


@pytest.mark.parametrize(
    "constant",
    [
        helper.make_node("Constant", [], ["c"], value_float=0.1),
        helper.make_node("Constant", [], ["c"], value_floats=[0.1, 0.1, 0.1]),
        helper.make_node(
            "Constant", [], ["c"], value=numpy_helper.from_array(np.array([0.1], np.float32))
        ),
    ],
    ids=["value_float", "value_floats", "value"],
)
def test_constants_keep_the_value_that_float32_gave_them(constant: onnx.NodeProto) -> None:
    """Widening adds no digits that the model does not have."""
    result, narrow = evaluate(one([constant, helper.make_node("Add", ["x", "c"], ["y"])]))
    np.testing.assert_array_equal(result, ROWS.astype(np.float64) + float(np.float32(0.1)))
    assert narrow == ()


def test_what_is_float32_by_default_becomes_float64() -> None:
    """ConstantOfShape without a value gives float32 zeros."""
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("ConstantOfShape", ["s"], ["zeros"]),
        helper.make_node("Add", ["x", "zeros"], ["y"]),
    ]
    result, narrow = evaluate(one(nodes))
    assert (result.dtype, narrow) == (np.float64, ())


def test_bodies_of_if_are_widened() -> None:
    """Weights and constants of both branches too."""
    branch = [helper.make_node("Mul", ["x", "w"], ["inner"])]
    then, other = (graph(name, branch, "inner", w=THIRD) for name in ("then", "else"))
    nodes = [
        helper.make_node("If", ["yes"], ["y"], then_branch=then, else_branch=other),
    ]
    result, narrow = evaluate(one(nodes, yes=np.ones((), dtype=bool)))
    np.testing.assert_array_equal(result, ROWS.astype(np.float64) * float(THIRD))
    assert narrow == ()


def loop(node: onnx.NodeProto) -> onnx.ModelProto:
    """Return a model that runs `node`, from `before` to `after`, three times on x."""
    keep = helper.make_node("Identity", ["go"], ["going"])
    body = helper.make_graph(
        [keep, node],
        "body",
        [
            tensor_info("i", DType.INT64, []),
            tensor_info("go", DType.BOOL, []),
            tensor_info("before", shape=["n", 3]),
        ],
        [tensor_info("going", DType.BOOL, []), tensor_info("after", shape=["n", 3])],
        [numpy_helper.from_array(np.array(THIRD), "w")],
    )
    loops = helper.make_node("Loop", ["times", "yes", "x"], ["y"], body=body)
    return one([loops], times=np.array(3, dtype=np.int64), yes=np.ones((), dtype=bool))


def test_bodies_of_loops_are_widened() -> None:
    """What is carried from turn to turn stays float64."""
    result, narrow = evaluate(loop(helper.make_node("Mul", ["before", "w"], ["after"])))
    np.testing.assert_allclose(result, ROWS.astype(np.float64) * float(THIRD) ** 3, rtol=1e-15)
    assert narrow == ()


def test_a_node_inside_a_loop_that_falls_short_is_named() -> None:
    """The watch goes into bodies."""
    node = helper.make_node("Rounding", ["before"], ["after"], name="deep", domain="ours")
    model = loop(node)
    model.opset_import.append(helper.make_opsetid("ours", 1))
    model.functions.append(rounding_function())
    _, narrow = evaluate(model)
    assert "OneHotEncoder 'flags': output 'flags' is float32" in narrow


def encoder(given: str, output: str) -> onnx.NodeProto:
    """Return a node that gives float32 whatever it is fed."""
    made = helper.make_node("OneHotEncoder", [given], [output], name="flags", domain="ai.onnx.ml")
    made.attribute.append(helper.make_attribute("cats_int64s", [0]))
    return made


def rounding_function() -> onnx.FunctionProto:
    """Return a function with an operator that gives float32 whatever it is fed."""
    nodes = [
        helper.make_node("Cast", ["a"], ["whole"], to=TensorProto.INT64),
        encoder("whole", "flags"),
        helper.make_node("Constant", [], ["last"], value_ints=[-1]),
        helper.make_node("ReduceMax", ["flags", "last"], ["b"], keepdims=0),
    ]
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_function("ours", "Rounding", ["a"], ["b"], nodes, opsets)


def test_sequences_are_widened() -> None:
    """An empty sequence of float32 becomes one of float64."""
    nodes = [
        helper.make_node("SequenceEmpty", [], ["none"]),
        helper.make_node("SequenceInsert", ["none", "x"], ["some"]),
        helper.make_node("ConcatFromSequence", ["some"], ["y"], axis=0),
    ]
    result, narrow = evaluate(one(nodes))
    assert (result.dtype, narrow) == (np.float64, ())
    wide = in_float64(one(nodes)).graph.node[0]
    assert helper.get_attribute_value(wide.attribute[0]) == TensorProto.DOUBLE


def test_a_constant_that_a_function_takes_from_its_call_is_widened() -> None:
    """The attribute is a float32 by definition: a cast behind it makes the type fit."""
    constant = helper.make_node("Constant", [], ["c"])
    linked = onnx.AttributeProto(
        name="value_float", type=onnx.AttributeProto.FLOAT, ref_attr_name="factor"
    )
    constant.attribute.append(linked)
    nodes = [constant, helper.make_node("Mul", ["a", "c"], ["b"])]
    opsets = [helper.make_opsetid("", 20)]
    function = helper.make_function("ours", "Scaled", ["a"], ["b"], nodes, opsets, ["factor"])
    model = one([helper.make_node("Scaled", ["x"], ["y"], domain="ours", factor=0.1)])
    model.opset_import.append(helper.make_opsetid("ours", 1))
    model.functions.append(function)
    result, _ = evaluate(model)
    np.testing.assert_array_equal(result, ROWS.astype(np.float64) * float(np.float32(0.1)))


def test_an_operator_that_returns_less_is_named() -> None:
    """Flags are float32 whatever comes in."""
    model = one([helper.make_node("Cast", ["x"], ["c"], to=TensorProto.INT64), encoder("c", "y")])
    model.opset_import.append(helper.make_opsetid("ai.onnx.ml", 3))
    _, narrow = evaluate(model)
    assert narrow == ("OneHotEncoder 'flags': output 'y' is float32",)


def test_an_operator_that_rounds_inside_and_returns_float64_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The type alone does not tell: the values do."""
    from onnx.reference.ops import op_mul

    def rounded(_: Any, a: Any, b: Any) -> tuple[Any]:
        return ((a.astype(np.float32) * b.astype(np.float32)).astype(np.float64),)

    model = one([helper.make_node("Mul", ["x", "w"], ["y"], name="scale")], w=THIRD)
    assert evaluate(model)[1] == ()
    monkeypatch.setattr(op_mul.Mul, "_run", rounded)
    assert evaluate(model)[1] == ("Mul 'scale': output 'y' holds float32 values in float64",)


def test_choosing_among_weights_is_no_rounding() -> None:
    """A slice that holds only weights holds float32 values, and rightly so."""
    weight = np.linspace(0.1, 0.9, 30, dtype=np.float32).reshape(10, 3)
    nodes = [
        helper.make_node("Exp", ["x"], ["e"]),
        helper.make_node("Concat", ["e", "w"], ["both"], axis=0),
        helper.make_node("Slice", ["both", "from", "to"], ["y"]),
    ]
    at, end = np.array([10], dtype=np.int64), np.array([20], dtype=np.int64)
    result, narrow = evaluate(one(nodes, w=weight, **{"from": at, "to": end}))
    np.testing.assert_array_equal(result, weight)
    assert narrow == ()


def test_nodes_that_round_on_purpose_are_left_alone() -> None:
    """A caller may keep some nodes; the others are widened, and these are not told of."""
    nodes = [
        helper.make_node("Cast", ["x"], ["h"], to=TensorProto.FLOAT16, name="ours: half"),
        helper.make_node("Cast", ["h"], ["y"], to=TensorProto.FLOAT, name="back"),
    ]
    evaluator = WideEvaluator(one(nodes), keep="ours: ")
    result = evaluator.run({"x": ROWS})["y"]
    np.testing.assert_array_equal(result, ROWS.astype(np.float16).astype(np.float64))
    assert result.dtype == np.float64
    assert evaluator.narrow == ()


def test_sums_of_short_numbers_are_no_rounding() -> None:
    """Float16 values and small whole numbers have sums that float32 holds by right."""
    nodes = [
        helper.make_node("Cast", ["x"], ["h"], to=TensorProto.FLOAT16, name="ours: half"),
        helper.make_node("Cast", ["h"], ["b"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["b", "two"], ["y"]),
    ]
    evaluator = WideEvaluator(one(nodes, two=np.full(3, 2, np.float32)), keep="ours: ")
    evaluator.run({"x": ROWS})
    assert evaluator.narrow == ()


def test_values_of_every_kind_are_widened() -> None:
    """Arrays, sequences and maps; integers and texts stay."""
    half, whole = np.ones(1, np.float16), np.ones(1, np.int64)
    wide = widen({"a": ROWS, "b": (half,), "c": {1: whole}})
    assert wide["a"].dtype == wide["b"][0].dtype == np.float64
    assert wide["c"][1].dtype == np.int64
    assert widen(np.array(["a"], dtype=object)).dtype == object
