"""Bad input: model files, their graphs and their external data."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

import numpy as np
import onnx
from onnx import helper

from harness.testing import (
    MiniProject,
    file_spec,
    linear_model,
    make_model,
    node_model,
    tensor_info,
    write_sets,
)
from tests.faults.table import Maker

GOOD = linear_model().SerializeToString()
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 123\n"
#: Beyond what one protobuf message can hold.
ABOVE_2_GIB = 2**31 + 2**20
BATCH_OF_3 = ("batch", 3)


def file_of(content: bytes) -> Maker:
    """Return the maker of a model whose file holds `content`."""

    def make(project: MiniProject, name: str) -> None:
        project.add_model(name, file_spec(), {"model.onnx": content})

    return make


def changed(change: Callable[[onnx.ModelProto], object]) -> Maker:
    """Return the maker of the linear model after `change`."""
    model = linear_model()
    change(model)
    return file_of(model.SerializeToString())


def no_file(project: MiniProject, name: str) -> None:
    """Make a model without its file."""
    project.add_model(name, file_spec())


def folder_for_file(project: MiniProject, name: str) -> None:
    """Make a folder where the file should be."""
    project.add_model(name, file_spec(), {"model.onnx/README.md": "no model"})


def sparse_file(project: MiniProject, name: str) -> None:
    """Make a file that is too large for protobuf; it takes no room on disk."""
    project.add_model(name, file_spec(), {"model.onnx": GOOD})
    os.truncate(project.models / name / "model.onnx", ABOVE_2_GIB)


def no_outputs(model: onnx.ModelProto) -> None:
    """Take the outputs away."""
    model.graph.ClearField("output")


def newer_opset(model: onnx.ModelProto) -> None:
    """Ask for an operator set that does not exist yet."""
    model.opset_import[0].version = 99


def newer_ir(model: onnx.ModelProto) -> None:
    """Ask for a file format that does not exist yet."""
    model.ir_version = 99


def unregistered_operator() -> bytes:
    """Return a model with an operator of a domain that nobody registered."""
    node = helper.make_node("Frobnicate", ["x"], ["y"], domain="com.example")
    ports = [tensor_info("x", shape=BATCH_OF_3)], [tensor_info("y", shape=BATCH_OF_3)]
    return serialized(make_model([node], *ports, domains={"com.example": 1}))


def circle() -> bytes:
    """Return a model whose two nodes wait for each other."""
    nodes = [helper.make_node("Add", ["x", "b"], ["a"]), helper.make_node("Relu", ["a"], ["b"])]
    ports = [tensor_info("x", shape=BATCH_OF_3)], [tensor_info("b", shape=BATCH_OF_3)]
    return serialized(make_model(nodes, *ports))


def no_nodes() -> bytes:
    """Return a model whose output is its input."""
    port = tensor_info("x", shape=BATCH_OF_3)
    return serialized(make_model([], [port], [port]))


def serialized(model: onnx.ModelProto) -> bytes:
    """Return a model as its file holds it."""
    data: bytes = model.SerializeToString()
    return data


def wants_too_much(project: MiniProject, name: str) -> None:
    """Make a model that asks for 2^50 elements when it runs; its data are recorded."""
    nodes = [
        helper.make_node("Expand", ["x", "size"], ["y"]),
        helper.make_node("ReduceMax", ["y"], ["z"], keepdims=0),
    ]
    weights = {"size": np.array([2**50, 3], dtype=np.int64)}
    model = make_model(nodes, [tensor_info("x", shape=(1, 3))], [tensor_info("z")], weights)
    spec = file_spec(reference='recorded = "."', inputs="", case="")
    folder = project.add_model(name, spec, {"model.onnx": serialized(model)})
    write_sets(folder, model, [([np.ones((1, 3), np.float32)], [np.array(1, np.float32)])])


def external(
    *, location: str = "weights.bin", length: int = 24, data: Mapping[str, bytes] | None = None
) -> Maker:
    """Return the maker of a model whose weights `w` lie in the file `location`."""
    model = linear_model()
    weights = model.graph.initializer[0]
    weights.ClearField("raw_data")
    weights.data_location = onnx.TensorProto.EXTERNAL
    weights.external_data.add(key="location", value=location)
    weights.external_data.add(key="length", value=str(length))
    files = {"model.onnx": serialized(model), **(data or {})}

    def make(project: MiniProject, name: str) -> None:
        project.add_model(name, file_spec(), files)

    return make


def linked_outside(project: MiniProject, name: str) -> None:
    """Make external data that is a link to a file outside the model's folder."""
    external()(project, name)
    (project.models / name / "weights.bin").symlink_to(project.write("secret.bin", bytes(24)))


MAKERS: dict[str, Maker] = {
    "file-missing": no_file,
    "file-is-a-folder": folder_for_file,
    "file-empty": file_of(b""),
    "file-truncated": file_of(GOOD[:-20]),
    "file-not-onnx": file_of(b"PK\x03\x04" * 20),
    "file-pointer": file_of(POINTER),
    "file-above-2-gib": sparse_file,
    "opset-unsupported": changed(newer_opset),
    "ir-unsupported": changed(newer_ir),
    "operator-unknown": file_of(serialized(node_model("Frobnicate", shape=BATCH_OF_3))),
    "operator-unregistered": file_of(unregistered_operator()),
    "graph-circular": file_of(circle()),
    "graph-without-nodes": file_of(no_nodes()),
    "outputs-none": changed(no_outputs),
    "external-missing": external(),
    "external-truncated": external(data={"weights.bin": bytes(20)}),
    "external-parent": external(location="../secret.bin"),
    "external-absolute": external(location="/etc/passwd"),
    "external-link": linked_outside,
    "external-length": external(length=-5, data={"weights.bin": bytes(24)}),
    "external-short": external(length=8, data={"weights.bin": bytes(24)}),
    "memory-too-much": wants_too_much,
}
