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
from harness.errors import EnvironmentProblem, UsageProblem
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


def edit_report(folder: Path, *keys: str, value: object) -> None:
    """Set one key of a saved report."""
    path = folder / artefacts.REPORT
    told = json.loads(path.read_text(encoding="utf-8"))
    table = told
    for key in keys[:-1]:
        table = table[key]
    table[keys[-1]] = value
    path.write_text(json.dumps(told), encoding="utf-8")


def refusal(folder: Path, launcher: LocalLauncher, tmp_path: Path) -> UsageProblem:
    """Return the usage error of replaying a folder, which tells every part."""
    with pytest.raises(UsageProblem) as caught:
        replayed(folder, launcher=launcher, runtimes=runtimes(launcher, tmp_path))
    error = caught.value
    assert all((error.where, error.expected, error.got, error.next_step))
    return error


@pytest.mark.parametrize(
    ("keys", "value", "got"),
    [
        (("replay_with", "threads"), "x", "'replay_with.threads' must be a valid integer"),
        (("replay_with", "threads"), None, "'replay_with.threads' must be a valid integer"),
        (("replay_with", "threads"), 0, "'replay_with' 'threads' must be from 1 to"),
        (("replay_with", "options"), "x", "'replay_with.options' must be an object, got"),
        (("replay_with", "custom_ops"), 5, "'replay_with.custom_ops' must be a valid array, got 5"),
        (("replay_with", "optimization"), "ultra", "'replay_with.optimization' must be 'disabled'"),
        (("replay_with", "config"), {"a": 1}, "'replay_with.config.a' must be a valid string"),
        (("replay_with", "config"), {"a": "1"}, "Unknown session configuration entry 'a'"),
        (("replay_with", "dtypes"), {"inputs": {}}, "'replay_with.dtypes.expected' is missing"),
        (("replay_with",), {}, "'replay_with.threads' is missing"),
        (("origin", "introduced"), "abc", "'origin.introduced' must be a valid number"),
        (("origin", "introduced"), float("nan"), "'origin' 'introduced' must be a finite share"),
        (("origin",), None, "'origin' must be an object, got null"),
        (("replay_with", "custom_ops"), ["/no/a.so"], "'replay_with.custom_ops' names '/no/a.so'"),
    ],
)  # fmt: skip
def test_a_damaged_report_is_refused(
    report: Report,
    launcher: LocalLauncher,
    tmp_path: Path,
    keys: tuple[str, ...],
    value: object,
    got: str,
) -> None:
    """Every key that is read has its type, and the message names file and key."""
    folder = Path(report.folder)
    edit_report(folder, *keys, value=value)
    error = refusal(folder, launcher, tmp_path)
    assert error.what == "Folder holds no saved node"
    assert error.where == str(folder / artefacts.REPORT)
    assert error.got.startswith(got)


@pytest.mark.parametrize(
    ("file", "arrays", "got"),
    [
        (artefacts.EXPECTED, {}, "ValueError: it lacks 'v4', which report.json names"),
        (artefacts.INPUTS, {}, "ValueError: it lacks 'v3', which report.json names"),
        (
            artefacts.EXPECTED,
            {"other": np.zeros(1, np.float32)},
            "ValueError: it holds 'other', which report.json does not name",
        ),
        (
            artefacts.EXPECTED,
            {"v4": np.zeros(1, np.int32)},
            "ValueError: 'v4' has the element type int32 instead of float32",
        ),
    ],
)  # fmt: skip
def test_arrays_that_the_report_does_not_tell_are_refused(
    report: Report,
    launcher: LocalLauncher,
    tmp_path: Path,
    file: str,
    arrays: dict[str, Array],
    got: str,
) -> None:
    """A node that is held against nothing must not agree."""
    folder = Path(report.folder)
    artefacts.write_arrays(folder / file, arrays)
    error = refusal(folder, launcher, tmp_path)
    assert error.what == "Folder holds no saved node"
    assert (error.where, error.got) == (str(folder / file), got)


@pytest.mark.parametrize("file", [artefacts.EXPECTED, artefacts.INPUTS])
def test_names_that_both_files_lack_are_refused(
    report: Report, launcher: LocalLauncher, tmp_path: Path, file: str
) -> None:
    """Even where report and arrays agree about holding nothing."""
    folder = Path(report.folder)
    artefacts.write_arrays(folder / file, {})
    edit_report(folder, "replay_with", "dtypes", file.removesuffix(".npz"), value={})
    error = refusal(folder, launcher, tmp_path)
    assert error.what == "Folder holds no saved node"
    assert (
        error.got
        == {
            artefacts.EXPECTED: "'replay_with.dtypes.expected' is empty: the node would be held "
            "against nothing",
            artefacts.INPUTS: "it lacks the node's input 'v3'",
        }[file]
    )


def test_an_expectation_of_another_node_is_refused(
    report: Report, launcher: LocalLauncher, tmp_path: Path
) -> None:
    """An output that the node does not give is damage, no difference."""
    folder = Path(report.folder)
    artefacts.write_arrays(folder / artefacts.EXPECTED, {"w": np.zeros(1, np.float32)})
    edit_report(folder, "replay_with", "dtypes", "expected", value={"w": "float32"})
    error = refusal(folder, launcher, tmp_path)
    assert error.where == str(folder / artefacts.EXPECTED)
    assert error.got == "it holds 'w', which node.onnx does not name"


@pytest.mark.parametrize("kept", [0, 40])
def test_a_damaged_model_is_refused(
    report: Report, launcher: LocalLauncher, tmp_path: Path, kept: int
) -> None:
    """Empty or cut short, it is told by its file before ONNX Runtime sees it."""
    path = Path(report.folder) / artefacts.MODEL
    path.write_bytes(path.read_bytes()[:kept])
    error = refusal(path.parent, launcher, tmp_path)
    assert (error.what, error.where) == ("Folder holds no saved node", str(path))


def test_a_provider_of_another_project_is_told_by_its_key(
    report: Report, launcher: LocalLauncher, tmp_path: Path
) -> None:
    """`replay` has no option for it."""
    folder = Path(report.folder)
    edit_report(folder, "replay_with", "provider", value="cpuu")
    error = refusal(folder, launcher, tmp_path)
    assert error.what == "Unknown provider 'cpuu'"
    assert error.where == f"{folder / artefacts.REPORT}, replay_with.provider"
    assert (error.got, error.next_step) == ("'cpuu'", "did you mean 'cpu'?")


def test_a_missing_provider_is_the_environments_fault(
    report: Report, launcher: LocalLauncher, tmp_path: Path
) -> None:
    """Known by name, yet built into no runtime that is here."""
    folder = Path(report.folder)
    edit_report(folder, "replay_with", "provider", value="rknpu")
    with pytest.raises(EnvironmentProblem) as caught:
        replayed(folder, launcher=launcher, runtimes=runtimes(launcher, tmp_path))
    assert caught.value.where == f"{folder / artefacts.REPORT}, replay_with.provider"


def test_what_does_not_run_is_no_difference(
    report: Report, launcher: LocalLauncher, tmp_path: Path
) -> None:
    """A refusal of ONNX Runtime is told with file and settings, as a usage error."""
    folder = Path(report.folder)
    artefacts.write_arrays(folder / artefacts.INPUTS, {"v3": np.zeros((1, 1), np.float32)})
    error = refusal(folder, launcher, tmp_path)
    assert error.what.startswith("Saved node 'n4' (MatMul) does not run: InvalidArgument")
    assert error.where == str(folder / artefacts.MODEL)


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
