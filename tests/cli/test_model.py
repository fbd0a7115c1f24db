"""`onnx-harness model`: a file becomes a model that runs; models are listed, shown and checked."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from harness.cli.output import print_json
from harness.cli.schema import model_schema
from harness.domain.dtypes import DType
from harness.domain.verdict import Verdict
from harness.files.models import Model, load_model
from harness.testing import MiniProject, file_spec, linear_model, make_model, tensor_info
from tests.cli.conftest import Command

pytest.importorskip("onnxruntime")

REFERENCE = """
import numpy as np
from sklearn.linear_model import LinearRegression


def fit():
    pass
    rows = np.eye(3, dtype=np.float32)
    return LinearRegression().fit(rows, rows[:, :2])
"""
SCHEMA_COPY = Path(__file__).parents[2] / "docs" / "model.schema.json"


def encoder() -> onnx.ModelProto:
    """Return a model that looks up tokens and positions in tables, and is masked."""
    words = np.arange(40, dtype=np.float32).reshape(10, 4) / 40
    weights = {"words": words, "places": words[:6] - 1, "axis": np.array([2])}
    nodes = [
        helper.make_node("Cast", ["input_ids"], ["wide"], to=DType.INT64.onnx_number),
        helper.make_node("Gather", ["words", "wide"], ["word"]),
        helper.make_node("Gather", ["places", "position_ids"], ["place"]),
        helper.make_node("Add", ["word", "place"], ["sum"]),
        helper.make_node("Cast", ["attention_mask"], ["real"], to=DType.FLOAT32.onnx_number),
        helper.make_node("Unsqueeze", ["real", "axis"], ["column"]),
        helper.make_node("Mul", ["sum", "column"], ["hidden"]),
    ]
    shape = ["batch", "tokens"]
    inputs = [
        tensor_info("input_ids", DType.INT32, shape),
        tensor_info("position_ids", DType.INT64, shape),
        tensor_info("attention_mask", DType.INT64, shape),
    ]
    return make_model(nodes, inputs, [tensor_info("hidden", shape=[*shape, 4])], weights)


def tied() -> onnx.ModelProto:
    """Return a model of two inputs: the second axis of one must be the first of the other."""
    nodes = [
        helper.make_node("Transpose", ["state"], ["turned"]),
        helper.make_node("Concat", ["x", "turned"], ["y"], axis=1),
    ]
    inputs = [tensor_info("x", shape=["batch", 3]), tensor_info("state", shape=[3, "columns"])]
    return make_model(nodes, inputs, [tensor_info("y", shape=["batch", 6])])


def save(project: MiniProject, model: onnx.ModelProto, path: str = "files/tiny.onnx") -> Path:
    """Write a model file."""
    return project.write(path, model.SerializeToString())


def added(project: MiniProject, name: str) -> Model:
    """Return a model that was added."""
    model = load_model(project.models / name)
    assert isinstance(model, Model)
    return model


def test_an_added_model_passes_at_once(command: Command, project: MiniProject) -> None:
    """Add, check, run: contract, placement and both cases pass without a touch of the spec."""
    result = command("model", "add", save(project, encoder(), "files/My Encoder.onnx"))
    assert result.code == 0, result.err
    assert result.out.splitlines()[0] == f"added model 'my-encoder' in {project.models}/my-encoder"
    assert command("model", "check").out == "1 model checked: no fault\n"
    outcome = project.run("--provider", "cpu")
    assert {key: item.verdict for key, item in outcome.items.items()} == {
        "contract my-encoder/fp32": Verdict.PASS,
        "placement my-encoder/fp32/cpu": Verdict.PASS,
        "parity my-encoder/fp32/cpu/batch1": Verdict.PASS,
        "parity my-encoder/fp32/cpu/batch3": Verdict.PASS,
        "properties my-encoder/fp32/cpu": Verdict.PASS,
    }


def test_ranges_come_from_the_tables_that_an_input_indexes(
    command: Command, project: MiniProject
) -> None:
    """Ids stay below the rows of their table, a mask masks nothing."""
    command("model", "add", save(project, encoder()))
    inputs = added(project, "tiny").spec.inputs
    drawn = {name: (port.range, port.values) for name, port in inputs.items()}
    assert drawn == {
        "input_ids": ((0, 10), None),
        "position_ids": ((0, 6), None),
        "attention_mask": (None, (1,)),
    }


def test_sizes_that_depend_on_each_other_are_found_by_trying(
    command: Command, project: MiniProject
) -> None:
    """The first guess (3 and 16) cannot run; the dimension is tied to the batch."""
    result = command("model", "add", save(project, tied()))
    assert result.code == 0
    assert added(project, "tiny").spec.inputs["state"].shape == (3, "batch")


def test_external_data_comes_along(command: Command, project: MiniProject) -> None:
    """Weights in another file are copied to the same place beside the model."""
    path = project.write("files/tiny.onnx", b"")
    onnx.save(
        linear_model(), path, save_as_external_data=True, location="tiny.data", size_threshold=0
    )
    assert command("model", "add", path).code == 0
    assert sorted(entry.name for entry in (project.models / "tiny").iterdir()) == [
        "model.onnx",
        "model.toml",
        "tiny.data",
    ]


def test_a_reference_is_copied_and_declared(command: Command, project: MiniProject) -> None:
    """The kind follows from what the file imports, and it is run once."""
    code = project.write("code/mine.py", REFERENCE)
    result = command(
        "model", "add", save(project, linear_model()), "--name", "other", "--reference",
        f"{code}:fit",
    )  # fmt: skip
    assert result.code == 0
    assert "  tried:    the sklearn reference ran on case batch1\n" in result.out
    spec = added(project, "other").spec
    assert (spec.reference.sklearn, spec.requires) == ("mine.py:fit", ("scikit-learn",))
    assert (project.models / "other" / "mine.py").read_bytes() == code.read_bytes()


@pytest.mark.parametrize(
    ("line", "what"),
    [
        (
            "raise ValueError('no data')",
            "ValueError while building the reference of 'other': no data",
        ),
        (
            "open(Path(__file__).parents[2] / 'pytest.ini').close()",
            "Reference of 'other' read files that its spec does not declare",
        ),
    ],
)
def test_a_reference_that_does_not_run_is_told(
    command: Command, project: MiniProject, line: str, what: str
) -> None:
    """The draft is kept, the exit code says that something is to be mended."""
    text = f"from pathlib import Path\n{REFERENCE.replace('pass', line)}"
    code = project.write("code/mine.py", text)
    result = command(
        "model", "add", save(project, linear_model()), "--name", "other", "--reference",
        f"{code}:fit",
    )  # fmt: skip
    assert result.code == 1
    assert f"\n{what}\n" in result.out
    assert (project.models / "other" / "model.toml").exists()


def test_a_file_in_its_models_folder_stays_there(command: Command, project: MiniProject) -> None:
    """Only the spec is added."""
    save(project, linear_model(), "models/tiny/tiny.onnx")
    assert command("model", "add", "models/tiny/tiny.onnx").code == 0
    assert added(project, "tiny").spec.candidate.file == "tiny.onnx"
    assert not (project.models / "tiny" / "model.onnx").exists()


def test_a_model_that_cannot_run_is_kept_and_told(command: Command, project: MiniProject) -> None:
    """The draft stands, the exit code says that it does not run."""
    node = helper.make_node("Mystery", ["x"], ["y"], domain="com.example")
    inputs, outputs = [tensor_info("x", shape=[2])], [tensor_info("y", shape=[2])]
    model = make_model([node], inputs, outputs, domains={"com.example": 1})
    result = command("model", "add", save(project, model))
    assert result.code == 1
    lines = result.out.splitlines()
    assert lines[1].startswith("  failed:   Fail while opening a session: ")
    assert lines[2] == (
        "  note:     the ONNX reference evaluator cannot run it, give --reference: "
        "Node type 'Mystery' from domain 'com.example' is unknown, known functions: []."
    )
    spec = project.models / "tiny" / "model.toml"
    assert lines[3] == f"  next:     correct [session] in {spec}, or the model"


def test_without_a_runtime_the_draft_is_not_tried(
    command: Command, project: MiniProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The environment is not the draft's fault: it is written, and the output says so."""
    monkeypatch.setattr("harness.runtimes.registry._find", lambda *_: iter(()))
    result = command("model", "add", save(project, linear_model()))
    assert result.code == 0
    assert result.out.splitlines()[1] == (
        "  untried:  Provider 'cpu' is not available: no runtime has CPUExecutionProvider"
    )


def test_nothing_is_overwritten(command: Command, project: MiniProject) -> None:
    """A second model of the same name is refused, and the first stays as it is."""
    path = save(project, linear_model())
    command("model", "add", path)
    spec = project.write("models/tiny/model.toml", "mine")
    result = command("model", "add", path)
    assert result.code == 2
    assert result.err == (
        "error: Model 'tiny' exists already: nothing is overwritten\n"
        f"  where:    {project.models / 'tiny'}\n"
        "  next:     give another --name, or remove the folder first\n"
    )
    assert spec.read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize(
    ("arguments", "first"),
    [
        (["missing.onnx"], "error: Model file 'missing.onnx' does not exist"),
        (["empty.onnx"], "error: 'empty.onnx' is no model that could be run: the file is empty"),
        (["tiny.onnx", "--name", "No Name"], "error: Model name 'No Name' is not a plain name"),
        (
            ["tiny.onnx", "--reference", "code.py"],
            "error: Reference 'code.py' is not of the form FILE.py:FUNCTION",
        ),
        (
            ["tiny.onnx", "--reference", "nowhere.py:build"],
            "error: Reference file 'nowhere.py' does not exist",
        ),
        (
            ["tiny.onnx", "--reference", "code.py:biuld"],
            "error: Reference file 'code.py' defines no 'biuld'",
        ),
        (["sequence.onnx"], "error: Input 'x' is seq(tensor(float)): a spec can only draw tensors"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_of_add_leaves_nothing_behind(
    command: Command, project: MiniProject, arguments: list[str], first: str
) -> None:
    """Each fault has its own words, and no folder is made."""
    save(project, linear_model(), "tiny.onnx")
    project.write("empty.onnx", b"")
    project.write("code.py", "def build():\n    ...\n")
    kind = helper.make_sequence_type_proto(
        helper.make_tensor_type_proto(DType.FLOAT32.onnx_number, None)
    )
    length = helper.make_node("SequenceLength", ["x"], ["y"])
    inputs = [helper.make_value_info("x", kind)]
    save(
        project, make_model([length], inputs, [tensor_info("y", DType.INT64, [])]), "sequence.onnx"
    )
    result = command("model", "add", *arguments)
    assert (result.code, result.err.splitlines()[0]) == (2, first)
    assert list(project.models.iterdir()) == []


def test_list_shows_sound_and_broken_models(command: Command, project: MiniProject) -> None:
    """A broken model is a row too, with its first fault."""
    project.add_model("tiny", file_spec(), {"model.onnx": b""})
    project.add_model("torn", "schema_version = 1\n")
    result = command("model", "list")
    assert result.code == 0
    assert result.out == (
        "name  task  variants  providers  cases  items\n"
        "tiny  -     fp32      cpu        1      5\n"
        "torn  -     -         -          0      1\n"
        "torn: Model spec 'torn' has 2 faults: 'candidate' is missing\n"
    )
    assert [row["items"] for row in command("model", "list", "--json").json] == [5, 1]


def test_show_tells_spec_and_file(command: Command, project: MiniProject) -> None:
    """Defaults are filled in, the file is inspected."""
    content = linear_model().SerializeToString()
    folder = project.add_model("tiny", file_spec(), {"model.onnx": content})
    lines = command("model", "show", "tiny").out.splitlines()
    assert lines[0] == "tiny: no summary"
    assert "  input 'x': dtype float32, shape [batch, 3]" in lines
    assert f"  variant fp32: {folder}/model.onnx" in lines
    assert "    output 'y': tensor(float) [batch, 2]" in lines
    shown = command("model", "show", "tiny", "--json").json
    assert shown["variants"]["fp32"]["nodes"] == 2
    assert shown["spec"]["limits"]["run_s"] == 30.0


def test_show_of_an_unknown_or_broken_model(command: Command, project: MiniProject) -> None:
    """The nearest name is proposed; a broken spec tells its faults."""
    project.add_model("torn", "schema_version = 1\n")
    unknown = command("model", "show", "tron")
    assert unknown.code == 2
    assert unknown.err == (
        "error: Unknown model 'tron'\n"
        "  where:    NAME\n"
        "  expected: one of torn\n"
        "  next:     did you mean 'torn'?\n"
    )
    assert command("model", "show", "torn").code == 2


def test_check_tells_all_faults_of_all_models(command: Command, project: MiniProject) -> None:
    """Misspelled providers, missing files, unknown session keys, inputs that do not fit."""
    spec = file_spec(
        providers="cpu = {}\nopenvinno = {}",
        case='[[case]]\nname = "real"\ninputs = "cases/none.npz"',
        more='[session]\nconfig = { "session.intra_op.alow_spinning" = "0" }\n',
    )
    folder = project.add_model("tiny", spec)
    project.add_model("good", file_spec(), {"model.onnx": b"not looked at"})
    result = command("model", "check")
    toml = folder / "model.toml"
    assert result.code == 2
    firsts = [line for line in result.out.splitlines() if not line.startswith(" ")]
    assert firsts == [
        "Unknown provider 'openvinno'",
        "'candidate.file' names 'model.onnx', which does not exist",
        "Unknown session configuration entry 'session.intra_op.alow_spinning'",
        "Inputs 'none.npz' cannot be read",
        "2 models checked: faults in 1 model",
    ]
    assert f"  where:    {toml}, providers.openvinno\n" in result.out
    assert command("model", "check", "good").code == 0
    told = command("model", "check", "tiny", "--json").json["tiny"]
    assert [fault["what"] for fault in told] == firsts[:-1]


KNOWN = """[[known_failure]]
cell = "*"
code = "parity.tolerance"
issue = "https://example.com/7"
expires = {}
"""


def test_check_tells_known_failures_that_are_over(command: Command, project: MiniProject) -> None:
    """And those that match nothing; one that still counts is no fault."""
    files = {"model.onnx": b"not looked at"}
    late = project.add_model("late", file_spec(more=KNOWN.format("2020-01-01")), files)
    project.add_model("lost", file_spec(more=KNOWN.format("2999-01-01").replace("*", "lsot")))
    project.add_model("good", file_spec(more=KNOWN.format("2999-01-01")), files)
    result = command("model", "check")
    assert result.code == 2
    lost = "'known_failure[0].cell' = 'lsot' matches no parity item of this model: "
    lost += "lost/fp32/cpu/one"
    firsts = [line for line in result.out.splitlines() if not line.startswith(" ")]
    assert firsts == [
        "Known failure 'parity.tolerance' expired on 2020-01-01: https://example.com/7",
        f"Model spec 'lost' has 1 fault: {lost}",
        "3 models checked: faults in 2 models",
    ]
    where = f"  where:    {late}/model.toml, known_failure[0].expires\n"
    assert f"{where}  expected: a day on or after " in result.out


def test_show_tells_known_failures(command: Command, project: MiniProject) -> None:
    """Days are text in JSON."""
    files = {"model.onnx": linear_model().SerializeToString()}
    project.add_model("tiny", file_spec(more=KNOWN.format("2999-01-01")), files)
    told = "cell *, code parity.tolerance, issue https://example.com/7, expires 2999-01-01"
    assert f"  known failure: {told}\n" in command("model", "show", "tiny").out
    (entry,) = command("model", "show", "tiny", "--json").json["spec"]["known_failure"]
    assert entry["expires"] == "2999-01-01"


def test_check_of_an_empty_folder_is_a_usage_error(command: Command, project: MiniProject) -> None:
    """Nothing checked is no success."""
    result = command("model", "check")
    assert result.code == 2
    assert result.err.splitlines()[0] == (
        f"error: Models folder '{project.models}' holds no model: nothing would be checked"
    )


def test_the_published_schema_is_current(capsys: pytest.CaptureFixture[str]) -> None:
    """`onnx-harness model schema > docs/model.schema.json` renews the copy."""
    print_json(model_schema())
    assert capsys.readouterr().out == SCHEMA_COPY.read_text(encoding="utf-8")


def test_schema_prints_json(command: Command) -> None:
    """Editors read it; every key of the file's top level is there."""
    schema = json.loads(command("model", "schema").out)
    assert {"candidate", "reference", "providers", "case"} <= set(schema["properties"])
