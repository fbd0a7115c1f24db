"""For tests of the harness and of projects that use it: a mini project and tiny ONNX builders.

project = MiniProject(tmp_path)
project.add_model("tiny", file_spec(), {"model.onnx": linear_model().SerializeToString()})
outcome = project.run("--provider", "cpu")
assert outcome.items["parity tiny/fp32/cpu/one"].verdict is Verdict.PASS
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

import harness
from harness.domain.dtypes import DType
from harness.domain.values import Array, Value
from harness.files import zoo
from harness.files.models import SPEC_FILE
from harness.results.record import ItemRecord, read_record

#: Old enough for every ONNX Runtime that the harness supports.
IR_VERSION = 10
OPSET = 20

#: Returns a value as a `.pb` file of the model-zoo layout holds it.
value_bytes = zoo.value_bytes

_PYTEST_INI = "[pytest]\naddopts = -ra --import-mode=importlib -p no:cacheprovider\n"
_LINEAR_INPUTS = """[inputs.x]
dtype = "float32"
shape = ["batch", 3]

[dims]
batch = { max = 8 }"""
_ONE_CASE = """[[case]]
name = "one"
dims = { batch = 1 }"""
#: What of the caller's environment would change a run inside it.
_FOREIGN = ("PYTEST_ADDOPTS", "PYTEST_PLUGINS", "PYTEST_XDIST_WORKER", "COLUMNS")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one pytest run gave."""

    exit_code: int
    """Exit code of pytest."""
    text: str
    """Standard output and standard error, together, in the order in which they came."""
    items: dict[str, ItemRecord]
    """Judged items by key, such as `parity mnist/fp32/cpu/batch1`."""


class MiniProject:
    """A small project in a temporary folder: models in, one pytest run, items out.

    Args:
        root: An empty folder; `root/models` exists afterwards.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.models = root / "models"
        self.models.mkdir(parents=True)
        self.write("pytest.ini", _PYTEST_INI)

    def write(self, path: str, content: str | bytes) -> Path:
        """Write a file, given relative to the project's folder, and return its path."""
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content.encode() if isinstance(content, str) else content)
        return target

    def add_model(
        self, name: str, spec: str | None = None, files: Mapping[str, str | bytes] | None = None
    ) -> Path:
        """Make a model's folder and return it.

        Args:
            name: Name of the folder.
            spec: Text of its `model.toml`; None writes none.
            files: Further files by their path in the folder.
        """
        folder = self.models / name
        folder.mkdir(exist_ok=True)
        for path, content in (files or {}).items():
            self.write(f"models/{name}/{path}", content)
        if spec is not None:
            self.write(f"models/{name}/{SPEC_FILE}", spec)
        return folder

    def add_zoo_model(
        self,
        name: str,
        model: onnx.ModelProto,
        sets: Sequence[tuple[Sequence[Value], Sequence[Value]]],
    ) -> Path:
        """Make a folder in model-zoo layout and return it.

        Args:
            name: Name of the folder.
            model: The model.
            sets: Inputs and outputs of each data set, in the model's order.
        """
        folder = self.add_model(name, files={zoo.MODEL_FILE: model.SerializeToString()})
        write_sets(folder, model, sets)
        return folder

    def run(
        self,
        *args: str,
        env: Mapping[str, str] | None = None,
        suites: bool = True,
        latency: bool = False,
    ) -> Outcome:
        """Run pytest in the project and return its outcome.

        Args:
            args: Further arguments of pytest.
            env: Variables to set; an empty text removes one.
            suites: Whether to run the harness's suites; without them, what `args` name.
            latency: Whether the latency suite is among them; without baselines it judges nothing.
        """
        record = self.root / "record.json"
        record.unlink(missing_ok=True)
        ours = [str(suites_folder()), "--harness-json", str(record)] if suites else []
        if suites and not latency:
            ours.append(f"--ignore={suites_folder() / 'test_latency.py'}")
        command = [sys.executable, "-m", "pytest", "-p", "harness.plugin", *ours, *args]
        done = subprocess.run(
            [*command, "--rootdir", str(self.root), "-c", str(self.root / "pytest.ini")],
            cwd=self.root,
            env=self._environment(env or {}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        judged = read_record(record).items if record.is_file() else ()
        return Outcome(
            exit_code=done.returncode,
            text=done.stdout.decode(errors="backslashreplace"),
            items={item.key: item for item in judged},
        )

    def _environment(self, changes: Mapping[str, str]) -> dict[str, str]:
        kept = {name: text for name, text in os.environ.items() if name not in _FOREIGN}
        packages = [str(Path(harness.__file__).parent.parent), kept.get("PYTHONPATH", "")]
        own = {
            "ONNX_HARNESS_CACHE": str(self.root / ".cache"),
            "ONNX_HARNESS_RUNTIMES": str(self.root / ".runtimes"),
            "PYTHONPATH": os.pathsep.join(filter(None, packages)),
            "PYTHONDONTWRITEBYTECODE": "1",
            "COLUMNS": "100",
        }
        return {name: text for name, text in {**kept, **own, **changes}.items() if text}


def suites_folder() -> Path:
    """Return the folder of the suites: inside the package if installed, else the checkout's."""
    package = Path(harness.__file__).parent
    installed = package / "suites"
    return installed if installed.is_dir() else package.parent / "suites"


def file_spec(
    *,
    file: str = "model.onnx",
    reference: str = "onnx = true",
    providers: str = "cpu = {}",
    inputs: str = _LINEAR_INPUTS,
    case: str = _ONE_CASE,
    more: str = "",
) -> str:
    """Return the text of a `model.toml` whose candidate is a file; it fits `linear_model`."""
    head = f'schema_version = 1\n\n[candidate]\nfile = "{file}"\n\n[reference]\n{reference}\n'
    return f"{head}\n[providers]\n{providers}\n\n{inputs}\n\n{case}\n\n{more}"


def make_model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    weights: Mapping[str, Array] | None = None,
    *,
    domains: Mapping[str, int] | None = None,
) -> onnx.ModelProto:
    """Return a model of these parts; `domains` adds operator sets, such as `{"ai.onnx.ml": 3}`."""
    initializers = [numpy_helper.from_array(np.asarray(array), name) for name, array in
                    (weights or {}).items()]  # fmt: skip
    graph = helper.make_graph(list(nodes), "graph", list(inputs), list(outputs), initializers)
    opsets = [helper.make_opsetid(name, version) for name, version in
              {"": OPSET, **(domains or {})}.items()]  # fmt: skip
    return helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)


def tensor_info(
    name: str, dtype: DType = DType.FLOAT32, shape: Sequence[int | str] | None = ()
) -> onnx.ValueInfoProto:
    """Return the declaration of a tensor; None as shape leaves even its rank open."""
    return helper.make_tensor_value_info(name, dtype.onnx_number, shape)


def linear_model(
    *, scale: float = 1.0, output: str = "y", features: int = 3, classes: int = 2
) -> onnx.ModelProto:
    """Return `y = x @ w + b` with x of shape [batch, features], y of [batch, classes].

    Args:
        scale: Factor on the weights; another one gives a model that computes something else.
        output: Name of the output.
        features: Columns of the input.
        classes: Columns of the output.
    """
    steps = np.arange(features * classes, dtype=np.float32).reshape(features, classes)
    weights = {
        "w": (steps - 2) * np.float32(0.25 * scale),
        "b": np.linspace(-1, 1, classes, dtype=np.float32),
    }
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["xw"]),
        helper.make_node("Add", ["xw", "b"], [output]),
    ]
    inputs = [tensor_info("x", shape=["batch", features])]
    return make_model(nodes, inputs, [tensor_info(output, shape=["batch", classes])], weights)


def node_model(
    operator: str,
    *,
    dtype: DType = DType.FLOAT32,
    result: DType | None = None,
    shape: Sequence[int | str] = ("n",),
) -> onnx.ModelProto:
    """Return `y = operator(x)` with both of the same shape; `result` is the type of y."""
    node = helper.make_node(operator, ["x"], ["y"])
    outputs = [tensor_info("y", result or dtype, shape)]
    return make_model([node], [tensor_info("x", dtype, shape)], outputs)


def identity_model(
    dtype: DType = DType.FLOAT32, shape: Sequence[int | str] = ("n",)
) -> onnx.ModelProto:
    """Return `y = x` for any element type."""
    return node_model("Identity", dtype=dtype, shape=shape)


def write_sets(
    folder: Path, model: onnx.ModelProto, sets: Sequence[tuple[Sequence[Value], Sequence[Value]]]
) -> None:
    """Write data sets in model-zoo layout: inputs and outputs of each, in the model's order."""
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [info for info in model.graph.input if info.name not in weights]
    for number, (given, expected) in enumerate(sets):
        target = folder / f"test_data_set_{number}"
        target.mkdir(parents=True)
        for side, infos, values in (
            ("input", inputs, given),
            ("output", model.graph.output, expected),
        ):
            for index, (info, value) in enumerate(zip(infos, values, strict=True)):
                optional = info.type.HasField("optional_type")
                zoo.write_value(target / f"{side}_{index}.pb", value, optional=optional)
