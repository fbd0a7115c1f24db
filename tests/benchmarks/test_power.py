"""Parts of the gate's trial: models of the same work, real faults, tables that count."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from harness.testing import make_model, tensor_info

pytest.importorskip("scipy")
onnxruntime = pytest.importorskip("onnxruntime")

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def subjects(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Return the module of models; scope function."""
    return _imported("power.subjects", monkeypatch)


@pytest.fixture
def tables(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Return the module of tables; scope function."""
    return _imported("power.tables", monkeypatch)


def block() -> onnx.ModelProto:
    """Return a piece of a transformer whose inner shapes are known."""
    random = np.random.default_rng(0)
    weights = {
        "w": random.standard_normal((8, 8), dtype=np.float32),
        "b": random.standard_normal(8, dtype=np.float32),
        "scale": np.ones(8, dtype=np.float32),
        "shift": np.zeros(8, dtype=np.float32),
    }
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["product"]),
        helper.make_node("Add", ["product", "b"], ["biased"]),
        helper.make_node("Gelu", ["biased"], ["active"]),
        helper.make_node("Add", ["active", "x"], ["sum"]),
        helper.make_node("LayerNormalization", ["sum", "scale", "shift"], ["y"]),
    ]
    model = make_model(nodes, [tensor_info("x", shape=(1, 4, 8))], [tensor_info("y")], weights)
    del model.graph.output[0].type.tensor_type.shape.dim[:]
    model.graph.output[0].CopyFrom(tensor_info("y", shape=(1, 4, 8)))
    return onnx.shape_inference.infer_shapes(model)


def outputs(model: onnx.ModelProto) -> Any:
    """Return what a model gives for one input."""
    feeds = {"x": np.linspace(-2, 2, 32, dtype=np.float32).reshape(1, 4, 8)}
    return _session(model).run(None, feeds)[0]


def optimised(model: onnx.ModelProto, folder: Path) -> list[str]:
    """Return the operators that are left after ONNX Runtime optimised a model."""
    path = folder / "optimised.onnx"
    _session(model, path)
    return sorted(node.op_type for node in onnx.load(path).graph.node)


def test_a_reordered_model_is_another_file_with_the_same_work(
    subjects: ModuleType, tmp_path: Path
) -> None:
    """Its names differ, its outputs and what ONNX Runtime makes of it do not."""
    model = block()
    other = subjects.reordered(model, 1)
    assert other.SerializeToString() != model.SerializeToString()
    assert {node.name for node in other.graph.node}.isdisjoint(
        node.name for node in model.graph.node
    )
    assert outputs(other).tolist() == outputs(model).tolist()
    assert optimised(other, tmp_path) == optimised(model, tmp_path)


def test_layers_are_added_at_the_end(subjects: ModuleType) -> None:
    """Three layers more are three per cent more nodes, with the same weights before them."""
    chain = subjects.chains()[0]
    grown = chain.grown(3)
    assert len(grown.graph.node) == 1.03 * len(chain.model.graph.node)
    first, other = (
        numpy_helper.to_array(model.graph.initializer[7]) for model in (chain.model, grown)
    )
    assert first.tolist() == other.tolist()


@pytest.mark.parametrize("fault", ["LayerNormalization split", "Gelu split", "Cast pair"])
def test_a_fault_survives_optimisation(fault: str, subjects: ModuleType, tmp_path: Path) -> None:
    """ONNX Runtime does not undo it, and the outputs stay what they were."""
    model = block()
    faulty = subjects.GRAPH_FAULTS[fault](model)
    assert len(optimised(faulty, tmp_path)) > len(optimised(model, tmp_path))
    np.testing.assert_allclose(outputs(faulty), outputs(model), atol=5e-3)


def test_dropped_shapes_are_inner_ones(subjects: ModuleType) -> None:
    """The model's inputs and outputs keep theirs."""
    model = block()
    faulty = subjects.GRAPH_FAULTS["inner shapes dropped"](model)
    assert (len(model.graph.value_info) > 0, len(faulty.graph.value_info)) == (True, 0)
    assert (faulty.graph.input, faulty.graph.output) == (model.graph.input, model.graph.output)


def line(outcome: str, *, effect: float = 0.0, truth: str = "unchanged", **more: Any) -> str:
    """Return one recorded decision."""
    pairs = [effect + 0.001 * (number % 5 - 2) for number in range(16)]
    count = 3 if outcome == "slower" else 1
    stages = [
        {"candidate": pairs, "sentinel": [each - effect for each in pairs] if number else []}
        for number in range(count)
    ]
    values = {
        "schema_version": 1, "when": "2026-11-23T10:00:00+00:00", "subject": "matmuls",
        "scale": "0.1 ms", "truth": truth, "way": "gate", "condition": "as found", "variant": 0,
        "seed": 1, "seconds": [5.0] * count, "loads": [1.0] * count, "error": "", "waited": 0.1,
        "workers_ms": {"candidate": [math.exp(effect)] * 3, "control": [1.0] * 3},
        "mean_ratios": pairs,
        "quantities": {
            "p50": {"outcome": outcome, "stages": stages},
            "startup": {"outcome": "same", "stages": stages},
        },
    }  # fmt: skip
    return json.dumps({**values, **more}) + "\n"


def test_a_recording_that_breaks_off_is_read_up_to_there(
    tables: ModuleType, tmp_path: Path
) -> None:
    """Its writer was killed; what it had written whole still counts."""
    file = tmp_path / "decisions.jsonl"
    file.write_text(line("same") + line("same") + line("same")[:40])
    assert len(tables.read([file])) == 2


def test_decisions_are_counted_by_what_was_true(tables: ModuleType, tmp_path: Path) -> None:
    """Alarms, misses, errors and the stored number's verdict each have their place."""
    slower: dict[str, Any] = {"effect": 0.03, "truth": "+3 layers"}
    file = tmp_path / "decisions.jsonl"
    file.write_text(
        line("same") + line("undecided") + line("same", error="worker.died", quantities={})
        + line("slower", **slower) + line("same", **slower)
        + line("slower", effect=0.10, truth="+10 layers")
    )  # fmt: skip
    still, three, ten = tables.groups(tables.read([file]))
    assert (still["decisions"], still["slower"], still["same"], still["not_judged"]) == (3, 0, 1, 2)
    assert (three["decisions"], three["slower"], three["same"]) == (2, 1, 1)
    assert three["stored_slower"]["hits"] == 0
    assert (ten["stored_slower"]["hits"], ten["stored_slower"]["of"]) == (1, 1)
    assert ten["slower_share"]["low"] == pytest.approx(0.025)


def test_moved_decisions_follow_the_rule(tables: ModuleType, tmp_path: Path) -> None:
    """What was seen at 3 % is seen at 2 %, and not where nothing is."""
    file = tmp_path / "decisions.jsonl"
    file.write_text(line("slower", effect=0.03, truth="+3 layers"))
    (points,) = tables.curve(tables.read([file])).values()
    hits = {point["percent"]: point["hits"] for point in points}
    assert (hits[0.0], hits[0.5], hits[2.0], hits[3.0]) == (0, 0, 1, 1)


def test_resampled_decisions_are_of_the_wanted_effect(tables: ModuleType, tmp_path: Path) -> None:
    """Nothing is red where the effect is moved to nothing, all at 3 %."""
    file = tmp_path / "decisions.jsonl"
    file.write_text(5 * line("slower", effect=0.05, truth="+5 layers"))
    found = tables.resampled(tables.read([file]), count=20)
    shares = {each["percent"]: each["slower"]["hits"] / each["slower"]["of"] for each in found}
    assert (shares[0.0], shares[3.0]) == (0.0, 1.0)
    assert not any(each["not_judged"] for each in found)


def test_providers_are_told_apart(tables: ModuleType, tmp_path: Path) -> None:
    """A line without provider is of the CPU; a stored number of another one is none."""
    file = tmp_path / "decisions.jsonl"
    file.write_text(line("same") + line("same", provider="openvino") + line("same"))
    cpu, other = tables.groups(tables.read([file]))
    assert [each["provider"] for each in (cpu, other)] == ["cpu", "openvino"]
    assert [each["stored_slower"]["of"] for each in (cpu, other)] == [1, 0]


def test_bounds_are_told_apart(tables: ModuleType, tmp_path: Path) -> None:
    """Decisions at a bound of half a per cent say nothing about that of one."""
    file = tmp_path / "decisions.jsonl"
    slower = line("slower", effect=0.01, truth="+1 layers", slowdown=0.005)
    file.write_text(line("slower", effect=0.01, truth="+1 layers") + slower)
    decisions = tables.read([file])
    half, usual = tables.groups(decisions)
    assert (half["slowdown"], usual["slowdown"]) == (0.005, 0.01)
    assert [text.split(" | ")[2] for text in list(tables.lines([half, usual]))[2:]] == [
        "+1 layers, bound 0.5%",
        "+1 layers",
    ]
    (points,) = tables.curve(decisions).values()
    assert points[0]["of"] == 1


def test_what_pytest_benchmark_said_is_counted(tables: ModuleType, tmp_path: Path) -> None:
    """Decisions that it was not asked about do not count for it."""
    file = tmp_path / "decisions.jsonl"
    file.write_text(
        line("same") + line("same", plugin_slower=None)
        + line("same", plugin_slower=True) + line("same", plugin_slower=False)
    )  # fmt: skip
    (found,) = tables.groups(tables.read([file]))
    assert (found["plugin_slower"]["hits"], found["plugin_slower"]["of"]) == (1, 2)


def test_the_peer_is_the_real_pytest_benchmark(
    subjects: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Nothing is stored at first; ten times the work is too much; a broken file is no verdict."""
    pytest.importorskip("pytest_benchmark")
    plugin = _imported("power.plugin", monkeypatch)
    gate = plugin.PluginGate(Path(sys.executable), tmp_path / "gate")
    subject = subjects.chains()[0]
    control, slow = tmp_path / "control.onnx", tmp_path / "slow.onnx"
    onnx.save(subject.model, control)
    onnx.save(subject.grown(900), slow)
    assert gate.is_slower(subject, slow, control) is None
    assert gate.is_slower(subject, slow, control) is True
    slow.write_bytes(b"")
    with pytest.raises(RuntimeError, match="pytest-benchmark ended with 1"):
        gate.is_slower(subject, slow, control)


def test_a_relu_in_float64_gives_the_same(subjects: ModuleType, tmp_path: Path) -> None:
    """One of them, and no optimiser takes the casts away."""
    chain = subjects.short_chain(3).model
    moved = subjects.GRAPH_FAULTS[subjects.MOVED](chain)
    feeds = {"h0": np.linspace(-1, 1, 64, dtype=np.float32).reshape(1, 64)}
    ours, theirs = (_session(model).run(None, feeds)[0] for model in (moved, chain))
    assert ours.tolist() == theirs.tolist()
    assert optimised(moved, tmp_path).count("Cast") == 2


def test_a_drift_that_all_pairs_of_a_stage_share_is_seen_between_stages(
    tables: ModuleType, tmp_path: Path
) -> None:
    """Pairs that agree with each other and not with the next stage are not independent."""
    file = tmp_path / "decisions.jsonl"
    file.write_text("".join(line("same", effect=0.01 * (-1) ** number) for number in range(12)))
    (found,) = tables.between_stages(tables.read([file]))
    assert (found["subject"], found["stages"]) == ("matmuls", 12)
    assert found["scatter_percent"] > 4 * found["error_percent"] > 0
    file.write_text("".join(line("same") for _ in range(9)))
    assert tables.between_stages(tables.read([file])) == []


def _session(model: onnx.ModelProto, optimised_file: Path | None = None) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if optimised_file is not None:
        options.optimized_model_filepath = str(optimised_file)
    data = model.SerializeToString()
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def _imported(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    import importlib

    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module(name)
