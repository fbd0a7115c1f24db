"""A parity cell with a fresh worker, against the same work inside the process and polygraphy.

Fifty small models in model-zoo layout. The first comparison takes turns model by model, in this
process: one cell through the gate (file inspected, worker forked, session opened and run there,
outputs compared, receipt written), then the least that the same check needs without isolation
(values read, session opened and run here, outputs compared by numpy). The second takes turns run by
run: one pytest run over all models, from start to end, then `polygraphy run MODEL --onnxrt
--onnxrt` for each of them, from an environment of its own.
"""

from __future__ import annotations

import importlib.metadata
import operator
import os
import statistics
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import side_by_side as bench
from onnx import helper

from harness.domain.cells import Cell
from harness.domain.project import ProjectSettings
from harness.domain.questions import PARITY
from harness.domain.values import Array
from harness.domain.verdict import Verdict
from harness.evidence import Selection
from harness.files.models import load_models
from harness.files.zoo import MODEL_FILE, read_value
from harness.pipeline import Gate
from harness.runtimes.launchers import LocalLauncher
from harness.runtimes.registry import Runtimes
from harness.testing import make_model, tensor_info, write_sets

MODELS = 50
MOST_EXTRA_MS = 40
LEAST_TIMES_FASTER = 8
GOAL = (
    f"a cell costs at most {MOST_EXTRA_MS} ms more than inside the process, "
    f"the whole at most 1/{LEAST_TIMES_FASTER} of polygraphy called per model"
)


def main() -> None:
    """Run the benchmark."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    parser = bench.parser(__doc__, rounds=3)
    parser.add_argument("--peer-python", help="interpreter with polygraphy; default: makes one")
    options = parser.parse_args()
    count, rounds = (5, 1) if options.quick else (MODELS, options.rounds)
    with tempfile.TemporaryDirectory() as folder:
        project = bench.foreign_project(Path(folder) / "project")
        models = write_models(project / "models", count)
        cells = time_cells(project, models, rounds)
        python = options.peer_python
        if python is None and not options.quick:
            python = make_peer(Path(folder) / "peer")
        whole = time_whole(project, models, python, rounds) if python else {}
    report(count, rounds, cells, whole)


def report(
    count: int, rounds: int, cells: dict[str, list[float]], whole: dict[str, list[float]]
) -> None:
    """Print the result; without a peer (`--quick`) the goal is not met."""
    extra = 1e3 * bench.median_of_pairs(cells, "gate", "inside", operator.sub)
    faster = bench.median_of_pairs(whole, "peer", "gate", operator.truediv) if whole else None
    figures: dict[str, Any] = {
        "models": count,
        "rounds": rounds,
        **{f"cell_{name}_ms": round(1e3 * statistics.median(t), 2) for name, t in cells.items()},
        "cell_extra_ms": round(extra, 2),
        "cell_extra_worst_ms": round(1e3 * max(map(operator.sub, *cells.values())), 2),
        **{f"whole_{name}": value for name, value in bench.medians(whole, 2).items()},
        "times_faster": faster and round(faster, 1),
    }
    met = extra <= MOST_EXTRA_MS and (faster or 0) >= LEAST_TIMES_FASTER
    bench.report("parity_cell", figures=figures, goal=GOAL, met=met)


def time_cells(project: Path, models: list[str], rounds: int) -> dict[str, list[float]]:
    """Return the times of every model's cell through the gate and inside this process."""
    times: dict[str, list[float]] = {"gate": [], "inside": []}
    folder = project / "models"
    for _ in range(rounds):
        with Cells(project) as gate:
            gate.check(models[0])  # fork servers start, the provider is checked: once per run
            check_inside(folder / models[0])
            for name in models[1:]:
                arms = {
                    "gate": lambda name=name: gate.check(name),
                    "inside": lambda name=name: check_inside(folder / name),
                }
                for arm, (seconds,) in bench.alternate(arms, 1).items():
                    times[arm].append(seconds)
    return times


class Cells:
    """A gate over the models of a project."""

    def __init__(self, project: Path) -> None:
        self._launcher = LocalLauncher()
        settings = ProjectSettings()
        runtimes = Runtimes(settings, project, project / "runtimes", self._launcher)
        selection = Selection(models=load_models(project / "models"))
        cache = project / "cache"
        self._gate = Gate(selection, runtimes=runtimes, launcher=self._launcher, cache=cache)

    def check(self, name: str) -> None:
        """Judge one model's cell."""
        judgement = self._gate.check(PARITY, Cell(name, "fp32", "cpu", "test_data_set_0"))
        if judgement.verdict is not Verdict.PASS:
            sys.exit(f"{name}: {judgement.findings}")

    def __enter__(self) -> Cells:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """End all workers."""
        self._gate.close()
        self._launcher.close()


def check_inside(model: Path) -> None:
    """Do what a parity cell is about in this process, and nothing else."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    providers = ["CPUExecutionProvider"]
    session = onnxruntime.InferenceSession(model / MODEL_FILE, options, providers=providers)
    data = model / "test_data_set_0"
    feeds = {
        node.name: read_value(data / f"input_{index}.pb", node.type)
        for index, node in enumerate(session.get_inputs())
    }
    for index, (node, got) in enumerate(
        zip(session.get_outputs(), session.run(None, feeds), strict=True)
    ):
        expected: Any = read_value(data / f"output_{index}.pb", node.type)
        np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-5)


def time_whole(
    project: Path, models: list[str], python: str, rounds: int
) -> dict[str, list[float]]:
    """Return the times of one gate run, and of polygraphy called for each model."""
    polygraphy = Path(python).with_name("polygraphy")

    def gate() -> None:
        command = bench.gate_command(project / "models", "-m", "parity")
        bench.run(command, cwd=project, env=bench.gate_environment(project / "cache"))

    def peer() -> None:
        for name in models:
            file = project / "models" / name / MODEL_FILE
            bench.run([polygraphy, "run", file, "--onnxrt", "--onnxrt"], cwd=project)

    gate()  # the first run of either compiles bytecode
    peer()
    return bench.alternate({"gate": gate, "peer": peer}, rounds)


def make_peer(folder: Path) -> str:
    """Return the interpreter of a new environment with polygraphy and our ONNX Runtime."""
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    versions = [f"{name}=={importlib.metadata.version(name)}" for name in ("onnxruntime", "onnx")]
    command = [str(python), "-m", "pip", "install", "--quiet", "polygraphy", "numpy", *versions]
    subprocess.run(command, check=True)
    return str(python)


def write_models(folder: Path, count: int) -> list[str]:
    """Write small models with one recorded data set each; return their names."""
    import onnxruntime

    names = []
    for number in range(count):
        make = KINDS[number % len(KINDS)]
        name = f"{make.__name__}-{number}"
        model, feeds = make(np.random.default_rng(number), 8 + number)
        data = model.SerializeToString()
        session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
        target = folder / name
        target.mkdir(parents=True)
        (target / MODEL_FILE).write_bytes(data)
        write_sets(target, model, [(list(feeds.values()), session.run(None, feeds))])
        names.append(name)
    return names


def perceptron(random: np.random.Generator, size: int) -> tuple[onnx.ModelProto, dict[str, Array]]:
    """Return three dense layers."""
    weights = {f"w{layer}": normal(random, size, size) for layer in range(3)}
    nodes = []
    for layer in range(3):
        nodes += [
            helper.make_node("MatMul", [f"h{layer}", f"w{layer}"], [f"m{layer}"]),
            helper.make_node("Relu", [f"m{layer}"], [f"h{layer + 1}"]),
        ]
    return built(nodes, {"h0": normal(random, 4, size)}, "h3", weights)


def convolution(random: np.random.Generator, size: int) -> tuple[onnx.ModelProto, dict[str, Array]]:
    """Return two convolutions with pooling."""
    weights = {"k0": normal(random, 8, 3, 3, 3), "k1": normal(random, size, 8, 3, 3)}
    nodes = [
        helper.make_node("Conv", ["x", "k0"], ["c0"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c0"], ["r0"]),
        helper.make_node("MaxPool", ["r0"], ["p0"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Conv", ["p0", "k1"], ["c1"]),
        helper.make_node("GlobalAveragePool", ["c1"], ["y"]),
    ]
    return built(nodes, {"x": normal(random, 1, 3, 16, 16)}, "y", weights)


def recurrent(random: np.random.Generator, size: int) -> tuple[onnx.ModelProto, dict[str, Array]]:
    """Return one GRU layer."""
    weights = {"w": normal(random, 1, 3 * size, 6), "r": normal(random, 1, 3 * size, size)}
    nodes = [helper.make_node("GRU", ["x", "w", "r"], ["y"], hidden_size=size)]
    return built(nodes, {"x": normal(random, 10, 2, 6)}, "y", weights)


def attention(random: np.random.Generator, size: int) -> tuple[onnx.ModelProto, dict[str, Array]]:
    """Return one head of self-attention with a layer norm."""
    weights = {name: normal(random, size, size) for name in ("wq", "wk", "wv")}
    weights["scale"] = np.ones(size, dtype=np.float32)
    nodes = [
        *(helper.make_node("MatMul", ["x", f"w{part}"], [part]) for part in "qkv"),
        helper.make_node("Transpose", ["k"], ["kt"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["q", "kt"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["weights"]),
        helper.make_node("MatMul", ["weights", "v"], ["mixed"]),
        helper.make_node("LayerNormalization", ["mixed", "scale"], ["y"]),
    ]
    return built(nodes, {"x": normal(random, 2, 12, size)}, "y", weights)


def elementwise(random: np.random.Generator, size: int) -> tuple[onnx.ModelProto, dict[str, Array]]:
    """Return a few operators on two inputs."""
    nodes = [
        helper.make_node("Add", ["a", "b"], ["s"]),
        helper.make_node("Tanh", ["s"], ["t"]),
        helper.make_node("Mul", ["t", "a"], ["m"]),
        helper.make_node("ReduceMean", ["m"], ["y"], keepdims=0),
    ]
    return built(nodes, {"a": normal(random, size, 8), "b": normal(random, 8)}, "y", {})


def built(
    nodes: list[onnx.NodeProto], feeds: dict[str, Array], output: str, weights: dict[str, Array]
) -> tuple[onnx.ModelProto, dict[str, Array]]:
    """Return the model with inputs of exactly the shapes of `feeds`."""
    inputs = [tensor_info(name, shape=array.shape) for name, array in feeds.items()]
    return make_model(nodes, inputs, [tensor_info(output, shape=None)], weights), feeds


def normal(random: np.random.Generator, *shape: int) -> Array:
    """Return float32 values of a size that keeps deep products near 1."""
    return random.normal(scale=0.3, size=shape).astype(np.float32)


KINDS = (perceptron, convolution, recurrent, attention, elementwise)


if __name__ == "__main__":
    main()
