"""Mutators: each yields the changes of its kind that a model allows, without making any.

A change is a stable id and a function that makes it in the model it was listed from. Amounts and
indices are chosen by SHA-256, never by chance, so that the same file has the same mutants
everywhere. Runs in a worker.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import onnx
from onnx import TensorProto, helper

from harness.domain.values import Array
from harness.proving.graphs import (
    FLOATING,
    Body,
    Place,
    Weights,
    attributes,
    insert_after,
    places,
    set_attribute,
    weights,
)

AMOUNTS = ("1e-3", "1e-2", "1e-1")
#: Of the curve of single weights.
CURVE_AMOUNTS = ("1e-4", "1e-3", "1e-2", "1e-1", "1e0")
#: Weights drawn from each tensor for the curve.
CURVE_DRAWS = 6
SINGLE = "single-weight"

SWAPS = {
    "swap-activation": {
        "Relu": ("Tanh", "Softplus", "Identity"),
        "LeakyRelu": ("Relu",),
        "Sigmoid": ("Tanh", "HardSigmoid"),
        "Tanh": ("Sigmoid", "Softsign"),
        "Gelu": ("Relu",),
        "Erf": ("Tanh",),
        "Softmax": ("LogSoftmax",),
        "LogSoftmax": ("Softmax",),
        "Elu": ("Relu",),
        "HardSigmoid": ("Sigmoid",),
    },
    "swap-operator": {
        "Add": ("Sub",),
        "Sub": ("Add",),
        "Mul": ("Div",),
        "Div": ("Mul",),
        "Max": ("Min",),
        "Min": ("Max",),
        "MaxPool": ("AveragePool",),
        "AveragePool": ("MaxPool",),
        "GlobalAveragePool": ("GlobalMaxPool",),
        "ReduceMean": ("ReduceSum", "ReduceMax"),
        "ReduceSum": ("ReduceMean",),
        "ReduceL2": ("ReduceL1",),
        "Sqrt": ("Identity",),
        "Log": ("Identity",),
        "Exp": ("Identity",),
        "Less": ("Greater",),
        "Greater": ("Less",),
        "Floor": ("Ceil",),
    },
}
#: Operators whose operands are not interchangeable.
ORDERED = frozenset({"Sub", "Div", "Pow", "MatMul", "Less", "Greater", "Mod", "Concat"})
#: Operators that carry a layer's precision.
LAYERS = frozenset({
    "Conv",
    "ConvTranspose",
    "Gemm",
    "MatMul",
    "LSTM",
    "GRU",
    "RNN",
    "LayerNormalization",
    "BatchNormalization",
    "Softmax",
    "Attention",
    "Scaler",
    "LinearRegressor",
})
#: Operator -> index of the input that is its bias.
BIASES = {
    "Conv": 2,
    "ConvTranspose": 2,
    "Gemm": 2,
    "LayerNormalization": 2,
    "LSTM": 3,
    "GRU": 3,
    "RNN": 3,
}
STRIDED = frozenset({"Conv", "ConvTranspose", "MaxPool", "AveragePool"})
#: Since when CastLike exists, and since when ReduceMean takes its axes as an input.
CAST_LIKE_OPSET, AXES_INPUT_OPSET = 15, 18
HALVES = {"float16": TensorProto.FLOAT16, "bfloat16": TensorProto.BFLOAT16}


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One mutant that can be made."""

    kind: str
    id: str
    make: Callable[[], object]
    """Makes it in the model that it was listed from."""


def changes(model: onnx.ModelProto) -> Iterator[Change]:
    """Yield every change of `model`; ids are unique."""
    held, nodes = weights(model), places(model)
    yield from _scaled(held)
    yield from _transposed(held)
    yield from _biases(nodes, held)
    for place in nodes:
        yield from _swaps(place)
        yield from _axes(place)
        yield from _windows(place)
        yield from _operands(place)
        yield from _trees(place)
    yield from _permutations(model)
    if _opset(model) >= CAST_LIKE_OPSET:
        used = _used(model, nodes)
        for place in nodes:
            yield from _precision(place, used)
        yield from _mixtures(model)


def single_weights(model: onnx.ModelProto) -> Iterator[Change]:
    """Yield changes of one weight each, for the curve; the same weights for every amount."""
    for each in weights(model):
        drawn = {_chosen(each.read(), f"{each.name}/{number}") for number in range(CURVE_DRAWS)}
        for index in sorted(number for number in drawn if number is not None):
            for amount in CURVE_AMOUNTS:
                name = f"{SINGLE}/{each.name}/{index}/{amount}"
                make = partial(_scale_one, each, index, float(amount))
                yield Change(kind=SINGLE, id=name, make=make)


def all_weights(model: onnx.ModelProto, factor: float) -> int:
    """Scale every weight of `model`; return how many there are."""
    held = weights(model)
    for each in held:
        each.write(each.read() * np.array(factor, dtype=np.float64))
    return sum(each.read().size for each in held)


def draw(key: str, count: int) -> int:
    """Return a whole number below `count`, the same for the same key everywhere."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "little") % count


def _scaled(held: Sequence[Weights]) -> Iterator[Change]:
    for each in held:
        array = each.read()
        if not array.any():
            continue
        for amount in AMOUNTS:
            make = partial(_scale_all, each, float(amount))
            yield Change(kind="scale-tensor", id=f"scale-tensor/{each.name}/{amount}", make=make)
            axis = _channel_axis(each)
            index = None if axis is None else _channel(array, axis, f"{each.name}/{amount}")
            if axis is not None and index is not None:
                make = partial(_scale_channel, each, axis, index, float(amount))
                name = f"scale-channel/{each.name}/{index}/{amount}"
                yield Change(kind="scale-channel", id=name, make=make)


def _channel_axis(each: Weights) -> int | None:
    """Return the axis of output channels: the first with more than one entry, of any rank."""
    return next((axis for axis, size in enumerate(each.dims) if size > 1), None)


def _channel(array: Array, axis: int, key: str) -> int | None:
    """Return a channel that is not zero, chosen by `key`."""
    others = tuple(other for other in range(array.ndim) if other != axis)
    alive = np.flatnonzero((array != 0).any(axis=others))
    return int(alive[draw(key, alive.size)]) if alive.size else None


def _chosen(array: Array, key: str) -> int | None:
    alive = np.flatnonzero(array)
    return int(alive[draw(key, alive.size)]) if alive.size else None


def _scale_all(each: Weights, amount: float) -> None:
    each.write(each.read() * np.array(1 + amount, dtype=np.float64))


def _scale_channel(each: Weights, axis: int, index: int, amount: float) -> None:
    array = each.read().astype(np.float64)
    np.moveaxis(array, axis, 0)[index] *= 1 + amount
    each.write(array)


def _scale_one(each: Weights, index: int, amount: float) -> None:
    array = each.read().astype(np.float64)
    array.reshape(-1)[index] *= 1 + amount
    each.write(array)


def _transposed(held: Sequence[Weights]) -> Iterator[Change]:
    for each in held:
        square = len(each.dims) > 1 and each.dims[-1] == each.dims[-2] > 1
        if square and not np.array_equal(each.read(), each.read().swapaxes(-1, -2)):
            make = partial(_transpose, each)
            yield Change(kind="transpose-weight", id=f"transpose-weight/{each.name}", make=make)


def _transpose(each: Weights) -> None:
    each.write(each.read().swapaxes(-1, -2))


def _biases(nodes: Sequence[Place], held: Sequence[Weights]) -> Iterator[Change]:
    named = {each.value: each for each in held if each.value}
    for place in nodes:
        index = BIASES.get(place.node.op_type)
        if index is not None and len(place.node.input) > index and place.node.input[index]:
            bias = named.get(place.node.input[index])
            if bias is None or bias.read().any():
                make = partial(_drop_input, place, index)
                yield Change(kind="drop-bias", id=f"drop-bias/{place.title}", make=make)
        if place.node.op_type == "Add":
            for name in place.node.input:
                bias = named.get(name)
                if bias is not None and len(bias.dims) == 1 and bias.read().any():
                    make = partial(_zero, bias)
                    yield Change(kind="drop-bias", id=f"drop-bias/{place.title}", make=make)
    for each in held:
        if each.name.endswith((".intercepts", ".offset")) and each.read().any():
            yield Change(kind="drop-bias", id=f"drop-bias/{each.name}", make=partial(_zero, each))


def _zero(each: Weights) -> None:
    each.write(np.zeros_like(each.read()))


def _drop_input(place: Place, index: int) -> None:
    place.node.input[index] = ""
    while place.node.input and not place.node.input[-1]:
        place.node.input.pop()


def _swaps(place: Place) -> Iterator[Change]:
    for kind, table in SWAPS.items():
        for other in table.get(place.node.op_type, ()):
            if place.node.domain in {"", "ai.onnx"} and len(place.node.output) == 1:
                make = partial(_swap, place.node, other)
                yield Change(kind=kind, id=f"{kind}/{place.title}/{other}", make=make)
    if place.node.op_type == "Pad" and "mode" in attributes(place.node):
        mode = "reflect" if attributes(place.node)["mode"].s == b"edge" else "edge"
        make = partial(set_attribute, place.node, "mode", mode)
        name = f"change-padding/{place.title}/{mode}"
        yield Change(kind="change-padding", id=name, make=make)


#: Attributes that mean nothing to the operator that is swapped in.
_OWN = {
    "Gelu": ("approximate",),
    "LeakyRelu": ("alpha",),
    "Elu": ("alpha",),
    "HardSigmoid": ("alpha", "beta"),
    "AveragePool": ("count_include_pad",),
    "MaxPool": ("storage_order",),
}


def _swap(node: onnx.NodeProto, other: str) -> None:
    kept = [each for each in node.attribute if each.name not in _OWN.get(node.op_type, ())]
    del node.attribute[:]
    node.attribute.extend(kept)
    node.op_type = other


def _axes(place: Place) -> Iterator[Change]:
    node, named = place.node, attributes(place.node)
    if "axis" in named:
        old = named["axis"].i
        for new in {old + 1, old - 1} if old not in {0, -1} else {1 if old == 0 else -2}:
            make = partial(set_attribute, node, "axis", new)
            name = f"change-axis/{place.title}/{new}"
            yield Change(kind="change-axis", id=name, make=make)
    if "perm" in named and len(named["perm"].ints) > 1:
        old_perm = list(named["perm"].ints)
        new_perm = [*old_perm[:-2], old_perm[-1], old_perm[-2]]
        make = partial(set_attribute, node, "perm", new_perm)
        name = f"change-axis/{place.title}/{'-'.join(map(str, new_perm))}"
        yield Change(kind="change-axis", id=name, make=make)
    if node.op_type.startswith("Reduce") and "axes" in named and len(named["axes"].ints) == 1:
        old = named["axes"].ints[0]
        new = 1 if old == 0 else old - 1
        make = partial(set_attribute, node, "axes", [new])
        name = f"change-axis/{place.title}/{new}"
        yield Change(kind="change-axis", id=name, make=make)


def _windows(place: Place) -> Iterator[Change]:
    """Strides and paddings of convolutions and poolings."""
    node, named = place.node, attributes(place.node)
    rank = len(named["kernel_shape"].ints) if "kernel_shape" in named else 0
    if node.op_type not in STRIDED or not rank:
        return
    strides = list(named["strides"].ints) if "strides" in named else [1] * rank
    wider = [*strides[:-1], strides[-1] + 1]
    name = f"change-stride/{place.title}/{'-'.join(map(str, wider))}"
    make = partial(set_attribute, node, "strides", wider)
    yield Change(kind="change-stride", id=name, make=make)
    if "auto_pad" in named and named["auto_pad"].s not in {b"NOTSET", b""}:
        return
    pads = list(named["pads"].ints) if "pads" in named else [0] * (2 * rank)
    shifted = list(pads)
    shifted[rank - 1] += 1
    if pads[-1]:  # the size stays, everything moves by one
        shifted[-1] -= 1
    name = f"change-padding/{place.title}/{'-'.join(map(str, shifted))}"
    make = partial(set_attribute, node, "pads", shifted)
    yield Change(kind="change-padding", id=name, make=make)


def _operands(place: Place) -> Iterator[Change]:
    node = place.node
    distinct = len(set(node.input)) > 1
    if node.op_type in ORDERED and distinct:
        yield Change(
            kind="flip-operands",
            id=f"flip-operands/{place.title}",
            make=partial(_reorder, node, list(reversed(node.input))),
        )
    if node.op_type == "Where" and node.input[1] != node.input[2]:
        order = [node.input[0], node.input[2], node.input[1]]
        make = partial(_reorder, node, order)
        yield Change(kind="flip-operands", id=f"flip-operands/{place.title}", make=make)
    if node.op_type == "If":
        make = partial(_flip_branches, node)
        yield Change(kind="flip-operands", id=f"flip-operands/{place.title}", make=make)


def _reorder(node: onnx.NodeProto, names: list[str]) -> None:
    node.input[:] = names


def _flip_branches(node: onnx.NodeProto) -> None:
    swapped = {"then_branch": "else_branch", "else_branch": "then_branch"}
    for attribute in node.attribute:
        attribute.name = swapped.get(attribute.name, attribute.name)


def _precision(place: Place, used: Collection[str]) -> Iterator[Change]:
    """The results of one layer go through 16 bits."""
    outputs = [name for name in place.node.output if name in used]
    if place.node.op_type not in LAYERS or not outputs:
        return
    for name, number in HALVES.items():
        yield Change(
            kind="lower-precision",
            id=f"lower-precision/{place.title}/{name}",
            make=partial(_round, place.body, outputs, number),
        )


def _used(model: onnx.ModelProto, nodes: Sequence[Place]) -> set[str]:
    """Return the values that some node or output of any body reads."""
    used = {name for place in nodes for name in place.node.input}
    used |= {port.name for port in model.graph.output}
    for place in nodes:
        body = place.body
        used.update(body.output if isinstance(body, onnx.FunctionProto) else
                    (port.name for port in body.output))  # fmt: skip
    return used - {""}


def _round(body: Body, outputs: Sequence[str], number: int) -> None:
    for output in outputs:
        back = f"{output} rounded"
        nodes = [
            helper.make_node("Cast", ["before"], [back], to=number),
            helper.make_node("CastLike", [back, "before"], ["after"]),
        ]
        insert_after(body, output, nodes, before="before", after="after")


def _trees(place: Place) -> Iterator[Change]:
    """Turn decisions, move thresholds and scale the leaves of one tree of an ensemble."""
    named = attributes(place.node)
    if not {"nodes_treeids", "nodes_modes"} <= named.keys():
        return
    tree = draw(place.title, len(set(named["nodes_treeids"].ints)))
    chosen = sorted(set(named["nodes_treeids"].ints))[tree]
    inner = [
        index
        for index, mode in enumerate(named["nodes_modes"].strings)
        if mode != b"LEAF" and named["nodes_treeids"].ints[index] == chosen
    ]
    for index in inner[:3]:
        name = f"flip-operands/{place.title}/tree{chosen}/node{index}"
        make = partial(_turn, place.node, index)
        yield Change(kind="flip-operands", id=name, make=make)
    yield from _tree_amounts(place, chosen)
    if "post_transform" in named:
        other = b"NONE" if named["post_transform"].s != b"NONE" else b"LOGISTIC"
        name = f"swap-activation/{place.title}/{other.decode()}"
        make = partial(set_attribute, place.node, "post_transform", other)
        yield Change(kind="swap-activation", id=name, make=make)


def _tree_amounts(place: Place, tree: int) -> Iterator[Change]:
    named = attributes(place.node)
    sides = (("nodes_values", "nodes_treeids"), ("class_weights", "class_treeids"),
             ("target_weights", "target_treeids"))  # fmt: skip
    for values, trees in sides:
        if values not in named or trees not in named:
            continue
        for amount in AMOUNTS:
            name = f"scale-tree/{place.title}.{values}/tree{tree}/{amount}"
            make = partial(_scale_tree, place.node, values, trees, tree, float(amount))
            yield Change(kind="scale-tree", id=name, make=make)


def _scale_tree(node: onnx.NodeProto, values: str, trees: str, tree: int, amount: float) -> None:
    named = attributes(node)
    for index, owner in enumerate(named[trees].ints):
        if owner == tree:
            named[values].floats[index] *= 1 + amount


def _turn(node: onnx.NodeProto, index: int) -> None:
    named = attributes(node)
    yes, no = named["nodes_truenodeids"].ints, named["nodes_falsenodeids"].ints
    yes[index], no[index] = no[index], yes[index]


def _permutations(model: onnx.ModelProto) -> Iterator[Change]:
    """Outputs change places, or the entries of an output's last axis do."""
    graph = model.graph
    tensors = _produced_tensors(model)
    if len(graph.output) > 1 and len(tensors) == len(graph.output):
        names = [port.name for port in graph.output]
        make = partial(_permute, model, [*names[1:], names[0]])
        yield Change(kind="permute-outputs", id="permute-outputs/names", make=make)
    for port in tensors:
        dims = port.type.tensor_type.shape.dim
        if len(dims) > 1 and dims[-1].dim_value > 1 and _opset(model) >= CAST_LIKE_OPSET:
            make = partial(_roll, model, port.name, len(dims) - 1)
            name = f"permute-outputs/{port.name}/last-axis"
            yield Change(kind="permute-outputs", id=name, make=make)


def _mixtures(model: onnx.ModelProto) -> Iterator[Change]:
    """Rows of a batch see each other."""
    for port in _produced_tensors(model):
        axis = _batch_axis(model, port)
        if axis is None:
            continue
        make = partial(_roll, model, port.name, axis)
        yield Change(kind="mix-rows", id=f"mix-rows/{port.name}/next-row", make=make)
        if port.type.tensor_type.elem_type in FLOATING:
            make = partial(_leak, model, port.name, axis)
            yield Change(kind="mix-rows", id=f"mix-rows/{port.name}/mean-1e-2", make=make)


def _produced_tensors(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    """Return the outputs that are tensors and come out of a node."""
    produced = {name for node in model.graph.node for name in node.output}
    return [
        port
        for port in model.graph.output
        if port.name in produced and port.type.HasField("tensor_type")
    ]


def _opset(model: onnx.ModelProto) -> int:
    versions = [each.version for each in model.opset_import if each.domain in {"", "ai.onnx"}]
    return max(versions, default=0)


def _batch_axis(model: onnx.ModelProto, port: onnx.ValueInfoProto) -> int | None:
    """Return the axis of an output that has the free first dimension of an input."""
    firsts = {
        given.type.tensor_type.shape.dim[0].dim_param
        for given in model.graph.input
        if given.type.tensor_type.shape.dim
    }
    dims = port.type.tensor_type.shape.dim
    for axis, dim in enumerate(dims):
        if dim.dim_param and dim.dim_param in firsts:
            return axis
    return 0 if dims and not dims[0].dim_value else None


def _permute(model: onnx.ModelProto, names: list[str]) -> None:
    """Let every output carry what another one computes; names and types stay as declared."""
    old = [port.name for port in model.graph.output]
    renamed = dict(zip(old, names, strict=True))
    for node in model.graph.node:
        node.output[:] = [renamed.get(name, name) for name in node.output]
        node.input[:] = [renamed.get(name, name) for name in node.input]


def _roll(model: onnx.ModelProto, output: str, axis: int) -> None:
    """Let each entry of an axis give its place to the next one."""
    ends = {"zero": 0, "one": 1, "most": 2**31 - 1, "axis": axis}
    constants = [_constant(f"{output} {name}", value) for name, value in ends.items()]
    zero, one, most, along = (f"{output} {name}" for name in ends)
    nodes = [
        *constants,
        helper.make_node("Slice", ["before", one, most, along], [f"{output} tail"]),
        helper.make_node("Slice", ["before", zero, one, along], [f"{output} head"]),
        helper.make_node("Concat", [f"{output} tail", f"{output} head"], ["after"], axis=axis),
    ]
    insert_after(model.graph, output, nodes, before="before", after="after")


def _leak(model: onnx.ModelProto, output: str, axis: int) -> None:
    """Move each row by a hundredth towards the mean of all rows."""
    mean, away, part, share = (f"{output} {name}" for name in ("mean", "away", "part", "share"))
    along = f"{output} axis"
    by_input = _opset(model) >= AXES_INPUT_OPSET
    reduce = helper.make_node("ReduceMean", ["before", along] if by_input else ["before"], [mean])
    if not by_input:
        set_attribute(reduce, "axes", [axis])
    nodes = [
        *([_constant(along, axis)] if by_input else []),
        reduce,
        helper.make_node("Sub", [mean, "before"], [away]),
        helper.make_node("Constant", [], [f"{output} hundredth"], value_float=0.01),
        helper.make_node("CastLike", [f"{output} hundredth", "before"], [share]),
        helper.make_node("Mul", [away, share], [part]),
        helper.make_node("Add", ["before", part], ["after"]),
    ]
    insert_after(model.graph, output, nodes, before="before", after="after")


def _constant(name: str, value: int) -> onnx.NodeProto:
    return helper.make_node("Constant", [], [name], value_ints=[value])
