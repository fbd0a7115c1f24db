"""Mutators: what they change, and that it can be told."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from harness.domain.values import Array
from harness.proving.mutators import CURVE_AMOUNTS, Change, all_weights, changes, single_weights
from tests.proving.zoo import ZOO, arithmetic, conv_net, tree

KINDS = {
    "change-axis",
    "change-padding",
    "change-stride",
    "drop-bias",
    "flip-operands",
    "lower-precision",
    "mix-rows",
    "permute-outputs",
    "scale-channel",
    "scale-tensor",
    "scale-tree",
    "swap-activation",
    "swap-operator",
    "transpose-weight",
}
MUTANTS = [(name, change.id) for name, (make, _) in ZOO.items() for change in changes(make())]


def mutant(model: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """Make one change of a model, in place."""
    change = next(each for each in changes(model) if each.id == name)
    change.make()
    return model


def outputs(model: onnx.ModelProto, *given: Array) -> list[Any] | None:
    """Return the outputs for each input; None if the model does not run."""
    del model.graph.value_info[:]
    try:
        with np.errstate(all="ignore"):
            evaluator = ReferenceEvaluator(model)
            return [np.asarray(y) for x in given for y in evaluator.run(None, {"x": x})]
    except Exception:  # noqa: BLE001 - a mutant may break in any way
        return None


def same(one: list[Array] | None, other: list[Array] | None) -> bool:
    """Return whether both ran and gave the same."""
    if one is None or other is None:
        return False
    return all(a.shape == b.shape and np.array_equal(a, b, equal_nan=True)
               for a, b in zip(one, other, strict=True))  # fmt: skip


def test_every_kind_is_made_of_some_model() -> None:
    """The zoo of these tests allows all kinds that there are."""
    assert {change.kind for make, _ in ZOO.values() for change in changes(make())} == KINDS


@pytest.mark.parametrize(("name", "change"), MUTANTS)
def test_a_mutant_computes_something_else(name: str, change: str) -> None:
    """Each change changes the file, and what comes out of it, or stops it from running."""
    make, given = ZOO[name]
    made = mutant(make(), change)
    assert made != make()
    assert not same(outputs(make(), *given), outputs(made, *given))


@pytest.mark.parametrize(("name", "change"), MUTANTS)
def test_names_of_nodes_stay_unique(name: str, change: str) -> None:
    """ONNX Runtime refuses two nodes of one name: that would be a kill that nobody earned."""
    names = [node.name for node in mutant(ZOO[name][0](), change).graph.node if node.name]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("name", ZOO)
def test_ids_are_unique_and_stable(name: str) -> None:
    """The same file has the same mutants, each with an id of its own."""
    make, _ = ZOO[name]
    listed = [change.id for change in changes(make())]
    assert listed == [change.id for change in changes(make())]
    assert len(listed) == len(set(listed))


def by_id(found: Iterator[Change], name: str) -> Change:
    """Return the change of this id."""
    return next(change for change in found if change.id == name)


def weight(model: onnx.ModelProto, name: str) -> Any:
    """Return an initializer."""
    tensor = next(each for each in model.graph.initializer if each.name == name)
    return onnx.numpy_helper.to_array(tensor)


def test_a_scaled_channel_is_one_channel() -> None:
    """All weights of one output channel grow by the amount, the others stay."""
    model, before = conv_net(), weight(conv_net(), "gw")
    name = next(c.id for c in changes(model) if c.id.startswith("scale-channel/gw/")
                and c.id.endswith("/1e-1"))  # fmt: skip
    index = int(name.split("/")[2])
    after = weight(mutant(model, name), "gw")
    np.testing.assert_allclose(after[index], before[index] * 1.1, rtol=1e-6)
    np.testing.assert_array_equal(np.delete(after, index, 0), np.delete(before, index, 0))


def test_a_dead_channel_is_not_chosen() -> None:
    """Scaling zeros would be no mutant."""
    model = conv_net()
    for tensor in model.graph.initializer:
        if tensor.name == "gw":
            array = np.zeros((4, 18), dtype=np.float32)
            array[2] = 1
            tensor.CopyFrom(onnx.numpy_helper.from_array(array, "gw"))
    chosen = {c.id.split("/")[2] for c in changes(model) if c.id.startswith("scale-channel/gw/")}
    assert chosen == {"2"}


def test_a_bias_of_zeros_is_not_dropped() -> None:
    """Nothing would change."""
    model = conv_net()
    for tensor in model.graph.initializer:
        if tensor.name == "cb":
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.zeros(2, np.float32), "cb"))
    assert "drop-bias/conv" not in {change.id for change in changes(model)}
    assert "drop-bias/conv" in {change.id for change in changes(conv_net())}


def test_a_layer_of_lower_precision_rounds_its_result() -> None:
    """What leaves the layer is what 16 bits hold."""
    model = conv_net()
    del model.graph.node[1:], model.graph.output[:]
    model.graph.output.append(onnx.helper.make_tensor_value_info("c", 1, None))
    images = ZOO["conv-net"][1][0]
    before = outputs(model, images)
    after = outputs(mutant(model, "lower-precision/conv/float16"), images)
    assert before is not None
    assert after is not None
    assert after[0].dtype == np.float32
    np.testing.assert_array_equal(after[0], before[0].astype(np.float16).astype(np.float32))


def test_mixed_rows_are_seen_from_two_rows_on() -> None:
    """A single row is what it was; of several, each sees another one."""
    images = ZOO["conv-net"][1][0]
    for change in ("mix-rows/logits/next-row", "mix-rows/logits/mean-1e-2"):
        made = mutant(conv_net(), change)
        first, alone = outputs(conv_net(), images[:1]), outputs(made, images[:1])
        assert first is not None
        assert alone is not None
        np.testing.assert_allclose(alone[0], first[0], rtol=1e-6)
        assert not same(outputs(conv_net(), images), outputs(made, images))


def test_permuted_outputs_keep_their_names() -> None:
    """The interface is the same, each output carries the other's values."""
    images = ZOO["conv-net"][1][0]
    made = mutant(conv_net(), "permute-outputs/names")
    assert [port.name for port in made.graph.output] == ["logits", "shares"]
    before, after = outputs(conv_net(), images), outputs(made, images)
    assert before is not None
    assert after is not None
    np.testing.assert_array_equal(after[0], before[1])


def test_bodies_of_control_flow_are_mutated() -> None:
    """Weights and nodes inside both branches have mutants."""
    found = {change.id for change in changes(ZOO["branches"][0]())}
    assert {"scale-tensor/k/1e-2", "scale-tensor/k#2/1e-2"} <= found
    assert {"swap-operator/then-mul/Div", "swap-operator/else-mul/Div", "flip-operands/if"} <= found


def test_leaves_of_one_tree_are_scaled() -> None:
    """The other tree keeps its own."""
    model = tree()
    name = next(c.id for c in changes(model) if "target_weights/tree" in c.id and "1e-1" in c.id)
    number = int(name.split("/tree")[-1].split("/")[0])
    node = mutant(model, name).graph.node[0]
    scaled = next(each for each in node.attribute if each.name == "target_weights").floats
    expected = [1.0, 2.0, 0.5, -0.5]
    expected[2 * number : 2 * number + 2] = [v * 1.1 for v in expected[2 * number :][:2]]
    np.testing.assert_allclose(scaled, expected, rtol=1e-6)


def test_a_single_weight_is_one_weight() -> None:
    """The curve's mutants change one number by the relative amount."""
    model, before = conv_net(), weight(conv_net(), "gw").ravel()
    change = next(c for c in single_weights(model) if "/gw/" in c.id and c.id.endswith("/1e-1"))
    change.make()
    after = weight(model, "gw").ravel()
    (index,) = np.flatnonzero(before != after)
    assert change.id == f"single-weight/gw/{index}/1e-1"
    np.testing.assert_allclose(after[index], before[index] * 1.1, rtol=1e-6)


def test_the_curve_takes_the_same_weights_for_every_amount() -> None:
    """Else its points could not be compared."""
    drawn: dict[str, set[str]] = {}
    for change in single_weights(arithmetic()):
        place, _, amount = change.id.rpartition("/")
        drawn.setdefault(amount, set()).add(place)
    assert set(drawn) == set(CURVE_AMOUNTS)
    assert len({frozenset(each) for each in drawn.values()}) == 1


def test_all_weights_are_scaled_together() -> None:
    """What shows whether outputs depend on weights at all."""
    model, before = conv_net(), weight(conv_net(), "cw")
    assert all_weights(model, 1.1) == 18 + 2 + 72 + 4 + 16
    np.testing.assert_allclose(weight(model, "cw"), before * 1.1, rtol=1e-6)
    assert all_weights(ZOO["tree"][0](), 1.1) == 6 + 4


def test_a_model_without_weights_or_operators_to_swap_allows_few_mutants() -> None:
    """An identity can only mix its rows."""
    from harness.testing import identity_model

    assert {change.kind for change in changes(identity_model())} == {"mix-rows"}
    assert list(single_weights(identity_model())) == []
