"""Bad input: sessions that crash, hang or are killed, when they open and when they run."""

from __future__ import annotations

import functools
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import onnx
from onnx import helper

from harness.domain.dtypes import DType
from harness.domain.values import Array
from harness.testing import (
    MiniProject,
    file_spec,
    linear_model,
    make_model,
    tensor_info,
    write_sets,
)
from tests.faults.table import Maker

SOURCE = Path(__file__).with_name("crash.c")
HAS_COMPILER = shutil.which("cc") is not None
CASE = "test_data_set_0"


@functools.cache
def library() -> bytes:
    """Return the library of custom operators that misbehaves as its own file name says."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "crash.so"
        command = ["cc", "-shared", "-fPIC", "-o", str(target), str(SOURCE), "-lpthread", "-ldl"]
        subprocess.run(command, check=True)
        return target.read_bytes()


def loop_model() -> onnx.ModelProto:
    """Return a model that turns its input's sign 2^40 times, which takes days."""
    again = [tensor_info("again", DType.BOOL), tensor_info("w", shape=[3])]
    body = helper.make_graph(
        [helper.make_node("Identity", ["more"], ["again"]), helper.make_node("Neg", ["v"], ["w"])],
        "body",
        [
            tensor_info("i", DType.INT64),
            tensor_info("more", DType.BOOL),
            tensor_info("v", shape=[3]),
        ],
        again,
    )
    weights = {"turns": np.array(2**40, dtype=np.int64), "yes": np.array(True)}  # noqa: FBT003
    node = helper.make_node("Loop", ["turns", "yes", "x"], ["y"], body=body)
    return make_model([node], [tensor_info("x", shape=[3])], [tensor_info("y", shape=[3])], weights)


def recorded(
    model: onnx.ModelProto, x: Array, y: Array, *, library_name: str, limits: str
) -> Maker:
    """Return the maker of a model with recorded data whose sessions load a library."""
    session = f'[session]\ncustom_ops = ["./{library_name}"]\n' if library_name else ""
    spec = file_spec(reference='recorded = "."', inputs="", case="", more=f"{session}{limits}")

    def make(project: MiniProject, name: str) -> None:
        folder = project.add_model(name, spec, {"model.onnx": model.SerializeToString()})
        write_sets(folder, model, [([x], [y])])
        if library_name:
            project.write(f"models/{name}/{library_name}", library())

    return make


def opening(library_name: str, limits: str = "") -> Maker:
    """Return the maker of a model whose session loads this library when it opens."""
    x, y = np.ones((1, 3), np.float32), np.ones((1, 2), np.float32)
    return recorded(linear_model(), x, y, library_name=library_name, limits=limits)


def looping(library_name: str = "", limits: str = "") -> Maker:
    """Return the maker of a model that runs for days."""
    x = np.ones(3, np.float32)
    return recorded(loop_model(), x, x, library_name=library_name, limits=limits)


MAKERS: dict[str, Maker] = {
    "session-aborts": opening("abort.so"),
    "session-segfaults": opening("segv.so"),
    "session-killed": opening("kill.so"),
    "session-exits": opening("exit.so"),
    "session-hangs": opening("hang.so", "[limits]\nload_s = 1.0"),
    "run-segfaults": looping("late-segv.so"),
    "run-killed": looping("late-kill.so"),
    "run-hangs": looping(limits="[limits]\nrun_s = 1.0"),
}
