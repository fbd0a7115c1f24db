"""The saved node: what is written, and what running it again says."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from harness.domain.project import ProjectSettings
from harness.domain.values import Array
from harness.errors import UsageProblem
from harness.localise import artefacts
from harness.localise.replaying import replayed
from harness.localise.report import Report
from harness.runtimes.launchers import LocalLauncher
from harness.runtimes.registry import Runtimes
from harness.testing import file_spec
from tests.localise.conftest import Searcher
from tests.localise.graphs import CASE, CHANNEL, FACTOR, INPUTS, chain


@pytest.fixture
def report(search: Searcher) -> Report:
    """Return the report of a chain whose node 4 is off; scope function."""
    text = file_spec(reference='onnx = "right.onnx"', inputs=INPUTS, case=CASE)
    wrong, right = chain(10, off=4), chain(10)
    files = {"model.onnx": wrong.SerializeToString(), "right.onnx": right.SerializeToString()}
    return search(text, files)


def runtimes(launcher: LocalLauncher, folder: Path) -> Runtimes:
    """Return the runtimes of a project without settings."""
    return Runtimes(ProjectSettings(), folder, folder / "runtimes", launcher)


def test_the_saved_node_reproduces_its_error(
    report: Report, launcher: LocalLauncher, tmp_path: Path
) -> None:
    """Alone, with its inputs, it introduces what the report says."""
    outcome = replayed(
        Path(report.folder), launcher=launcher, runtimes=runtimes(launcher, tmp_path)
    )
    assert report.origin is not None
    assert not outcome.agrees
    assert outcome.error.relative == pytest.approx(report.origin.introduced)
    assert outcome.saved == pytest.approx(report.origin.introduced)
    assert next(outcome.lines()) == "'n4' (MatMul) still differs from what is expected of it"


def test_a_mended_node_agrees(report: Report, launcher: LocalLauncher, tmp_path: Path) -> None:
    """The saved expectation is the reference's, so the right weight gives it."""
    path = Path(report.folder) / artefacts.MODEL
    model = onnx.load(path)
    (tensor,) = model.graph.initializer
    values = numpy_helper.to_array(tensor).copy()
    values[:, CHANNEL] /= FACTOR
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    onnx.save(model, path)
    outcome = replayed(path.parent, launcher=launcher, runtimes=runtimes(launcher, tmp_path))
    assert outcome.agrees
    assert next(outcome.lines()) == "'n4' (MatMul) agrees with what is expected of it"


def test_the_folder_holds_what_a_bug_report_needs(report: Report) -> None:
    """A model of one node with the names of the graph, inputs, expectation, and the report."""
    folder = Path(report.folder)
    assert sorted(path.name for path in folder.iterdir()) == [
        "expected.npz",
        "inputs.npz",
        "node.onnx",
        "report.json",
    ]
    graph = onnx.load(folder / "node.onnx").graph
    assert [(node.op_type, list(node.input), list(node.output)) for node in graph.node] == [
        ("MatMul", ["v3", "w4"], ["v4"])
    ]
    told = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert told["origin"]["node"] == "'n4'"
    assert told["replay_with"]["optimization"] == "disabled"


@pytest.mark.parametrize("damage", ["missing", "text", "list", "model", "inputs"])
def test_a_folder_without_a_saved_node_is_refused(
    report: Report, launcher: LocalLauncher, tmp_path: Path, damage: str
) -> None:
    """Whatever is wrong with it, the message says what belongs there."""
    folder = Path(report.folder)
    match damage:
        case "missing":
            folder = tmp_path / "nothing"
        case "text":
            (folder / artefacts.REPORT).write_text("{", encoding="utf-8")
        case "list":
            (folder / artefacts.REPORT).write_text("[1]", encoding="utf-8")
        case "model":
            (folder / artefacts.MODEL).unlink()
        case _:
            (folder / artefacts.INPUTS).write_bytes(b"no archive")
    with pytest.raises(UsageProblem, match="Folder holds no saved node"):
        replayed(folder, launcher=launcher, runtimes=runtimes(launcher, tmp_path))


@pytest.mark.parametrize("name", ["bfloat16", "float8_e4m3fn", "float32", "int64", "bool"])
def test_element_types_survive(tmp_path: Path, name: str) -> None:
    """Also those that `.npz` files lack, and names that no file could have."""
    import ml_dtypes

    kind = np.dtype(getattr(ml_dtypes, name, None) or name)
    array: Array = np.array([[0, 1], [1, 0]]).astype(kind)
    path = tmp_path / "values.npz"
    artefacts.write_arrays(path, {"/a/b:c": array})
    from harness.domain import dtypes

    found = artefacts.read_arrays(path, {"/a/b:c": str(dtypes.of_array(array))})
    assert found["/a/b:c"].dtype == kind
    assert found["/a/b:c"].tobytes() == array.tobytes()
