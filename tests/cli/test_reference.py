"""`onnx-harness reference record`: what a recording holds, and what is refused."""

from __future__ import annotations

import errno
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from harness.cli import recorded_files, recording
from harness.domain.cells import Cell
from harness.domain.dtypes import DType
from harness.domain.findings import Finding
from harness.domain.receipts import Receipt
from harness.domain.samples import LARGEST_WHOLE
from harness.domain.spec import Candidate, CaseSpec, Variant
from harness.domain.values import Value
from harness.domain.verdict import Judgement, Verdict
from harness.errors import RunFailed
from harness.files import zoo
from harness.files.commits import last_commit
from harness.files.models import Model, load_model
from harness.references import recordings
from harness.testing import (
    MiniProject,
    file_spec,
    identity_model,
    linear_model,
    make_model,
    tensor_info,
)
from tests.cli.conftest import Command

pytest.importorskip("onnxruntime")

MODEL = linear_model().SerializeToString()
STATE_SPEC = """
[inputs.x]
dtype = "float32"
shape = ["batch", 2]

[inputs.state]
dtype = "float32"
shape = ["batch", 2]

[dims]
batch = { max = 8 }
"""
STEPS = """
[state]
feedback = { next = "state" }
steps = 12
"""


def recurrent_model(factor: float = 1.0) -> onnx.ModelProto:
    """Return `y = next = state * factor + x * x`: with another factor it drifts step by step."""
    nodes = [
        helper.make_node("Mul", ["state", "factor"], ["kept"]),
        helper.make_node("Mul", ["x", "x"], ["positive"]),
        helper.make_node("Add", ["kept", "positive"], ["next"]),
        helper.make_node("Identity", ["next"], ["y"]),
    ]
    inputs = [tensor_info(name, shape=["batch", 2]) for name in ("x", "state")]
    outputs = [tensor_info(name, shape=["batch", 2]) for name in ("y", "next")]
    return make_model(nodes, inputs, outputs, {"factor": np.array(factor, np.float32)})


def add(project: MiniProject, name: str = "tiny", **parts: str) -> Path:
    """Add a model whose reference is the ONNX evaluator."""
    return project.add_model(name, file_spec(**parts), {"model.onnx": MODEL})


def add_recurrent(project: MiniProject) -> None:
    """Add a recurrent model with two cases of twelve steps."""
    cases = '[[case]]\nname = "one"\ndims = { batch = 1 }\n'
    cases += '[[case]]\nname = "two"\ndims = { batch = 2 }\n'
    spec = file_spec(inputs=STATE_SPEC, case=cases, more=STEPS)
    project.add_model("loop", spec, {"model.onnx": recurrent_model().SerializeToString()})


def tree(folder: Path) -> dict[str, bytes]:
    """Return every file of a folder with its content."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def left(project: MiniProject) -> list[str]:
    """Return what lies in the models folder, temporary folders included."""
    return sorted(path.name for path in project.models.iterdir())


def parity(project: MiniProject, *arguments: str) -> dict[str, Verdict]:
    """Gate the models and return the verdict of each parity cell."""
    items = project.run("--provider", "cpu", *arguments).items
    return {item.cell: item.verdict for item in items.values() if item.question == "parity"}


# what a recording holds


def test_a_recorded_model_gates_like_the_live_one(command: Command, project: MiniProject) -> None:
    """Same cases, same inputs, same reference values, and the receipt says `recorded`."""
    add(project)
    result = command("reference", "record", "tiny")
    assert result.code == 0, result.err
    assert result.out == (
        f"recorded model 'tiny-recorded' in {project.models}/tiny-recorded\n"
        "  cases:    1 case in 1 data set: one\n"
        "  checked:  1 parity item on cpu, live and recorded\n"
    )
    items = project.run("--provider", "cpu").items
    live = items["parity tiny/fp32/cpu/one"]
    recorded = items["parity tiny-recorded/fp32/cpu/one"]
    assert recorded.verdict is live.verdict is Verdict.PASS
    for fact in ("model", "inputs", "reference_values"):
        assert recorded.facts[fact] == live.facts[fact]
    assert recorded.counts == live.counts
    assert recorded.facts["reference"] == "recorded, recorded"


def test_the_files_of_a_recording(command: Command, project: MiniProject) -> None:
    """A spec without what needs the live reference, the model, the data set, the provenance."""
    folder = add(project, more='summary = "never read"')
    spec = (folder / "model.toml").read_text().replace('\nsummary = "never read"', "")
    (folder / "model.toml").write_text(f'requires = ["onnx"]\n{spec}')
    assert command("reference", "record").code == 0
    files = tree(project.models / "tiny-recorded")
    assert sorted(files) == [
        "model.onnx",
        "model.toml",
        "recorded.json",
        "test_data_set_0/input_0.pb",
        "test_data_set_0/output_0.pb",
    ]
    assert files["model.onnx"] == MODEL
    recorded = load_model(project.models / "tiny-recorded")
    assert isinstance(recorded, Model)
    assert recorded.spec.requires == ()
    assert recorded.spec.reference.kind == "recorded"
    told = json.loads(files["recorded.json"])
    assert told["model"] == {"name": "tiny"}
    assert list(told["reference"]["versions"]) == ["onnx"]
    assert list(told["reference"]["files"]) == ["model.onnx"]
    assert told["cases"]["one"]["data_sets"] == ["test_data_set_0"]


def test_recording_twice_gives_the_same_bytes(command: Command, project: MiniProject) -> None:
    """Also from an empty cache: no clock and no path is in them."""
    add(project)
    add_recurrent(project)
    assert command("reference", "record", "--to", project.root / "one").code == 0
    shutil.rmtree(project.root / ".cache")
    assert command("reference", "record", "--to", project.root / "two").code == 0
    assert tree(project.root / "one") == tree(project.root / "two")
    assert len(tree(project.root / "one")) > 24


def test_names_of_other_readers_find_the_values(command: Command, project: MiniProject) -> None:
    """Each tensor carries the name of its input or output."""
    add(project)
    command("reference", "record")
    data = (project.models / "tiny-recorded/test_data_set_0/input_0.pb").read_bytes()
    assert onnx.TensorProto.FromString(data).name == "x"


def test_an_exported_candidate_becomes_a_file(command: Command, project: MiniProject) -> None:
    """The recorded model needs neither torch nor the reference's file."""
    pytest.importorskip("torch")
    code = "import torch\ndef build():\n    return torch.nn.Identity()\n"
    spec = file_spec(reference='torch = "reference.py:build"')
    spec = spec.replace('file = "model.onnx"', "export = { opset = 18 }")
    project.add_model("net", spec, {"reference.py": code})
    assert command("reference", "record").code == 0
    shutil.rmtree(project.models / "net")
    shutil.rmtree(project.root / ".cache")
    assert parity(project) == {"net-recorded/fp32/cpu/one": Verdict.PASS}
    assert "reference.py" not in tree(project.models / "net-recorded")


def split(model: onnx.ModelProto, name: str) -> bytes:
    """Return a model whose weights lie in another file, which is not written."""
    for tensor in model.graph.initializer:
        data, tensor.data_location = tensor.raw_data, onnx.TensorProto.EXTERNAL
        tensor.ClearField("raw_data")
        for key, text in (("location", name), ("offset", 0), ("length", len(data))):
            tensor.external_data.add(key=key, value=str(text))
    content: bytes = model.SerializeToString()
    return content


def one_weight(number: float) -> tuple[onnx.ModelProto, bytes]:
    """Return `y = x * weight` and the bytes of its weight."""
    weight = np.full((1, 3), number, np.float32)
    node = helper.make_node("Mul", ["x", "w"], ["y"])
    ports = [tensor_info(name, shape=["batch", 3]) for name in ("x", "y")]
    return make_model([node], ports[:1], ports[1:], {"w": weight}), weight.tobytes()


def test_variants_bring_their_own_weights(command: Command, project: MiniProject) -> None:
    """Two files of weights of one name, each beside its model."""
    first, weight = one_weight(2)
    second, other = one_weight(2 + 2**-20)
    more = '[variants.near]\nfile = "near/model.onnx"\n'
    files: dict[str, str | bytes] = {
        "model.onnx": split(first, "weights/w.bin"),
        "weights/w.bin": weight,
        "near/model.onnx": split(second, "weights/w.bin"),
        "near/weights/w.bin": other,
    }
    project.add_model("pair", file_spec(more=more), files)
    result = command("reference", "record")
    assert result.code == 0, result.err
    recorded = tree(project.models / "pair-recorded")
    assert recorded["weights/w.bin"] == weight
    assert recorded["variants/near/weights/w.bin"] == other
    shutil.rmtree(project.models / "pair")
    assert parity(project) == {
        "pair-recorded/fp32/cpu/one": Verdict.PASS,
        "pair-recorded/near/cpu/one": Verdict.PASS,
    }


def test_a_variant_may_order_its_inputs_otherwise(command: Command, project: MiniProject) -> None:
    """The files of a data set go by the candidate's own order."""
    turned = recurrent_model()
    ports = list(turned.graph.input)
    del turned.graph.input[:]
    turned.graph.input.extend(reversed(ports))
    add_recurrent(project)
    spec = project.models / "loop" / "model.toml"
    spec.write_text(f'{spec.read_text()}\n[variants.turned]\nfile = "turned.onnx"\n')
    project.write("models/loop/turned.onnx", turned.SerializeToString())
    result = command("reference", "record")
    assert result.code == 0, result.err
    assert parity(project)["loop-recorded/turned/cpu/two"] is Verdict.PASS


def test_weights_that_would_cover_a_file_are_refused(
    command: Command, project: MiniProject
) -> None:
    """A file of weights called like one of the recording's own."""
    model, weight = one_weight(2)
    files: dict[str, str | bytes] = {"m.onnx": split(model, "model.toml.w"), "model.toml.w": weight}
    project.add_model("odd", file_spec(file="m.onnx"), files)
    assert command("reference", "record").code == 0
    shutil.rmtree(project.models / "odd-recorded")
    (project.models / "odd" / "m.onnx").write_bytes(split(one_weight(2)[0], "recorded.json"))
    (project.models / "odd" / "recorded.json").write_bytes(weight)
    result = command("reference", "record")
    assert result.code == 2
    assert result.err.startswith(
        "error: Two files of the recording would be called 'recorded.json'"
    )
    assert left(project) == ["odd"]


def test_libraries_of_custom_operators_come_along(tmp_path: Path) -> None:
    """A file of the model's folder keeps its place, one from elsewhere its name; packages stay."""
    project = MiniProject(tmp_path / "project")
    names = '"lib/ops.so", "../common.so", "onnxruntime_extensions"'
    folder = add(project, more=f"[session]\ncustom_ops = [{names}]\n")
    spec = (folder / "model.toml").read_text()
    requires = 'requires = ["onnxruntime-extensions", "torch"]\n'
    (folder / "model.toml").write_text(requires + spec)
    for path in ("tiny/lib/ops.so", "common.so"):
        project.write(f"models/{path}", path)
    model = load_model(folder)
    assert isinstance(model, Model)
    written = recordings.WrittenCase(data_sets=("test_data_set_0",), inputs=(), outputs=())
    recorded = recorded_files.recorded_spec(model, {"one": written}, name="tiny-recorded")
    assert recorded.session.custom_ops == ("lib/ops.so", "common.so", "onnxruntime_extensions")
    assert recorded.requires == ("onnxruntime-extensions",)
    home = tmp_path / "home"
    recorded_files.copy_libraries(home, model)
    assert tree(home) == {"lib/ops.so": b"tiny/lib/ops.so", "common.so": b"common.so"}


def test_the_types_of_builds_are_kept(project: MiniProject) -> None:
    """The spec of a recording differs from the model's in where files come from, and no more."""
    more = (
        '[variants.half]\npackage = "somewhere"\nfile = "half.onnx"\n'
        'dtype = "float16"\nreason = "small"'
    )
    spec = file_spec(more=more).replace(
        "[candidate]", '[candidate]\ndtype = "bfloat16"\nreason = "fast"'
    )
    model = load_model(project.add_model("typed", spec))
    assert isinstance(model, Model)
    written = recordings.WrittenCase(data_sets=("test_data_set_0",), inputs=(), outputs=())
    recorded = recorded_files.recorded_spec(model, {"one": written}, name="tiny-recorded")
    assert recorded.candidate == Candidate(file="model.onnx", dtype=DType.BFLOAT16, reason="fast")
    half = Variant(file="variants/half/model.onnx", dtype=DType.FLOAT16, reason="small")
    assert recorded.variants == {"half": half}
    (case,) = recorded.case
    assert case == CaseSpec(name="one", dims={"batch": 1}, data_set="test_data_set_0")
    for key in ("providers", "inputs", "dims", "outputs", "state", "placement", "limits"):
        assert getattr(recorded, key) == getattr(model.spec, key)


def test_the_commit_is_the_last_one_of_the_model(tmp_path: Path) -> None:
    """Its date does not move; without a commit of exactly this content there is none."""

    def git(*arguments: str) -> None:
        command = ["git", "-C", str(tmp_path), "-c", "user.name=n", "-c", "user.email=e"]
        subprocess.run([*command, *arguments], check=True, capture_output=True)

    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    assert last_commit(tmp_path / "one") == {}
    git("init")
    assert last_commit(tmp_path / "one") == {}
    git("add", "one")
    git("commit", "--message", "one", "--date", "2020-01-01T00:00:00+00:00")
    told = last_commit(tmp_path / "one")
    assert len(told["commit"]) == 40
    git("add", "two")
    git("commit", "--message", "two")
    assert last_commit(tmp_path / "one") == told
    (tmp_path / "one" / "file").write_text("changed")
    assert last_commit(tmp_path / "one") == {}


# recurrent models


def test_steps_are_recorded_and_fed_from_the_candidate(
    command: Command, project: MiniProject
) -> None:
    """A drift that no single step shows fails in a late step, although every step was recorded."""
    add_recurrent(project)
    result = command("reference", "record")
    assert "2 cases in 24 data sets: one, two" in result.out
    shutil.rmtree(project.models / "loop")
    assert parity(project) == {
        "loop-recorded/fp32/cpu/one": Verdict.PASS,
        "loop-recorded/fp32/cpu/two": Verdict.PASS,
    }
    drifting = recurrent_model(1 + 6e-5).SerializeToString()
    project.write("models/loop-recorded/model.onnx", drifting)
    items = project.run("--provider", "cpu").items
    item = items["parity loop-recorded/fp32/cpu/two"]
    assert item.verdict is Verdict.FAIL
    assert any("step 11" in finding["what"] for finding in item.findings)
    assert not any("step 0'" in finding["what"] for finding in item.findings)
    (project.models / "loop-recorded" / "model.toml").unlink()
    alone = parity(project)
    assert len(alone) == 24
    assert set(alone.values()) == {Verdict.PASS}


@pytest.mark.parametrize(
    ("file", "verdict"),
    [("output_0.pb", Verdict.FAIL), ("input_0.pb", Verdict.FAIL), ("input_1.pb", Verdict.ERROR)],
)
def test_a_spoilt_step_is_found(
    command: Command, project: MiniProject, file: str, verdict: Verdict
) -> None:
    """An output, an input, or a state that is not the one that was reached."""
    add_recurrent(project)
    command("reference", "record")
    path = project.models / "loop-recorded" / "test_data_set_17" / file
    tensor = np.asarray(zoo.read_value(path, "tensor(float)"))
    zoo.write_value(path, tensor + np.float32(0.5))
    found = parity(project, "--model", "loop-recorded")
    assert found == {
        "loop-recorded/fp32/cpu/one": Verdict.PASS,
        "loop-recorded/fp32/cpu/two": verdict,
    }


# large outputs

ROWS = LARGEST_WHOLE // 8 + 1
BIG = {
    "inputs": '[inputs.x]\ndtype = "float32"\nshape = ["batch", 3]\n'
    "[dims]\nbatch = { max = 9999999 }",
    "case": f'[[case]]\nname = "big"\ndims = {{ batch = {ROWS} }}',
}


def test_a_large_output_is_sampled(command: Command, project: MiniProject) -> None:
    """Its file is small, the receipt counts what was compared, and a difference is found."""
    add(project, **BIG)
    result = command("reference", "record")
    assert result.code == 0, result.err
    note = f"output 'y' of case 'big' is sampled: 1000 of {2 * ROWS} elements"
    assert result.out.splitlines()[-1] == f"  note:     {note}"
    folder = project.models / "tiny-recorded"
    path = folder / "test_data_set_0" / "output_0.sample.json"
    assert path.stat().st_size < 30_000
    item = project.run("--provider", "cpu", "--model", "*-recorded").items[
        "parity tiny-recorded/fp32/cpu/big"
    ]
    assert item.verdict is Verdict.PASS
    assert item.counts["elements_compared"] == 1000
    assert item.facts["sampled y"] == f"1000 of {2 * ROWS} elements"
    assert json.loads(path.read_text())["sha256"] in item.facts["sha256 y"]
    (folder / "model.onnx").write_bytes(linear_model(scale=1.01).SerializeToString())
    assert parity(project, "--model", "*-recorded") == {"tiny-recorded/fp32/cpu/big": Verdict.FAIL}


def test_a_large_set_is_kept_whole(command: Command, project: MiniProject) -> None:
    """Its elements have no places that a sample could name; the command says so."""
    size = LARGEST_WHOLE + 8
    spec = file_spec(
        inputs=f'[inputs.x]\ndtype = "int64"\nshape = [{size // 8}]',
        case='[[case]]\nname = "big"',
        more='[outputs.y]\ncompare = "set"',
    )
    model = identity_model(DType.INT64, (size // 8,)).SerializeToString()
    project.add_model("many", spec, {"model.onnx": model})
    result = command("reference", "record")
    assert result.code == 0, result.err
    assert result.out.splitlines()[-1] == (
        f"  note:     output 'y' of case 'big' is kept whole, {size} bytes: "
        "no sample can stand for it"
    )
    assert (project.models / "many-recorded/test_data_set_0/output_0.pb").stat().st_size > size


# what is refused


def refused(command: Command, project: MiniProject, *arguments: str | Path) -> tuple[int, str]:
    """Return exit code and first line; nothing is left of the recording."""
    before = left(project)
    result = command("reference", "record", *arguments)
    assert result.out == ""
    assert left(project) == before
    return result.code, result.err.splitlines()[0]


def test_nothing_is_overwritten(command: Command, project: MiniProject) -> None:
    """Unless asked for."""
    add(project)
    command("reference", "record", "tiny")
    marker = project.write("models/tiny-recorded/marker", "")
    assert refused(command, project, "tiny") == (
        2,
        "error: Folder 'tiny-recorded' exists already: nothing is overwritten",
    )
    assert marker.exists()
    assert command("reference", "record", "tiny", "--replace").code == 0
    assert not marker.exists()
    assert left(project) == ["tiny", "tiny-recorded"]


def test_a_folder_that_could_not_be_replaced_stays(command: Command, project: MiniProject) -> None:
    """The candidate fails meanwhile: the old recording is there, byte for byte."""
    add(project)
    command("reference", "record", "tiny")
    before = tree(project.models / "tiny-recorded")
    spec = file_spec(reference='onnx = "other.onnx"')
    other = linear_model(scale=2).SerializeToString()
    project.add_model("tiny", spec, {"other.onnx": other})
    code, _ = refused(command, project, "tiny", "--replace")
    assert code == 1
    assert tree(project.models / "tiny-recorded") == before


def test_a_folder_comes_back_when_renaming_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old one was already set aside."""
    home, target = tmp_path / "home", tmp_path / "target"
    for folder in (home, target):
        folder.mkdir()
        (folder / "name").write_text(folder.name)
    rename = Path.rename

    def fail(path: Path, to: Path) -> Path:
        if path == home:
            raise OSError(errno.EIO, "Input/output error")
        return rename(path, to)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(OSError, match="Input/output error"):
        recording._put(home, target, aside=tmp_path / "aside")
    assert (target / "name").read_text() == "target"


def test_a_recorded_reference_is_nothing_to_record(command: Command, project: MiniProject) -> None:
    """By name it is an error; among all models it is left out."""
    add(project)
    assert command("reference", "record").code == 0
    assert refused(command, project, "tiny-recorded") == (
        2,
        "error: Reference of 'tiny-recorded' is recorded already: there is nothing to record",
    )
    again = command("reference", "record", "--replace")
    assert again.out.count("recorded model") == 1
    shutil.rmtree(project.models / "tiny")
    assert refused(command, project) == (
        2,
        "error: All references are recorded already: there is nothing to record",
    )


def test_a_missing_package(command: Command, project: MiniProject) -> None:
    """The exit code for a missing environment, with the way out."""
    folder = add(project)
    spec = (folder / "model.toml").read_text()
    (folder / "model.toml").write_text(f'requires = ["no-such-distribution"]\n{spec}')
    result = command("reference", "record")
    assert result.code == 3
    assert result.err.startswith("error: Package 'no-such-distribution' is not installed\n")
    assert "next:     pip install no-such-distribution" in result.err
    assert left(project) == ["tiny"]


def broken_reference(project: MiniProject, body: str) -> None:
    """Add a model with a torch reference that does something wrong."""
    pytest.importorskip("torch")
    code = f"import torch\nfrom pathlib import Path\ndef build():\n    {body}\n"
    spec = file_spec(reference='torch = "reference.py:build"')
    project.write("models/tiny/other.txt", "")
    project.add_model("tiny", spec, {"model.onnx": MODEL, "reference.py": code})


@pytest.mark.parametrize(
    ("body", "first"),
    [
        ("raise ValueError('broken')", "ValueError while building the reference of 'tiny': broken"),
        (
            "Path(__file__).with_name('other.txt').read_text(); return torch.nn.Identity()",
            "Reference of 'tiny' read files that its spec does not declare",
        ),
        (
            "net = torch.nn.Identity(); net.forward = torch.rand_like; return net",
            "Reference of 'tiny' gives other outputs for the same inputs",
        ),
    ],
    ids=["raises", "undeclared", "wavers"],
)
def test_a_reference_that_cannot_be_trusted(
    command: Command, project: MiniProject, body: str, first: str
) -> None:
    """It raises, reads what it did not declare, or gives now this and now that."""
    broken_reference(project, body)
    assert refused(command, project) == (1, f"error: {first}")


def test_a_case_that_cannot_be_drawn(command: Command, project: MiniProject) -> None:
    """Told like everywhere."""
    add(project, case='[[case]]\nname = "one"')
    assert refused(command, project) == (2, "error: Case does not fix dimension 'batch'")


def test_an_unknown_model(command: Command, project: MiniProject) -> None:
    """With the nearest name."""
    add(project)
    result = command("reference", "record", "tinny")
    assert result.code == 2
    assert result.err.startswith("error: Unknown model 'tinny'\n")
    assert "did you mean 'tiny'?" in result.err


def test_a_broken_spec(command: Command, project: MiniProject) -> None:
    """Its own message; the other models are recorded all the same."""
    add(project)
    add(project, "broken", more="[limit]")
    result = command("reference", "record")
    assert result.code == 2
    assert result.err.startswith("error: Model spec 'broken' has 1 fault")
    assert left(project) == ["broken", "tiny", "tiny-recorded"]


def test_a_place_that_cannot_be_written(command: Command, project: MiniProject) -> None:
    """A file where the folder should be."""
    add(project)
    target = project.write("target", "a file")
    code, first = refused(command, project, "--to", target)
    assert (code, first) == (2, f"error: Cannot write to '{target}': File exists")


def full(*_: object, **__: object) -> None:
    """Raise what a full disc raises."""
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("where", [(zoo, "write_value"), (shutil, "copyfile")])
def test_a_full_disc(
    command: Command,
    project: MiniProject,
    monkeypatch: pytest.MonkeyPatch,
    where: tuple[Any, str],
) -> None:
    """Nothing is left, also not of the folder that was made for the recording."""
    add(project)
    monkeypatch.setattr(*where, full)
    new = project.root / "new" / "folder"
    assert refused(command, project, "--to", new) == (3, "error: No space left on device")
    assert not (project.root / "new").exists()


def test_a_candidate_that_fails(command: Command, project: MiniProject) -> None:
    """Against the live reference: what is recorded is meant to pass."""
    spec = file_spec(reference='onnx = "other.onnx"')
    other = linear_model(scale=2).SerializeToString()
    project.add_model("tiny", spec, {"model.onnx": MODEL, "other.onnx": other})
    code, first = refused(command, project)
    assert code == 1
    assert first.startswith(
        "error: Candidate 'tiny/fp32/cpu/one' does not pass against its live reference: "
        "Parity failed: "
    )


def test_the_finding_that_is_named_is_one_that_counts() -> None:
    """A note before it says nothing against the candidate."""
    note = Finding(code="parity.near-tie", what="a tie")
    failed = Finding(code="parity.shape", what="another shape")
    judged = Judgement(verdict=Verdict.FAIL, findings=(note, failed), receipt=Receipt())
    with pytest.raises(RunFailed) as caught:
        recording._refuse_failed([(Cell("m", "fp32"), judged)], "its live reference")
    assert caught.value.code == "parity.shape"


def test_a_recording_that_the_candidate_fails(
    command: Command, project: MiniProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Something changed on the way to the files: told, with the finding, and not kept."""
    add(project)

    def spoil(*arguments: Any) -> Value:
        return np.asarray(arguments[-1]) + np.float32(1)

    monkeypatch.setattr(recordings, "_kept", spoil)
    result = command("reference", "record")
    assert result.code == 1
    assert result.err.startswith(
        "error: Candidate 'tiny/fp32/cpu/one' does not pass against what was recorded, although "
        "it passes against the live reference: Parity failed: "
    )
    assert "where:    parity.tolerance, output 'y'" in result.err
    assert left(project) == ["tiny"]


def test_files_that_hold_something_else(
    command: Command, project: MiniProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every value is read back before it is trusted."""
    add(project)
    write: Callable[..., Path] = zoo.write_value

    def spoil(path: Path, value: Value, **names: Any) -> Path:
        return write(path, np.asarray(value) * np.float32(1 + 1e-6), **names)

    monkeypatch.setattr(zoo, "write_value", spoil)
    assert refused(command, project) == (
        1,
        "error: The inputs of case 'one' are not read back as they were recorded",
    )


def test_a_provider_that_says_nothing(command: Command, project: MiniProject) -> None:
    """One that the spec declares not applicable cannot prove the recording."""
    add(project, providers='cpu = { not_applicable = "too slow" }')
    result = command("reference", "record")
    assert result.code == 2
    assert result.err.startswith("error: The recording of 'tiny' cannot be checked on cpu\n")
    assert left(project) == ["tiny"]


def test_a_provider_that_is_not_there(command: Command, project: MiniProject) -> None:
    """Told before anything is run."""
    add(project)
    code, first = refused(command, project, "--provider", "cpu@nowhere")
    assert code in {2, 3}
    assert "nowhere" in first


def test_json(command: Command, project: MiniProject) -> None:
    """What was made, and what was wrong with the others; errors stand in stderr as well."""
    add(project)
    add(project, "zero", case='[[case]]\nname = "one"')
    result = command("reference", "record", "--json")
    assert result.code == 2
    made, broken = result.json
    assert made == {
        "model": "tiny",
        "recorded": "tiny-recorded",
        "folder": str(project.models / "tiny-recorded"),
        "cases": {"one": ["test_data_set_0"]},
        "checked": 1,
        "notes": [],
        "exit_code": 0,
    }
    assert (broken["model"], broken["exit_code"]) == ("zero", 2)
    assert broken["problem"]["code"] == "spec.inputs"
    assert broken["problem"]["what"] == "Case does not fix dimension 'batch'"


def test_problems_as_json_are_told_in_full(command: Command, project: MiniProject) -> None:
    """Every part that stands in stderr, and no code where the command line is what is wrong."""
    add(project)
    recorded = project.models / "tiny-recorded"
    recorded.mkdir()
    (told,) = command("reference", "record", "tiny", "--json").json
    assert told == {
        "model": "tiny",
        "exit_code": 2,
        "problem": {
            "code": None,
            "what": "Folder 'tiny-recorded' exists already: nothing is overwritten",
            "where": str(recorded),
            "expected": "",
            "got": "",
            "next_step": "add --replace, or give another folder by --to",
        },
    }
    file = project.write("file", "")
    for arguments, what in (
        (("--provider", "cqu"), "Unknown provider 'cqu'"),
        (("--to", file), f"Cannot write to '{file}': File exists"),
    ):
        result = command("reference", "record", "tiny", "--replace", "--json", *arguments)
        problem = result.json[0]["problem"]
        assert (result.code, problem["code"], problem["what"]) == (2, None, what)
        assert problem["next_step"]


def test_a_bug_with_one_model_loses_no_other(
    command: Command, project: MiniProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the others gave is still printed, and the exit code is that of a bug."""
    add(project, "bad")
    add(project, "good")
    record = recording.record_model

    def fail_once(model: Model, *rest: Any) -> recording.Recorded:
        if model.name == "bad":
            msg = "surprise"
            raise TypeError(msg)
        return record(model, *rest)

    monkeypatch.setattr(recording, "record_model", fail_once)
    result = command("reference", "record", "--json")
    assert result.code == 4
    bad, good = result.json
    assert (bad["model"], bad["exit_code"], bad["problem"]["code"]) == ("bad", 4, "harness.bug")
    assert bad["problem"]["what"].startswith("TypeError: surprise")
    assert good["recorded"] == "good-recorded"
    assert result.err.startswith("Harness bug: TypeError: surprise")


@pytest.mark.parametrize(
    ("cell", "kept"),
    [
        ("*/*/cpu", "*/*/cpu"),
        ("tin*", "tin*"),
        ("tiny/fp32/cpu", "tiny-recorded/fp32/cpu"),
        ("tiny", "tiny-recorded"),
    ],
)
def test_known_failures_are_recorded(
    command: Command, project: MiniProject, cell: str, kept: str
) -> None:
    """With their day, and about the recorded model where they named the other one."""
    keys = f'cell = "{cell}"\ncode = "property.parity"\nissue = "https://example.com/1"\n'
    add(project, more=f"[[known_failure]]\n{keys}expires = 2027-03-01\n")
    result = command("reference", "record", "tiny")
    assert result.code == 0, result.err
    recorded = load_model(project.models / "tiny-recorded")
    assert isinstance(recorded, Model)
    (entry,) = recorded.spec.known_failure
    assert (entry.cell, str(entry.expires)) == (kept, "2027-03-01")


def test_interrupting_leaves_nothing(
    command: Command, project: MiniProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C while files are written."""
    add(project)

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(zoo, "write_value", interrupt)
    command("reference", "record")
    assert left(project) == ["tiny"]
