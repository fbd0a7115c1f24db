"""`onnx-harness prove`: what kills mutants, why others survive, and what proves nothing."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from harness.testing import (
    MiniProject,
    file_spec,
    linear_model,
    make_model,
    tensor_info,
)
from tests.cli.conftest import Command
from tests.proving.zoo import conv_net, waves

pytest.importorskip("onnxruntime")

CASES = """[[case]]
name = "three"
dims = { batch = 3 }

[[case]]
name = "many"
dims = { batch = 8 }"""
LOOSE = """[outputs.y]
tolerance.default = { atol = 9.0, rtol = 0.5, reason = "a test of loose tolerances" }"""
IMAGES = """[inputs.x]
dtype = "float32"
shape = ["batch", 1, 6, 6]

[dims]
batch = { max = 8 }"""


def add(project: MiniProject, name: str, model: onnx.ModelProto, **spec: str) -> None:
    """Add a model of one file."""
    text = file_spec(**{"case": CASES, **spec})
    project.add_model(name, text, {"model.onnx": model.SerializeToString()})


def summed(nodes: list[onnx.NodeProto], **weights: Any) -> onnx.ModelProto:
    """Return a model from x of [batch, 3] to y of the same shape."""
    shape: list[int | str] = ["batch", 3]
    return make_model(
        nodes, [tensor_info("x", shape=shape)], [tensor_info("y", shape=shape)], weights
    )


def trials(result: Any) -> dict[str, Any]:
    """Return the trials of the only model by id."""
    (model,) = result.json["models"]
    return {trial["id"]: trial for trial in model["trials"]}


def test_a_strict_suite_kills_its_mutants(project: MiniProject, command: Command) -> None:
    """Exit code 0, and what killed each is told."""
    add(project, "tiny", linear_model())
    result = command("prove", "--json")
    (model,) = result.json["models"]
    assert (result.code, model["proved"], model["score"], model["faults"]) == (0, True, 1.0, [])
    assert {trial["killed_by"] for trial in model["trials"]} >= {"parity"}
    assert {"drop-bias", "scale-channel", "mix-rows"} <= {t["kind"] for t in model["trials"]}
    assert model["curve"]["1e0"]["made"] >= model["curve"]["1e0"]["killed"] > 0


def test_the_text_holds_table_score_and_curve(project: MiniProject, command: Command) -> None:
    """One headline, one row per kind, the curve, a summary."""
    add(project, "tiny", linear_model())
    result = command("prove", "tiny", "--limit", "8")
    lines = result.out.splitlines()
    assert lines[0].startswith("tiny: score 100.0%, 8 of 8 killed (8 mutants of ")
    assert lines[1].split() == ["kind", "made", "killed", "equivalent", "survived", "undecided"]
    assert "single weights killed, by relative amount (not counted): 1e-4: " in result.out
    assert lines[-1] == "1 of 1 model proved"


def test_two_runs_say_the_same(project: MiniProject, command: Command) -> None:
    """Nothing is left to chance."""
    add(project, "tiny", linear_model())
    first, second = (command("prove", "--json", "--limit", "6").out for _ in range(2))
    assert first == second


def test_a_mutant_that_is_no_valid_model_is_killed_by_the_contract(
    project: MiniProject, command: Command
) -> None:
    """Told apart from what only comparing values can find."""
    add(project, "net", conv_net(), inputs=IMAGES)
    found = trials(command("prove", "--json", "--limit", "30"))
    stride = found["change-stride/pool/2-3"]
    assert (stride["fate"], stride["killed_by"], stride["code"]) == (
        "killed",
        "contract",
        "model.invalid",
    )
    assert found["drop-bias/conv"]["killed_by"] == "parity"


def test_weights_that_do_nothing_make_equivalent_mutants(
    project: MiniProject, command: Command
) -> None:
    """They are counted apart, and lower no score."""
    nodes = [
        helper.make_node("Sub", ["x", "far"], ["below"]),
        helper.make_node("Relu", ["below"], ["zero"]),
        helper.make_node("Mul", ["x", "w"], ["alive"]),
        helper.make_node("Add", ["alive", "zero"], ["y"], name="sum"),
    ]
    add(project, "tiny", summed(nodes, far=np.full(3, 50, np.float32), w=waves(3)))
    result = command("prove", "--json", "--limit", "30")
    dead = trials(result)["scale-tensor/far/1e-1"]
    assert (dead["fate"], dead["reason"]) == ("equivalent", "dead weights")
    assert dead["told"].startswith("float64 outputs are the same, over 10")
    (model,) = result.json["models"]
    assert (result.code, model["score"]) == (0, 1.0)


def test_a_loose_tolerance_lets_mutants_survive(project: MiniProject, command: Command) -> None:
    """The score falls below the minimum, and the tolerance that would kill is told."""
    add(project, "tiny", linear_model(), more=LOOSE)
    result = command("prove", "--json")
    survivor = trials(result)["scale-tensor/w/1e-1"]
    assert (survivor["fate"], survivor["reason"]) == ("survived", "tolerance too loose")
    assert survivor["remedy"].startswith("tolerances below 0.0")
    assert result.code == 1
    assert "its suite kills" in result.json["models"][0]["faults"][0]


def test_a_lower_minimum_with_a_reason_is_enough(project: MiniProject, command: Command) -> None:
    """The spec says what a model's suite has to reach."""
    loose = LOOSE.replace("9.0", "1e-3")
    add(project, "tiny", linear_model(), more=loose)
    assert command("prove").code == 1
    prove = f'{loose}\n[prove]\nminimum = 0.1\nreason = "a test"'
    add(project, "tiny", linear_model(), more=prove)
    assert command("prove").code == 0


def test_a_lower_minimum_needs_a_reason(project: MiniProject, command: Command) -> None:
    """Like every value that loosens a check."""
    add(project, "tiny", linear_model(), more="[prove]\nminimum = 0.1")
    result = command("prove", "tiny")
    assert result.code == 2
    assert "needs a 'reason'" in result.out


def test_cases_that_show_too_little_are_told_with_one_that_shows_more(
    project: MiniProject, command: Command
) -> None:
    """The case that is printed has the inputs that showed the difference."""
    zeros = io.BytesIO()
    np.savez(zeros, x=np.zeros((2, 3), np.float32))
    case = '[[case]]\nname = "zeros"\ninputs = "zeros.npz"'
    cases_alone = '[properties]\nnot_applicable = "only the cases are asked here"'
    add(project, "tiny", linear_model(), case=case, more=cases_alone)
    project.write("models/tiny/zeros.npz", zeros.getvalue())
    result = command("prove", "--json", "--limit", "30")
    survivor = trials(result)["scale-tensor/w/1e-1"]
    assert (survivor["fate"], survivor["reason"]) == ("survived", "input range too narrow")
    assert survivor["remedy"] == '[[case]]\nname = "drawn1"\ndims = { batch = 8 }'
    more_cases = f"{case}\n\n{survivor['remedy']}"
    add(project, "tiny", linear_model(), case=more_cases, more=cases_alone)
    again = trials(command("prove", "--json", "--limit", "30"))
    assert again["scale-tensor/w/1e-1"]["killed_by"] == "parity"


def test_a_range_that_is_too_narrow_is_told(project: MiniProject, command: Command) -> None:
    """Inside it the difference is allowed, four times as far out it is not."""
    nodes = [
        helper.make_node("Pow", ["x", "eight"], ["power"]),
        helper.make_node("Mul", ["power", "w"], ["little"]),
        helper.make_node("Add", ["x", "little"], ["y"]),
    ]
    weights = {"eight": np.array(8, np.float32), "w": np.array(1e-5, np.float32)}
    loose = 'tolerance.default = { atol = 1e-5, rtol = 1e-4, reason = "what the table allows" }'
    add(project, "tiny", summed(nodes, **weights), more=f"[outputs.y]\n{loose}")
    survivor = trials(command("prove", "--json", "--limit", "30"))["scale-tensor/w/1e-1"]
    assert (survivor["fate"], survivor["reason"]) == ("survived", "input range too narrow")
    assert survivor["told"].startswith("with the ranges of floating inputs 4 times as wide")


ENCODED = '[inputs.x]\ndtype = "float32"\nshape = ["batch"]\n\n[dims]\nbatch = { max = 8 }'


def flags(weight: float) -> onnx.ModelProto:
    """Return a model with an operator that the evaluator computes in float32, and a dead part."""
    encoder = helper.make_node(
        "OneHotEncoder",
        ["whole"],
        ["short"],
        name="flags",
        domain="ai.onnx.ml",
        cats_int64s=[0, 1],
    )
    nodes = [
        helper.make_node("Cast", ["x"], ["whole"], to=onnx.TensorProto.INT64),
        encoder,
        helper.make_node("Cast", ["short"], ["flags"], to=onnx.TensorProto.FLOAT),
        helper.make_node("Mul", ["flags", "w"], ["part"]),
        helper.make_node("Unsqueeze", ["x", "last"], ["column"]),
        helper.make_node("Add", ["part", "column"], ["sum"]),
        helper.make_node("Max", ["sum", "far"], ["y"]),
    ]
    return make_model(
        nodes,
        [tensor_info("x", shape=["batch"])],
        [tensor_info("y", shape=["batch", 2])],
        {
            "w": np.full(2, weight, np.float32),
            "far": np.array(-100, np.float32),
            "last": np.array([1]),
        },
        domains={"ai.onnx.ml": 3},
    )


def test_what_cannot_be_computed_in_float64_is_undecided(
    project: MiniProject, command: Command
) -> None:
    """Below the original's own distance from its reference; it counts as survived."""
    other = {"other.onnx": flags(0.31).SerializeToString()}
    project.add_model("flags", files=other)
    add(project, "flags", flags(0.3), inputs=ENCODED, more=LOOSE, reference='onnx = "other.onnx"')
    result = command("prove", "--json", "--limit", "40")
    undecided = trials(result)["scale-tensor/w/1e-3"]
    assert (undecided["fate"], undecided["reason"]) == ("undecided", "no float64 to compare with")
    assert "OneHotEncoder 'flags': output 'short' is float32" in undecided["told"]
    assert undecided["remedy"].startswith("no tolerance: the unmutated model itself uses ")
    assert result.code == 1
    larger = trials(result)["scale-tensor/w/1e-1"]
    assert (larger["fate"], larger["reason"]) == ("survived", "tolerance too loose")


def test_without_float64_the_same_bits_are_equivalent(
    project: MiniProject, command: Command
) -> None:
    """A limit that nothing reaches changes no bit of any output."""
    add(project, "flags", flags(0.3), inputs=ENCODED)
    dead = trials(command("prove", "--json", "--limit", "40"))["scale-tensor/far/1e-1"]
    assert (dead["fate"], dead["reason"]) == ("equivalent", "dead weights")
    assert dead["told"].startswith("outputs are the same bit for bit over 10")


def test_a_model_that_is_constant_is_called_out(project: MiniProject, command: Command) -> None:
    """However many mutants its suite kills."""
    nodes = [
        helper.make_node("Mul", ["x", "zero"], ["nothing"]),
        helper.make_node("Add", ["nothing", "w"], ["y"]),
    ]
    add(project, "tiny", summed(nodes, zero=np.zeros(3, np.float32), w=waves(3)))
    result = command("prove")
    assert result.code == 1
    assert "  PROVES NOTHING: its outputs move by 0 of their size when its inputs" in result.out


def test_a_model_that_fails_its_own_suite_is_refused(
    project: MiniProject, command: Command
) -> None:
    """Every mutant would seem to be killed."""
    other = {"other.onnx": linear_model(scale=2.0).SerializeToString()}
    add(project, "tiny", linear_model(), reference='onnx = "other.onnx"')
    project.add_model("tiny", files=other)
    result = command("prove")
    assert result.code == 1
    assert "'tiny' fails its own suite without any mutation" in result.out
    assert "0 of 1 model proved" in result.out


def test_one_model_that_cannot_be_judged_does_not_keep_the_others_away(
    project: MiniProject, command: Command
) -> None:
    """Its fault decides the exit code, the other is proved all the same."""
    add(project, "tiny", linear_model())
    project.add_model("broken", "schema_version = 7")
    result = command("prove", "--json", "--limit", "6")
    broken, tiny = result.json["models"]
    assert (result.code, broken["proved"], tiny["proved"]) == (2, False, True)
    assert broken["refused"]["code"] == "spec.invalid"


def test_an_unknown_model_is_a_usage_error(project: MiniProject, command: Command) -> None:
    """With the nearest name that is known."""
    add(project, "tiny", linear_model())
    result = command("prove", "tinny")
    assert result.code == 2
    assert "error: There is no model 'tinny'" in result.err
    assert "did you mean 'tiny'" in result.err


def test_a_model_that_does_not_run_on_the_cpu_is_refused(
    project: MiniProject, command: Command
) -> None:
    """Mutants are judged there."""
    add(project, "tiny", linear_model(), providers='cpu = { not_applicable = "a test" }')
    result = command("prove")
    assert result.code == 2
    assert "'tiny' does not run on cpu, where mutants are judged" in result.out


def test_a_missing_package_is_a_fault_of_the_environment(
    project: MiniProject, command: Command
) -> None:
    """Not judged is not proved."""
    add(project, "tiny", linear_model())
    spec = project.models / "tiny" / "model.toml"
    spec.write_text(spec.read_text().replace("[candidate]", 'requires = ["no-such"]\n[candidate]'))
    result = command("prove")
    assert result.code == 3
    assert "no-such" in result.out


def test_inputs_of_killed_mutants_are_not_kept(project: MiniProject, command: Command) -> None:
    """They would take the place of those of real failures."""
    add(project, "tiny", linear_model())
    assert command("prove", "--limit", "6").code == 0
    assert not (project.root / ".cache" / "failures").exists()
    assert (project.root / ".cache" / "references").is_dir()


def test_a_recorded_model_is_proved_by_its_recordings(
    project: MiniProject, command: Command
) -> None:
    """A survivor asks for one more recording: a drawn case would have no expected outputs."""
    model = linear_model()
    (w, b) = (onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer)
    still, moving = np.zeros((2, 3), np.float32), waves(2, 3)
    project.add_zoo_model("zoo", model, [([still], [still @ w + b])])
    survivor = trials(command("prove", "--json", "--limit", "30"))["scale-tensor/w/1e-1"]
    assert survivor["fate"] == "survived"
    assert survivor["remedy"] == "one more recorded data set, with other inputs"
    project.add_zoo_model("more", model, [([moving], [moving @ w + b])])
    assert command("prove", "more", "--limit", "30").code == 0
