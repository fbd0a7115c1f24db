"""Small models that between them allow every kind of mutant."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from harness.domain.dtypes import DType
from harness.testing import make_model, tensor_info

Floats = npt.NDArray[np.float32]


def waves(*shape: int) -> Floats:
    """Return numbers without any symmetry, all different from zero."""
    count = int(np.prod(shape))
    flat: Floats = (np.sin(np.arange(1, count + 1) * 1.7) * 0.6).astype(np.float32)
    return flat.reshape(shape)


def conv_net() -> onnx.ModelProto:
    """Return a small image classifier with two outputs of the same shape."""
    nodes = [
        helper.make_node(
            "Conv", ["x", "cw", "cb"], ["c"], name="conv", kernel_shape=[3, 3], pads=[1, 1, 1, 1]
        ),
        helper.make_node("Relu", ["c"], ["r"], name="relu"),
        helper.make_node("MaxPool", ["r"], ["p"], name="pool", kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Flatten", ["p"], ["f"], name="flat"),
        helper.make_node("Gemm", ["f", "gw", "gb"], ["g"], name="fc", transB=1),
        helper.make_node("MatMul", ["g", "square"], ["logits"], name="mix"),
        helper.make_node("Softmax", ["logits"], ["shares"], name="soft", axis=-1),
    ]
    weights = {
        "cw": waves(2, 1, 3, 3),
        "cb": waves(2),
        "gw": waves(4, 18),
        "gb": waves(4),
        "square": waves(4, 4),
    }
    outputs = [tensor_info(name, shape=["batch", 4]) for name in ("logits", "shares")]
    return make_model(nodes, [tensor_info("x", shape=["batch", 1, 6, 6])], outputs, weights)


def arithmetic() -> onnx.ModelProto:
    """Return additions, differences, choices, a transposition and a normalisation."""
    nodes = [
        helper.make_node("Add", ["x", "bias"], ["shifted"], name="bias-add"),
        helper.make_node("Sub", ["shifted", "other"], ["less"], name="sub"),
        helper.make_node("Tanh", ["less"], ["t"], name="tanh"),
        helper.make_node("Transpose", ["t"], ["turned"], name="turn", perm=[0, 2, 1]),
        helper.make_node("LayerNormalization", ["turned", "ls", "lb"], ["n"], name="norm"),
        helper.make_node("Greater", ["n", "turned"], ["more"], name="more"),
        helper.make_node("Where", ["more", "n", "turned"], ["chosen"], name="where"),
        helper.make_node("ReduceMean", ["chosen", "last"], ["m"], name="mean", keepdims=0),
        helper.make_node("Concat", ["m", "m2"], ["y"], name="join", axis=1),
    ]
    nodes.insert(8, helper.make_node("Sigmoid", ["m"], ["m2"], name="sigmoid"))
    weights = {
        "bias": waves(3),
        "other": waves(3, 3)[None],
        "ls": waves(3) + 1,
        "lb": waves(3),
        "last": np.array([2]),
    }
    inputs = [tensor_info("x", shape=["batch", 3, 3])]
    return make_model(nodes, inputs, [tensor_info("y", shape=["batch", 6])], weights)


def branches() -> onnx.ModelProto:
    """Return a model that is nearly all `If`, its weights constants of the branches."""
    then, other = (
        helper.make_graph(
            [
                helper.make_node("Constant", [], ["k"], value=numpy_helper.from_array(weight)),
                helper.make_node("Mul", ["x", "k"], ["z"], name=f"{name}-mul"),
            ],
            name,
            [],
            [tensor_info("z", shape=["batch", 3])],
        )
        for name, weight in (("then", waves(3)), ("else", waves(3) * 2))
    )
    nodes = [
        helper.make_node("ReduceSum", ["x"], ["sum"], name="sum", keepdims=0),
        helper.make_node("Greater", ["sum", "limit"], ["positive"], name="compare"),
        helper.make_node("If", ["positive"], ["y"], name="if", then_branch=then, else_branch=other),
    ]
    limit = {"limit": np.array(0.5, dtype=np.float32)}
    inputs = [tensor_info("x", shape=["batch", 3])]
    return make_model(nodes, inputs, [tensor_info("y", shape=["batch", 3])], limit)


def tree(**changes: Any) -> onnx.ModelProto:
    """Return two regression trees of one decision each."""
    fields: dict[str, Any] = {
        "n_targets": 1,
        "nodes_treeids": [0, 0, 0, 1, 1, 1],
        "nodes_nodeids": [0, 1, 2, 0, 1, 2],
        "nodes_featureids": [0, 0, 0, 1, 0, 0],
        "nodes_modes": ["BRANCH_LEQ", "LEAF", "LEAF"] * 2,
        "nodes_values": [0.5, 0.0, 0.0, -0.25, 0.0, 0.0],
        "nodes_truenodeids": [1, 0, 0, 1, 0, 0],
        "nodes_falsenodeids": [2, 0, 0, 2, 0, 0],
        "nodes_missing_value_tracks_true": [0] * 6,
        "target_treeids": [0, 0, 1, 1],
        "target_nodeids": [1, 2, 1, 2],
        "target_ids": [0] * 4,
        "target_weights": [1.0, 2.0, 0.5, -0.5],
        "post_transform": "NONE",
        **changes,
    }
    node = helper.make_node(
        "TreeEnsembleRegressor", ["x"], ["y"], name="trees", domain="ai.onnx.ml", **fields
    )
    inputs = [tensor_info("x", shape=["batch", 2])]
    outputs = [tensor_info("y", DType.FLOAT32, ["batch", 1])]
    return make_model([node], inputs, outputs, domains={"ai.onnx.ml": 3})


def near(*values: float) -> Floats:
    """Return rows on both sides of values, and a little above them."""
    rows = np.array([[x, y] for x in values for y in values])
    levels = np.array([0.9, 1.0005, 1.005, 1.05]).reshape(4, 1, 1)
    flat: Floats = (rows * levels).reshape(-1, 2).astype(np.float32)
    return flat


#: Name -> maker, and inputs that between them reach every part of it.
ZOO: dict[str, tuple[Callable[[], onnx.ModelProto], list[Floats]]] = {
    "conv-net": (
        conv_net,
        [waves(3, 1, 6, 6), *(np.full((1, 1, 6, 6), level, np.float32) for level in (5, -5))],
    ),
    "arithmetic": (arithmetic, [waves(8, 3, 3), -2 * waves(8, 3, 3)]),
    "branches": (branches, [waves(3, 3), -waves(3, 3), np.full((1, 3), 0.50025 / 3, np.float32)]),
    "tree": (tree, [near(0.5, -0.25)]),
}
