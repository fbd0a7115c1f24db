"""The node where an error begins, in graphs whose error is known."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper
from onnx.reference import ReferenceEvaluator

from harness.domain.dtypes import DType
from harness.domain.values import Array
from harness.localise.report import Origin, Report
from harness.testing import file_spec, make_model, tensor_info, write_sets
from tests.localise.conftest import Searcher
from tests.localise.graphs import CASE, FACTOR, INPUTS, SIZE, built, chain, gelu_chain, normal

APPROXIMATE = '[session.config]\n"optimization.enable_gelu_approximation" = "1"\n'


def spec(reference: str = 'onnx = "right.onnx"', more: str = "") -> str:
    """Return a spec whose reference is another graph with the same names."""
    return file_spec(reference=reference, inputs=INPUTS, case=CASE, more=more)


def files(wrong: onnx.ModelProto, right: onnx.ModelProto) -> dict[str, bytes]:
    """Return the candidate and what it is held against."""
    return {"model.onnx": wrong.SerializeToString(), "right.onnx": right.SerializeToString()}


def origin(report: Report) -> Origin:
    """Return the origin that a report must have."""
    assert report.origin is not None, "\n".join(report.lines())
    return report.origin


@pytest.mark.parametrize(("count", "off"), [(40, 20), (200, 100)])
def test_a_channel_that_is_off_is_found(search: Searcher, count: int, off: int) -> None:
    """The node that holds it is named, with its error as introduced and nothing inherited."""
    report = search(spec(), files(chain(count, off=off), chain(count)))
    found = origin(report)
    assert (found.node, found.operator, found.position) == (f"'n{off}'", "MatMul", off + 1)
    assert 1e-3 < found.introduced < 2e-2
    assert found.inherited < 1e-5
    assert (report.kind, report.judged, report.total) == ("graph", count, count)
    assert report.culprit == "none: it fails on the CPU with every optimisation off"


def test_of_two_faults_the_first_is_named(search: Searcher) -> None:
    """What comes later inherits most of its error."""
    both, second = chain(40, off=10), chain(40, off=30)
    changed = next(each for each in second.graph.initializer if each.name == "w30")
    for tensor in both.graph.initializer:
        if tensor.name == "w30":
            tensor.CopyFrom(changed)
    assert origin(search(spec(), files(both, chain(40)))).node == "'n10'"


def test_batches_bound_what_is_held(search: Searcher) -> None:
    """With room for three values the same node is found, in many batches."""
    room = 3 * 4 * SIZE * 4
    report = search(spec(), files(chain(40, off=20), chain(40)), batch_bytes=room)
    assert origin(report).node == "'n20'"
    assert report.batches > 10
    assert 0 < report.largest_batch_bytes <= room


def test_nodes_without_names_are_named_by_what_they_make(search: Searcher) -> None:
    """ONNX allows nodes without names."""
    wrong, right = chain(10, off=4), chain(10)
    for node in wrong.graph.node:
        node.name = ""
    assert origin(search(spec(), files(wrong, right))).node == "number 4, which makes 'v4'"


def forked(factor: np.float32) -> onnx.ModelProto:
    """Return two branches that meet, one through a Constant and a Split of two outputs."""
    constant = helper.make_tensor("c", onnx.TensorProto.FLOAT, [1], [2.0])
    nodes = [
        helper.make_node("Constant", [], ["k"], value=constant),
        helper.make_node("MatMul", ["x", "w"], ["m"], name="product"),
        helper.make_node("Split", ["m"], ["left", "right"], axis=1, num_outputs=2, name="split"),
        helper.make_node("Mul", ["left", "k"], ["l2"], name="scale_left"),
        helper.make_node("Mul", ["right", "f"], ["r2"], name="scale_right"),
        helper.make_node("Add", ["l2", "r2"], ["s"], name="sum"),
        helper.make_node("Add", ["s", "left"], ["y"], name="again"),
    ]
    weights = {"w": normal(SIZE, SIZE), "f": np.asarray(factor)}
    return built(nodes, "y", weights, columns=SIZE // 2)


def test_branches_outputs_and_constants(search: Searcher) -> None:
    """A value read twice, a node with two outputs and a Constant do not confuse the search."""
    report = search(spec(), files(forked(FACTOR), forked(np.float32(1))))
    assert origin(report).node == "'scale_right'"
    assert report.outside == ()


def with_bodies(factor: float) -> onnx.ModelProto:
    """Return a product whose result an If scales in one of its bodies, and a Loop leaves alone."""
    scale = helper.make_tensor("s", onnx.TensorProto.FLOAT, [], [factor])

    def body(name: str, *nodes: onnx.NodeProto) -> onnx.GraphProto:
        return helper.make_graph(list(nodes), name, [], [tensor_info("out", shape=None)])

    then = body(
        "then",
        helper.make_node("Constant", [], ["k"], value=scale),
        helper.make_node("Mul", ["m", "k"], ["out"]),
    )
    otherwise = body("else", helper.make_node("Identity", ["m"], ["out"]))
    step = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["on"]),
            helper.make_node("Tanh", ["state"], ["next"]),
        ],
        "step",
        [
            tensor_info("round", DType.INT64),
            tensor_info("go", DType.BOOL),
            tensor_info("state", shape=None),
        ],
        [tensor_info("on", DType.BOOL), tensor_info("next", shape=None)],
    )
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["m"], name="product"),
        helper.make_node("If", ["yes"], ["i"], name="choice", then_branch=then,
                         else_branch=otherwise),
        helper.make_node("Loop", ["times", "yes", "i"], ["y"], name="loop", body=step),
    ]  # fmt: skip
    weights: dict[str, Array] = {
        "w": normal(SIZE, SIZE),
        "yes": np.asarray(True),  # noqa: FBT003 - numpy takes values by position
        "times": np.asarray(2, dtype=np.int64),
    }
    return built(nodes, "y", weights)


def test_control_flow_is_one_node_and_its_bodies_are_outside(search: Searcher) -> None:
    """The If that scales wrongly is found; what lies inside is declared."""
    report = search(spec(), files(with_bodies(1.01), with_bodies(1.0)))
    assert origin(report).node == "'choice'"
    assert report.outside == (
        "3 nodes inside the body of If 'choice'",
        "2 nodes inside the body of Loop 'loop'",
    )


def with_sequence(factor: np.float32) -> onnx.ModelProto:
    """Return a model that carries a sequence between its product and its last node."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["m"], name="product"),
        helper.make_node("SequenceConstruct", ["m", "m"], ["q"], name="pack"),
        helper.make_node("SequenceAt", ["q", "at"], ["t"], name="unpack"),
        helper.make_node("Mul", ["t", "f"], ["y"], name="scale"),
    ]
    weights: dict[str, Array] = {
        "w": normal(SIZE, SIZE),
        "at": np.asarray(0, dtype=np.int64),
        "f": np.asarray(factor),
    }
    return built(nodes, "y", weights)


def test_sequences_are_declared(search: Searcher) -> None:
    """They are not tapped; the nodes around them are judged together."""
    report = search(spec(), files(with_sequence(FACTOR), with_sequence(np.float32(1))))
    assert origin(report).node == "'scale'"
    assert report.outside == ("value 'q' of type seq(tensor(float))",)


def with_optional(factor: np.float32) -> onnx.ModelProto:
    """Return a model that wraps its product in an optional and takes it out again."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["m"], name="product"),
        helper.make_node("Optional", ["m"], ["o"], name="wrap"),
        helper.make_node("OptionalGetElement", ["o"], ["t"], name="unwrap"),
        helper.make_node("Mul", ["t", "f"], ["y"], name="scale"),
    ]
    return built(nodes, "y", {"w": normal(SIZE, SIZE), "f": np.asarray(factor)})


def test_optionals_are_declared(search: Searcher) -> None:
    """They are not tapped; the nodes around them are judged together.

    The reference does without: the ONNX reference evaluator cannot take a tensor out of one.
    """
    right = with_optional(np.float32(1))
    del right.graph.node[1:3]
    right.graph.node[1].input[0] = "m"
    report = search(spec(), files(with_optional(FACTOR), right))
    assert origin(report).node == "'scale'"
    assert report.outside == ("value 'o' of type optional(tensor(float))",)


def with_text(factor: np.float32) -> onnx.ModelProto:
    """Return a model that turns numbers into text and back."""
    nodes = [
        helper.make_node("Round", ["x"], ["r"], name="round"),
        helper.make_node("Cast", ["r"], ["t"], to=onnx.TensorProto.STRING, name="to_text"),
        helper.make_node("Cast", ["t"], ["b"], to=onnx.TensorProto.FLOAT, name="from_text"),
        helper.make_node("Add", ["b", "x"], ["s"], name="sum"),
        helper.make_node("Mul", ["s", "f"], ["y"], name="scale"),
    ]
    return built(nodes, "y", {"f": np.asarray(factor)})


def test_text_is_declared(search: Searcher) -> None:
    """Text is not compared within a tolerance; the nodes around it are judged together."""
    report = search(spec(), files(with_text(FACTOR), with_text(np.float32(1))))
    assert origin(report).node == "'scale'"
    assert report.outside == ("value 't' of type tensor(string)",)


def makes_nan(*, wrong: bool) -> onnx.ModelProto:
    """Return a model in whose middle a logarithm gets negative numbers if it is wrong."""
    read = "x" if wrong else "a"
    nodes = [
        helper.make_node("Abs", ["x"], ["a"], name="abs"),
        helper.make_node("Log", [read], ["l"], name="log"),
        helper.make_node("Tanh", ["l"], ["t"], name="tanh"),
        helper.make_node("MatMul", ["t", "w"], ["y"], name="product"),
    ]
    return built(nodes, "y", {"w": normal(SIZE, SIZE)})


def test_first_nan_is_named(search: Searcher) -> None:
    """Not the nodes that hand it on."""
    report = search(spec(), files(makes_nan(wrong=True), makes_nan(wrong=False)))
    found = origin(report)
    assert found.node == "'log'"
    assert found.note == "(the first NaN: none of its inputs holds one)"


def test_nan_of_the_reference_too_is_named(search: Searcher) -> None:
    """Where reference and candidate are the same graph, the first NaN has a node all the same."""
    wrong = makes_nan(wrong=True)
    report = search(spec("onnx = true"), files(wrong, wrong))
    assert origin(report).node == "'log'"


def test_optimisation_is_named_with_its_pass_and_what_it_fused(search: Searcher) -> None:
    """GeluApproximation replaces a Gelu that GeluFusionL2 made of five nodes."""
    report = search(spec("onnx = true", APPROXIMATE), files(gelu_chain(), gelu_chain()))
    assert report.kind == "optimisation"
    assert report.levels == (("disabled", "passes"), ("basic", "passes"), ("extended", "fails"))
    assert report.culprit == (
        "GeluApproximation (level 'extended'): without it parity holds; it builds on GeluFusionL2"
    )
    found = origin(report)
    assert (found.node, found.operator) == ("'n_g'", "Mul")
    assert found.others == ("'n_d' (Div)", "'n_e' (Erf)", "'n_a' (Add)", "'n_p' (Mul)")
    assert 1e-5 < found.introduced < 1e-2


def test_tap_at_the_end_of_a_fusion_changes_nothing(search: Searcher) -> None:
    """The only output of the block is that of the fused node: looking at it needs no words."""
    report = search(spec("onnx = true", APPROXIMATE), files(gelu_chain(), gelu_chain()))
    assert report.tapping == ""


def normalised(*, off: bool) -> onnx.ModelProto:
    """Return a Conv whose BatchNormalization ONNX Runtime folds into its weights."""
    weight = normal(2, 1, 3, 3)
    weight[1] *= FACTOR if off else 1
    nodes = [
        helper.make_node("Reshape", ["x", "image"], ["i"], name="to_image"),
        helper.make_node("Conv", ["i", "w"], ["c"], name="conv", pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["c", "s", "o", "m", "v"], ["n"], name="norm"),
        helper.make_node("Reshape", ["n", "flat"], ["y"], name="to_rows"),
    ]
    weights: dict[str, Array] = {
        "image": np.asarray([-1, 1, 4, 4]),
        "flat": np.asarray([-1, 2 * SIZE]),
        "w": weight,
        "s": normal(2, seed=1),
        "o": normal(2, seed=2),
        "m": normal(2, seed=3),
        "v": np.abs(normal(2, seed=4)) + np.float32(0.1),
    }
    return built(nodes, "y", weights, columns=2 * SIZE)


def test_tap_inside_a_fusion_is_told(search: Searcher) -> None:
    """An output between Conv and BatchNormalization keeps them apart, which the result shows."""
    report = search(spec(), files(normalised(off=True), normalised(off=False)))
    assert origin(report).node == "'conv'"
    assert re.fullmatch(
        r"tapping this node changes the final outputs \(a fusion is gone\): worst / allowed "
        r"[\d.e+]+ without the tap, [\d.e+]+ with it",
        report.tapping,
    )
    assert any(line.strip().startswith("tapping:") for line in report.lines())


def with_half_layer(*, half: bool) -> onnx.ModelProto:
    """Return two products, the second one between casts to float16 if `half` says so."""
    kind = onnx.TensorProto.FLOAT16 if half else onnx.TensorProto.FLOAT
    steps = [
        helper.make_node("MatMul", ["x", "w"], ["m"], name="first"),
        helper.make_node("Cast", ["m"], ["a"], name="value_down", to=kind),
        helper.make_node("Cast", ["v"], ["b"], name="weight_down", to=kind),
        helper.make_node("MatMul", ["a", "b"], ["c"], name="second"),
        helper.make_node("Cast", ["c"], ["y"], name="up", to=onnx.TensorProto.FLOAT),
    ]
    return built(steps, "y", {"w": normal(SIZE, SIZE), "v": normal(SIZE, SIZE, seed=1)})


def test_layer_in_half_precision_is_found_and_called_that(search: Searcher) -> None:
    """ONNX Runtime takes the casts out on the CPU, so only the evaluator sees them."""
    report = search(spec(), files(with_half_layer(half=True), with_half_layer(half=False)))
    found = origin(report)
    assert report.kind == "graph"
    assert "(rounds to float16)" in found.note
    assert "Cast" in " ".join([found.operator, *found.others])


def test_other_graph_without_a_common_name_is_declared_outside(search: Searcher) -> None:
    """The report says why it cannot look into it."""
    right = chain(4)
    for node in right.graph.node:
        for names in (node.input, node.output):
            for position, name in enumerate(names):
                if name.startswith("v") and name != "v3":
                    names[position] = f"other_{name}"
    report = search(spec(), files(chain(4, off=0), right))
    assert origin(report).node == "'n3'"  # the only value in common is the output
    assert origin(report).others == ("'n0' (MatMul)", "'n1' (Tanh)", "'n2' (MatMul)")


def test_recorded_reference_is_declared_outside(search: Searcher, tmp_path: Path) -> None:
    """Recorded outputs tell nothing of the values between."""
    right, wrong = chain(6), chain(6, off=2)
    values = np.zeros((4, SIZE), dtype=np.float32) + 0.5
    (given,) = map(np.asarray, ReferenceEvaluator(right).run(None, {"x": values}))
    write_sets(tmp_path / "data", right, [([values], [given])])
    recorded = {
        f"data/{path.relative_to(tmp_path / 'data')}": path.read_bytes()
        for path in (tmp_path / "data").rglob("*.pb")
    }
    text = file_spec(reference='recorded = "data"', inputs="", case="")
    report = search(
        text,
        {"model.onnx": wrong.SerializeToString(), **recorded},
        cell="m/fp32/cpu/test_data_set_0",
    )
    assert report.origin is None
    assert report.headline == (
        "'m/fp32/cpu/test_data_set_0': where the failure begins was not found: the graph itself "
        "computes something else than the reference, and a 'recorded' reference has no values of "
        "its own between its inputs and outputs"
    )


def test_budget_that_is_spent_is_told(search: Searcher) -> None:
    """A search without time says so instead of guessing."""
    report = search(spec(), files(chain(10, off=2), chain(10)), budget_s=0.001)
    assert report.headline.endswith("the budget of 0.001 s is spent: raise limits.localise_s")


def test_states_come_from_the_reference(search: Searcher) -> None:
    """A step is judged on the reference's own states, so a later step is no other failure."""

    def model(factor: np.float32) -> onnx.ModelProto:
        nodes = [
            helper.make_node("Mul", ["x", "f"], ["m"], name="scale"),
            helper.make_node("Add", ["m", "h"], ["y"], name="sum"),
            helper.make_node("Identity", ["y"], ["hn"], name="state"),
        ]
        ports = [tensor_info("x", shape=["batch", SIZE]), tensor_info("h", shape=["batch", SIZE])]
        outputs = [tensor_info(name, shape=["batch", SIZE]) for name in ("y", "hn")]
        return make_model(nodes, ports, outputs, {"f": np.asarray(factor)})

    inputs = INPUTS.replace(
        "[dims]", f'[inputs.h]\ndtype = "float32"\nshape = ["batch", {SIZE}]\n\n[dims]'
    )
    more = '[state]\nfeedback = { hn = "h" }\nsteps = 3\n'
    text = file_spec(reference='onnx = "right.onnx"', inputs=inputs, case=CASE, more=more)
    report = search(text, files(model(FACTOR), model(np.float32(1))))
    assert origin(report).node == "'scale'"


def test_weights_in_another_file_stay_there(search: Searcher, tmp_path: Path) -> None:
    """A model with external data is searched as it lies, and the saved node stands alone."""
    folder = tmp_path / "external"
    folder.mkdir()
    onnx.save(
        chain(10, off=4),
        folder / "model.onnx",
        save_as_external_data=True,
        location="weights.bin",
        size_threshold=0,
    )
    given = {path.name: path.read_bytes() for path in folder.iterdir()}
    report = search(spec(), {**given, "right.onnx": chain(10).SerializeToString()})
    assert origin(report).node == "'n4'"
    saved = onnx.load(Path(report.folder) / "node.onnx", load_external_data=False)
    assert [tensor.data_location for tensor in saved.graph.initializer] == [
        onnx.TensorProto.DEFAULT
    ]
