"""Graphs whose error is known, because it was put there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper

from harness.testing import make_model, tensor_info

Weights = npt.NDArray[np.float32]
SIZE = 16
#: The channel that is off, and by how much.
CHANNEL, FACTOR = 3, np.float32(1.01)
INPUTS = f"""[inputs.x]
dtype = "float32"
shape = ["batch", {SIZE}]

[dims]
batch = {{ max = 8 }}"""
CASE = """[[case]]
name = "one"
dims = { batch = 4 }"""


def normal(*shape: int, seed: int = 0) -> Weights:
    """Return float32 values whose products keep their size."""
    random = np.random.default_rng(seed)
    drawn: Weights = random.normal(size=shape).astype(np.float32)
    return drawn * np.float32(1.3 / np.sqrt(shape[0]))


def chain(count: int, *, off: int | None = None) -> onnx.ModelProto:
    """Return `count` nodes in a row, products and Tanh in turn; node `off` has one channel off."""
    weights: dict[str, Weights] = {}
    nodes, last = [], "x"
    for number in range(count):
        if number % 2:
            nodes.append(helper.make_node("Tanh", [last], [f"v{number}"], name=f"n{number}"))
        else:
            weight = normal(SIZE, SIZE, seed=number)
            if number == off:
                weight[:, CHANNEL] *= FACTOR
            weights[f"w{number}"] = weight
            node = helper.make_node("MatMul", [last, f"w{number}"], [f"v{number}"])
            node.name = f"n{number}"
            nodes.append(node)
        last = f"v{number}"
    return built(nodes, last, weights)


def built(
    nodes: Sequence[onnx.NodeProto],
    output: str,
    weights: Mapping[str, npt.NDArray[np.generic]] | None = None,
    *,
    domains: Mapping[str, int] | None = None,
    opset: int | None = None,
    columns: int = SIZE,
) -> onnx.ModelProto:
    """Return a model from `x` [batch, SIZE] to one output [batch, columns]."""
    inputs = [tensor_info("x", shape=["batch", SIZE])]
    outputs = [tensor_info(output, shape=["batch", columns])]
    model = make_model(nodes, inputs, outputs, weights, domains=domains)
    if opset is not None:
        model.opset_import[0].version = opset
    return model


def gelu_chain() -> onnx.ModelProto:
    """Return a product, a Gelu of five nodes and a product; opset 18, so that it can be fused."""
    weights = {
        "w": normal(SIZE, SIZE),
        "root": np.float32(np.sqrt(2)),
        "one": np.float32(1),
        "half": np.float32(0.5),
    }
    steps = (
        ("MatMul", ["x", "w"], "m"),
        ("Div", ["m", "root"], "d"),
        ("Erf", ["d"], "e"),
        ("Add", ["e", "one"], "a"),
        ("Mul", ["m", "a"], "p"),
        ("Mul", ["p", "half"], "g"),
        ("MatMul", ["g", "w"], "y"),
    )
    nodes = [helper.make_node(op, read, [given], name=f"n_{given}") for op, read, given in steps]
    return built(nodes, "y", {name: np.asarray(value) for name, value in weights.items()}, opset=18)
