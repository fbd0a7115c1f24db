"""`onnx-harness compare`."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from harness.duets import Duet
from harness.errors import HarnessError, RunFailed
from harness.runtimes.quiet import Quiet
from harness.testing import MiniProject, make_model, tensor_info
from tests.cli.conftest import Command

pytest.importorskip("scipy")

WIDTH = 48


def write(path: Path, layers: int, *, name: str = "x") -> Path:
    """Write products and Relu in turn."""
    weights, nodes, last = {}, [], name
    for number in range(layers):
        weight = np.random.default_rng(number).normal(size=(WIDTH, WIDTH)) / WIDTH**0.5
        weights[f"w{number}"] = weight.astype(np.float32)
        nodes.append(helper.make_node("MatMul", [last, f"w{number}"], [f"m{number}"]))
        nodes.append(helper.make_node("Relu", [f"m{number}"], [f"v{number}"]))
        last = f"v{number}"
    shape: list[int | str] = ["batch", WIDTH]
    inputs, outputs = [tensor_info(name, shape=shape)], [tensor_info(last, shape=shape)]
    model: onnx.ModelProto = make_model(nodes, inputs, outputs, weights)
    path.write_bytes(model.SerializeToString())
    return path


def test_a_model_with_twice_the_layers_is_slower(project: MiniProject, command: Command) -> None:
    """It is seen in every stage, and told with interval, sentinel, inputs, seed and reasons."""
    control, candidate = write(project.root / "a.onnx", 20), write(project.root / "b.onnx", 40)
    result = command("compare", control, candidate, "--dim", "batch=8", "--seed", 1)
    lines = result.out.splitlines()
    assert result.code == 1, result.out + result.err
    assert lines[0].startswith(f"'{candidate}' on cpu is slower than '{control}' on cpu: +")
    labels = [line.split(":")[0].strip() for line in lines[1:]]
    assert labels[:11] == [
        *("p50", "interval", "screen", "confirmation 1", "confirmation 2"),
        *("start-up", "memory", "inputs", "measured", "seed", "profile"),
    ]
    assert "slower" in labels[11:-2]
    assert labels[-2:] == ["graph", "outputs"]
    assert {"MatMul 20 -> 40", "Relu 20 -> 40"} == {*lines[-2][12:].split("; ")}
    assert "lacks output 'v19'" in lines[-1]
    assert lines[8] == "  inputs:   4 sets of x [8, 48]"
    assert lines[10] == "  seed:     1"


def test_a_copy_is_never_called_slower_or_faster(project: MiniProject, command: Command) -> None:
    """On a busy machine it may not be judged; JSON tells all that was measured."""
    control, candidate = write(project.root / "a.onnx", 20), write(project.root / "b.onnx", 20)
    result = command("compare", control, candidate, "--json")
    told = result.json
    assert told["outcome"] not in {"slower", "faster"}, result.out
    assert result.code == (0 if told["outcome"] in {"same", "not slower"} else 1)
    assert len(told["stages"][0]["candidate"]) >= 8
    assert told["calls"] > 0
    assert told["inputs"] == {"x": [1, WIDTH]}
    assert told["explanation"] is None
    assert told["other_outputs"] == []


def test_other_values_are_told_beside_the_speed(project: MiniProject, command: Command) -> None:
    """A candidate that gives something else may well be as fast."""
    control, candidate = write(project.root / "a.onnx", 3), project.root / "b.onnx"
    model = onnx.load(control)
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(
        np.eye(WIDTH, dtype=np.float32), model.graph.initializer[0].name
    ))  # fmt: skip
    onnx.save(model, candidate)
    told = command("compare", control, candidate, "--json").json
    assert told["other_outputs"]
    assert "'v2'" in told["other_outputs"][0]


def test_the_picture_and_the_reasons_of_a_faster_candidate(
    project: MiniProject, command: Command
) -> None:
    """Both go with JSON too."""
    pytest.importorskip("matplotlib")
    control, candidate = write(project.root / "a.onnx", 40), write(project.root / "b.onnx", 20)
    picture = project.root / "picture.png"
    result = command("compare", control, candidate, "--json", "--plot", picture)
    told = result.json
    assert told["outcome"] not in {"same", "slower"}, result.out
    if told["outcome"] == "faster":  # else the machine was too busy to judge
        graph = told["explanation"]["lines"][-1]  # in the order of what they cost
        assert graph.startswith("graph: ")
        assert {"MatMul 40 -> 20", "Relu 40 -> 20"} == {*graph[10:].split("; ")}
        assert {each["op"] for each in told["explanation"]["operators"]} == {"MatMul", "Relu"}
        assert told["explanation"]["slower"] is False
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["a.onnx"], "Candidate and control are the same recipe: they cannot differ"),
        (["a.onnx", "none.onnx"], "Model file 'none.onnx' does not exist"),
        (["a.onnx", "b.onnx", "--dim", "rows=2"], "Unknown dimension 'rows'"),
        (["a.onnx", "b.onnx", "--dim", "batch=none"], "'batch=none' gives no size"),
        (["a.onnx", "b.onnx", "--provider", "cuba"], "Unknown provider 'cuba'"),
        (["a.onnx", "--against", "cpu@none"], "Runtime 'none' is unknown\n  where:    --against\n"),
        (["a.onnx", "."], "Model file '.' is a folder"),
    ],
    ids=["same", "missing", "dimension", "size", "provider", "runtime", "folder"],
)
def test_what_cannot_be_compared_is_refused(
    project: MiniProject, command: Command, arguments: Sequence[str], says: str
) -> None:
    """Before anything is measured, with what was expected."""
    for name in ("a.onnx", "b.onnx"):
        write(project.root / name, 2)
    result = command("compare", *arguments)
    assert (result.code, result.out) == (2, "")
    assert says in result.err


def test_a_candidate_with_other_inputs_is_refused(project: MiniProject, command: Command) -> None:
    """And so is a file that is no model: by its name, before anything is measured."""
    control = write(project.root / "a.onnx", 2)
    write(project.root / "b.onnx", 2, name="other")
    (project.root / "c.onnx").write_bytes(control.read_bytes()[:500])
    for name in ("b.onnx", "c.onnx"):
        result = command("compare", "a.onnx", name)
        assert (result.code, result.out) == (2, "")
        assert f"'{name}' cannot be timed: " in result.err
        assert f"where:    {name}, on cpu" in result.err


def test_a_provider_that_runs_no_node_is_refused(project: MiniProject, command: Command) -> None:
    """Azure's session lists it, and every node is on the CPU: the CPU would be timed."""
    for name in ("a.onnx", "b.onnx"):
        write(project.root / name, 2)
    result = command("compare", "a.onnx", "b.onnx", "--provider", "azure")
    assert (result.code, result.out) == (3, "")
    assert "AzureExecutionProvider was requested, but the session" in result.err
    assert "nodes {'CPUExecutionProvider': " in result.err


def test_a_folded_graph_is_not_timed(project: MiniProject, command: Command) -> None:
    """Nothing is left to run, which the message says."""
    shape = helper.make_node("Shape", ["x"], ["size"])
    zeros = helper.make_node("ConstantOfShape", ["size"], ["y"])
    infos = [tensor_info(name, shape=(1, 4)) for name in "xy"]
    for name in ("a.onnx", "b.onnx"):
        onnx.save(make_model([shape, zeros], infos[:1], infos[1:]), project.root / name)
    result = command("compare", "a.onnx", "b.onnx")
    assert (result.code, result.out) == (3, "")
    assert "the graph was folded to constants" in result.err


def test_a_failed_comparison_of_outputs_loses_no_measurement(
    project: MiniProject, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told beside what was measured."""

    def fail(*_: object) -> list[str]:
        msg = "The worker died"
        raise HarnessError(msg)

    monkeypatch.setattr("harness.cli.compare._other_outputs", fail)
    control, candidate = write(project.root / "a.onnx", 3), write(project.root / "b.onnx", 9)
    result = command("compare", control, candidate)
    assert "is slower than" in result.out
    assert "outputs:  were not compared: The worker died" in result.out


def test_it_measures_alone(
    project: MiniProject, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody else gets at the machine's lock meanwhile; what comes before does not need it."""
    for name in ("a.onnx", "b.onnx"):
        write(project.root / name, 2)
    monkeypatch.setenv("ONNX_HARNESS_LOCKS", str(project.root))
    events = []

    class Recorder(Quiet):
        @contextmanager
        def exclusive(self) -> Iterator[None]:
            with super().exclusive():
                events.append(sorted(each.name for each in project.root.glob("onnx-harness.*")))
                yield
                events.append(["left"])

    def judge(_: Duet, __: object) -> None:
        events.append(["measured"])
        msg = "enough"
        raise RunFailed(msg, code="run.failed")

    monkeypatch.setattr("harness.runtimes.quiet.Quiet", Recorder)
    monkeypatch.setattr(Duet, "judge", judge)
    assert "enough" in command("compare", "a.onnx", "b.onnx").err
    assert events == [["onnx-harness.lock", "onnx-harness.turnstile"], ["measured"]]


def test_it_says_how_far_it_is(
    project: MiniProject, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model of a second a call takes minutes; nobody waits that long without a word."""
    for name in ("a.onnx", "b.onnx"):
        write(project.root / name, 2)
    said: list[str] = []

    @contextmanager
    def saying(_: str) -> Iterator[Callable[[str], None]]:
        yield said.append

    monkeypatch.setattr("harness.cli.compare.saying", saying)
    command("compare", "a.onnx", "b.onnx")
    told = [each for each in said if each.startswith("measured pair ")]
    assert len(told) >= 8
    assert told[0].startswith("measured pair 1 of 8 to 72, ")


def test_without_scipy_nothing_is_measured(
    project: MiniProject, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message says what to install."""
    real = importlib.util.find_spec("scipy")
    assert real is not None
    monkeypatch.setitem(__import__("sys").modules, "scipy", None)
    for name in ("a.onnx", "b.onnx"):
        write(project.root / name, 2)
    result = command("compare", "a.onnx", "b.onnx")
    assert result.code == 3
    assert "pip install 'onnx-harness[latency]'" in result.err


def test_without_matplotlib_nothing_is_measured_for_a_picture(
    project: MiniProject, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message says what to install, before anything is measured."""
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    for name in ("a.onnx", "b.onnx"):
        write(project.root / name, 2)
    result = command("compare", "a.onnx", "b.onnx", "--plot", "picture.png")
    assert (result.code, result.out) == (3, "")
    assert "pip install 'onnx-harness[plots]'" in result.err


def test_a_picture_never_overwrites_a_model(project: MiniProject, command: Command) -> None:
    """Also one whose name is that of a picture."""
    write(project.root / "a.onnx", 2)
    model = write(project.root / "b.png", 2).read_bytes()
    result = command("compare", "a.onnx", "b.png", "--plot", "b.png")
    assert result.code == 2
    assert "'b.png' is one of the models: it would be overwritten" in result.err
    assert (project.root / "b.png").read_bytes() == model
