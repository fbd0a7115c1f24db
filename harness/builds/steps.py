"""The steps of a build: each takes a model and returns another one, or says why it cannot.

They run in a worker. What leaves a model as it was is refused: such a build would be the candidate
under another name, and every gate would judge the candidate twice.
"""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import onnx

from harness.errors import ModelFileError

Step = Callable[[onnx.ModelProto, Mapping[str, Any]], onnx.ModelProto]
#: Operators that dynamic quantisation leaves behind.
INTEGER_OPERATORS = frozenset({"ConvInteger", "MatMulInteger", "DynamicQuantizeLSTM"})
#: Operators whose weights it can take.
QUANTIZABLE = ("Conv", "EmbedLayerNormalization", "Gather", "Gemm", "LSTM", "MatMul")


def simplify(model: onnx.ModelProto, _: Mapping[str, Any]) -> onnx.ModelProto:
    """Fold constants and shapes, by onnxsim, which compares both models on random inputs."""
    import onnxsim  # noqa: PLC0415 - optional

    simplified, same = onnxsim.simplify(model)
    if not same:
        msg = "onnxsim's simplified model gives other outputs than the candidate"
        raise ModelFileError(msg, code="build.failed", next_step="leave the step 'simplify' out")
    made: onnx.ModelProto = simplified
    return made


def optimize(model: onnx.ModelProto, keys: Mapping[str, Any]) -> onnx.ModelProto:
    """Apply passes of onnxoptimizer."""
    import onnxoptimizer  # noqa: PLC0415 - optional

    passes = list(keys["passes"]) or onnxoptimizer.get_fuse_and_elimination_passes()
    known = onnxoptimizer.get_available_passes()
    if unknown := [each for each in passes if each not in known]:
        raise _unknown_name(key="passes", name=unknown[0], known=known)
    made: onnx.ModelProto = onnxoptimizer.optimize(model, passes)
    return made


def optimize_by_onnxruntime(model: onnx.ModelProto, keys: Mapping[str, Any]) -> onnx.ModelProto:
    """Save what ONNX Runtime's CPU provider makes of the graph at a level."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    level = keys["level"] or "basic"
    options.graph_optimization_level = {
        "basic": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC,
        "extended": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    }[level]
    options.intra_op_num_threads = 1
    with tempfile.TemporaryDirectory() as folder:
        before, after = Path(folder, "before.onnx"), Path(folder, "after.onnx")
        _save(model, before)
        options.optimized_model_filepath = str(after)
        onnxruntime.InferenceSession(str(before), options, providers=["CPUExecutionProvider"])
        return onnx.load(after)


def to_float16(model: onnx.ModelProto, keys: Mapping[str, Any]) -> onnx.ModelProto:
    """Let everything but `keep` compute in float16; inputs and outputs keep their types."""
    from onnxruntime.transformers import float16
    from onnxruntime.transformers.onnx_model import OnnxModel

    operators, nodes = _kept(model, keys["keep"])
    made: onnx.ModelProto = float16.convert_float_to_float16(
        model,
        keep_io_types=True,
        op_block_list=[*float16.DEFAULT_OP_BLOCK_LIST, *operators],
        node_block_list=nodes,
    )
    if not any(each.data_type == onnx.TensorProto.FLOAT16 for each in made.graph.initializer):
        raise _nothing_changed(step="float16", why="no weight could be converted")
    OnnxModel(made).topological_sort()  # casts were put at the end, which checkers refuse
    return made


def quantize_dynamic(model: onnx.ModelProto, keys: Mapping[str, Any]) -> onnx.ModelProto:
    """Let matrix products take 8-bit weights, and 8-bit inputs scaled anew in every run."""
    from onnxruntime import quantization

    operators, nodes = _kept(model, keys["keep"])
    kind = quantization.QuantType.QUInt8 if keys["weights"] == "uint8" else None
    with tempfile.TemporaryDirectory() as folder:
        before, after = Path(folder, "before.onnx"), Path(folder, "after.onnx")
        _save(model, before)
        quantization.quantize_dynamic(
            before,
            after,
            weight_type=kind or quantization.QuantType.QInt8,
            per_channel=keys["per_channel"],
            op_types_to_quantize=[each for each in QUANTIZABLE if each not in operators],
            nodes_to_exclude=nodes,
        )
        made = onnx.load(after)
    if not INTEGER_OPERATORS & {node.op_type for node in made.graph.node}:
        found = ", ".join(sorted({node.op_type for node in model.graph.node}))
        why = f"none of its operators ({found}) was quantised"
        raise _nothing_changed(step="quantize-dynamic", why=why)
    return made


STEPS: Mapping[str, Step] = {
    "simplify": simplify,
    "optimize": optimize,
    "onnxruntime": optimize_by_onnxruntime,
    "float16": to_float16,
    "quantize-dynamic": quantize_dynamic,
}


def apply(model: onnx.ModelProto, keys: Mapping[str, Any]) -> onnx.ModelProto:
    """Return the model after one step.

    Args:
        model: May be changed.
        keys: The step's name, and all of its keys.

    Raises:
        ModelFileError: If the step is refused by its tool, or leaves the model as it was; code
            `build.failed`.
    """
    name = keys["step"]
    try:
        with _quiet():
            made = STEPS[name](model, keys)
            onnx.checker.check_model(made)
    except ModelFileError:
        raise
    except Exception as error:  # noqa: BLE001 - tools raise what they like
        why = str(error).strip().splitlines() or [type(error).__name__]
        msg = f"Step '{name}' failed: {why[0]}"
        raise ModelFileError(
            msg,
            code="build.failed",
            got=type(error).__name__ + "".join(f"\n{line}" for line in why[1:6]),
            next_step=f"leave what it cannot take out of it, or the step '{name}' out",
        ) from None
    return made


def counted(model: onnx.ModelProto) -> dict[str, int]:
    """Return how many nodes each operator has, subgraphs included."""
    return dict(Counter(node.op_type for node in _nodes(model.graph)))


def parameters(model: onnx.ModelProto) -> int:
    """Return the number of elements of all weights."""
    total = 0
    for tensor in model.graph.initializer:
        count = 1
        for size in tensor.dims:
            count *= size
        total += count
    return total


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (*([attribute.g] if attribute.HasField("g") else ()), *attribute.graphs):
                yield from _nodes(inner)


def _kept(model: onnx.ModelProto, keep: list[str]) -> tuple[list[str], list[str]]:
    """Return what is to stay as it is: operators, and names of nodes."""
    operators = {node.op_type for node in _nodes(model.graph)}
    nodes = {node.name for node in _nodes(model.graph) if node.name}
    for each in keep:
        if each not in operators | nodes:
            raise _unknown_name(key="keep", name=each, known=sorted(operators))
    return [each for each in keep if each in operators], [each for each in keep if each in nodes]


def _save(model: onnx.ModelProto, path: Path) -> None:
    large = model.ByteSize() > onnx.checker.MAXIMUM_PROTOBUF // 2
    onnx.save(model, path, save_as_external_data=large)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep tools from writing where the worker's own words are read."""
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(logging.NOTSET)


def _nothing_changed(*, step: str, why: str) -> ModelFileError:
    msg = f"Step '{step}' left the model as it was: {why}"
    return ModelFileError(
        msg,
        code="build.failed",
        expected="a build that differs from the candidate",
        next_step=f"drop the variant, or keep less out of '{step}'",
    )


def _unknown_name(*, key: str, name: str, known: list[str]) -> ModelFileError:
    msg = f"'{key}' names '{name}', which is not there"
    return ModelFileError(
        msg,
        code="build.failed",
        expected=f"one of {', '.join(known)}",
        next_step=f"correct '{key}'",
    )
