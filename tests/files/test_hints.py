"""What a graph gives away about its inputs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from harness.domain.dtypes import DType
from harness.files.hints import hints
from harness.testing import linear_model, make_model, tensor_info

TABLE = np.zeros((9, 4), dtype=np.float32)


def saved(folder: Path, model: onnx.ModelProto) -> Path:
    """Write a model."""
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def lookup(*nodes: onnx.NodeProto, table: str = "table", axis: int = 0) -> onnx.ModelProto:
    """Return a model that looks `ids` up in a table after these nodes."""
    gather = helper.make_node("Gather", [table, "ids" if not nodes else "moved"], ["y"], axis=axis)
    inputs = [tensor_info("ids", DType.INT64, ["n"])]
    outputs = [tensor_info("y", shape=None)]
    return make_model([*nodes, gather], inputs, outputs, {"table": TABLE})


@pytest.mark.parametrize(
    ("model", "rows"),
    [
        (lookup(), 9),
        (lookup(axis=1), 4),
        (lookup(helper.make_node("Identity", ["ids"], ["moved"])), 9),
        (
            lookup(
                helper.make_node("Identity", ["ids"], ["moved"]),
                helper.make_node("Identity", ["table"], ["copy"]),
                table="copy",
            ),
            9,
        ),
    ],
    ids=["at once", "other axis", "through a passive operator", "from a copied table"],
)
def test_the_table_that_an_input_indexes_is_found(
    tmp_path: Path, model: onnx.ModelProto, rows: int
) -> None:
    """Its size bounds the ids."""
    assert hints(saved(tmp_path, model))["tables"] == {"ids": rows}


def test_an_input_that_is_computed_with_indexes_no_table(tmp_path: Path) -> None:
    """After arithmetic, the table says nothing about the input."""
    model = lookup(helper.make_node("Abs", ["ids"], ["moved"]))
    assert hints(saved(tmp_path, model))["tables"] == {}


def test_operators_and_domains_are_counted(tmp_path: Path) -> None:
    """What the reference evaluator lacks is told."""
    node = helper.make_node("Mystery", ["x"], ["y"], domain="com.example")
    model = make_model([node], [tensor_info("x")], [tensor_info("y")], domains={"com.example": 1})
    found = hints(saved(tmp_path, model))
    assert (found["operators"], found["domains"]) == ({"Mystery": 1}, ["com.example"])
    assert found["unsupported"] == (
        "Node type 'Mystery' from domain 'com.example' is unknown, known functions: []."
    )


def test_a_plain_model_is_supported(tmp_path: Path) -> None:
    """Nothing is said about a model that the reference evaluator can take."""
    assert hints(saved(tmp_path, linear_model()))["unsupported"] == ""
