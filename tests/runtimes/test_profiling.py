"""Profiled sessions: the time of every node that ran."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from harness.domain.dtypes import DType
from harness.domain.regression import NodeTime
from harness.domain.session import SessionConfig
from harness.domain.values import Array
from harness.errors import RunFailed
from harness.runtimes.launchers import LocalLauncher
from harness.runtimes.profiling import open_profiled
from harness.runtimes.registry import Runtime
from harness.runtimes.worker import profiles
from harness.runtimes.worker.serve import Refused
from harness.testing import linear_model, make_model, tensor_info

OWN = Runtime(name="own", python=sys.executable, source="own")
CPU = SessionConfig(provider="CPUExecutionProvider", optimization="disabled")
SETS = [{"x": np.full((2, 3), each, np.float32)} for each in (1.0, -1.0)]
TURNS = 4


def body_model() -> onnx.ModelProto:
    """Return a model whose `If` runs Relu or Exp by the sign of x, in a Loop of four turns."""
    kind = tensor_info("b", shape=[2, 3])
    then = helper.make_graph(
        [helper.make_node("Relu", ["s"], ["b"], name="inner")], "t", [], [kind]
    )
    other = helper.make_graph([helper.make_node("Exp", ["s"], ["b"])], "e", [], [kind])
    body = helper.make_graph(
        [
            helper.make_node("If", ["g"], ["n"], then_branch=then, else_branch=other, name="if"),
            helper.make_node("Identity", ["c"], ["d"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("c", TensorProto.BOOL, []),
            tensor_info("s", shape=[2, 3]),
        ],
        [helper.make_tensor_value_info("d", TensorProto.BOOL, []), tensor_info("n", shape=[2, 3])],
    )
    nodes = [
        helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=0),
        helper.make_node("Greater", ["sum", "zero"], ["g"]),
        helper.make_node("Loop", ["turns", "", "x"], ["y"], body=body, name="loop"),
    ]
    weights: dict[str, Array] = {
        "zero": np.array(0, np.float32),
        "turns": np.array(TURNS, np.int64),
    }
    ends = [tensor_info(name, shape=[2, 3]) for name in ("x", "y")]
    return make_model(nodes, ends[:1], ends[1:], weights)


def profiled(
    launcher: LocalLauncher,
    folder: Path,
    model: onnx.ModelProto,
    sets: Sequence[Mapping[str, Any]] = SETS,
    runs: int = 8,
) -> dict[str, NodeTime]:
    """Return the nodes of a profile by operator."""
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    given = [dict(each) for each in sets]
    with open_profiled(launcher, OWN, CPU, path, given, fork=True, limit_s=60) as session:
        session.warm()
        session.run(runs)
        return {node.op: node for node in session.nodes()}


def event(name: str, op: str, ts: int, dur: int, *, kind: str = "kernel_time") -> dict[str, Any]:
    """Return an event of a node as ONNX Runtime writes it."""
    args = {"op_name": op, "provider": "CPUExecutionProvider", "node_index": "0"}
    return {"cat": "Node", "name": f"{name}_{kind}", "ts": ts, "dur": dur, "args": args}


END: dict[str, Any] = {"cat": "Session", "name": "model_run", "ts": 0, "dur": 0}


def test_every_node_has_provider_name_and_time(launcher: LocalLauncher, tmp_path: Path) -> None:
    """Only runs that count are counted, and names that ONNX Runtime made are marked."""
    nodes = profiled(launcher, tmp_path, linear_model())
    assert sorted(nodes) == ["Add", "MatMul"]
    for node in nodes.values():
        assert node.provider == "CPUExecutionProvider"
        assert node.calls == 8
        assert node.total_us >= 0
        assert node.error_us > 0
        assert node.is_named == (not node.name.startswith(f"{node.op}_"))


def test_nodes_of_bodies_are_told_by_calls_per_run(launcher: LocalLauncher, tmp_path: Path) -> None:
    """Inputs take turns: each branch of the If ran in half of the runs, at every turn."""
    nodes = profiled(launcher, tmp_path, body_model())
    calls = {op: node.calls for op, node in nodes.items()}
    assert calls == {
        **dict.fromkeys(("ReduceSum", "Greater", "Loop"), 8),
        **dict.fromkeys(("If", "Identity"), 8 * TURNS),
        **dict.fromkeys(("Relu", "Exp"), 4 * TURNS),
    }
    assert (nodes["Relu"].name, nodes["Relu"].is_named) == ("inner", True)
    assert not nodes["Exp"].is_named


def test_a_profiled_worker_is_pinned(launcher: LocalLauncher, tmp_path: Path) -> None:
    """As the workers of a duet are."""
    path = tmp_path / "model.onnx"
    path.write_bytes(linear_model().SerializeToString())
    core = min(os.sched_getaffinity(0))
    with open_profiled(
        launcher, OWN, CPU, path, SETS, fork=True, limit_s=60, cores=(core,)
    ) as session:
        assert os.sched_getaffinity(session._session.pid) == {core}


def test_text_cannot_be_profiled(launcher: LocalLauncher, tmp_path: Path) -> None:
    """What cannot be bound is refused by its name, as for timing."""
    ends = [tensor_info(name, DType.STRING, shape=["n"]) for name in ("x", "y")]
    model = make_model([helper.make_node("Identity", ["x"], ["y"])], ends[:1], ends[1:])
    with pytest.raises(RunFailed, match="input 'x' is no tensor of numbers"):
        profiled(launcher, tmp_path, model, [{"x": np.array(["a"], dtype=object)}])


def test_names_that_need_escapes_are_read_or_refused(
    launcher: LocalLauncher, tmp_path: Path
) -> None:
    """Releases of ONNX Runtime differ in whether they escape them: none ends in a traceback."""
    model = linear_model()
    for node in model.graph.node:
        node.name = f'a "quoted" \\ name\n{node.op_type}'
    try:
        assert sorted(profiled(launcher, tmp_path, model)) == ["Add", "MatMul"]
    except RunFailed as error:
        assert "wrote a profile that is no JSON" in error.what  # noqa: PT017 - either is right


def test_a_node_does_not_count_what_runs_inside_it() -> None:
    """Times of a Loop and of an If in it are what their inner nodes leave."""
    events = [
        event("before", "Add", 0, 5),
        event("leaf", "Relu", 12, 3),
        event("leaf", "Relu", 16, 3),
        event("if", "If", 11, 9),
        event("loop", "Loop", 10, 14),
        END,
    ]
    (run,) = profiles.runs(events)
    own = {key[1]: found for key, found in run.items()}
    assert own == {"before": (5, 1), "loop": (5, 1), "if": (3, 1), "leaf": (6, 2)}
    assert list(own) == ["before", "leaf", "if", "loop"]


def test_a_node_that_ends_as_the_next_begins_is_not_inside_it() -> None:
    """Also if both begin in the same microsecond."""
    (run,) = profiles.runs([event("a", "Add", 10, 0), event("b", "Mul", 10, 4), END])
    assert {key[1]: found for key, found in run.items()} == {"a": (0, 1), "b": (4, 1)}


def test_what_began_with_a_node_with_a_body_is_told_by_the_other_runs() -> None:
    """Times are whole microseconds: inside, unless some run shows the node before the other."""
    apart = [event("a", "Add", 9, 0), event("b", "Relu", 11, 0), event("if", "If", 10, 4), END]
    tied = [event("a", "Add", 20, 0), event("b", "Relu", 20, 0), event("if", "If", 20, 4), END]
    for events in ([*apart, *tied], [*tied, *apart]):
        rows = profiles.summary(profiles.runs(events))
        assert {row[1]: row[5] for row in rows} == {"a": 2, "b": 2, "if": 2}
    (run,) = profiles.runs(tied)
    inner = {key[1]: key[-1] for key in run}
    assert inner["if"] == ()
    assert inner["a"][1] == inner["b"][1] == "if"


def test_equal_names_in_different_bodies_are_different_nodes() -> None:
    """Unnamed nodes are numbered anew in each body."""
    inner = [event("Relu_0", "Relu", 11, 2), event("first", "If", 10, 5)]
    other = [event("Relu_0", "Relu", 21, 3), event("second", "If", 20, 5)]
    rows = profiles.summary(profiles.runs([*inner, *other, END]))
    assert sorted((row[1], row[3], row[6]) for row in rows) == [
        ("Relu_0", 2.0, False),
        ("Relu_0", 3.0, False),
        ("first", 3.0, True),
        ("second", 2.0, True),
    ]


def test_a_run_that_the_profiler_cut_off_is_left_out() -> None:
    """Unless only its nodes are asked for; events that older releases have beside nodes always."""
    fence = event("a", "Add", 0, 9, kind="fence_before")
    events = [fence, event("a", "Add", 0, 5), END, event("a", "Add", 9, 1)]
    assert [list(run.values()) for run in profiles.runs(events)] == [[(5, 1)]]
    assert [list(run.values()) for run in profiles.runs(events, whole=False)] == [
        [(5, 1)],
        [(1, 1)],
    ]


def test_a_profile_without_a_run_that_counts_is_refused(
    launcher: LocalLauncher, tmp_path: Path
) -> None:
    """Nothing measured is no time of zero."""
    path = tmp_path / "model.onnx"
    path.write_bytes(linear_model().SerializeToString())
    with (
        open_profiled(launcher, OWN, CPU, path, SETS, fork=True, limit_s=60) as session,
        pytest.raises(RunFailed, match="profiler shows no whole run that counts"),
    ):
        session.nodes()


def test_outliers_do_not_move_a_time() -> None:
    """It is the mean of the middle half, weighted with the share of runs that called the node."""
    times = [2, 3, 3, 2, 500, 2, 3, 0]
    runs = [run for dur in times for run in profiles.runs([event("a", "Add", 0, dur), END])]
    ((*_, time_us, error_us, calls, named),) = profiles.summary([*runs, *({},) * 8])
    assert time_us == pytest.approx(2.5 / 2)
    assert 0 < error_us < 1
    assert (calls, named) == (8, True)


def test_what_is_no_profile_is_refused(tmp_path: Path) -> None:
    """With what may have caused it."""
    path = tmp_path / "profile.json"
    path.write_text('[{"name" : "a "b" c"}]', encoding="utf-8")
    with pytest.raises(
        Refused, match="wrote a profile that is no JSON, quotes in names may do that"
    ):
        profiles.read(str(path))
    path.write_text(json.dumps([END, 3]), encoding="utf-8")
    assert profiles.read(str(path)) == [END]
