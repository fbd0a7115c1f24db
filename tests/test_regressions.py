"""Why a candidate is slower than its control, from real profiles of both."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from harness import regressions
from harness.domain.providers import BUILTIN
from harness.domain.session import SessionConfig
from harness.domain.values import Values
from harness.measuring import Side
from harness.regressions import explain_regression
from harness.runtimes.launchers import LocalLauncher
from harness.runtimes.registry import Resolved, Runtime
from harness.testing import make_model, tensor_info

OWN = Runtime(name="own", python=sys.executable, source="own")
WIDTH = 128
SETS: list[Values] = [
    {"x": np.random.default_rng(seed).normal(size=(16, WIDTH)).astype(np.float32)}
    for seed in range(2)
]


@pytest.fixture(scope="module")
def launcher() -> Iterator[LocalLauncher]:
    """Yield a launcher for all tests of this module."""
    with LocalLauncher() as shared:
        yield shared


def layers(count: int, *, half: bool = False) -> onnx.ModelProto:
    """Return products and Relu in turn, the last one rounded to float16 if asked for."""
    nodes, weights, last = [], {}, "x"
    for number in range(count):
        weight = np.random.default_rng(number).normal(size=(WIDTH, WIDTH)) / WIDTH**0.5
        weights[f"w{number}"] = weight.astype(np.float32)
        nodes.append(helper.make_node("MatMul", [last, f"w{number}"], [f"m{number}"]))
        nodes.append(helper.make_node("Relu", [f"m{number}"], [f"v{number}"]))
        last = f"v{number}"
    if half:
        nodes.append(helper.make_node("Cast", [last], ["half"], to=onnx.TensorProto.FLOAT16))
        nodes.append(helper.make_node("Cast", ["half"], ["full"], to=onnx.TensorProto.FLOAT))
        last = "full"
    ends = [tensor_info(name, shape=["batch", WIDTH]) for name in ("x", last)]
    return make_model(nodes, ends[:1], ends[1:], weights)


def gelus(count: int) -> onnx.ModelProto:
    """Return the five operators of GELU, `count` times, after a product each."""
    weights = {"root": np.array(2**0.5), "one": np.array(1), "half": np.array(0.5)}
    weights = {name: value.astype(np.float32) for name, value in weights.items()}
    weights["w"] = (np.eye(WIDTH) * 0.9).astype(np.float32)
    nodes, last = [], "x"
    for number in range(count):
        names = [f"{part}{number}" for part in ("m", "d", "e", "a", "p", "y")]
        steps = [
            ("MatMul", [last, "w"]),
            ("Div", [names[0], "root"]),
            ("Erf", [names[1]]),
            ("Add", [names[2], "one"]),
            ("Mul", [names[0], names[3]]),
            ("Mul", [names[4], "half"]),
        ]
        nodes += [
            helper.make_node(op, inputs, [name])
            for (op, inputs), name in zip(steps, names, strict=True)
        ]
        last = names[-1]
    ends = [tensor_info(name, shape=["batch", WIDTH]) for name in ("x", last)]
    return make_model(nodes, ends[:1], ends[1:], weights)


def side(path: Path, model: onnx.ModelProto, *, optimization: str = "all") -> Side:
    """Return a side of the comparison on the CPU."""
    path.write_bytes(model.SerializeToString())
    return Side(
        path=path,
        resolved=Resolved(name="cpu", provider=BUILTIN["cpu"], runtime=OWN),
        config=SessionConfig(provider="CPUExecutionProvider", optimization=optimization),
        limits_s=(60, 10),
    )


def test_more_layers_are_told(launcher: LocalLauncher, tmp_path: Path) -> None:
    """The operator that takes the time accounts for it, with the nodes that were added."""
    candidate, control = side(tmp_path / "b", layers(24)), side(tmp_path / "a", layers(12))
    found = explain_regression(launcher, candidate=candidate, control=control, sets=SETS)
    first = found.accounting[0]
    assert (first.op, first.control_nodes, first.candidate_nodes) == ("MatMul", 12, 24)
    assert found.lines()[-1] == "graph:    MatMul 12 -> 24; Relu 12 -> 24"


def test_a_lost_fusion_is_told(launcher: LocalLauncher, tmp_path: Path) -> None:
    """By the operators that came back, and by the setting that took the fusion away."""
    candidate = side(tmp_path / "b", gelus(6), optimization="disabled")
    control = side(tmp_path / "a", gelus(6))
    found = explain_regression(launcher, candidate=candidate, control=control, sets=SETS)
    assert {each.op for each in found.accounting} >= {"Div", "Add", "Mul"}
    *_, graph, settings = found.lines()
    assert graph.startswith("graph:    Gelu 6 -> 0; ")
    assert "Mul 0 -> 12" in graph
    assert settings == "settings: optimisation disabled (all)"


def test_an_extra_pair_of_casts_is_told(launcher: LocalLauncher, tmp_path: Path) -> None:
    """Where the graph differs by them only."""
    candidate = side(tmp_path / "b", layers(4, half=True))
    control = side(tmp_path / "a", layers(4))
    found = explain_regression(launcher, candidate=candidate, control=control, sets=SETS)
    assert found.lines()[-1] == "graph:    Cast 0 -> 2"


def test_a_trouble_is_told_and_not_raised(launcher: LocalLauncher, tmp_path: Path) -> None:
    """What explains a verdict must not replace it."""
    good = side(tmp_path / "a", layers(2))
    broken = dataclasses.replace(good, path=tmp_path / "none")
    found = explain_regression(launcher, candidate=broken, control=good, sets=SETS)
    assert found.problem.startswith("NoSuchFile while opening a session: ")
    assert found.lines()[0].startswith("profile:  none: NoSuchFile while opening a session")


def test_a_bug_of_ours_is_told_and_not_raised(
    launcher: LocalLauncher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same for what nobody expected."""

    def fail(*_: object) -> float:
        return 1 / 0

    monkeypatch.setattr(regressions, "_run", fail)
    good = side(tmp_path / "a", layers(2))
    found = explain_regression(launcher, candidate=good, control=good, sets=SETS)
    assert found.lines() == ["profile:  none: ZeroDivisionError: division by zero"]


def test_long_calls_are_profiled_fewer_times() -> None:
    """One call of each side in a round is enough where it takes so long."""

    class Slow:
        """Counts the calls that were asked for."""

        def __init__(self, call_ns: float) -> None:
            self.call_ns, self.calls = call_ns, 0

        def warm(self) -> float:
            """Return the length of a call."""
            return self.call_ns

        def run(self, calls: int) -> None:
            """Count."""
            self.calls += calls

    for call_ns, expected in ((2e8, 1), (3e7, 6), (1e4, 30)):
        pair = [Slow(call_ns), Slow(call_ns / 2)]
        assert regressions._run(pair) == call_ns  # type: ignore[arg-type] # what it asks of them
        assert [each.calls for each in pair] == [expected, expected]
