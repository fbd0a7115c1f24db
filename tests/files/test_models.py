"""The models of a folder: what is read, what is broken, and what is said about it."""

from __future__ import annotations

import datetime
import os
from pathlib import Path

import numpy as np
import pytest

from harness.domain.cells import Cell
from harness.domain.providers import BUILTIN
from harness.errors import SpecError, UsageProblem
from harness.files.models import BrokenModel, Model, load_model, load_models, with_known_providers
from harness.testing import MiniProject, file_spec, identity_model

ONE = np.ones(1, np.float32)


def broken(folder: Path) -> SpecError:
    """Return what is wrong with the model in `folder`."""
    model = load_model(folder)
    assert isinstance(model, BrokenModel)
    assert isinstance(model.problem, SpecError)
    return model.problem


def known_failure(
    cell: str = "*", code: str = "parity.tolerance", expires: str = "2027-03-01"
) -> str:
    """Return the text of one entry."""
    issue = 'issue = "https://example.com/7"'
    return f'[[known_failure]]\ncell = "{cell}"\ncode = "{code}"\n{issue}\nexpires = {expires}\n'


QUANTISED = '[variants.q]\nbuild = ["quantize-dynamic"]\nreason = "small"\n'
PADDING = '[properties]\npadding = {{ dim = "batch", mask = "x", inputs = {inputs} }}'


@pytest.mark.parametrize(
    ("spec", "fault"),
    [
        (
            file_spec(more='[variants.Half]\nfile = "h.onnx"'),
            "'variants' has the name 'Half', which does not match [a-z0-9][a-z0-9_.-]*",
        ),
        (
            'aliases = ["../old"]\n' + file_spec(),
            "'aliases' has the name '../old', which does not match [a-z0-9][a-z0-9_.-]*",
        ),
        (
            file_spec(more='[variants.q]\nbuild = ["float17"]'),
            (
                "'variants.q' 'build' names the step 'float17', which is none; "
                "did you mean 'float16'?"
            ),
        ),
        (
            file_spec(more='[variants.h]\nbuild = [{ step = "float16", kep = ["Add"] }]'),
            "unknown key 'variants.h.build[0].kep'; did you mean 'keep'?",
        ),
        (
            file_spec(more='[variants.h]\nbuild = ["float16"]'),
            "'variants.h' 'dtype = \"float16\"' loosens the bound and needs a 'reason'",
        ),
        (
            file_spec(more='[variants.h]\nbuild = ["simplify"]\nfile = "h.onnx"'),
            "'variants.h' 'build' makes the file from the candidate: 'file' has no place beside it",
        ),
        (
            file_spec(more='[variants.h]\nbuild = [{ step = "simplify", keep = ["Add"] }]'),
            "'variants.h.build[0]' 'keep' is not read by the step 'simplify', which reads no key",
        ),
        (
            file_spec(more='[variants.h]\nbuild = [{ step = "optimize", level = "basic" }]'),
            (
                "'variants.h.build[0]' 'level' is not read by the step 'optimize', which reads "
                "'passes'"
            ),
        ),
        (
            file_spec(more=QUANTISED + "[outputs.y]"),
            (
                "'variants.q.outputs.y.measures' is missing: element by element a build in int8 "
                "has no bound; give snr_db, cosine or top_k"
            ),
        ),
        (
            file_spec(file='model.onnx"\ndtype = "int8"\nreason = "small', more="[outputs.y]"),
            (
                "'outputs.y.measures' is missing: element by element a build in int8 has no "
                "bound; give snr_db, cosine or top_k"
            ),
        ),
        (
            file_spec(more=QUANTISED),
            "'variants.q' is quantised, and 'outputs' declares none to judge",
        ),
        (
            file_spec(more='[variants.s]\nbuild = ["simplify"]\noutputs.y.measures.cosine = 0.9'),
            (
                "'variants.s.outputs' is for quantised builds; this one computes in float32 and "
                "keeps to the model's 'outputs'"
            ),
        ),
        (
            file_spec(
                more=QUANTISED + 'properties = { batch = "rows" }\noutputs.y.measures.cosine = 0.9'
            ),
            "'variants.q.properties.batch' names the dimension 'rows', which 'dims' lacks",
        ),
        (
            file_spec(more='[variants.fp32]\nfile = "h.onnx"'),
            "'variants.fp32' is the candidate itself; choose another name",
        ),
        (
            file_spec(case='[[case]]\nname = "a/b"\ndims = { batch = 1 }'),
            "'case' has the name 'a/b', which does not match [a-z0-9][a-z0-9_.-]*",
        ),
        (
            file_spec(case=2 * '[[case]]\nname = "a"\ndims = { batch = 1 }\n'),
            "'case' has two entries named 'a'",
        ),
        (
            file_spec(inputs='[inputs.x]\ndtype = "float32"\n[dims]\nn = { max = 1 }',
                      case='[[case]]\nname = "a"'),
            "'dims.n' is used by no input",
        ),
        (
            file_spec(inputs='[inputs.x]\ndtype = "float32"\nshape = ["n"]',
                      case='[[case]]\nname = "a"'),
            "'inputs' use the dimension 'n', which 'dims' lacks",
        ),
        (
            file_spec(more='[properties]\npermutation = "rows"'),
            "'properties.permutation' names the dimension 'rows', which 'dims' lacks",
        ),
        (
            file_spec(more='[properties]\npadding = { dim = "batch", mask = "m" }'),
            "'properties.padding.mask' names the input 'm', which 'inputs' lacks",
        ),
        (
            file_spec(more=PADDING.format(inputs="{ z = 0 }")),
            "'properties.padding.inputs' names the input 'z', which 'inputs' lacks",
        ),
        (
            file_spec(
                inputs='[inputs.x]\ndtype = "float32"\nshape = ["batch", 3]\n\n'
                '[inputs.m]\ndtype = "int64"\n\n[dims]\nbatch = { max = 8 }',
                more='[properties]\npadding = { dim = "batch", mask = "m" }',
            ),
            "'properties.padding.mask' has no dimension 'batch'",
        ),
        (
            file_spec(more='[[latency.budget]]\nenvironment = "*"\nmax_ms = 1\nprovider = "cuda"'),
            "'latency.budget' is for the provider 'cuda', which 'providers' lacks; it has cpu",
        ),
        (
            file_spec(more='[[latency.budget]]\nenvironment = " "\nmax_ms = 1'),
            "'latency.budget[0]' 'environment' must be an environment id or a glob, got none",
        ),
        (
            file_spec(more='[[latency.budget]]\nenvironment = "*"\nmax_ms = 1\nbatch = 2'),
            "'latency.budget' is for batch 2, which is not timed",
        ),
        (
            file_spec(more="[latency]\nslowdown = 0.0005"),
            "'latency' 'slowdown' must be from 0.001 to 1, got 0.0005",
        ),
        (
            file_spec(more="[latency]\nslowdown = 0.011"),
            "'latency' what loosens a check needs a 'reason'",
        ),
        (
            file_spec(case='[[case]]\nname = "a"\ndims = { bacth = 1 }'),
            "'case.a.dims.bacth' is no dimension of 'dims'",
        ),
        (
            file_spec(case='[[case]]\nname = "a"\ndims = { batch = 9 }'),
            "'case.a.dims.batch' = 9 is outside [1, 8] (dims.batch)",
        ),
        (
            file_spec(more='[state]\nfeedback = { y = "h" }\nsteps = 2'),
            "'state.feedback.y' names the input 'h', which 'inputs' lacks",
        ),
        (
            file_spec(more='[outputs.y]\ncompare = "labels"\nscores = "scroes"\n[outputs.scores]'),
            "'outputs.y.scores' names 'scroes', which 'outputs' lacks; did you mean 'scores'?",
        ),
        (
            file_spec(more='[outputs.y]\ncompare = "labels"\nscores = "of y"'),
            "'outputs.y.scores' names 'of y', which 'outputs' lacks; add [outputs.\"of y\"]",
        ),
        (
            file_spec(more='[outputs.y]\ncompare = "labels"\nscores = "y"\n[outputs.z]'),
            "'outputs.y.scores' names the labels themselves; name the output with their scores",
        ),
        (
            file_spec(providers='cpu = { variants = ["fp16"] }'),
            "'providers.cpu.variants' names 'fp16', which 'variants' lacks",
        ),
        (
            file_spec(more=known_failure(cell="*/fp23")),
            ("'known_failure[0].cell' = '*/fp23' matches no parity item of this model: "
            "m/fp32/cpu/one"),
        ),
        (
            file_spec(more=2 * known_failure()),
            "'known_failure[1]' is the same as 'known_failure[0]'",
        ),
        (
            file_spec(more=known_failure(code="parity.tolerence")),
            ("'known_failure[0]' 'code' must be a code that can be excused, got "
            "'parity.tolerence'; did you mean 'parity.tolerance'?"),
        ),
        (
            file_spec(more=known_failure(expires="true")),
            "'known_failure[0].expires' must be a valid date, got true",
        ),
        (
            file_spec(more=known_failure(expires='"soon"')),
            ("'known_failure[0].expires' must be a valid date in the format YYYY-MM-DD, "
            'input is too short, got "soon"'),
        ),
        (
            file_spec(more=known_failure(expires="2027-03-01T12:00:00")),
            ("'known_failure[0].expires' must be a valid date in the format YYYY-MM-DD, unexpected "
            'extra characters at the end of the input, got "2027-03-01 12:00:00"'),
        ),
        (
            file_spec(more=known_failure() + 'owner = "me"'),
            ("unknown key 'known_failure[0].owner'; expected one of cell, code, expires, issue, "
            "reason, suite"),
        ),
        (file_spec(providers=""), "'providers' is empty: no cell could run"),
        (file_spec(case=""), "'case' is missing: a model without a case has no parity cell"),
        (
            file_spec(case='[[case]]\nname = "a"\ndata_set = "test_data_set_0"'),
            "'case.a.data_set' is read for 'recorded' references only",
        ),
        (
            file_spec(
                reference='recorded = "."', case='[[case]]\nname = "a"\ndata_set = "../secret"'
            ),
            "'case.a.data_set' is '../secret', which is no plain folder name",
        ),
    ],
)  # fmt: skip
def test_contradictions_between_tables(project: MiniProject, spec: str, fault: str) -> None:
    """Each contradiction is told with its dotted key."""
    problem = broken(project.add_model("m", spec))
    assert problem.got.splitlines() == [fault]
    assert problem.what == f"Model spec 'm' has 1 fault: {fault}"


def test_recorded_reference_without_data(project: MiniProject) -> None:
    """A recorded reference without cases needs data sets."""
    folder = project.add_model("m", file_spec(reference='recorded = "data"', case=""))
    assert broken(folder).got == ("'reference.recorded' names 'data', which has no test_data_set_N")


def test_several_contradictions_in_full(project: MiniProject) -> None:
    """All are told at once."""
    folder = project.add_model("m", file_spec(providers="", case=""))
    assert str(broken(folder)) == (
        "Model spec 'm' has 2 faults: 'providers' is empty: no cell could run\n"
        f"  where:    {folder}/model.toml\n"
        "  got:      'providers' is empty: no cell could run\n"
        "            'case' is missing: a model without a case has no parity cell\n"
        "  next:     mend the keys above; `onnx-harness model schema` prints the format"
    )


def test_model_zoo_folder_without_a_spec(project: MiniProject) -> None:
    """Model and data sets are enough; sets are cases in the order of their numbers."""
    sets = [((ONE,), (ONE,))] * 11
    model = load_model(project.add_zoo_model("m", identity_model(), sets))
    assert isinstance(model, Model)
    assert model.case_names() == tuple(f"test_data_set_{number}" for number in range(11))
    assert model.cells()[0] == Cell("m", "fp32", "cpu", "test_data_set_0")
    assert model.recorded == model.folder / "."


def test_known_failures_are_read(project: MiniProject) -> None:
    """A day of TOML arrives as a day; entries match the data sets of a recorded reference too."""
    project.add_zoo_model("m", identity_model(), [((ONE,), (ONE,))] * 2)
    head = 'schema_version = 1\ncandidate.file = "model.onnx"\nreference.recorded = "."\n'
    project.write("models/m/model.toml", head + known_failure("*/*/*/test_data_set_1"))
    model = load_model(project.models / "m")
    assert isinstance(model, Model)
    (entry,) = model.spec.known_failure
    assert (entry.expires, entry.suite) == (datetime.date(2027, 3, 1), None)


def test_declared_cases_replace_recorded_ones(project: MiniProject) -> None:
    """A spec may pick data sets by name."""
    folder = project.add_zoo_model("m", identity_model(), [((ONE,), (ONE,))] * 2)
    case = '[[case]]\nname = "test_data_set_1"'
    inputs = '[inputs.x]\ndtype = "float32"\nshape = [1]'
    spec = file_spec(reference='recorded = "."', case=case, inputs=inputs)
    project.write("models/m/model.toml", spec)
    model = load_model(folder)
    assert isinstance(model, Model)
    assert model.case_names() == ("test_data_set_1",)


def test_a_stricter_slowdown_needs_no_reason(project: MiniProject) -> None:
    """Nothing is loosened by it."""
    model = load_model(project.add_model("m", file_spec(more="[latency]\nslowdown = 0.005")))
    assert isinstance(model, Model)
    assert model.spec.latency.slowdown == 0.005


@pytest.mark.parametrize(
    ("files", "got"),
    [
        ({}, "nothing"),
        ({"model.onnx": b""}, "model.onnx"),
        ({"a.onnx": b"", "test_data_set_0/input_0.pb": b""}, "a.onnx, test_data_set_0"),
    ],
)
def test_folder_that_is_no_model(
    project: MiniProject, files: dict[str, str | bytes], got: str
) -> None:
    """A folder without spec and without data is told, not passed over."""
    folder = project.add_model("m", files=files)
    assert str(broken(folder)) == (
        "Folder 'm' is no model\n"
        f"  where:    {folder}\n"
        "  expected: 'model.toml', or 'model.onnx' with test_data_set_N folders\n"
        f"  got:      {got}\n"
        "  next:     add a spec with `onnx-harness model add FILE`, or remove the folder"
    )


@pytest.mark.parametrize("name", ["Mnist", "a b", "ü", "a[0]"])
def test_name_that_is_not_plain(project: MiniProject, name: str) -> None:
    """A name must fit into a cell's id."""
    folder = project.add_model(name, file_spec())
    assert str(broken(folder)) == (
        f"Model name '{name}' is not a plain name\n"
        f"  where:    {folder}\n"
        "  expected: a folder name that matches [a-z0-9][a-z0-9_.-]*\n"
        "  next:     rename the folder"
    )


def test_name_that_is_not_utf8(project: MiniProject) -> None:
    """Bytes of a name are shown escaped."""
    os.mkdir(os.fsencode(project.models) + b"/\xff")  # noqa: PTH102 - the name is bytes
    (model,) = load_models(project.models).values()
    assert isinstance(model, BrokenModel)
    assert model.name == "\\udcff"
    assert model.problem.what == "Model name '\\udcff' is not a plain name"


def test_a_broken_model_does_not_keep_others_away(project: MiniProject) -> None:
    """All folders are there, hidden ones and files are not."""
    project.add_model("good", file_spec())
    project.add_model("bad", "x")
    project.add_model(".git")
    project.add_model("_draft")
    project.write("models/README.md", "text")
    found = load_models(project.models)
    assert {name: type(model) for name, model in found.items()} == {
        "bad": BrokenModel,
        "good": Model,
    }
    assert found["bad"].cells() == (Cell("bad", "fp32"),)


def test_models_folder_that_does_not_exist(project: MiniProject) -> None:
    """The message says how to make one."""
    folder = project.root / "zoo"
    with pytest.raises(UsageProblem) as caught:
        load_models(folder)
    assert str(caught.value) == (
        f"Models folder '{folder}' does not exist\n"
        f"  where:    {folder}\n"
        "  expected: a folder with one folder per model\n"
        "  next:     give --models DIR, or make a model with `onnx-harness model add FILE`"
    )


def test_models_folder_without_a_model(project: MiniProject) -> None:
    """An empty folder is no green run."""
    with pytest.raises(UsageProblem) as caught:
        load_models(project.models)
    assert str(caught.value) == (
        f"Models folder '{project.models}' holds no model: nothing would be checked\n"
        f"  where:    {project.models}\n"
        "  expected: folders with a model.toml, or in model-zoo layout\n"
        "  got:      no folder\n"
        "  next:     make one with `onnx-harness model add FILE`"
    )


@pytest.mark.parametrize(
    ("spec", "fault"),
    [
        (
            file_spec(providers="cqu = {}"),
            "'providers.cqu' names no provider; did you mean 'cpu'?",
        ),
        (
            file_spec(more="[placement.zzz]"),
            "'placement.zzz' names no provider; see `onnx-harness doctor`",
        ),
        (
            file_spec(more='[outputs.y.tolerance.cudda]\natol = 1.0\nrtol = 0.0\nreason = "r"'),
            "'outputs.y.tolerance.cudda' names no provider; did you mean 'cuda'?",
        ),
    ],
)
def test_names_of_providers(project: MiniProject, spec: str, fault: str) -> None:
    """A misspelled provider would be a rule that never applies."""
    project.add_model("m", spec)
    found = with_known_providers(load_models(project.models), BUILTIN)
    assert isinstance(found["m"], BrokenModel)
    assert found["m"].problem.got == fault


def test_known_names_of_providers(project: MiniProject) -> None:
    """A runtime after `@` and the default are fine; a broken model stays as it is."""
    tolerance = 'atol = 1.0\nrtol = 0.0\nreason = "r"'
    project.add_model(
        "m",
        file_spec(more=f'[outputs.y.tolerance.default]\n{tolerance}\n'
                  f'[outputs.y.tolerance."cpu@ort-1.31"]\n{tolerance}'),
    )  # fmt: skip
    project.add_model("bad", "x")
    loaded = load_models(project.models)
    assert with_known_providers(loaded, BUILTIN) == loaded
