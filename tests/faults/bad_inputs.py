"""Bad input: files of inputs, and recorded data sets."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from onnx import helper

from harness.domain.values import Array, Value
from harness.domain.verdict import Verdict
from harness.testing import (
    MiniProject,
    file_spec,
    linear_model,
    make_model,
    tensor_info,
    value_bytes,
)
from tests.faults.row import Maker, Row

GOOD = linear_model().SerializeToString()
CASE = '[[case]]\nname = "one"\ndims = { batch = 2 }\ninputs = "inputs.npz"'
SET = "test_data_set_0"
X = np.ones((2, 3), np.float32)
Y = np.array([[-2.5, -1.0], [-2.5, -1.0]], np.float32)
PICKLE = b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00\x8c\x02os\x94."
#: numpy's header of a float32 array.
HEADER = {"descr": "<f4", "fortran_order": False}


def no_archive(project: MiniProject, name: str) -> None:
    """Make a case without its file of inputs."""
    project.add_model(name, file_spec(case=CASE), {"model.onnx": GOOD})


def archive(content: bytes) -> Maker:
    """Return the maker of a case whose file of inputs holds `content`."""

    def make(project: MiniProject, name: str) -> None:
        files = {"model.onnx": GOOD, "inputs.npz": content}
        project.add_model(name, file_spec(case=CASE), files)

    return make


def arrays(**named: Array) -> bytes:
    """Return an archive of arrays; objects are pickled."""
    file = io.BytesIO()
    np.savez(file, allow_pickle=True, **named)
    return file.getvalue()


def member(content: bytes) -> bytes:
    """Return an archive whose `x.npy` holds `content`."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as opened:
        opened.writestr("x.npy", content)
    return file.getvalue()


def single_array() -> bytes:
    """Return an array as a file of its own."""
    file = io.BytesIO()
    np.save(file, X)
    return file.getvalue()


def bomb() -> bytes:
    """Return an archive whose array claims 2^60 rows."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {**HEADER, "shape": (2**60, 3)})
    return member(file.getvalue())


def corrupt() -> bytes:
    """Return an archive whose compressed data are overwritten."""
    file = io.BytesIO()
    np.savez_compressed(file, x=np.arange(600, dtype=np.float32).reshape(200, 3))
    data = bytearray(file.getvalue())
    data[80:200] = b"\xff" * 120
    return bytes(data)


def recorded(
    change: Callable[[Path], object],
    model: onnx.ModelProto | None = None,
    y: Value = Y,
) -> Maker:
    """Return the maker of a model whose recorded data set is changed afterwards."""

    def make(project: MiniProject, name: str) -> None:
        folder = project.add_zoo_model(name, model or linear_model(), [([X], [y])])
        change(folder / SET)

    return make


def put(name: str, content: bytes) -> Callable[[Path], object]:
    """Return what writes a file of the data set."""
    return lambda folder: (folder / name).write_bytes(content)


def drop(*names: str) -> Callable[[Path], object]:
    """Return what removes files of the data set."""
    return lambda folder: [(folder / name).unlink() for name in names]


def tensor(**fields: object) -> bytes:
    """Return a recorded tensor of these fields."""
    data: bytes = onnx.TensorProto(**{"data_type": 1, "raw_data": bytes(16), **fields}).SerializeToString()
    return data


def elsewhere() -> bytes:
    """Return a recorded tensor whose data are in another file."""
    proto = onnx.TensorProto(data_type=1, dims=[2, 2], data_location=onnx.TensorProto.EXTERNAL)
    proto.external_data.add(key="location", value="input_0.pb")
    data: bytes = proto.SerializeToString()
    return data


def split_model() -> onnx.ModelProto:
    """Return a model whose output is the sequence of its input's rows."""
    node = helper.make_node("SplitToSequence", ["x"], ["y"], axis=0)
    output = helper.make_tensor_sequence_value_info("y", onnx.TensorProto.FLOAT, None)
    return make_model([node], [tensor_info("x", shape=["batch", 3])], [output])


def file_for_folder(folder: Path) -> None:
    """Replace the data set by a file."""
    drop("input_0.pb", "output_0.pb")(folder)
    folder.rmdir()
    folder.write_text("no folder", encoding="utf-8")


def unrecorded(files: dict[str, str | bytes], case: str = "") -> Maker:
    """Return the maker of a model whose spec points at recorded data that is not there."""
    spec = file_spec(reference='recorded = "cases"', case=case)

    def make(project: MiniProject, name: str) -> None:
        project.add_model(name, spec, {"model.onnx": GOOD, **files})

    return make


ROWS = (
    Row(id="inputs-missing", make=no_archive, asks="parity"),
    Row(id="inputs-not-zip", make=archive(b"no archive"), asks="parity"),
    Row(id="inputs-truncated", make=archive(arrays(x=X)[:-30]), asks="parity"),
    Row(id="inputs-corrupt", make=archive(corrupt()), asks="parity"),
    Row(id="inputs-npy", make=archive(single_array()), asks="parity"),
    Row(id="inputs-pickle", make=archive(PICKLE), asks="parity"),
    Row(id="inputs-objects", make=archive(arrays(x=np.array([["a", None, 1]] * 2, dtype=object))), asks="parity"),
    Row(id="inputs-bomb", make=archive(bomb()), asks="parity"),
    Row(id="inputs-member", make=archive(member(b"no array")), asks="parity"),
    Row(id="inputs-none", make=archive(arrays()), asks="parity"),
    Row(id="inputs-dtype", make=archive(arrays(x=X.astype(np.float64))), asks="parity"),
    Row(id="inputs-record", make=archive(arrays(x=np.zeros((2, 3), [("a", "<f4")]))), asks="parity"),
    Row(id="inputs-rank", make=archive(arrays(x=X[0])), asks="parity"),
    Row(id="inputs-size", make=archive(arrays(x=X[:1])), asks="parity"),
    Row(id="inputs-name", make=archive(arrays(x=X, z=X)), asks="parity"),
    Row(id="inputs-nan", make=archive(arrays(x=X * np.float32(np.nan))), asks="parity"),
    Row(id="recorded-no-output", make=recorded(drop("output_0.pb")), asks="parity", case=SET),
    Row(id="recorded-no-input", make=recorded(drop("input_0.pb")), asks="parity", case=SET),
    Row(id="recorded-extra-output", make=recorded(put("output_1.pb", value_bytes(Y))), asks="parity", case=SET),
    Row(id="recorded-empty-folder", make=recorded(drop("input_0.pb", "output_0.pb")), asks="parity", case=SET),
    Row(id="recorded-file-for-folder", make=recorded(file_for_folder), asks="parity", case=SET),
    Row(id="recorded-truncated", make=recorded(put("output_0.pb", value_bytes(Y)[:-5])), asks="parity", case=SET),
    Row(id="recorded-empty", make=recorded(put("output_0.pb", b"")), asks="parity", case=SET),
    Row(id="recorded-garbage", make=recorded(put("output_0.pb", b"\xff" * 40)), asks="parity", case=SET),
    Row(id="recorded-short", make=recorded(put("output_0.pb", tensor(dims=[2, 3]))), asks="parity", case=SET),
    Row(id="recorded-negative", make=recorded(put("output_0.pb", tensor(dims=[-2, 2]))), asks="parity", case=SET),
    Row(id="recorded-type", make=recorded(put("output_0.pb", tensor(dims=[2, 2], data_type=77))), asks="parity", case=SET),
    Row(id="recorded-external", make=recorded(put("output_0.pb", elsewhere())), asks="parity", case=SET),
    Row(id="recorded-other-kind", make=recorded(put("output_0.pb", value_bytes(Y)), split_model(), (X[:1], X[1:])), asks="parity", case=SET),
    Row(id="recorded-empty-sequence", make=recorded(put("output_0.pb", b""), split_model(), (X[:1], X[1:])), asks="parity", case=SET),
    Row(id="recorded-dtype", make=recorded(put("output_0.pb", value_bytes(Y.astype(np.float64)))), asks="parity", case=SET),
    Row(id="recorded-shape", make=recorded(put("output_0.pb", value_bytes(X))), asks="parity", case=SET),
    Row(id="recorded-value", make=recorded(put("output_0.pb", value_bytes(Y + 1))), asks="parity", case=SET),
    Row(id="recorded-input-dtype", make=recorded(put("input_0.pb", value_bytes(X.astype(np.float64)))), asks="parity", case=SET),
    Row(id="recorded-input-shape", make=recorded(put("input_0.pb", value_bytes(Y))), asks="parity", case=SET),
    Row(id="recorded-no-set", make=unrecorded({}), asks="contract"),
    Row(id="recorded-no-case", make=unrecorded({"cases/test_data_set_0/x": ""}, '[[case]]\nname = "one"'), asks="parity"),
)
