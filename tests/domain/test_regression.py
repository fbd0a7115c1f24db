"""Why one model is slower than another, told from two profiles."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from harness.domain.regression import (
    WIDTH,
    Explanation,
    NodeTime,
    SettingChange,
    at_one_pace,
    changed_settings,
    explain,
    merge,
)

CPU, OTHER = "CPUExecutionProvider", "OpenVINOExecutionProvider"


def node(op: str, total_us: float, *, name: str = "", provider: str = CPU) -> NodeTime:
    """Return a node; without a name, one that ONNX Runtime numbered."""
    return NodeTime(
        provider=provider,
        name=name or f"{op}_0",
        op=op,
        total_us=total_us,
        calls=10,
        error_us=0.1,
        is_named=bool(name),
    )


def layers(op: str, count: int, each_us: float) -> list[NodeTime]:
    """Return named nodes of one operator."""
    return [node(op, each_us, name=f"{op}/{number}") for number in range(count)]


def test_operators_account_for_the_difference_by_their_share() -> None:
    """Largest first, with the nodes that were added; what agrees is not told."""
    control = [*layers("MatMul", 10, 80), *layers("Relu", 10, 20), node("Softmax", 50)]
    candidate = [*layers("MatMul", 11, 80), *layers("Relu", 11, 20), node("Softmax", 50)]
    found = explain(candidate, control)
    assert [each.op for each in found.accounting] == ["MatMul", "Relu"]
    assert found.lines() == [
        "profile:  nodes take 1,150 us, control 1,050 us (+9.5%), in a run of its own",
        "slower:   MatMul +80 us, 80% of the increase (10 -> 11 nodes)",
        "slower:   Relu +20 us, 20% of the increase (10 -> 11 nodes)",
        "graph:    MatMul 10 -> 11; Relu 10 -> 11",
    ]


def test_a_lost_fusion_is_told_by_what_is_gone() -> None:
    """What was gained is not subtracted from a share: it is a line of its own."""
    control = [*layers("LayerNormalization", 12, 10), *layers("MatMul", 12, 50)]
    candidate = [
        *(each for op in ("Pow", "Sub") for each in layers(op, 12, 20)),
        *layers("ReduceMean", 24, 5),
        *layers("MatMul", 12, 50),
    ]
    assert explain(candidate, control).lines() == [
        "profile:  nodes take 1,200 us, control 720 us (+66.7%), in a run of its own",
        "slower:   Pow +240 us, 40% of the increase (0 -> 12 nodes)",
        "slower:   Sub +240 us, 40% of the increase (0 -> 12 nodes)",
        "slower:   ReduceMean +120 us, 20% of the increase (0 -> 24 nodes)",
        "against:  LayerNormalization -120 us",
        "graph:    LayerNormalization 12 -> 0; ReduceMean 0 -> 24; Pow 0 -> 12; Sub 0 -> 12",
    ]


def test_one_node_of_many_is_named() -> None:
    """If both sides have it under that name, and most of the change lies in it."""
    control = layers("Conv", 5, 100)
    candidate = [*control[:3], node("Conv", 190, name="Conv/3"), *control[4:]]
    assert explain(candidate, control).lines()[1] == (
        "slower:   Conv +90 us, 100% of the increase (5 nodes), mostly 'Conv/3'"
    )


@pytest.mark.parametrize("name", ["", "same"])
def test_names_that_tell_nothing_are_not_used(name: str) -> None:
    """Neither those that ONNX Runtime numbered, nor those that are used twice."""
    control = [node("Conv", 100, name=name) for _ in range(2)]
    candidate = [node("Conv", 100, name=name), node("Conv", 190, name=name)]
    (operator,) = explain(candidate, control).operators
    assert (operator.change_us, operator.mostly) == (90, "")


def test_what_the_profiler_does_not_show_is_said() -> None:
    """With how far the operators agree."""
    control, candidate = layers("MatMul", 10, 80), layers("MatMul", 10, 80.08)
    found = explain(candidate, control)
    assert found.accounting == ()
    assert found.lines() == [
        "profile:  nodes take 801 us, control 800 us (+0.1%), in a run of its own",
        "slower:   the profiler does not show it: per-operator times agree within 0.1% of a run",
    ]


def test_a_profile_that_shows_the_opposite_is_said() -> None:
    """A slower model whose nodes take less time is not explained by them."""
    control, candidate = [node("MatMul", 100), node("Relu", 50)], [node("MatMul", 60)]
    assert explain(candidate, control).lines()[1:] == [
        "slower:   the profiler does not show it: Relu -50 us; MatMul -40 us",
        "graph:    Relu 1 -> 0",
    ]


def test_a_faster_candidate_is_explained_by_what_takes_less() -> None:
    """The same in the other direction."""
    control, candidate = [node("MatMul", 100), node("Relu", 50)], [node("MatMul", 60)]
    assert explain(candidate, control, slower=False).lines() == [
        "profile:  nodes take 60 us, control 150 us (-60.0%), in a run of its own",
        "faster:   Relu -50 us, 56% of the decrease (1 -> 0 nodes)",
        "faster:   MatMul -40 us, 44% of the decrease (1 node)",
        "graph:    Relu 1 -> 0",
    ]


def test_nodes_that_left_their_provider_are_told() -> None:
    """By name, with the time of each provider."""
    control = [node("MatMul", 10, name="fc", provider=OTHER), node("Add", 5, provider=OTHER)]
    candidate = [node("MatMul", 40, name="fc"), node("Add", 5, provider=OTHER)]
    assert explain(candidate, control).lines()[2:] == [
        "moved:    1 node from OpenVINO to CPU: MatMul 'fc'",
        "provider: CPU 40 us (0.0 us); OpenVINO 5.0 us (15 us)",
    ]


def test_parts_that_a_provider_compiled_are_one_operator() -> None:
    """Their numbers and hashes differ from session to session."""
    control = [node("OpenVINO-EP-subgraph_1", 10, provider=OTHER)]
    candidate = [node(f"OpenVINO-EP-subgraph_{number}", 10, provider=OTHER) for number in (3, 4)]
    assert explain(candidate, control).lines()[-1] == "graph:    OpenVINO-EP-subgraph 1 -> 2"
    assert node("TRTKernel_graph_main_123_0", 1).operator == "TRTKernel"


def rounds(op: str, *times_us: float) -> tuple[NodeTime, ...]:
    """Return one node merged from a profile for each time."""
    return merge([[node(op, each)] for each in times_us])


def test_what_does_not_come_back_in_each_round_is_not_told() -> None:
    """Processes of one model differ by more than the scatter within one."""
    control = rounds("MatMul", 100, 100, 100, 100, 100)
    (steady,) = explain(rounds("MatMul", 110, 109, 111, 110, 112), control).accounting
    assert steady.change_us == 10
    assert explain(rounds("MatMul", 110, 130, 110, 90, 112), control).accounting == ()


def test_a_node_that_one_round_did_not_run_has_no_time_there() -> None:
    """Nodes of equal names stay apart, in their order."""
    first, second = node("Exp", 4), node("Exp", 8)
    merged = merge([[first, second], [first], [first, second]])
    assert [each.rounds_us for each in merged] == [(4, 4, 4), (8, 0, 8)]
    assert [(each.total_us, each.calls) for each in merged] == [(4, 30), (8, 20)]


def many(count: int, each_us: float) -> list[NodeTime]:
    """Return nodes of as many operators, with names as long as some contributed ones have."""
    return [node(f"QLinearGlobalAveragePool{number}", each_us + number) for number in range(count)]


@pytest.mark.parametrize(
    ("candidate", "control"), [(many(40, 200), many(30, 90)), (many(3, 10), many(40, 100))]
)
def test_all_lines_fit_a_screen(candidate: Sequence[NodeTime], control: Sequence[NodeTime]) -> None:
    """At most twelve, also with everything to tell; what was left out is counted."""
    moved = [node("Conv", 5e5, name="c" * 200, provider=name) for name in (CPU, OTHER)]
    settings = changed_settings({f"option {n}": "1" * 30 for n in range(9)}, {})
    found = explain([*candidate, moved[0]], [*control, moved[1]], settings=settings)
    lines = found.lines()
    assert len(lines) <= 12
    assert max(map(len, lines)) <= WIDTH
    assert any(line.endswith(" more") for line in lines)


def test_settings_that_differ_are_told() -> None:
    """Also one that only one side has."""
    settings = changed_settings(
        {"threads": "2", "optimisation": "all", "option device_type": "CPU"},
        {"threads": "1", "optimisation": "all"},
    )
    assert settings == (
        SettingChange(name="threads", candidate="2", control="1"),
        SettingChange(name="option device_type", candidate="CPU", control=""),
    )
    found = explain([node("Add", 3)], [node("Add", 3)], settings=settings)
    assert found.lines()[-1] == "settings: threads 2 (1); option device_type CPU (not set)"


def test_without_a_profile_the_reason_is_told() -> None:
    """And the settings all the same; two profiles without nodes divide nothing by zero."""
    settings = changed_settings({"threads": "2"}, {"threads": "1"})
    assert Explanation(problem="it died", settings=settings).lines() == [
        "profile:  none: it died",
        "settings: threads 2 (1)",
    ]
    assert explain([], []).lines()[1].endswith("agree within 0.0% of a run")


def test_the_pace_of_the_machine_is_taken_out_of_each_round() -> None:
    """A round in which all took twice as long says the same as the others."""
    control = [[node("MatMul", 100 * pace), node("Relu", 50 * pace)] for pace in (1, 2, 1)]
    candidate = [[node("MatMul", 120 * pace), node("Relu", 50 * pace)] for pace in (1, 2, 1)]
    ours, theirs = (merge(found) for found in at_one_pace(candidate, control))
    assert [each.rounds_us for each in ours] == [(120, 120, 120), (50, 50, 50)]
    (told,) = explain(ours, theirs).accounting
    assert (told.op, told.change_us) == ("MatMul", 20)
    assert at_one_pace([[]], [[]]) == ([()], [()])
