"""An ONNX model computed in float64, and the proof that it really was.

`in_float64` rewrites a model so that `onnx.reference.ReferenceEvaluator` computes in float64.
Some operators return less all the same, or compute in less and return float64: `WideEvaluator`
looks at every result, inside control flow and functions too, and names the nodes that fell short.
A node that only ever meets whole numbers or weights may round without being noticed.

Runs in a worker: the models may be anybody's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import Message
from onnx import AttributeProto, TensorProto, numpy_helper
from onnx.reference import ReferenceEvaluator

from harness.domain import dtypes
from harness.references.rounding import LOOKED_AT, fits_float32, holds_float32, shaken

#: Element type -> the one that replaces it.
WIDER: dict[int, int] = {
    TensorProto.FLOAT: TensorProto.DOUBLE,
    TensorProto.FLOAT16: TensorProto.DOUBLE,
    TensorProto.BFLOAT16: TensorProto.DOUBLE,
    TensorProto.COMPLEX64: TensorProto.COMPLEX128,
}
#: Attributes that hold an element type; BitCast's `to` is about bits and stays.
TYPE_ATTRIBUTES = frozenset({"to", "dtype", "output_dtype", "output_datatype"})
#: Operators that give float32 when their attribute for the type is left out -> that attribute.
FLOAT_BY_DEFAULT = {
    "SequenceEmpty": "dtype",
    "RandomNormal": "dtype",
    "RandomUniform": "dtype",
    "BlackmanWindow": "output_datatype",
    "HammingWindow": "output_datatype",
    "HannWindow": "output_datatype",
    "MelWeightMatrix": "output_datatype",
}
#: Operators whose definition computes in float32 unless this attribute says otherwise. The
#: evaluator's own LayerNormalization computes in the type of its input, and refuses others.
STASHING = frozenset({"GroupNormalization"})


def in_float64(model: onnx.ModelProto, *, keep: str = "") -> onnx.ModelProto:
    """Return a copy that computes in float64 what `model` computes in 32 or 16 bits.

    Weights, constants, declared types, Cast targets and what is float32 by default all become
    float64, in subgraphs and functions too.
    Quantised types keep theirs. The inputs take what `widen` gives.

    Args:
        model: With what lies in other files loaded.
        keep: Nodes whose names begin so stay as they are: they round on purpose.
    """
    wide = onnx.ModelProto()
    wide.CopyFrom(model)
    for message in list(_messages(wide, keep)):
        match message:
            case onnx.NodeProto():
                _widen_node(message)
            case TensorProto():
                _widen_tensor(message)
            case onnx.TypeProto.Tensor() | onnx.TypeProto.SparseTensor():
                message.elem_type = WIDER.get(message.elem_type, message.elem_type)
            case _:
                pass
    for message in list(_messages(wide)):
        if isinstance(message, onnx.GraphProto | onnx.FunctionProto):
            _cast_linked_constants(message)
    return wide


def widen(value: Any) -> Any:
    """Return a value for a widened model: arrays below float64 become float64."""
    if isinstance(value, np.ndarray | np.generic):
        return value.astype(np.float64) if _is_narrow(value) else value
    if isinstance(value, tuple | list):
        return [widen(item) for item in value]
    if isinstance(value, Mapping):
        return {key: widen(item) for key, item in value.items()}
    return value


class WideEvaluator:
    """Evaluates a model in float64 and notes the nodes that did not.

    Args:
        model: As it is; it is widened here.
        keep: Nodes whose names begin so round on purpose, and are not noted.
    """

    def __init__(self, model: onnx.ModelProto, *, keep: str = "") -> None:
        self._narrow: dict[str, None] = {}
        self._evaluator = _watching(self._narrow, keep)(in_float64(model, keep=keep))
        self._shaken = False

    @property
    def narrow(self) -> tuple[str, ...]:
        """Return the nodes of all runs so far that computed in less, each with the reason."""
        return tuple(self._narrow)

    def run(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        """Return all outputs by name; the first run also looks for results rounded on the way."""
        wide = {name: widen(value) for name, value in feeds.items()}
        with np.errstate(all="ignore"):  # an overflow is the model's, and shows in its outputs
            if not self._shaken:
                self._evaluator.run(None, {name: shaken(value) for name, value in wide.items()})
                self._shaken = True
            results = self._evaluator.run(None, wide)
        return dict(zip(self._evaluator.output_names, results, strict=True))


def _messages(root: Message, keep: str = "") -> Iterator[Message]:
    """Yield `root` and every message inside it; a loop, because files can nest deeply."""
    waiting = [root]
    while waiting:
        current = waiting.pop()
        if keep and isinstance(current, onnx.NodeProto) and current.name.startswith(keep):
            continue
        yield current
        for descriptor, value in current.ListFields():
            if descriptor.message_type is not None:
                waiting.extend([value] if isinstance(value, Message) else value)


def _widen_tensor(tensor: TensorProto) -> None:
    if tensor.data_type in WIDER:
        array = numpy_helper.to_array(tensor)
        wide = np.complex128 if tensor.data_type == TensorProto.COMPLEX64 else np.float64
        tensor.CopyFrom(numpy_helper.from_array(array.astype(wide), tensor.name))


def _widen_node(node: onnx.NodeProto) -> None:
    named = {attribute.name: attribute for attribute in node.attribute}
    if node.op_type == "Constant":
        _widen_constant(node, named)
    elif node.op_type == "ConstantOfShape" and "value" not in named:
        zero = numpy_helper.from_array(np.zeros(1), "value")
        node.attribute.append(onnx.helper.make_attribute("value", zero))
    elif node.op_type != "BitCast":
        for name in TYPE_ATTRIBUTES & named.keys():
            named[name].i = WIDER.get(named[name].i, named[name].i)
    lacking = FLOAT_BY_DEFAULT.get(node.op_type)
    if lacking is not None and lacking not in named:
        node.attribute.append(onnx.helper.make_attribute(lacking, TensorProto.DOUBLE))
    if node.op_type in STASHING:
        _set(node, "stash_type", TensorProto.DOUBLE)


def _set(node: onnx.NodeProto, name: str, value: int) -> None:
    kept = [attribute for attribute in node.attribute if attribute.name != name]
    del node.attribute[:]
    node.attribute.extend([*kept, onnx.helper.make_attribute(name, value)])


def _widen_constant(node: onnx.NodeProto, named: Mapping[str, AttributeProto]) -> None:
    """Turn `value_float` and `value_floats` into a float64 tensor."""
    for name in ("value_float", "value_floats"):
        if name in named and not named[name].ref_attr_name:
            given = named[name].f if name == "value_float" else list(named[name].floats)
            tensor = numpy_helper.from_array(np.array(given, np.float64), "value")
            del node.attribute[:]
            node.attribute.append(onnx.helper.make_attribute("value", tensor))


def _cast_linked_constants(body: onnx.GraphProto | onnx.FunctionProto) -> None:
    """Put a Cast behind each constant that takes a float from the call of its function."""
    nodes = [made for node in body.node for made in _with_cast(node)]
    if len(nodes) != len(body.node):
        del body.node[:]
        body.node.extend(nodes)


def _with_cast(node: onnx.NodeProto) -> Iterable[onnx.NodeProto]:
    linked = node.op_type == "Constant" and any(
        attribute.ref_attr_name and attribute.type in {AttributeProto.FLOAT, AttributeProto.FLOATS}
        for attribute in node.attribute
    )
    if not linked:
        return [node]
    constant = onnx.NodeProto()
    constant.CopyFrom(node)
    constant.output[0] = f"{node.output[0]}__before_widening"
    cast = onnx.helper.make_node("Cast", constant.output, node.output, to=TensorProto.DOUBLE)
    return [constant, cast]


def _watching(narrow: dict[str, None], keep: str) -> type[ReferenceEvaluator]:
    """Return an evaluator, also for what is nested in it, that notes results below float64."""

    class Watching(ReferenceEvaluator):
        def run(  # type: ignore[override]
            self, output_names: Any, feed_inputs: Any, attributes: Any = None, **more: Any
        ) -> Any:
            results: Any = super().run(None, feed_inputs, attributes, intermediate=True, **more)
            for node in self.rt_nodes_:
                if keep and node.onnx_node.name.startswith(keep):
                    continue
                for name in node.output:
                    if name and (why := _why_narrow(node, results[name], results)):
                        narrow[f"{_title(node)}: output '{name}' {why}"] = None
            return [results[name] for name in output_names or self.output_names]

    return Watching


def _title(node: Any) -> str:
    name = node.onnx_node.name
    return f"{node.op_type} '{name}'" if name else str(node.op_type)


def _why_narrow(node: Any, value: Any, results: Mapping[str, Any]) -> str:
    """Return why a result is no float64 result; empty if it is one."""
    for array in _arrays(value):
        if _is_narrow(array):
            return f"is {array.dtype.name}"
    if isinstance(value, np.ndarray) and not node.has_subgraph:
        inputs = [results.get(name) for name in node.input if name]
        if holds_float32(value) and _was_rounded(value, inputs):
            return "holds float32 values in float64"
    return ""


def _arrays(value: Any) -> Iterator[Any]:
    if isinstance(value, np.ndarray | np.generic):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _arrays(item)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for item in value:
            yield from _arrays(item)


def _is_narrow(value: Any) -> bool:
    """Return whether an array is floating, and below float64 or complex128."""
    if value.dtype.kind in "iubOUSTM":
        return False
    dtype = dtypes.of_array(value)
    return dtype.is_floating and dtype.bits < (128 if value.dtype.kind == "c" else 64)


def _was_rounded(array: Any, inputs: Sequence[Any]) -> bool:
    """Return whether float32 values came out of others: neither chosen from them nor like them."""
    floating = [each for each in inputs if isinstance(each, np.ndarray) and each.dtype.kind == "f"]
    if all(fits_float32(each) for each in floating):
        return False
    given = np.concatenate([*(each.ravel() for each in floating), np.array([0.0, 1.0])])
    return not np.isin(np.abs(array.ravel()[:LOOKED_AT]), np.abs(given)).all()
