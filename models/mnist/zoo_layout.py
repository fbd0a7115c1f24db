"""Write a PyTorch module and its outputs as a folder in the layout of the ONNX model zoo.

`model.onnx` comes with folders `test_data_set_N` that hold `input_i.pb` and `output_i.pb`, which
is all that a runner without PyTorch needs. Only the `record.py` scripts import this module.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import onnx
import torch
from onnx import numpy_helper

Tensors = dict[str, torch.Tensor]

OPSET = 20


def write_model(
    module: torch.nn.Module, inputs: Tensors, outputs: Sequence[str], path: Path, *, max_batch: int
) -> None:
    """Export with a dynamic first dimension, without a trace of this machine."""
    batch = torch.export.Dim("batch", min=1, max=max_batch)
    program = torch.onnx.export(
        module,
        tuple(inputs.values()),
        dynamo=True,
        opset_version=OPSET,
        input_names=list(inputs),
        output_names=outputs,
        dynamic_shapes=tuple({0: batch} for _ in inputs),
        verbose=False,
    )
    model = program.model_proto  # type: ignore[union-attr]  # None for the old exporter only
    for part in _parts(model):
        del part.metadata_props[:]  # source lines with absolute paths
    onnx.checker.check_model(model, full_check=True)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(model.SerializeToString(deterministic=True))


def write_test_data(folder: Path, *, inputs: Tensors, outputs: Tensors) -> None:
    """Write one `test_data_set_N` folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for kind, tensors in (("input", inputs), ("output", outputs)):
        for index, (name, tensor) in enumerate(tensors.items()):
            proto = numpy_helper.from_array(tensor.numpy(), name)
            content = proto.SerializeToString(deterministic=True)
            (folder / f"{kind}_{index}.pb").write_bytes(content)


def _parts(model: onnx.ModelProto) -> Iterator[Any]:
    graph = model.graph
    yield from (model, graph)
    for group in (graph.node, graph.input, graph.output, graph.value_info, graph.initializer):
        yield from group
