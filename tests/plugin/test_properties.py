"""The properties suite: what it finds, makes small, keeps and finds again."""

from __future__ import annotations

import json
import shutil
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from harness.domain.dtypes import DType
from harness.domain.verdict import Verdict
from harness.results.record import ItemRecord
from harness.testing import (
    MiniProject,
    Outcome,
    file_spec,
    identity_model,
    linear_model,
    make_model,
    node_model,
    tensor_info,
)

KEY = "properties tiny/fp32/cpu"
SEARCH = ("-m", "properties", "--provider", "cpu")
X = '[inputs.x]\ndtype = "float32"\nshape = ["n", 3]\n\n[dims]\nn = { max = 9 }'
CASE = '[[case]]\nname = "one"\ndims = { n = 1 }'
SHAPE = ("n", 3)


def data(model: onnx.ModelProto) -> bytes:
    """Return a model's bytes."""
    return bytes(model.SerializeToString())


def judged(
    project: MiniProject,
    candidate: onnx.ModelProto,
    *,
    properties: str = "",
    reference: onnx.ModelProto | None = None,
    options: tuple[str, ...] = (),
    **tables: Any,
) -> tuple[Outcome, ItemRecord]:
    """Return what the suite says to a candidate; without a reference it is its own."""
    files = {"model.onnx": data(candidate)}
    how = "onnx = true"
    if reference is not None:
        files["reference.onnx"], how = data(reference), 'onnx = "reference.onnx"'
    known = {"inputs": X, "case": CASE, "reference": how, "more": f"[properties]\n{properties}"}
    project.add_model("tiny", file_spec(**{**known, **tables}), files)
    outcome = project.run(*SEARCH, *options)
    return outcome, outcome.items[KEY]


def codes(item: ItemRecord) -> list[str]:
    """Return the codes of an item's findings."""
    return [finding["code"] for finding in item.findings]


def wrong_in_a_corner() -> onnx.ModelProto:
    """Return `y = x`, but 1 more where x is below -0.999, which [-1, 1) seldom is."""
    nodes = [
        helper.make_node("Less", ["x", "edge"], ["low"]),
        helper.make_node("Cast", ["low"], ["one"], to=DType.FLOAT32.onnx_number),
        helper.make_node("Add", ["x", "one"], ["y"]),
    ]
    edge = {"edge": np.array(-0.999, np.float32)}
    ports = [tensor_info("x", shape=SHAPE)], [tensor_info("y", shape=SHAPE)]
    return make_model(nodes, *ports, edge)


def over_rows(operator: str) -> onnx.ModelProto:
    """Return `y = x - operator(x over all rows)`: no row stands for itself."""
    nodes = [
        helper.make_node(operator, ["x", "axes"], ["m"], keepdims=1),
        helper.make_node("Sub", ["x", "m"], ["y"]),
    ]
    ports = [tensor_info("x", shape=SHAPE)], [tensor_info("y", shape=SHAPE)]
    return make_model(nodes, *ports, {"axes": np.array([0])})


def cumulated() -> onnx.ModelProto:
    """Return the running sum over rows: the order matters."""
    node = helper.make_node("CumSum", ["x", "axis"], ["y"])
    ports = [tensor_info("x", shape=SHAPE)], [tensor_info("y", shape=SHAPE)]
    return make_model([node], *ports, {"axis": np.array(0)})


def test_a_sound_model_passes(project: MiniProject) -> None:
    """The receipt tells how many examples were judged, and how they were chosen."""
    laws = 'examples = 12\nbatch = "n"\npermutation = "n"\nrepetitions = 2\nthreads = [2]'
    outcome, item = judged(project, identity_model(shape=SHAPE), properties=laws)
    assert item.verdict is Verdict.PASS, outcome.text
    assert 8 <= item.counts["examples_judged"] <= 12
    assert item.counts["elements_compared"] > 50
    for counter in ("repetitions", "thread_numbers", "rows", "orders"):
        assert item.counts[f"{counter}_compared"] > 0
    assert item.facts["profile"] == "ci, 12 examples asked for"
    assert item.facts["seed"] == "by model"
    assert "examples judged" in outcome.text


def test_a_fault_in_a_corner_is_found_kept_and_found_again(project: MiniProject) -> None:
    """Declared cases miss it; the smallest example is told, kept, and judged first next time."""
    candidate, reference = wrong_in_a_corner(), identity_model(shape=SHAPE)
    outcome, item = judged(project, candidate, reference=reference, properties="examples = 60")
    assert codes(item) == ["property.parity"], outcome.text
    (finding,) = item.findings
    assert finding["what"].startswith("Parity fails for an input that the spec declares: Parity f")
    assert finding["where"].startswith("example: n = 1; x: ")
    folder = project.root / ".cache/failures/tiny__fp32__cpu"
    recipe, inputs = folder / "property.parity.json", folder / "property.parity.npz"
    assert finding["next_step"] == (
        f"kept in {recipe}, and judged first in the next run\n"
        f"to keep it as a case: copy {inputs}\n"
        f"to {project.models}/tiny/cases/found.npz and add to model.toml\n"
        '[[case]]\nname = "found"\ndims = { n = 1 }\ninputs = "cases/found.npz"\n'
        "`onnx-harness localise tiny/fp32/cpu/found` then tells where it begins"
    )
    assert project.run("-m", "parity").items["parity tiny/fp32/cpu/one"].verdict is Verdict.PASS

    few, again = judged(project, candidate, reference=reference, properties="examples = 1")
    assert codes(again) == ["property.parity"], few.text
    assert (again.facts["replayed"], again.findings[0]["where"]) == ("1", finding["where"])

    (project.models / "tiny/cases").mkdir()
    shutil.copy(inputs, project.models / "tiny/cases/found.npz")
    found = '\n\n[[case]]\nname = "found"\ndims = { n = 1 }\ninputs = "cases/found.npz"\n'
    spec = project.models / "tiny/model.toml"
    project.write("models/tiny/model.toml", spec.read_text() + found)
    case = project.run("-m", "parity").items["parity tiny/fp32/cpu/found"]
    assert codes(case) == ["parity.tolerance", "parity.origin"]

    outcome, item = judged(project, reference, reference=reference)
    assert item.verdict is Verdict.PASS
    assert not recipe.exists()


@pytest.mark.parametrize(
    ("candidate", "law", "code"),
    [
        (over_rows("ReduceMean"), 'batch = "n"', "property.batch"),
        (over_rows("ReduceMean"), 'padding = { dim = "n", mask = "x" }', "property.padding"),
        (cumulated(), 'permutation = "n"', "property.permutation"),
    ],
    ids=["batch", "padding", "permutation"],
)
def test_a_broken_law_is_a_finding_of_its_own(
    project: MiniProject, candidate: onnx.ModelProto, law: str, code: str
) -> None:
    """Parity holds, the law does not; the example is small and kept."""
    outcome, item = judged(project, candidate, properties=law)
    assert codes(item) == [code], outcome.text
    assert item.findings[0]["where"].startswith("example: n = ")
    kept = project.root / f".cache/failures/tiny__fp32__cpu/{code}.json"
    assert json.loads(kept.read_text())["code"] == code
    assert "[[case]]" not in item.findings[0]["next_step"]


def test_another_run_must_give_the_same_bits(project: MiniProject) -> None:
    """A random operator is found by the second run."""
    noise = helper.make_node("RandomUniformLike", ["x"], ["r"])
    tiny = helper.make_node("Mul", ["r", "small"], ["s"])
    add = helper.make_node("Add", ["x", "s"], ["y"])
    ports = [tensor_info("x", shape=SHAPE)], [tensor_info("y", shape=SHAPE)]
    candidate = make_model([noise, tiny, add], *ports, {"small": np.array(1e-7, np.float32)})
    outcome, item = judged(
        project, candidate, reference=identity_model(shape=SHAPE), properties="repetitions = 2"
    )
    assert codes(item) == ["property.repeat"], outcome.text


def test_threads_are_compared_within_tolerance(project: MiniProject) -> None:
    """Noise beyond the tolerance between two sessions is a finding of the law."""
    noise = helper.make_node("RandomUniformLike", ["x"], ["y"])
    ports = [tensor_info("x", shape=SHAPE)], [tensor_info("y", shape=SHAPE)]
    allowed = "[outputs.y]\nfinite = 'allowed'"
    infinite = make_model([helper.make_node("Div", ["x", "zero"], ["y"])], *ports,
                          {"zero": np.zeros((), np.float32)})  # fmt: skip
    outcome, item = judged(project, make_model([noise], *ports), reference=infinite,
                           more=f"[properties]\nthreads = [2]\n\n{allowed}")  # fmt: skip
    assert "property.threads" in codes(item), outcome.text


def test_sizes_that_the_reference_refuses_are_told(project: MiniProject) -> None:
    """The rest is judged all the same, and the smallest refused size is named."""
    build = (
        "import torch\n\n"
        "class Picky(torch.nn.Module):\n"
        "    def forward(self, x):\n"
        "        if x.shape[0] > 4:\n"
        "            raise ValueError('too many rows')\n"
        "        return x.clone()\n\n"
        "def build():\n"
        "    return Picky()\n"
    )
    pytest.importorskip("torch")
    project.add_model("tiny", files={"reference.py": build})
    outcome, item = _with_torch(project)
    assert codes(item) == ["property.refused"], outcome.text
    (finding,) = item.findings
    assert finding["what"].startswith("Reference of 'tiny' refuses ")
    assert finding["what"].endswith("the smallest at n = 5")
    assert "too many rows" in finding["got"]
    assert "narrow dims" in finding["next_step"]
    assert item.counts["examples_judged"] > 5


def _with_torch(project: MiniProject) -> tuple[Outcome, ItemRecord]:
    text = file_spec(
        inputs=X, case=CASE, reference='torch = "reference.py:build"',
        more="[properties]\nexamples = 60",
    )  # fmt: skip
    project.add_model("tiny", text, {"model.onnx": data(identity_model(shape=SHAPE))})
    outcome = project.run(*SEARCH)
    return outcome, outcome.items[KEY]


def test_a_size_that_the_candidate_refuses_is_a_failure(project: MiniProject) -> None:
    """It ran for the declared case only."""
    add = helper.make_node("Reshape", ["x", "to"], ["y"])
    ports = [tensor_info("x", shape=SHAPE)], [tensor_info("y", shape=SHAPE)]
    fixed = make_model([add], *ports, {"to": np.array([1, 3])})
    outcome, item = judged(project, fixed, reference=identity_model(shape=SHAPE))
    assert codes(item) == ["property.run"], outcome.text
    assert item.findings[0]["where"].startswith("example: n = 2; x: ")


def test_all_element_types_are_searched(project: MiniProject) -> None:
    """Booleans, texts, integers, half precision, bfloat16: none is left out."""
    for dtype in (DType.BOOL, DType.STRING, DType.INT8, DType.UINT64, DType.FLOAT16,
                  DType.FLOAT64):  # fmt: skip
        inputs = X.replace("float32", dtype.value)
        project.add_model(
            dtype.value,
            file_spec(inputs=inputs, case=CASE, more="[properties]\nexamples = 8"),
            {"model.onnx": data(identity_model(dtype, SHAPE))},
        )
    outcome = project.run(*SEARCH)
    assert {item.verdict for item in outcome.items.values()} == {Verdict.PASS}, outcome.text
    assert all(item.counts["examples_judged"] > 3 for item in outcome.items.values())


def test_what_cannot_be_searched_says_why(project: MiniProject) -> None:
    """A recorded reference, no inputs, a declaration: not applicable, also with --no-skips."""
    sets = [((np.ones((1, 3), np.float32),), (np.ones((1, 3), np.float32),))]
    project.add_zoo_model("recorded", identity_model(shape=SHAPE), sets)
    node = helper.make_node("Constant", [], ["y"], value_float=1.0)
    constant = make_model([node], [], [tensor_info("y")])
    project.add_model("constant", file_spec(inputs="", case='[[case]]\nname = "one"'),
                      {"model.onnx": data(constant)})  # fmt: skip
    why = '[properties]\nnot_applicable = "answers differ from call to call"'
    project.add_model("declared", file_spec(more=why), {"model.onnx": data(linear_model())})
    outcome = project.run("--provider", "cpu", "--no-skips")
    said = {
        item.cell.partition("/")[0]: (item.verdict, item.findings[0]["what"])
        for item in outcome.items.values()
        if item.question == "properties"
    }
    recorded = "its reference is recorded and answers no other inputs"
    assert said == {
        "recorded": (Verdict.SKIP, f"Nothing to search for 'recorded': {recorded}"),
        "constant": (Verdict.SKIP, "Nothing to search for 'constant': its spec declares no input"),
        "declared": (
            Verdict.SKIP,
            "Nothing to search for 'declared': answers differ from call to call",
        ),
    }


def test_without_the_library_nothing_is_judged(project: MiniProject) -> None:
    """The hint names the extra."""
    project.add_model("tiny", file_spec(), {"model.onnx": data(linear_model())})
    project.write("without.py", "import harness.search\n"
                  "harness.search.DISTRIBUTION = 'no-such-distribution'\n")  # fmt: skip
    outcome = project.run("-p", "without", *SEARCH, "-rs", env=_beside(project))
    item = outcome.items[KEY]
    assert (item.verdict, codes(item)) == (Verdict.SKIP, ["package.missing"])
    assert item.findings[0]["next_step"] == "pip install 'onnx-harness[properties]'"


def _beside(project: MiniProject) -> dict[str, str]:
    import harness

    folders = [str(project.root), str(next(iter(harness.__path__)).removesuffix("/harness"))]
    return {"PYTHONPATH": ":".join(folders)}


def test_references_of_examples_are_kept(project: MiniProject) -> None:
    """A second run of the same profile computes none; nightly computes all, and keeps none."""
    cache = project.root / ".cache/references"
    judged(project, node_model("Abs", shape=SHAPE))
    first = sorted(cache.rglob("*.values"))
    assert len(first) > 10
    times = {file: file.stat().st_mtime_ns for file in first}
    _, item = judged(project, node_model("Abs", shape=SHAPE))
    assert item.verdict is Verdict.PASS
    assert {file: file.stat().st_mtime_ns for file in cache.rglob("*.values")} == times
    options = ("--harness-profile", "nightly")
    _, item = judged(
        project, node_model("Abs", shape=SHAPE), properties="examples = 20", options=options
    )
    assert item.verdict is Verdict.PASS
    assert sorted(cache.rglob("*.values")) == first


def test_a_law_that_no_example_exercises_is_no_pass(project: MiniProject) -> None:
    """Examples are cut down to one row, so no row was compared with its batch."""
    laws = 'examples = 6\nmax_elements = 3\nbatch = "n"'
    _, item = judged(project, over_rows("ReduceMax"), properties=laws)
    assert (item.verdict, codes(item)) == (Verdict.ERROR, ["receipt.empty"])
    (finding,) = item.findings
    assert finding["where"] == "spec, properties.batch"
    assert finding["next_step"].startswith("raise properties.max_elements to 6 or more")
    assert item.counts["examples_judged"] > 0


def unusable(item: ItemRecord) -> str:
    """Return the path that the one finding names."""
    assert (item.verdict, codes(item)) == (Verdict.ERROR, ["cache.unusable"])
    assert "Traceback" not in str(item.findings)
    return str(item.findings[0]["where"])


def test_odd_things_in_the_cache_are_told_by_their_path(project: MiniProject) -> None:
    """A folder in place of a recipe, and a file in place of the folder, are no bug of ours."""
    folder = project.root / ".cache/failures/tiny__fp32__cpu"
    recipe = folder / "property.batch.json"
    recipe.mkdir(parents=True)
    _, item = judged(project, identity_model(shape=SHAPE), properties="examples = 2")
    assert unusable(item) == str(recipe)
    shutil.rmtree(folder)
    folder.write_text("no folder")
    other = node_model("Neg", shape=SHAPE)
    _, item = judged(
        project, other, reference=identity_model(shape=SHAPE), properties="examples = 2"
    )
    assert unusable(item) == str(folder)
