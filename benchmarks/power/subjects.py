"""Models that the latency gate is tried on, and what is done to them.

A *subject* is one model at one size of its inputs. Chains of equal layers are there because a layer
more is a slowdown of known size, whatever the machine does; real graphs because nobody serves
chains. Unchanged means another file with the same work: every value renamed, the nodes in
another order in which they can run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from harness.domain.cells import Cell
from harness.domain.spec import CaseSpec
from harness.domain.values import Array, Values
from harness.errors import HarnessError
from harness.evidence import Selection
from harness.files import cases
from harness.files.models import Model, load_models
from harness.files.places import cache_folder
from harness.pipeline import Gate
from harness.runtimes.launchers import Launcher
from harness.runtimes.registry import Runtimes
from harness.testing import make_model, tensor_info

#: Layers of a chain, so that one more is one per cent.
LAYERS = 100
#: Sets of inputs that take turns.
SETS = 4
#: Classes of subjects, by how long a run takes.
SHORT, MIDDLE, LONG = "0.1 ms", "4 ms", "30 ms"
_MODELS = Path(__file__).parents[2] / "models"
_FLOAT, _FLOAT16 = onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16
_FLOAT64 = onnx.TensorProto.DOUBLE


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """One model at one size of its inputs."""

    name: str
    scale: str
    """About how long one run takes: its class."""
    model: onnx.ModelProto
    sets: tuple[Values, ...]
    """Inputs that take turns."""
    grown: Callable[[int], onnx.ModelProto] | None = None
    """Returns the model with so many layers more; None where that cannot be done."""


def chains() -> list[Subject]:
    """Return a chain of each class."""
    return [
        _chain("matmuls", SHORT, _matmul, (1, 64), width=64),
        _chain("convolutions", MIDDLE, _convolution, (1, 16, 32, 32), width=16),
        _chain("wide-convolutions", LONG, _convolution, (1, 32, 40, 40), width=32),
    ]


def short_chain(layers: int) -> Subject:
    """Return a chain of so few layers that a run takes some ten microseconds."""
    found = _chain(f"{layers}-matmuls", SHORT, _matmul, (1, 64), width=64, layers=layers)
    return replace(found, grown=None)


def shipped(launcher: Launcher, runtimes: Runtimes) -> Iterator[Subject]:
    """Yield models of this repository; those that cannot be exported here are left out, told."""
    sizes: tuple[tuple[str, str, str, dict[str, int]], ...] = (
        ("mnist", "mnist-3", SHORT, {"batch": 3}),
        ("mnist", "mnist-128", MIDDLE, {"batch": 128}),
        ("minilm", "minilm-48", LONG, {"batch": 1, "sequence": 48}),
    )
    loaded = load_models(_MODELS)
    models = {name: each for name, each in loaded.items() if isinstance(each, Model)}
    gate = Gate(
        Selection(models=models, localises=False),
        runtimes=runtimes,
        launcher=launcher,
        cache=cache_folder(),
    )
    try:
        for model, name, scale, dims in sizes:
            try:
                path, _ = gate.model_file(Cell(model, "fp32", "cpu"))
            except HarnessError as error:
                print(f"{name} is left out: {error}")
                continue
            sets = tuple(_drawn(models[model], dims))
            yield Subject(name=name, scale=scale, model=onnx.load(path), sets=sets)
    finally:
        gate.close()


def _drawn(model: Model, dims: dict[str, int]) -> Iterator[Values]:
    for number in range(SETS):
        case = CaseSpec(name=f"set{number}", dims=dict(dims))
        yield cases.build(model.name, model.spec, case, model.folder)[0]


def _chain(
    name: str,
    scale: str,
    layer: Callable[..., Any],
    shape: tuple[int, ...],
    *,
    width: int,
    layers: int = LAYERS,
) -> Subject:
    random = np.random.default_rng(7)
    sets = tuple({"h0": random.standard_normal(shape, dtype=np.float32)} for _ in range(SETS))
    grown = partial(_grown, layer, shape, width, layers)
    return Subject(name=name, scale=scale, model=grown(0), sets=sets, grown=grown)


def _grown(
    layer: Callable[..., Any], shape: tuple[int, ...], width: int, layers: int, more: int
) -> onnx.ModelProto:
    """Return a chain of `layers` layers and `more`; the first ones are always the same."""
    random, count = np.random.default_rng(0), layers + more
    nodes, weights = [], {}
    for number in range(count):
        node, weight = layer(number, width, random)
        nodes += [node, helper.make_node("Relu", [f"m{number}"], [f"h{number + 1}"])]
        weights[f"w{number}"] = weight
    info = partial(tensor_info, shape=shape)
    return make_model(nodes, [info("h0")], [info(f"h{count}")], weights)


def _matmul(number: int, width: int, random: np.random.Generator) -> tuple[Any, Array]:
    weight = random.standard_normal((width, width), dtype=np.float32) / np.float32(width**0.5)
    return helper.make_node("MatMul", [f"h{number}", f"w{number}"], [f"m{number}"]), weight


def _convolution(number: int, width: int, random: np.random.Generator) -> tuple[Any, Array]:
    weight = random.standard_normal((width, width, 3, 3), dtype=np.float32)
    inputs, pads = [f"h{number}", f"w{number}"], [1, 1, 1, 1]
    node = helper.make_node("Conv", inputs, [f"m{number}"], pads=pads)
    return node, weight / np.float32((9 * width) ** 0.5)


# unchanged


def reordered(model: onnx.ModelProto, seed: int) -> onnx.ModelProto:
    """Return the same work in another file: values renamed, nodes and weights in another order.

    Names of the graph's inputs and outputs stay, because callers use them. The order is drawn
    among those in which every node comes after what it needs.
    """
    made = onnx.ModelProto()
    made.CopyFrom(model)
    random, graph = np.random.default_rng(seed), made.graph
    _reorder(graph.initializer, random.permutation(len(graph.initializer)))
    _reorder(graph.node, _topological(graph, random))
    _rename(graph, random)
    return made


def _reorder(field: Any, order: Any) -> None:
    copies = [type(field[0])() for _ in field] if len(field) else []
    for copy, index in zip(copies, order, strict=True):
        copy.CopyFrom(field[int(index)])
    del field[:]
    field.extend(copies)


def _topological(graph: onnx.GraphProto, random: np.random.Generator) -> list[int]:
    """Return an order, drawn at random, in which the nodes can run."""
    makers = {name: number for number, node in enumerate(graph.node) for name in node.output}
    needs = [{makers[name] for name in _read(node) if name in makers} for node in graph.node]
    done: list[int] = []
    left = set(range(len(needs)))
    while left:
        ready = sorted(number for number in left if needs[number].isdisjoint(left))
        chosen = ready[int(random.integers(len(ready)))]
        done.append(chosen)
        left.remove(chosen)
    return done


def _read(node: onnx.NodeProto) -> Iterator[str]:
    """Yield what a node reads, the nodes of its subgraphs included."""
    yield from node.input
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            for inner in graph.node:
                yield from _read(inner)


def _rename(graph: onnx.GraphProto, random: np.random.Generator) -> None:
    """Give new names to all nodes, weights and values of a graph without subgraphs."""
    if any(each.HasField("g") or each.graphs for node in graph.node for each in node.attribute):
        return  # subgraphs see outer names
    kept = {info.name for info in (*graph.input, *graph.output)} | {""}
    names = {name for node in graph.node for name in (*node.input, *node.output)}
    names |= {tensor.name for tensor in graph.initializer}
    inner = sorted(names - kept)
    numbers = random.permutation(len(inner))
    new = {name: f"value_{number}" for name, number in zip(inner, numbers, strict=True)}
    for number, node in enumerate(graph.node):
        node.name = f"node_{number}"
        node.input[:] = [new.get(name, name) for name in node.input]
        node.output[:] = [new.get(name, name) for name in node.output]
    for tensor in graph.initializer:
        tensor.name = new.get(tensor.name, tensor.name)
    for info in graph.value_info:
        info.name = new.get(info.name, info.name)


# faults


def split_norms(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model with each LayerNormalization as primitives that no optimiser fuses again.

    The square is a Mul, where ONNX Runtime's fusion looks for a Pow.
    """
    return _rewritten(model, "LayerNormalization", _norm_parts)


def split_gelus(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model with each Gelu as primitives in an order that no optimiser fuses."""
    return _rewritten(model, "Gelu", _gelu_parts)


def without_shapes(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model without the shapes of its inner values.

    ONNX Runtime fuses an Add with the LayerNormalization after it only where it knows them.
    """
    made = onnx.ModelProto()
    made.CopyFrom(model)
    del made.graph.value_info[:]
    return made


def with_casts(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model with one Cast to float16 and back, half way through its nodes' floats."""
    places = [
        node.output[0]
        for node in model.graph.node
        if node.op_type in {"LayerNormalization", "Relu", "Gelu"}
    ]
    name = places[len(places) // 2]
    made = onnx.ModelProto()
    made.CopyFrom(model)
    for index, node in enumerate(made.graph.node):
        if node.output and node.output[0] == name:
            node.output[0] = f"{name}_before"
            down = helper.make_node("Cast", [f"{name}_before"], [f"{name}_half"], to=_FLOAT16)
            up = helper.make_node("Cast", [f"{name}_half"], [name], to=_FLOAT)
            made.graph.node.insert(index + 1, up)
            made.graph.node.insert(index + 1, down)
            return made
    msg = "no node gives a float"
    raise ValueError(msg)


def with_float64(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model with the middle one of its Relus computed in float64.

    OpenVINO's provider leaves that to the CPU, and what it takes falls into two parts.
    """
    places = [node.output[0] for node in model.graph.node if node.op_type == "Relu"]
    middle = places[len(places) // 2]
    return _rewritten(model, "Relu", partial(_float64_parts, only=middle))


def _float64_parts(node: onnx.NodeProto, *, only: str) -> Iterator[Any]:
    name = node.output[0]
    if name != only:
        yield node
        return
    yield helper.make_node("Cast", [node.input[0]], [f"{name}_wide"], to=_FLOAT64)
    yield helper.make_node("Relu", [f"{name}_wide"], [f"{name}_positive"])
    yield helper.make_node("Cast", [f"{name}_positive"], [name], to=_FLOAT)


def _rewritten(
    model: onnx.ModelProto, operator: str, parts: Callable[[onnx.NodeProto], Iterator[Any]]
) -> onnx.ModelProto:
    made = onnx.ModelProto()
    made.CopyFrom(model)
    nodes = []
    for node in model.graph.node:
        nodes += list(parts(node)) if node.op_type == operator else [node]
    del made.graph.node[:]
    made.graph.node.extend(nodes)
    return made


def _norm_parts(node: onnx.NodeProto) -> Iterator[Any]:
    given, name = node.input, node.output[0]
    attributes = {each.name: helper.get_attribute_value(each) for each in node.attribute}
    yield _constant(f"{name}_axis", np.array([attributes.get("axis", -1)], dtype=np.int64))
    yield _constant(f"{name}_epsilon", np.float32(attributes.get("epsilon", 1e-5)))
    steps: tuple[tuple[str, tuple[str, ...], str], ...] = (
        ("ReduceMean", (given[0], f"{name}_axis"), f"{name}_mean"),
        ("Sub", (given[0], f"{name}_mean"), f"{name}_centred"),
        ("Mul", (f"{name}_centred", f"{name}_centred"), f"{name}_square"),
        ("ReduceMean", (f"{name}_square", f"{name}_axis"), f"{name}_variance"),
        ("Add", (f"{name}_variance", f"{name}_epsilon"), f"{name}_shifted"),
        ("Sqrt", (f"{name}_shifted",), f"{name}_deviation"),
        ("Div", (f"{name}_centred", f"{name}_deviation"), f"{name}_normal"),
        ("Mul", (f"{name}_normal", given[1]), f"{name}_scaled"),
        ("Add", (f"{name}_scaled", given[2]), name),
    )
    yield from (helper.make_node(kind, inputs, [output]) for kind, inputs, output in steps)


def _gelu_parts(node: onnx.NodeProto) -> Iterator[Any]:
    given, name = node.input[0], node.output[0]
    yield _constant(f"{name}_root", np.float32(2**-0.5))
    yield _constant(f"{name}_half", np.float32(0.5))
    steps: tuple[tuple[str, tuple[str, ...], str], ...] = (
        ("Mul", (given, f"{name}_root"), f"{name}_scaled"),
        ("Erf", (f"{name}_scaled",), f"{name}_erf"),
        ("Mul", (f"{name}_erf", f"{name}_half"), f"{name}_halved"),
        ("Add", (f"{name}_halved", f"{name}_half"), f"{name}_share"),
        ("Mul", (given, f"{name}_share"), name),
    )
    yield from (helper.make_node(kind, inputs, [output]) for kind, inputs, output in steps)


def _constant(name: str, value: Any) -> onnx.NodeProto:
    tensor = numpy_helper.from_array(np.asarray(value), name)
    return helper.make_node("Constant", [], [name], value=tensor)


#: Needs a provider that does not take float64.
MOVED = "node moved to the CPU"
#: Faults of graphs -> what makes them.
GRAPH_FAULTS: Mapping[str, Callable[[onnx.ModelProto], onnx.ModelProto]] = {
    "LayerNormalization split": split_norms,
    "Gelu split": split_gelus,
    "Cast pair": with_casts,
    "inner shapes dropped": without_shapes,
    MOVED: with_float64,
}
