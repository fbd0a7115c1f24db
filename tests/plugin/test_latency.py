"""The latency suite under pytest, on small real models: what is held against what, and how."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from harness.domain.dtypes import DType
from harness.domain.environment import Environment
from harness.domain.verdict import Verdict
from harness.results.record import ItemRecord
from harness.testing import (
    MiniProject,
    Outcome,
    file_spec,
    identity_model,
    make_model,
    tensor_info,
)

if sys.platform != "linux":
    pytest.skip("latency is not judged elsewhere", allow_module_level=True)
pytest.importorskip("scipy")

WIDTH, LAYERS = 48, 12
ITEM = "latency chain/fp32/cpu/one"
INPUTS = """[inputs.x]
dtype = "float32"
shape = ["batch", 48]

[dims]
batch = { max = 8 }"""
#: No suite but latency, which judges its own items only.
ALONE = ("-m", "latency")
#: What a busy machine may leave unsettled, and never may fail.
NOISE = {"latency.undecided", "latency.contaminated", "latency.unstable", "startup.unsettled"}
Change = Callable[[dict[str, Any]], object]


def chain(layers: int = LAYERS, *, scale: float = 1.0) -> bytes:
    """Return products and Relu in turn; another scale gives another model of the same speed."""
    nodes, weights, last = [], {}, "x"
    for number in range(layers):
        weight = np.random.default_rng(number).normal(size=(WIDTH, WIDTH)) / WIDTH**0.5
        weights[f"w{number}"] = (scale * weight).astype(np.float32)
        nodes.append(helper.make_node("MatMul", [last, f"w{number}"], [f"m{number}"]))
        nodes.append(helper.make_node("Relu", [f"m{number}"], [f"v{number}"]))
        last = f"v{number}"
    shape: list[int | str] = ["batch", WIDTH]
    model = make_model(
        nodes, [tensor_info("x", shape=shape)], [tensor_info(last, shape=shape)], weights
    )
    return model.SerializeToString()


def add(project: MiniProject, more: str = "", *, name: str = "chain", model: bytes = b"") -> None:
    """Add a chain, with more keys in its spec."""
    spec = file_spec(inputs=INPUTS, more=more)
    project.add_model(name, spec, {"model.onnx": model or chain()})


def refresh(project: MiniProject, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `onnx-harness baseline refresh` in the project."""
    command = "import sys; from harness.cli import main; sys.exit(main(sys.argv[1:]))"
    return subprocess.run(
        [sys.executable, "-c", command, "baseline", "refresh", "--reason", "test", *arguments],
        cwd=project.root,
        env={
            **os.environ,
            "ONNX_HARNESS_CACHE": str(project.root / ".cache"),
            "ONNX_HARNESS_RUNTIMES": str(project.root / ".runtimes"),
        },
        capture_output=True,
        text=True,
        check=False,
    )


def until_settled(run: Callable[[], Outcome], item: str = ITEM) -> ItemRecord:
    """Return the item of a run that was not too noisy, or skip the test."""
    for _ in range(3):
        found = run().items[item]
        if not {finding["code"] for finding in found.findings} & NOISE:
            return found
    pytest.skip("this machine is too busy to judge")


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a project whose chain has a baseline; scope module, only copied."""
    made = MiniProject(tmp_path_factory.mktemp("approved") / "project")
    add(made)
    done = refresh(made)
    assert done.returncode == 0, done.stdout + done.stderr
    return made.root


@pytest.fixture
def approved(template: Path, tmp_path: Path) -> MiniProject:
    """Return a project whose chain has a baseline with figures of this machine; scope function."""
    project = MiniProject(tmp_path / "copy")
    shutil.copytree(template, project.root, dirs_exist_ok=True)
    return project


def portable(project: MiniProject) -> Path:
    """Return the file of the chain's recipe."""
    return project.root / "baselines" / "chain.json"


def local(project: MiniProject) -> Path:
    """Return the file of the chain's figures."""
    (path,) = (project.root / "baselines").glob("*/chain.json")
    return path


def edit(path: Path, change: Change) -> None:
    """Change the values of a JSON file."""
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values, indent=1, sort_keys=True))


def of_build(project: MiniProject, version: str, **timing: float) -> None:
    """Let the baseline be of another release of ONNX Runtime, with these figures."""

    def recipe(values: dict[str, Any]) -> None:
        values["entries"]["fp32/cpu"]["recipe"]["build"]["version"] = version

    def figures(values: dict[str, Any]) -> None:
        values["entries"]["fp32/cpu"]["recipe"]["build"]["version"] = version
        values["entries"]["fp32/cpu"]["points"]["one"] |= timing

    edit(portable(project), recipe)
    edit(local(project), figures)


def codes(item: ItemRecord) -> list[str]:
    """Return the codes of an item's findings."""
    return [finding["code"] for finding in item.findings]


def judged(project: MiniProject, *arguments: str) -> ItemRecord:
    """Return the chain's latency item of a run."""
    outcome = project.run(*ALONE, *arguments, latency=True)
    assert ITEM in outcome.items, outcome.text
    return outcome.items[ITEM]


# without a baseline


def test_without_a_baseline_nothing_is_judged_nor_measured(project: MiniProject) -> None:
    """--no-skips makes it fail; neither writes a file."""
    add(project)
    item = judged(project)
    assert (item.verdict, codes(item), item.counts) == (Verdict.SKIP, ["baseline.missing"], {})
    assert item.findings[0]["next_step"] == "onnx-harness baseline refresh --reason '...'"
    strict = project.run(*ALONE, "--no-skips", latency=True)
    assert strict.items[ITEM].verdict is Verdict.FAIL
    assert strict.exit_code == 1
    assert not (project.root / "baselines").exists()


def test_without_scipy_a_budget_is_not_judged(project: MiniProject) -> None:
    """The message says what to install, and nothing was measured before."""
    add(project, '[[latency.budget]]\nenvironment = "*"\nmax_ms = 1000.0\n')
    project.write("hidden/scipy/__init__.py", "raise ImportError('hidden')")
    item = judged(project, "-p", "no:randomly", "--override-ini", "pythonpath=hidden")
    assert (item.verdict, codes(item)) == (Verdict.SKIP, ["package.missing"])
    assert "onnx-harness[latency]" in item.findings[0]["next_step"]
    assert item.counts == {}


def test_a_model_that_is_not_timed_is_not_applicable(project: MiniProject) -> None:
    """It stays a skip under --no-skips, and a refresh has nothing to do with it."""
    add(project, '[latency]\nnot_applicable = "it waits for a user"\n')
    item = judged(project, "--no-skips", "--measure-all")
    assert (item.verdict, codes(item)) == (Verdict.SKIP, ["latency.not-applicable"])
    done = refresh(project)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Nothing to refresh" in done.stderr


# unchanged


def test_what_did_not_change_passes_by_both_hashes(approved: MiniProject) -> None:
    """Nothing is measured, and the receipt says what was held against what."""
    item = judged(approved, "--no-skips")
    assert (item.verdict, codes(item)) == (Verdict.PASS, [])
    assert item.counts == {"unchanged_by_hash": 1}
    assert item.facts["judged"] == "unchanged by hash"
    assert len(item.facts["model"]) == 64
    assert item.facts["model"] == item.facts["control"]
    assert item.measured == {}


def test_measuring_what_did_not_change_is_never_red(approved: MiniProject) -> None:
    """A duet against itself: its receipt has calls, seed and all that a baseline needs."""
    outcome = approved.run(*ALONE, "--measure-all", "--harness-seed", "7", latency=True)
    item = outcome.items[ITEM]
    assert item.verdict in {Verdict.PASS, Verdict.SKIP}, outcome.text
    assert {*codes(item)} <= NOISE, outcome.text
    assert item.counts["calls_timed"] > 100
    assert item.facts["judged"].startswith("duet against the baseline ")
    assert item.facts["seed"] == "7"
    assert set(item.measured) == {
        *("recipe", "file_bytes", "environment", "nodes", "point", "timing")
    }


def test_serving_is_recorded_on_request(approved: MiniProject) -> None:
    """The option reaches the record, and changes no verdict."""
    assert judged(approved).serving == {}
    item = judged(approved, "--record-serving")
    assert (item.verdict, item.counts) == (Verdict.PASS, {"unchanged_by_hash": 1})
    assert {load["callers"] for load in item.serving["loads"]} >= {1, 2}
    assert item.facts["serving"]


def test_a_renamed_model_keeps_its_baseline(approved: MiniProject) -> None:
    """Its former name is an alias."""
    shutil.rmtree(approved.models / "chain")
    add(approved, name="new")
    outcome = approved.run(*ALONE, latency=True)
    assert codes(outcome.items["latency new/fp32/cpu/one"]) == ["baseline.missing"]
    spec = approved.models / "new" / "model.toml"
    text = spec.read_text()
    spec.write_text(
        text.replace("schema_version = 1\n", 'schema_version = 1\naliases = ["chain"]\n')
    )
    outcome = approved.run(*ALONE, latency=True)
    assert outcome.items["latency new/fp32/cpu/one"].counts == {"unchanged_by_hash": 1}


# changed


def test_a_slower_model_fails_till_it_is_approved(approved: MiniProject) -> None:
    """It is told why, how much larger the file is and how many nodes more there are.

    Its run record makes the new baseline, here or elsewhere, only if the regression is accepted.
    """
    add(approved, model=chain(2 * LAYERS))
    item = until_settled(lambda: approved.run("--harness-seed", "1", latency=True))
    assert item.verdict is Verdict.FAIL
    assert {"latency.slower", "size.larger", "nodes.more"} <= set(codes(item))
    slower, size, more = (
        next(each for each in item.findings if each["code"] == code)
        for code in ("latency.slower", "size.larger", "nodes.more")
    )
    assert "MatMul 12 -> 24" in slower["got"]
    assert slower["next_step"].endswith("--accept-regression chain")
    assert "more nodes are left after optimisation" in more["what"]
    assert size["expected"].startswith("at most 1% above")
    assert float(item.facts["change"]) > 0.3
    run = ("--from-run", "record.json")
    before = portable(approved).read_bytes()
    refused = refresh(approved, *run)
    assert (refused.returncode, portable(approved).read_bytes()) == (1, before)
    assert "latency.slower; approve it with --accept-regression chain" in refused.stdout
    elsewhere = approved.root / "elsewhere"
    shutil.copytree(approved.root / "baselines", elsewhere)
    accepted = refresh(approved, *run, "--accept-regression", "chain")
    assert accepted.returncode == 0, accepted.stdout + accepted.stderr
    copied = refresh(
        approved, *run, "--accept-regression", "chain/fp32/cpu", "--baselines", str(elsewhere)
    )
    assert copied.returncode == 0, copied.stdout + copied.stderr
    for path in (portable(approved), local(approved)):
        ours = json.loads(path.read_text())
        theirs = json.loads((elsewhere / path.relative_to(approved.root / "baselines")).read_text())
        for each in (ours, theirs):
            del each["entries"]["fp32/cpu"]["change"]["when"]
        assert ours == theirs
    assert judged(approved).counts == {"unchanged_by_hash": 1}


def test_without_its_control_a_stored_number_judges(approved: MiniProject) -> None:
    """The receipt says so; without figures of this environment nothing is comparable."""
    shutil.rmtree(approved.root / "baselines" / "artefacts")
    edit(local(approved), lambda values: values["entries"]["fp32/cpu"]["points"]["one"].update(
        p50_ms=1000.0))  # fmt: skip
    add(approved, model=chain(scale=1.25))
    item = judged(approved)
    assert (item.verdict, codes(item)) == (Verdict.PASS, ["latency.faster"])
    assert item.facts["judged"].startswith("stored number 1000 ms, within ")
    assert item.counts["calls_timed"] > 0
    shutil.rmtree(local(approved).parent)
    item = judged(approved)
    assert (item.verdict, codes(item)) == (Verdict.SKIP, ["baseline.incomparable"])
    assert "is not in the artefact store" in item.findings[0]["what"]
    assert "no environment has stored numbers" in item.findings[0]["got"]


def test_a_control_with_other_bytes_is_an_error(approved: MiniProject) -> None:
    """Somebody changed the file that was approved."""
    (artefact,) = (approved.root / "baselines" / "artefacts").iterdir()
    artefact.write_bytes(artefact.read_bytes() + b" ")
    add(approved, model=chain(scale=1.25))
    item = judged(approved)
    assert (item.verdict, codes(item)) == (Verdict.ERROR, ["baseline.control"])
    assert str(artefact.name) in item.findings[0]["where"]


def test_a_stored_number_of_another_release_judges_within_its_limit(approved: MiniProject) -> None:
    """Far beyond it the item fails, and a number that scatters too much judges nothing."""
    of_build(approved, "1.2.3", p50_ms=1e-6)
    item = judged(approved)
    assert (item.verdict, codes(item)) == (Verdict.FAIL, ["latency.slower"])
    assert "the control could not be run beside it" in item.findings[0]["where"]
    of_build(approved, "1.2.3", spread=2.0)
    item = judged(approved)
    assert (item.verdict, codes(item)) == (Verdict.SKIP, ["latency.unstable"])
    assert item.facts["judged"].endswith("which scatters too much")


def test_figures_of_another_environment_are_not_comparable(approved: MiniProject) -> None:
    """The fields in which it differs are named."""
    of_build(approved, "1.2.3")
    values = json.loads(local(approved).read_text())
    values["environment"]["cores"] = 999
    folder = approved.root / "baselines" / Environment(**values["environment"]).id
    shutil.rmtree(local(approved).parent)
    folder.mkdir()
    (folder / "chain.json").write_text(json.dumps(values))
    item = judged(approved)
    assert (item.verdict, codes(item)) == (Verdict.SKIP, ["baseline.incomparable"])
    assert "stored numbers: cores 999 instead of " in item.findings[0]["got"]
    assert 'runtime add ort-1.2.3 "onnxruntime==1.2.3"' in item.findings[0]["next_step"]


# broken baselines


def _broken(project: MiniProject, how: str) -> None:
    path = portable(project)
    match how:
        case "no JSON":
            path.write_text(path.read_text()[:-40])
        case "newer":
            edit(path, lambda values: values.update(schema_version=2))
        case "of another model":
            edit(path, lambda values: values.update(model="other"))
        case "impossible":
            edit(path, lambda values: values["entries"]["fp32/cpu"].update(file_bytes=-1))
        case _:
            of_build(project, "1.2.3", p50_ms=0.0)


@pytest.mark.parametrize(
    ("how", "code"),
    [
        ("no JSON", "baseline.unreadable"),
        ("newer", "baseline.version"),
        ("of another model", "baseline.unreadable"),
        ("impossible", "baseline.unreadable"),
        ("impossible figures", "baseline.unreadable"),
    ],
)
def test_a_broken_baseline_is_an_error(approved: MiniProject, how: str, code: str) -> None:
    """With file and key; it is never passed over."""
    _broken(approved, how)
    item = judged(approved)
    assert (item.verdict, codes(item)) == (Verdict.ERROR, [code])
    assert "chain.json" in item.findings[0]["where"]


# budgets


@pytest.mark.parametrize(
    ("keys", "verdict", "code"),
    [
        ("max_ms = 10000.0", Verdict.PASS, ""),
        ("max_ms = 1e-6", Verdict.FAIL, "latency.budget"),
        ("max_ms = 10000.0\npercentile = 99.999", Verdict.SKIP, "latency.undecided"),
    ],
    ids=["kept", "broken", "too few calls"],
)
def test_a_budget_of_this_environment_is_judged(
    approved: MiniProject, keys: str, verdict: Verdict, code: str
) -> None:
    """Also of a model that did not change; the environment's name is a glob."""
    here = local(approved).parent.name
    add(approved, f'[[latency.budget]]\nenvironment = "{here[:-4]}*"\n{keys}\n')
    item = judged(approved)
    assert (item.verdict, codes(item)) == (verdict, [code] if code else [])
    assert item.counts["calls_timed"] > 0


def test_a_budget_of_another_environment_is_not_judged(approved: MiniProject) -> None:
    """It holds only where it is declared for."""
    add(approved, '[[latency.budget]]\nenvironment = "elsewhere-*"\nmax_ms = 1e-6\n')
    item = judged(approved)
    assert item.counts == {"unchanged_by_hash": 1}
    assert "none of 1 is for one on cpu" in item.facts["budgets"]


def test_baselines_that_are_no_folder_stop_the_run(project: MiniProject) -> None:
    """In words: it would look like a project without any."""
    add(project)
    project.write("baselines", "oops")
    outcome = project.run("--provider", "cpu", latency=True)
    assert outcome.exit_code == pytest.ExitCode.USAGE_ERROR
    assert "baselines' is no folder" in outcome.text
    assert "Traceback" not in outcome.text


# known failures


@pytest.mark.parametrize(
    ("as_of", "verdict", "code"),
    [
        ("2027-01-15", Verdict.SKIP, "known-failure"),
        ("2027-03-02", Verdict.FAIL, "known-failure.expired"),
    ],
)
def test_a_known_slowdown_is_excused_till_it_expires(
    approved: MiniProject, as_of: str, verdict: Verdict, code: str
) -> None:
    """By the point's id, like any other known failure."""
    entry = (
        '[[known_failure]]\ncell = "*/*/cpu/one"\ncode = "latency.slower"\n'
        'issue = "https://example.com/issues/7"\nexpires = 2027-03-01\n'
    )
    add(approved, entry)
    of_build(approved, "1.2.3", p50_ms=1e-6)
    item = judged(approved, "--as-of", as_of)
    assert item.verdict is verdict
    assert code in codes(item)
    assert item.is_expected_failure == (verdict is Verdict.SKIP)


# options


def test_an_unknown_runtime_is_a_usage_error(approved: MiniProject) -> None:
    """Before anything is judged."""
    outcome = approved.run(*ALONE, "--against-runtime", "ort-0.1", latency=True)
    assert outcome.exit_code == 4
    assert "Runtime 'ort-0.1' is unknown" in outcome.text
    assert not outcome.items


def test_a_record_against_a_runtime_makes_no_baseline(approved: MiniProject) -> None:
    """The candidate was held against itself, not against what is approved."""
    add(approved, model=chain(scale=1.25))
    run = ("--against-runtime", "own", "--harness-seed", "1")
    item = approved.run(*run, latency=True).items[ITEM]
    assert item.facts["judged"] == "unchanged by hash"
    assert codes(item) == ["baseline.incomparable"]
    done = refresh(approved, "--from-run", "record.json", "--accept-regression", "chain")
    assert (done.returncode, done.stdout) == (2, "")
    assert "--against-runtime" in done.stderr


def test_two_workers_each_measure_their_own_items(project: MiniProject) -> None:
    """Also where -k leaves some items out; what has no baseline is measured if asked for."""
    pytest.importorskip("xdist")
    for name in ("first", "second", "third"):
        add(project, name=name)
    outcome = project.run(
        *("-n", "2", "-m", "latency", "-k", "first or second", "--measure-all"), latency=True
    )
    assert sorted(outcome.items) == [
        f"latency {name}/fp32/cpu/one" for name in ("first", "second")
    ], outcome.text
    for item in outcome.items.values():
        assert codes(item) == ["baseline.missing"]
        assert item.counts["calls_timed"] > 0
        assert item.measured["timing"]["workers"] == 8


# what cannot be timed


def text_model() -> onnx.ModelProto:
    """Return a model that takes text and gives text."""
    return identity_model(DType.STRING, shape=("n",))


def sequence_model() -> onnx.ModelProto:
    """Return a model whose only output is a sequence."""
    node = helper.make_node("SequenceConstruct", ["x", "x"], ["y"])
    kind = helper.make_tensor_type_proto(onnx.TensorProto.FLOAT, ["n"])
    output = helper.make_value_info("y", helper.make_sequence_type_proto(kind))
    return make_model([node], [tensor_info("x", shape=["n"])], [output])


@pytest.mark.parametrize("kind", ["text", "sequence"])
def test_what_cannot_be_bound_is_not_judged(project: MiniProject, kind: str) -> None:
    """No ERROR: nothing is wrong with the model, and nothing with the harness."""
    model = (text_model if kind == "text" else sequence_model)().SerializeToString()
    dtype, more = ("string", 'values = ["a", "b"]\n') if kind == "text" else ("float32", "")
    inputs = f'[inputs.x]\ndtype = "{dtype}"\nshape = ["n"]\n{more}\n[dims]\nn = {{ max = 8 }}'
    case = '[[case]]\nname = "one"\ndims = { n = 2 }'
    project.add_model("chain", file_spec(inputs=inputs, case=case), {"model.onnx": model})
    item = judged(project, "--measure-all")
    assert item.verdict is Verdict.SKIP
    wanted = "latency.unsupported" if kind == "text" else "baseline.missing"
    assert codes(item) == [wanted], item.findings
