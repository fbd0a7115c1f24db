"""`onnx-harness baseline refresh`."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.testing import MiniProject, file_spec, linear_model
from tests.cli.conftest import Command, Result

if sys.platform != "linux":
    pytest.skip("latency is not judged elsewhere", allow_module_level=True)
pytest.importorskip("scipy")

RECORD = "record.json"
FROM_RUN = ("--from-run", RECORD)
Change = Callable[[dict[str, Any]], object]


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a project and the record of its run; scope module, only copied."""
    made = MiniProject(tmp_path_factory.mktemp("judged") / "project")
    made.add_model("tiny", file_spec(), {"model.onnx": linear_model().SerializeToString()})
    outcome = made.run("--provider", "cpu", "--measure-all", latency=True)
    assert outcome.items["latency tiny/fp32/cpu/one"].measured, outcome.text
    return made.root


@pytest.fixture
def tiny(judged: Path, project: MiniProject) -> MiniProject:
    """Return the project with the record of its run, without baselines; scope function."""
    shutil.copytree(judged, project.root, dirs_exist_ok=True)
    return project


@pytest.fixture
def refresh(tiny: MiniProject, command: Command) -> Callable[..., Result]:
    """Return `baseline refresh` with a reason, run in the project; scope function."""
    assert tiny.root.is_dir()
    return lambda *arguments: command("baseline", "refresh", "--reason", "test", *arguments)


def edit(project: MiniProject, change: Change) -> None:
    """Change the run record, as nobody should."""
    path = project.root / RECORD
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


def files(project: MiniProject) -> dict[str, tuple[bytes, int]]:
    """Return content and time of every file of the baselines."""
    folder = project.root / "baselines"
    return {
        str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_a_first_refresh_measures_and_the_next_one_changes_nothing(
    tiny: MiniProject, refresh: Callable[..., Result]
) -> None:
    """Recipe, figures and control are written; then bytes and times of the files stay."""
    first = refresh()
    assert first.code == 0, first.out + first.err
    assert "new" in first.out
    before = files(tiny)
    portable, figures = (name for name in before if not name.startswith("artefacts/"))
    if "/" in portable:
        portable, figures = figures, portable
    assert (portable, figures.partition("/")[2]) == ("tiny.json", "tiny.json")
    entry = json.loads(before[portable][0])["entries"]["fp32/cpu"]
    assert entry["change"]["reason"] == "test"
    assert f"artefacts/{entry['artefact']}" in before
    again = refresh("--json")
    assert (again.code, again.json[0]["state"]) == (0, "unchanged")
    assert files(tiny) == before


def test_a_record_of_another_machine_makes_the_same_baseline(
    tiny: MiniProject, refresh: Callable[..., Result]
) -> None:
    """Nothing is measured: its figures are those of the record, and a second time changes none."""
    told = refresh(*FROM_RUN, "--json")
    assert told.code == 0, told.err
    (cell,) = told.json
    assert (cell["cell"], cell["state"], cell["refusals"]) == ("tiny/fp32/cpu", "new", [])
    record = json.loads((tiny.root / RECORD).read_text())
    (item,) = (each for each in record["items"] if each["question"] == "latency")
    assert cell["after"]["recipe"] == item["measured"]["recipe"]
    assert cell["figures_after"]["points"] == {"one": item["measured"]["timing"]}
    before = files(tiny)
    assert refresh(*FROM_RUN, "--json").json[0]["state"] == "unchanged"
    assert files(tiny) == before
    assert refresh(*FROM_RUN, "--baselines", "elsewhere").code == 0
    shutil.rmtree(tiny.root / "baselines")
    (tiny.root / "elsewhere").rename(tiny.root / "baselines")
    assert sorted(files(tiny)) == sorted(before)


def test_a_record_of_another_model_is_refused(
    tiny: MiniProject, refresh: Callable[..., Result]
) -> None:
    """The checkout must be that of the run; nothing is written."""
    other = linear_model(scale=2.0).SerializeToString()
    tiny.write("models/tiny/model.onnx", other)
    told = refresh(*FROM_RUN)
    assert (told.code, told.out) == (2, "")
    assert "The model of 'tiny/fp32/cpu' here is not the one that was measured" in told.err
    assert "check out the commit of the run" in told.err
    assert files(tiny) == {}


def _without_parity(values: dict[str, Any]) -> None:
    values["items"] = [each for each in values["items"] if each["question"] != "parity"]


def _failing_parity(values: dict[str, Any]) -> None:
    for each in values["items"]:
        if each["question"] == "parity":
            each |= {"verdict": "FAIL", "findings": [{"code": "parity.tolerance", "what": "far"}]}


def _with_two_threads(values: dict[str, Any]) -> None:
    for each in values["items"]:
        if each["question"] == "latency":
            each["measured"]["recipe"]["threads"] = 2


def _of_another_size(values: dict[str, Any]) -> None:
    for each in values["items"]:
        if each["question"] == "latency":
            each["measured"]["file_bytes"] *= 2


def _unsettled(values: dict[str, Any]) -> None:
    for each in values["items"]:
        if each["question"] == "latency":
            each["findings"].append({"code": "latency.undecided", "what": "perhaps"})


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (_without_parity, "refused: parity of tiny/fp32/cpu was not judged in this run"),
        (_failing_parity, "refused: parity of tiny/fp32/cpu/one is FAIL: parity.tolerance: far"),
        (_unsettled, "refused: tiny/fp32/cpu/one is not settled: latency.undecided"),
        (
            _with_two_threads,
            "refused: tiny/fp32/cpu was measured with threads 2, and its spec here says 1",
        ),
    ],
    ids=["no parity", "parity fails", "unsettled", "other threads"],
)
def test_what_nobody_vouches_for_is_refused(
    tiny: MiniProject, refresh: Callable[..., Result], change: Change, says: str
) -> None:
    """Whatever is accepted; exit code 1, and nothing is written."""
    edit(tiny, change)
    told = refresh(*FROM_RUN, "--accept-regression", "tiny")
    assert told.code == 1
    assert says in told.out.splitlines()
    assert files(tiny) == {}


def _of_another_variant(values: dict[str, Any]) -> None:
    for each in values["items"]:
        each["cell"] = each["cell"].replace("/fp32", "/gone")


def _of_a_gone_model(values: dict[str, Any]) -> None:
    for each in values["items"]:
        each["cell"] = each["cell"].replace("tiny/", "gone/")


def _against_runtime(values: dict[str, Any]) -> None:
    values["asked"]["against_runtime"] = "ort-1.31"


def _not_timed(values: dict[str, Any]) -> None:
    values["items"] = [each for each in values["items"] if each["question"] != "latency"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (_of_another_variant, "variant 'gone'"),
        (_of_another_size, "is not as large as the one that was measured"),
        (_of_a_gone_model, "no latency item of the chosen models"),
        (_not_timed, "no latency item of the chosen models"),
        (_against_runtime, "expected: a run without --against-runtime"),
    ],
)
def test_a_record_that_does_not_fit_is_a_usage_error(
    tiny: MiniProject, refresh: Callable[..., Result], change: Change, says: str
) -> None:
    """Told in words, and nothing is written."""
    edit(tiny, change)
    told = refresh(*FROM_RUN)
    assert (told.code, told.out) == (2, "")
    assert says in told.err
    assert files(tiny) == {}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--reason", " "), ("--reason is empty",)),
        (("--model", "tinny"), ("Unknown model 'tinny'", "tiny")),
        (("--accept-regression", "tinny"), ("Unknown model 'tinny'", "--accept-regression")),
        (("--provider", "cpuu"), ("Unknown provider 'cpuu'", "cpu")),
        (("--provider", "cpu@ort-0.1"), ("Runtime 'ort-0.1' is unknown",)),
        (("--from-run", "none.json"), ("Run record cannot be read",)),
        (("--from-run", "pytest.ini"), ("pytest.ini",)),
        (("--models", "none"), ("Models folder 'none' does not exist",)),
    ],
    ids=" ".join,
)
def test_a_wrong_word_is_told_before_anything_happens(
    tiny: MiniProject, command: Command, arguments: tuple[str, ...], says: tuple[str, ...]
) -> None:
    """With the nearest name; exit code 2."""
    reason = () if "--reason" in arguments else ("--reason", "test")
    told = command("baseline", "refresh", *reason, *arguments)
    assert (told.code, told.out) == (2, ""), told.err
    for each in says:
        assert each in told.err
    assert files(tiny) == {}


def test_a_reason_must_be_given(command: Command) -> None:
    """It is kept with every entry."""
    told = command("baseline", "refresh")
    assert told.code == 2
    assert "--reason" in told.err


def test_a_provider_that_does_not_work_is_refused(
    tiny: MiniProject, refresh: Callable[..., Result]
) -> None:
    """It was asked for by name, so its absence is told."""
    told = refresh("--provider", "cuda")
    assert told.code == 1, told.err
    assert "refused: tiny/fp32/cuda/one: provider.unavailable" in told.out
    assert files(tiny) == {}


def test_what_is_not_applicable_on_a_provider_is_left_out(
    tiny: MiniProject, refresh: Callable[..., Result]
) -> None:
    """Also where its runtime is named."""
    spec = file_spec(providers='cpu = { not_applicable = "it needs a GPU" }')
    tiny.write("models/tiny/model.toml", spec)
    for name in ("cpu", "cpu@own"):
        told = refresh("--provider", name)
        assert (told.code, told.out) == (2, "")
        assert "Nothing to refresh" in told.err


def test_a_large_model_keeps_no_artefact(tiny: MiniProject, refresh: Callable[..., Result]) -> None:
    """`largest_artefact_mb` of the settings; once it is raised, the next refresh keeps it."""
    tiny.write("pyproject.toml", "[tool.onnx-harness]\nlargest_artefact_mb = 0.00001\n")
    assert refresh(*FROM_RUN).code == 0
    assert not [name for name in files(tiny) if name.startswith("artefacts/")]
    tiny.write("pyproject.toml", "[tool.onnx-harness]\nlargest_artefact_mb = 1.0\n")
    told = refresh(*FROM_RUN)
    assert told.code == 0
    assert "changed" in told.out
    (kept,) = (name for name in files(tiny) if name.startswith("artefacts/"))
    entry = json.loads(files(tiny)["tiny.json"][0])["entries"]["fp32/cpu"]
    assert kept == f"artefacts/{entry['artefact']}"


def test_a_broken_baseline_is_not_written_over(
    tiny: MiniProject, refresh: Callable[..., Result]
) -> None:
    """It may hold what a merge mangled; the message has file and way out."""
    assert refresh(*FROM_RUN).code == 0
    path = tiny.root / "baselines" / "tiny.json"
    path.write_text(path.read_text()[:-30])
    before = files(tiny)
    told = refresh(*FROM_RUN)
    assert told.code == 2
    assert "git checkout -- " in told.err
    assert files(tiny) == before
