"""What an ONNX file is: faults of broken files, and a hash of what computes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import external_data_helper, helper, numpy_helper

from harness.domain.dtypes import DType
from harness.files.inspection import inspect, type_name
from harness.testing import identity_model, linear_model, make_model, node_model, tensor_info

OUTSIDE = "points outside the model's folder"
SCALAR = helper.make_tensor_type_proto(7, [])
FLOATS = np.arange(64, dtype=np.float32)


def saved(folder: Path, model: onnx.ModelProto) -> Path:
    """Write a model and return its file."""
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def weighty_model() -> onnx.ModelProto:
    """Return `y = x + w` with a weight of 256 bytes."""
    node = helper.make_node("Add", ["x", "w"], ["y"])
    return make_model(
        [node], [tensor_info("x", shape=[64])], [tensor_info("y", shape=[64])], {"w": FLOATS}
    )


def external(folder: Path, **entry: str) -> Path:
    """Write a model with its weight in `data.bin`, and change the weight's entry."""
    model = weighty_model()
    tensor = model.graph.initializer[0]
    (folder / "data.bin").write_bytes(tensor.raw_data)
    external_data_helper.set_external_data(tensor, "data.bin", offset=0, length=256)
    tensor.ClearField("raw_data")
    known = {pair.key: pair.value for pair in tensor.external_data}
    del tensor.external_data[:]
    for key, value in {**known, **entry}.items():
        tensor.external_data.add(key=key, value=value)
    return saved(folder, model)


def test_facts_of_a_sound_file(tmp_path: Path) -> None:
    """Interface, size, nodes and parameters; no fault."""
    path = saved(tmp_path, linear_model())
    facts = inspect(path)
    assert len(facts.pop("hash")) == 64
    assert facts == {
        "faults": [],
        "size_bytes": path.stat().st_size,
        "ir_version": 10,
        "opsets": {"": 20},
        "producer": "",
        "nodes": 2,
        "parameters": 8,
        "inputs": [["x", "tensor(float)", ["batch", 3]]],
        "outputs": [["y", "tensor(float)", ["batch", 2]]],
    }


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"", ["model.unreadable", "the file is empty"]),
        (b"\x08\x07", ["model.unreadable", "not an ONNX model: no graph, or no opset"]),
        (
            onnx.ModelProto(graph=linear_model().graph).SerializeToString(),
            ["model.unreadable", "not an ONNX model: no graph, or no opset"],
        ),
    ],
    ids=["empty", "other", "opset"],
)
def test_files_that_are_no_model(tmp_path: Path, content: bytes, fault: list[str]) -> None:
    """Empty files, and protobuf of something else."""
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    assert inspect(path) == {"unreadable": fault}


@pytest.mark.parametrize(
    "content", [b"<html>not found</html>", linear_model().SerializeToString()[:-9]]
)
def test_noise_and_cut_files(tmp_path: Path, content: bytes) -> None:
    """A saved error page, or half of a download."""
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    code, message = inspect(path)["unreadable"]
    assert code == "model.unreadable"
    assert message.startswith("not an ONNX model: ")


def test_missing_file_and_folder(tmp_path: Path) -> None:
    """Both are told, neither raises."""
    path = tmp_path / "none.onnx"
    assert inspect(path) == {"unreadable": ["model.missing", f"file does not exist: {path}"]}
    assert inspect(tmp_path)["unreadable"][0] == "model.unreadable"


def test_no_outputs(tmp_path: Path) -> None:
    """A graph without outputs leaves nothing to check."""
    model = linear_model()
    del model.graph.output[:]
    facts = inspect(saved(tmp_path, model))
    assert facts["faults"] == [
        ["model.no-outputs", "the graph has no output: there is nothing to check"]
    ]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda model: setattr(model.graph.node[0], "op_type", "NoSuchOp"), "NoSuchOp"),
        (lambda model: model.graph.node[0].input.__setitem__(0, "nowhere"), "nowhere"),
        (lambda model: model.graph.node.add(op_type="Relu"), "Relu"),
    ],
    ids=["operator", "edge", "node"],
)
def test_what_the_checker_finds(
    tmp_path: Path, change: Callable[[onnx.ModelProto], None], said: str
) -> None:
    """The checker's message is kept."""
    model = linear_model()
    change(model)
    ((code, message),) = inspect(saved(tmp_path, model))["faults"]
    assert code == "model.invalid"
    assert said in message


def test_initializers_are_no_inputs(tmp_path: Path) -> None:
    """Old models list their weights as inputs, too."""
    model = linear_model()
    model.graph.input.append(tensor_info("w", shape=[3, 2]))
    assert [name for name, *_ in inspect(saved(tmp_path, model))["inputs"]] == ["x"]


def test_nodes_of_subgraphs_count(tmp_path: Path) -> None:
    """Branches hold nodes and weights as well."""
    branches: dict[str, Any] = {}
    for name in ("then_branch", "else_branch"):
        node = helper.make_node("Identity", [f"w_{name}"], [name])
        weight = numpy_helper.from_array(FLOATS[:3], f"w_{name}")
        output = tensor_info(name, shape=[3])
        branches[name] = helper.make_graph([node], name, [], [output], [weight])
    node = helper.make_node("If", ["x"], ["y"], **branches)
    model = make_model([node], [tensor_info("x", DType.BOOL)], [tensor_info("y", shape=[3])])
    facts = inspect(saved(tmp_path, model))
    assert (facts["faults"], facts["nodes"], facts["parameters"]) == ([], 3, 6)


# external data


def test_external_data(tmp_path: Path) -> None:
    """It belongs to the size and to the hash."""
    path = external(tmp_path)
    facts = inspect(path)
    assert facts["faults"] == []
    assert facts["size_bytes"] == path.stat().st_size + 256


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"location": "none.bin"}, "external data 'none.bin' is missing"),
        ({"location": "../data.bin"}, f"external data '../data.bin' {OUTSIDE}"),
        ({"location": "/etc/passwd"}, f"external data '/etc/passwd' {OUTSIDE}"),
        ({"location": ""}, f"external data '' {OUTSIDE}"),
        ({"location": "a\0b"}, f"external data 'a\0b' {OUTSIDE}"),
        ({"offset": "64"}, "external data 'data.bin' holds 256 of 320 bytes"),
        ({"offset": "x"}, "external data 'data.bin' has an offset or length that is no number"),
        ({"offset": "-8"}, "external data 'data.bin' gives 256 bytes from -8, needed are 256"),
        ({"length": "128"}, "external data 'data.bin' gives 128 bytes from 0, needed are 256"),
    ],
)
def test_broken_external_data(tmp_path: Path, entry: dict[str, str], said: str) -> None:
    """Missing, truncated or outside: the tensor is named, and there is no hash."""
    facts = inspect(external(tmp_path, **entry))
    assert facts["faults"] == [["model.external-data", f"tensor 'w': {said}"]]
    assert facts["hash"] == ""


def test_truncated_external_data(tmp_path: Path) -> None:
    """A file that lost its end."""
    path = external(tmp_path)
    (tmp_path / "data.bin").write_bytes(b"\0" * 100)
    assert inspect(path)["faults"] == [
        ["model.external-data", "tensor 'w': external data 'data.bin' holds 100 of 256 bytes"]
    ]


def test_a_link_out_of_the_folder(tmp_path: Path) -> None:
    """A link is followed before it is judged."""
    folder = tmp_path / "model"
    folder.mkdir()
    path = external(folder)
    (folder / "data.bin").rename(tmp_path / "data.bin")
    (folder / "data.bin").symlink_to(tmp_path / "data.bin")
    ((code, message),) = inspect(path)["faults"]
    assert code == "model.external-data"
    assert message.endswith(OUTSIDE)


# the hash


def hashed(folder: Path, model: onnx.ModelProto) -> str:
    """Return the model hash."""
    found = inspect(saved(folder, model))["hash"]
    assert isinstance(found, str)
    return found


SILENT: dict[str, Callable[[onnx.ModelProto], Any]] = {
    "producer": lambda model: setattr(model, "producer_name", "other"),
    "version": lambda model: setattr(model, "producer_version", "2"),
    "text of the model": lambda model: setattr(model, "doc_string", "text"),
    "text of the graph": lambda model: setattr(model.graph, "doc_string", "text"),
    "text of a node": lambda model: setattr(model.graph.node[0], "doc_string", "text"),
    "text of a weight": lambda model: setattr(model.graph.initializer[0], "doc_string", "text"),
    "metadata": lambda model: model.metadata_props.add(key="author", value="me"),
    "metadata of a node": lambda model: model.graph.node[0].metadata_props.add(key="k", value="v"),
    "metadata of an input": lambda model: model.graph.input[0].metadata_props.add(key="k"),
}


@pytest.mark.parametrize("change", SILENT.values(), ids=SILENT)
def test_what_does_not_compute_is_not_hashed(
    tmp_path: Path, change: Callable[[onnx.ModelProto], Any]
) -> None:
    """Exporting the same model again gives the same hash."""
    model = linear_model()
    before = hashed(tmp_path, model)
    change(model)
    assert hashed(tmp_path, model) == before


LOUD: dict[str, Callable[[onnx.ModelProto], Any]] = {
    "operator": lambda model: setattr(model.graph.node[1], "op_type", "Sub"),
    "weight": lambda model: model.graph.initializer[0].CopyFrom(
        numpy_helper.from_array(np.ones((3, 2), np.float32), "w")
    ),
    "opset": lambda model: setattr(model.opset_import[0], "version", 19),
    "name": lambda model: setattr(model.graph.node[0], "name", "n"),
}


@pytest.mark.parametrize("change", LOUD.values(), ids=LOUD)
def test_what_computes_is_hashed(tmp_path: Path, change: Callable[[onnx.ModelProto], Any]) -> None:
    """Operators, weights, versions, names."""
    model = linear_model()
    before = hashed(tmp_path, model)
    change(model)
    assert hashed(tmp_path, model) != before


def test_external_data_is_hashed(tmp_path: Path) -> None:
    """One changed weight is another model."""
    before = inspect(external(tmp_path))["hash"]
    changed = FLOATS.copy()
    changed[-1] += 1
    (tmp_path / "data.bin").write_bytes(changed.tobytes())
    assert inspect(tmp_path / "model.onnx")["hash"] not in {before, ""}


def test_the_hash_does_not_depend_on_the_folder(tmp_path: Path) -> None:
    """The same files elsewhere are the same model."""
    (tmp_path / "other").mkdir()
    assert inspect(external(tmp_path))["hash"] == inspect(external(tmp_path / "other"))["hash"]


# types


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (helper.make_tensor_type_proto(1, [1]), "tensor(float)"),
        (helper.make_tensor_type_proto(11, [1]), "tensor(double)"),
        (helper.make_tensor_type_proto(22, [1]), "tensor(int4)"),
        (helper.make_tensor_type_proto(99, [1]), "tensor(type 99)"),
        (helper.make_sparse_tensor_type_proto(1, [1]), "sparse_tensor(float)"),
        (helper.make_sequence_type_proto(SCALAR), "seq(tensor(int64))"),
        (helper.make_optional_type_proto(SCALAR), "optional(tensor(int64))"),
        (
            helper.make_sequence_type_proto(
                helper.make_map_type_proto(8, SCALAR)
            ),
            "seq(map(string,tensor(int64)))",
        ),
        (onnx.TypeProto(), "undefined"),
    ],
)  # fmt: skip
def test_type_names(kind: onnx.TypeProto, name: str) -> None:
    """As ONNX Runtime prints them."""
    assert type_name(kind) == name


@pytest.mark.parametrize("dtype", DType)
def test_models_of_every_type(tmp_path: Path, dtype: DType) -> None:
    """The interface is known whatever the type."""
    ((name, kind, shape),) = inspect(saved(tmp_path, identity_model(dtype)))["outputs"]
    wanted = {DType.FLOAT32: "float", DType.FLOAT64: "double"}.get(dtype, dtype)
    assert (name, kind, shape) == ("y", f"tensor({wanted})", ["n"])


def test_an_unknown_shape(tmp_path: Path) -> None:
    """None where the file does not even say the rank, or a size."""
    model = node_model("Relu")
    model.graph.output[0].CopyFrom(tensor_info("y", shape=None))
    model.graph.input[0].type.tensor_type.shape.dim[0].ClearField("value")
    facts = inspect(saved(tmp_path, model))
    assert (facts["inputs"][0][2], facts["outputs"][0][2]) == ([None], None)
