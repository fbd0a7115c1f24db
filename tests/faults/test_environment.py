"""Bad input around the models: runtimes, caches, options, paths, sizes."""

from __future__ import annotations

import itertools
import os
import resource
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from harness.domain.dtypes import DType
from harness.domain.verdict import Verdict
from harness.testing import (
    MiniProject,
    Outcome,
    file_spec,
    linear_model,
    make_model,
    tensor_info,
)

TINY = {"model.onnx": linear_model().SerializeToString()}
PARITY = "parity tiny/fp32/cpu/one"
#: Tables of 92 MiB that all lie at one place of a file: together above 2 GiB, on disk nothing.
TABLES, ROWS, COLUMNS = 24, 94208, 256
OFFSET = 3 * 2**30

ESTIMATOR = b"""
import numpy as np
from sklearn.linear_model import LinearRegression


def fit():
    return LinearRegression().fit(np.eye(3), np.ones((3, 2)))
"""


def told(outcome: Outcome, item: str) -> tuple[str, str, str]:
    """Return verdict, code and first line of an item's first finding."""
    found = outcome.items[item]
    return found.verdict.value, found.findings[0]["code"], found.findings[0]["what"]


def test_runtime_whose_interpreter_is_gone(project: MiniProject) -> None:
    """Items of that runtime tell it, items of another one go on."""
    project.write("onnx-harness.toml", '[runtimes.gone]\npython = "gone/bin/python"\n')
    project.add_model("tiny", file_spec(), TINY)
    outcome = project.run("--provider", "cpu", "--provider", "cpu@gone")
    python = project.root / "gone/bin/python"
    cause = f"Interpreter '{python}' cannot be started: No such file or directory"
    assert told(outcome, "placement tiny/fp32/cpu@gone") == (
        "FAIL",
        "provider.unavailable",
        f"CPUExecutionProvider was requested but is not usable: {cause}",
    )
    assert told(outcome, "parity tiny/fp32/cpu@gone/one")[:2] == ("ERROR", "blocked")
    assert outcome.items[PARITY].verdict is Verdict.PASS


def test_corrupt_cache_entry_is_computed_again(project: MiniProject) -> None:
    """A broken entry of the reference's cache is noticed, replaced, and no verdict changes."""
    for scale in (1, 2, 3):  # three models, two entries each
        model = linear_model(scale=scale).SerializeToString()
        project.add_model(f"tiny{scale}", file_spec(), {"model.onnx": model})
    project.run("--provider", "cpu", "-m", "parity")
    entries = {path: path.read_bytes() for path in (project.root / ".cache").rglob("*.values")}
    assert len(entries) == 6
    for (path, whole), kept in zip(entries.items(), itertools.cycle((-8, -8, 0)), strict=False):
        path.write_bytes(whole[:kept])
    overwritten = next(iter(entries))
    overwritten.write_bytes(entries[overwritten][:-8] + bytes(8))
    outcome = project.run("--provider", "cpu", "-m", "parity")
    again = [item for key, item in outcome.items.items() if key.startswith("parity")]
    told_by = [(item.verdict, item.facts["reference"]) for item in again]
    assert told_by == [(Verdict.PASS, "onnx, live")] * 3
    assert {path: path.read_bytes() for path in entries} == entries


def test_damaged_export_is_made_again(project: MiniProject) -> None:
    """What is not as it was exported is not judged: the model is exported once more."""
    pytest.importorskip("skl2onnx")
    spec = file_spec(
        reference='sklearn = "ref.py:fit"\nmethods = { variable = "predict" }',
        more='[outputs.variable]\ndtype = "float32"',
    ).replace('file = "model.onnx"', "export = { opset = 17 }")
    project.add_model("tiny", spec, {"ref.py": ESTIMATOR})
    assert project.run("--provider", "cpu").exit_code == pytest.ExitCode.OK
    (exported,) = (project.root / ".cache" / "exports").rglob("model.onnx")
    sound = exported.read_bytes()
    exported.write_bytes(sound[: len(sound) // 2])
    assert project.run("--provider", "cpu").exit_code == pytest.ExitCode.OK
    assert exported.read_bytes() == sound


def test_missing_package_is_not_judged(project: MiniProject) -> None:
    """Without the package the model is skipped with a hint; --no-skips makes it a failure."""
    project.add_model("tiny", f'requires = ["no-such-distribution"]\n{file_spec()}', TINY)
    project.add_model("healthy", file_spec(), TINY)
    outcome = project.run("--provider", "cpu")
    finding = ("package.missing", "Package 'no-such-distribution' is not installed")
    assert told(outcome, PARITY) == ("SKIP", *finding)
    assert outcome.exit_code == pytest.ExitCode.OK
    strict = project.run("--provider", "cpu", "--no-skips")
    assert told(strict, PARITY) == ("FAIL", *finding)
    assert strict.exit_code == pytest.ExitCode.TESTS_FAILED


def test_project_in_a_folder_that_is_not_utf8(tmp_path: Path) -> None:
    """ONNX Runtime cannot open such a path; every item says so, and the record is written."""
    project = MiniProject(tmp_path / os.fsdecode(b"caf\xe9"))
    project.add_model("tiny", file_spec(), TINY)
    outcome = project.run("--provider", "cpu")
    assert told(outcome, "contract tiny/fp32") == (
        "FAIL",
        "model.missing",
        "Path of a model is not UTF-8",
    )
    assert outcome.items[PARITY].verdict is Verdict.ERROR


def test_inputs_of_a_failure_are_saved_under_any_name(project: MiniProject) -> None:
    """An input called `file`, which numpy.savez cannot take, is saved like any other."""
    node = helper.make_node("Neg", ["file"], ["y"])
    model = make_model([node], [tensor_info("file", shape=[2])], [tensor_info("y", shape=[2])])
    x = np.ones(2, np.float32)
    project.add_zoo_model("tiny", model, [([x], [x])])
    item = project.run("--provider", "cpu").items["parity tiny/fp32/cpu/test_data_set_0"]
    assert item.findings[0]["code"] == "parity.tolerance"
    with np.load(item.facts["saved_inputs"]) as saved:
        assert saved["file"].tolist() == [1, 1]


def large_model() -> onnx.ModelProto:
    """Return a model that adds up rows of 24 tables in external data beyond 3 GiB."""
    names = [f"table{index}" for index in range(TABLES)]
    nodes = [helper.make_node("Gather", [name, "x"], [f"row_of_{name}"]) for name in names]
    nodes.append(helper.make_node("Sum", [f"row_of_{name}" for name in names], ["y"]))
    inputs = [tensor_info("x", DType.INT64, ["n"])]
    model = make_model(nodes, inputs, [tensor_info("y", shape=["n", COLUMNS])])
    place = {"location": "tables.bin", "offset": str(OFFSET), "length": str(ROWS * COLUMNS * 4)}
    for name in names:
        tensor = model.graph.initializer.add(name=name, data_type=1, dims=[ROWS, COLUMNS])
        tensor.data_location = onnx.TensorProto.EXTERNAL
        for key, value in place.items():
            tensor.external_data.add(key=key, value=value)
    return model


def test_model_above_2_gib(project: MiniProject) -> None:
    """It is opened by path and judged; no process ever holds all of it."""
    x = np.array([0, ROWS - 1])
    y = np.zeros((2, COLUMNS), np.float32)
    folder = project.add_zoo_model("large", large_model(), [([x], [y])])
    data = folder / "tables.bin"
    data.touch()
    os.truncate(data, OFFSET + ROWS * COLUMNS * 4)
    outcome = project.run("--provider", "cpu", "-m", "not properties")
    assert [item.verdict for item in outcome.items.values()] == [Verdict.PASS] * 3
    assert int(outcome.items["contract large/fp32"].facts["bytes"]) > 2**31
    largest_kib = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    assert largest_kib < 2**20, "a process of a test held more than 1 GiB"


@pytest.mark.parametrize(
    ("arguments", "environment", "message"),
    [
        (("--harness-json", "models"), {}, "Run record 'models' is a folder"),
        (("--harness-json", "pytest.ini/run.json"), {}, "Cannot write to '{root}/pytest.ini': "),
        ((), {"ONNX_HARNESS_CACHE": "/proc/none"}, "Cannot write to '/proc/none': "),
    ],
    ids=["record-is-a-folder", "record-below-a-file", "cache"],
)
def test_place_that_cannot_be_written(
    project: MiniProject, arguments: tuple[str, ...], environment: dict[str, str], message: str
) -> None:
    """A run that could not keep its results does not start."""
    project.add_model("tiny", file_spec(), TINY)
    outcome = project.run("--provider", "cpu", *arguments, env=environment)
    assert outcome.exit_code == pytest.ExitCode.USAGE_ERROR
    assert f"ERROR: {message.format(root=project.root)}" in outcome.text
