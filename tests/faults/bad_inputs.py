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
from harness.testing import (
    MiniProject,
    file_spec,
    linear_model,
    make_model,
    tensor_info,
    value_bytes,
)
from tests.faults.table import Maker

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

    def remove(folder: Path) -> None:
        for name in names:
            (folder / name).unlink()

    return remove


def tensor(*dims: int, number: int = onnx.TensorProto.FLOAT) -> bytes:
    """Return a recorded tensor of 16 bytes with this shape and element type."""
    proto = onnx.TensorProto(data_type=number, dims=dims, raw_data=bytes(16))
    data: bytes = proto.SerializeToString()
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


def two_steps(*sets: tuple[list[Value], list[Value]]) -> Maker:
    """Return the maker of a model that feeds `y` back into `x`, with these recorded steps."""
    state = '[state]\nfeedback = { y = "x" }\nsteps = 2'
    spec = file_spec(reference='recorded = "."', case="", more=state)

    def make(project: MiniProject, name: str) -> None:
        folder = project.add_zoo_model(name, linear_model(), sets)
        (folder / "model.toml").write_text(spec, encoding="utf-8")

    return make


def sample_instead(folder: Path) -> None:
    """Replace the recorded output by a sample that holds nothing."""
    drop("output_0.pb")(folder)
    put("output_0.sample.json", b"{}")(folder)


MAKERS: dict[str, Maker] = {
    "inputs-missing": no_archive,
    "inputs-not-zip": archive(b"no archive"),
    "inputs-truncated": archive(arrays(x=X)[:-30]),
    "inputs-corrupt": archive(corrupt()),
    "inputs-npy": archive(single_array()),
    "inputs-pickle": archive(PICKLE),
    "inputs-objects": archive(arrays(x=np.array([["a", None, 1]] * 2, dtype=object))),
    "inputs-bomb": archive(bomb()),
    "inputs-member": archive(member(b"no array")),
    "inputs-none": archive(arrays()),
    "inputs-dtype": archive(arrays(x=X.astype(np.float64))),
    "inputs-record": archive(arrays(x=np.zeros((2, 3), [("a", "<f4")]))),
    "inputs-rank": archive(arrays(x=X[0])),
    "inputs-size": archive(arrays(x=X[:1])),
    "inputs-name": archive(arrays(x=X, z=X)),
    "inputs-nan": archive(arrays(x=X * np.float32(np.nan))),
    "recorded-no-output": recorded(drop("output_0.pb")),
    "recorded-no-input": recorded(drop("input_0.pb")),
    "recorded-extra-output": recorded(put("output_1.pb", value_bytes(Y))),
    "recorded-empty-folder": recorded(drop("input_0.pb", "output_0.pb")),
    "recorded-file-for-folder": recorded(file_for_folder),
    "recorded-truncated": recorded(put("output_0.pb", value_bytes(Y)[:-5])),
    "recorded-empty": recorded(put("output_0.pb", b"")),
    "recorded-garbage": recorded(put("output_0.pb", b"\xff" * 40)),
    "recorded-short": recorded(put("output_0.pb", tensor(2, 3))),
    "recorded-negative": recorded(put("output_0.pb", tensor(-2, 2))),
    "recorded-type": recorded(put("output_0.pb", tensor(2, 2, number=77))),
    "recorded-external": recorded(put("output_0.pb", elsewhere())),
    "recorded-other-kind": recorded(
        put("output_0.pb", value_bytes(Y)), split_model(), (X[:1], X[1:])
    ),
    "recorded-empty-sequence": recorded(put("output_0.pb", b""), split_model(), (X[:1], X[1:])),
    "recorded-dtype": recorded(put("output_0.pb", value_bytes(Y.astype(np.float64)))),
    "recorded-shape": recorded(put("output_0.pb", value_bytes(X))),
    "recorded-value": recorded(put("output_0.pb", value_bytes(Y + 1))),
    "recorded-input-dtype": recorded(put("input_0.pb", value_bytes(X.astype(np.float64)))),
    "recorded-input-shape": recorded(put("input_0.pb", value_bytes(Y))),
    "recorded-sample": recorded(sample_instead),
    "recorded-sample-too": recorded(put("output_0.sample.json", b"{}")),
    "recorded-step-missing": two_steps(([X], [Y])),
    "recorded-step-order": two_steps(([X], [Y]), ([X], [Y])),
    "recorded-no-set": unrecorded({}),
    "recorded-no-case": unrecorded({"cases/test_data_set_0/x": ""}, '[[case]]\nname = "one"'),
}
