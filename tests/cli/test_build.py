"""`onnx-harness build`."""

from __future__ import annotations

import onnx
import pytest

from harness.testing import MiniProject, file_spec
from tests.builds.test_steps import chain
from tests.cli.conftest import Command

pytest.importorskip("onnxruntime")

INPUTS = """[inputs.x]
dtype = "float32"
shape = ["batch", 32]

[dims]
batch = { max = 8 }"""
BUILDS = """
[variants.half]
build = ["float16"]
reason = "half the size"

[variants.int8]
build = [{ step = "quantize-dynamic", per_channel = true }]
reason = "a quarter of the size"
outputs.y.measures = { snr_db = 20.0 }

[outputs.y]
"""


@pytest.fixture
def built(project: MiniProject) -> MiniProject:
    """Return a project with two builds of one model; scope function."""
    files = {"model.onnx": chain().SerializeToString()}
    project.add_model("net", file_spec(inputs=INPUTS, more=BUILDS), files)
    return project


@pytest.mark.usefixtures("built")
def test_builds_are_told_beside_their_candidate(command: Command) -> None:
    """Sizes, nodes and operators; the second call is the same."""
    result = command("build")
    assert (result.code, result.err) == (0, "")
    half, int8 = (
        line for line in result.out.splitlines() if line.startswith("net/") and "kB" in line
    )
    assert half.split()[:2] == ["net/half", "float16"]
    assert int8.split()[:2] == ["net/int8", "quantize-dynamic"]
    assert "net/half: Cast 0 -> 2" in result.out
    assert "MatMul 2 -> 0; " in result.out
    assert command("build").out == result.out
    told = command("build", "net", "--variant", "int8", "--json").json
    assert [each["build"] for each in told["builds"]] == ["net/int8"]
    assert told["builds"][0]["bytes"] < 0.5 * told["builds"][0]["candidate_bytes"]


def test_builds_can_be_taken_along(built: MiniProject, command: Command) -> None:
    """They lie by model and name, and load."""
    assert command("build", "--output", "shipped").code == 0
    files = sorted((built.root / "shipped").rglob("*.onnx"))
    assert [str(each.relative_to(built.root / "shipped").parent) for each in files] == [
        "net/half",
        "net/int8",
    ]
    for file in files:
        onnx.checker.check_model(file)


def test_one_that_fails_does_not_keep_the_others(built: MiniProject, command: Command) -> None:
    """It is told by its step, with exit code 1."""
    spec = built.models / "net" / "model.toml"
    spec.write_text(spec.read_text().replace('"float16"]', '{ step = "float16", keep = ["Gru"] }]'))
    result = command("build")
    assert result.code == 1
    assert "'net/half' cannot be built. 'keep' names 'Gru', which is not there" in result.err
    assert "net/int8" in result.out


@pytest.mark.usefixtures("built")
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nest"], "unknown model 'nest'"),
        (["net", "--variant", "int4"], "unknown build 'int4'"),
    ],
)
def test_unknown_names_are_refused(command: Command, arguments: list[str], says: str) -> None:
    """With the nearest one that there is."""
    result = command("build", *arguments)
    assert (result.code, result.out) == (2, "")
    assert says in result.err.lower()


def test_without_builds_there_is_nothing_to_do(project: MiniProject, command: Command) -> None:
    """Exit code 0 would say that something was made."""
    project.add_model("net", file_spec(), {"model.onnx": b""})
    result = command("build")
    assert result.code == 2
    assert "No model declares a build by steps" in result.err


def test_the_suites_judge_quantised_builds(built: MiniProject) -> None:
    """By the measures of their spec, which they can miss; elements have no bound."""
    outcome = built.run("--provider", "cpu", "-m", "contract or parity")
    assert outcome.exit_code == 0, outcome.text
    item = outcome.items["parity net/int8/cpu/one"]
    assert item.facts["tolerance"].startswith("measures: there is no bound")
    spec = built.models / "net" / "model.toml"
    spec.write_text(spec.read_text().replace("snr_db = 20.0", "snr_db = 90.0"))
    outcome = built.run("--provider", "cpu", "-k", "int8 and parity", "--no-localise")
    item = outcome.items["parity net/int8/cpu/one"]
    assert item.verdict == "FAIL"
    assert [each["code"] for each in item.findings] == ["parity.measure"]


@pytest.mark.usefixtures("built")
def test_the_rule_of_a_build_is_explained(command: Command) -> None:
    """Measures judge int8; float16 has its own row of the table where nothing better is known."""
    told = command("explain", "net/int8/cpu/one").out
    assert "outputs.y.measures" in told
    assert "says nothing about a quantised build" in told
    assert "atol 0.001, rtol 0.01" in command("explain", "net/half/cpu/one").out


def test_a_broken_candidate_blocks_its_builds(built: MiniProject) -> None:
    """It is told once in full; builds say what they wait for."""
    model = built.models / "net" / "model.onnx"
    model.write_bytes(model.read_bytes()[:500])
    outcome = built.run("--provider", "cpu", "-m", "contract")
    codes = {key: item.findings[0]["code"] for key, item in outcome.items.items()}
    assert codes == {
        "contract net/fp32": "model.unreadable",
        "contract net/half": "blocked",
        "contract net/int8": "blocked",
    }
