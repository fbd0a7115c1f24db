"""How each kind of reference is built, called and exported, inside its worker.

torch, scikit-learn and onnx are imported in the functions that need them: a worker holds one
kind, and the others may not be installed.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from harness.domain.values import Array, Value, Values

#: Takes feeds and the candidate's outputs (name, type, shape), returns named outputs.
Runner = Callable[[Values, Sequence[Any]], list[tuple[str, Value]]]

#: What torch writes into each exported node, with absolute paths inside.
_TRACE_KEY = "pkg.torch.onnx.stack_trace"
#: Above this, weights go into a file of their own (protobuf ends at 2 GiB).
_EXTERNAL_BYTES = 1_500_000_000


def build(kind: str, loaded: Any) -> Any:
    """Return the reference object from what its entry gave.

    Raises:
        TypeError: If the entry gave something else than its kind promises.
    """
    match kind:
        case "torch" | "torchscript":
            return _build_torch(loaded)
        case "sklearn":
            if not hasattr(loaded, "predict") and not hasattr(loaded, "transform"):
                msg = f"expected a fitted estimator, got {type(loaded).__name__}"
                raise TypeError(msg)
            return loaded
        case "onnx":
            from onnx.reference import ReferenceEvaluator

            return ReferenceEvaluator(os.fspath(loaded))
        case _:
            msg = f"unknown kind of reference '{kind}'"
            raise ValueError(msg)


def runner(kind: str, built: Any, methods: Mapping[str, str]) -> Runner:
    """Return the function that runs the reference; `methods` are read for scikit-learn."""
    if kind == "sklearn":
        return lambda feeds, outputs: _run_sklearn(built, feeds, outputs, methods)
    if kind == "onnx":
        return lambda feeds, _: _run_evaluator(built, feeds)
    return lambda feeds, outputs: _run_torch(built, feeds, outputs)


def export(kind: str, built: Any, feeds: Values, request: Mapping[str, Any]) -> None:
    """Write the model exported from `built` to `request["target"]`."""
    if kind == "sklearn":
        _export_sklearn(built, request)
    elif kind == "torch":
        _export_torch(built, feeds, request)
    else:
        msg = f"a '{kind}' reference cannot be exported; give the candidate as a file"
        raise ValueError(msg)


def _build_torch(loaded: Any) -> Any:
    import torch

    torch.set_num_threads(1)  # the same sums on every machine
    if isinstance(loaded, Path):
        loaded = torch.jit.load(os.fspath(loaded), map_location="cpu")
    if not isinstance(loaded, torch.nn.Module):
        msg = f"expected a torch.nn.Module, got {type(loaded).__name__}"
        raise TypeError(msg)
    return loaded.eval()


def _run_torch(module: Any, feeds: Values, outputs: Sequence[Any]) -> list[tuple[str, Value]]:
    import torch

    with torch.inference_mode():
        result = module(*[to_torch(value) for value in feeds.values()])
    found = _named(result, [name for name, _, _ in outputs])
    _refuse_nothing(found, {name: kind for name, kind, _ in outputs})
    return [(name, from_torch(value)) for name, value in found]


def _refuse_nothing(found: Sequence[tuple[str, Any]], kinds: Mapping[str, str]) -> None:
    """Refuse None where the candidate has no optional: a missing `return` is the reference's."""
    for name, value in found:
        if value is None and not kinds.get(name, "optional").startswith("optional"):
            msg = f"the reference returned None instead of a tensor as output '{name}'"
            raise TypeError(msg)


def _named(result: Any, names: Sequence[str]) -> list[tuple[str, Any]]:
    """Pair a module's result with output names: dicts by key, tuples by position."""
    if isinstance(result, Mapping):
        return [(str(name), value) for name, value in result.items()]
    results = list(result) if isinstance(result, tuple | list) else [result]
    if len(results) != len(names):
        msg = f"the reference returned {len(results)} outputs, the model has {len(names)}: "
        raise ValueError(msg + ", ".join(names))
    return list(zip(names, results, strict=True))


def to_torch(value: Value) -> Any:
    """Return a tensor of PyTorch's."""
    import torch

    if not isinstance(value, np.ndarray):
        msg = f"a torch reference takes tensors only, got {type(value).__name__}"
        raise TypeError(msg)
    if value.dtype.name == "bfloat16":
        return torch.from_numpy(value.view(np.int16).copy()).view(torch.bfloat16)
    return torch.from_numpy(value.copy())


def from_torch(value: Any) -> Value:
    """Return what a module or an operator gave as the harness holds it."""
    import torch

    if value is None:
        return None
    if isinstance(value, tuple | list):
        return tuple(from_torch(item) for item in value)
    if not isinstance(value, torch.Tensor):
        msg = f"the reference returned {type(value).__name__} instead of a tensor"
        raise TypeError(msg)
    value = value.detach().cpu().contiguous()
    if value.dtype is torch.bfloat16:
        import ml_dtypes

        return np.asarray(value.view(torch.int16).numpy().view(ml_dtypes.bfloat16))
    return np.asarray(value.numpy())


def _run_sklearn(
    estimator: Any, feeds: Values, outputs: Sequence[Any], methods: Mapping[str, str]
) -> list[tuple[str, Value]]:
    (rows,) = feeds.values()
    return [
        (name, _estimator_output(estimator, _method(methods, name), rows, kind, shape))
        for name, kind, shape in outputs
    ]


def _method(methods: Mapping[str, str], output: str) -> str:
    if output in methods:
        return methods[output]
    msg = f"reference.methods names no method for output '{output}'"
    raise LookupError(msg)


def _estimator_output(
    estimator: Any, method: str, rows: Any, kind: str, shape: Sequence[Any] | None
) -> Value:
    result = np.asarray(getattr(estimator, method)(rows))
    if kind.startswith("seq(map("):
        classes = estimator.classes_.tolist()
        return tuple(
            {key: np.asarray(share) for key, share in zip(classes, row, strict=True)}
            for row in result
        )
    if shape is not None and len(shape) == result.ndim + 1 and shape[-1] == 1:
        return result[:, None]  # skl2onnx gives regressions a second axis of size 1
    return result.astype(object) if result.dtype.kind in "US" else result


def _run_evaluator(evaluator: Any, feeds: Values) -> list[tuple[str, Value]]:
    results = evaluator.run(None, {name: plain(value) for name, value in feeds.items()})
    names = evaluator.output_names
    return [(name, typed(value)) for name, value in zip(names, results, strict=True)]


def plain(value: Value) -> Any:
    """Return a value as the ONNX reference evaluator takes it."""
    return [plain(item) for item in value] if isinstance(value, tuple) else value


def typed(value: Any) -> Value:
    """Return what the ONNX reference evaluator gave as the harness holds it."""
    if value is None:
        return None
    if isinstance(value, list | tuple):
        return tuple(typed(item) for item in value)
    array: Array = np.asarray(value)
    return array.astype(object) if array.dtype.kind in "US" else array


def _export_torch(module: Any, feeds: Values, request: Mapping[str, Any]) -> None:
    program = torch_program(module, feeds, request)
    _make_portable(program.model, Path(request["folder"]))
    size = sum(value.const_value.nbytes for value in program.model.graph.initializers.values())
    program.save(request["target"], external_data=size > _EXTERNAL_BYTES)


def torch_program(
    module: Any, feeds: Values, request: Mapping[str, Any], *, optimize: bool = True
) -> Any:
    """Return what the dynamo exporter makes of a module; named dimensions stay free.

    Args:
        module: The module.
        feeds: Example inputs.
        request: Output names, opset and shapes.
        optimize: Whether the ONNX graph is optimised; the names in PyTorch's stay the same.
    """
    import torch

    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    logging.getLogger("onnxscript").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns about its own internals
        return torch.onnx.export(
            module,
            tuple(to_torch(value) for value in feeds.values()),
            dynamo=True,
            verbose=False,
            optimize=optimize,
            input_names=list(feeds),
            output_names=request["output_names"] or None,
            opset_version=request["opset"],
            dynamic_shapes=_dynamic_shapes(request["shapes"]),
        )


def _dynamic_shapes(shapes: Sequence[Sequence[int | str]]) -> tuple[dict[int, str], ...]:
    return tuple(
        {axis: size for axis, size in enumerate(shape) if isinstance(size, str)} for shape in shapes
    )


def _make_portable(model: Any, folder: Path) -> None:
    """Rewrite absolute paths, so that the same source gives the same bytes in any folder."""
    import torch

    site = Path(torch.__file__).resolve().parents[1]
    prefixes = (
        f"{folder.resolve()}/",
        f"{folder}/",
        f"{site}/",
        f"{Path(torch.__file__).parents[1]}/",
    )
    for node in model.graph.all_nodes():
        trace = node.metadata_props.get(_TRACE_KEY)
        if trace:
            for prefix in prefixes:
                trace = trace.replace(prefix, "")
            node.metadata_props[_TRACE_KEY] = trace


def _export_sklearn(estimator: Any, request: Mapping[str, Any]) -> None:
    import skl2onnx
    from skl2onnx.common import data_types

    kinds = {
        "float32": data_types.FloatTensorType,
        "float64": data_types.DoubleTensorType,
        "int64": data_types.Int64TensorType,
        "int32": data_types.Int32TensorType,
        "string": data_types.StringTensorType,
        "bool": data_types.BooleanTensorType,
    }
    initial = [
        (name, kinds[dtype]([None if isinstance(size, str) else size for size in shape]))
        for name, dtype, shape in request["ports"]
    ]
    model = skl2onnx.to_onnx(
        estimator,
        initial_types=initial,
        target_opset={"": request["opset"], "ai.onnx.ml": request["ml_opset"]},
        options={id(estimator): request["options"]} if request["options"] else None,
    )
    Path(request["target"]).write_bytes(model.SerializeToString(deterministic=True))
