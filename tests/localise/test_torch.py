"""Failures between PyTorch and ONNX: values matched by what the exporter noted."""

from __future__ import annotations

import runpy
import warnings
from pathlib import Path

import onnx
import pytest
from onnx import numpy_helper

from harness.testing import file_spec
from tests.localise.conftest import Searcher
from tests.localise.graphs import CASE, CHANNEL, FACTOR, INPUTS, SIZE

pytest.importorskip("torch")
pytest.importorskip("onnxscript")

REFERENCE = f"""
import torch

class Block(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = torch.nn.LayerNorm({SIZE})
        self.linear = torch.nn.Linear({SIZE}, {SIZE})

    def forward(self, x):
        return x + torch.tanh(self.linear(self.norm(x)))

class Net(torch.nn.Module):
    def __init__(self, depth):
        super().__init__()
        self.blocks = torch.nn.ModuleList([Block() for _ in range(depth)])

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return x

def build(depth=DEPTH):
    torch.manual_seed(0)
    return Net(depth)
"""
#: Written where data decides the way, so that the module cannot be exported again.
BRANCHING = REFERENCE.replace(
    "        for block in self.blocks:",
    "        if x.sum() > 1e9:\n            return x\n        for block in self.blocks:",
)


def exported(folder: Path, reference: str) -> onnx.ModelProto:
    """Return the export of a reference, as its owner would make it."""
    import torch

    folder.mkdir()
    path = folder / "reference.py"
    path.write_text(reference, encoding="utf-8")
    module = runpy.run_path(str(path))["build"]().eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module,
            (torch.zeros(2, SIZE),),
            dynamo=True,
            verbose=False,
            input_names=["x"],
            output_names=["y"],
            opset_version=20,
            dynamic_shapes=({0: "batch"},),
        )
    model: onnx.ModelProto = program.model_proto
    return model


def perturb(model: onnx.ModelProto, weight: str) -> onnx.ModelProto:
    """Scale one channel of a weight."""
    (tensor,) = [each for each in model.graph.initializer if each.name == weight]
    values = numpy_helper.to_array(tensor).copy()
    values[CHANNEL] *= FACTOR
    tensor.CopyFrom(numpy_helper.from_array(values, weight))
    return model


def spec() -> str:
    """Return the spec of a file held against a module."""
    return file_spec(reference='torch = "reference.py:build"', inputs=INPUTS, case=CASE)


@pytest.mark.parametrize(("depth", "off"), [(10, 4), (50, 25)])
def test_a_channel_that_is_off_is_found(
    search: Searcher, tmp_path: Path, depth: int, off: int
) -> None:
    """In 40 and 200 nodes, with the PyTorch module and source line."""
    reference = REFERENCE.replace("DEPTH", str(depth))
    model = perturb(exported(tmp_path / "made", reference), f"blocks.{off}.linear.weight")
    assert len(model.graph.node) == 4 * depth
    report = search(spec(), {"model.onnx": model.SerializeToString(), "reference.py": reference})
    assert report.origin is not None, "\n".join(report.lines())
    assert (report.kind, report.origin.operator) == ("graph", "Gemm")
    assert report.origin.module == f"blocks.{off}.linear"
    assert report.origin.line.endswith(
        "reference.py:11 in forward: return x + torch.tanh(self.linear(self.norm(x)))"
    )
    assert report.origin.introduced > 100 * report.origin.inherited
    assert report.truth == "the PyTorch reference's own operators"


def test_without_metadata_the_search_is_declared_outside(search: Searcher, tmp_path: Path) -> None:
    """Names alone could be anybody's."""
    reference = REFERENCE.replace("DEPTH", "2")
    model = perturb(exported(tmp_path / "made", reference), "blocks.0.linear.weight")
    for node in model.graph.node:
        del node.metadata_props[:]
    report = search(spec(), {"model.onnx": model.SerializeToString(), "reference.py": reference})
    assert report.origin is None
    assert report.headline.endswith(
        "the file lacks the exporter's metadata (pkg.torch.onnx.*), so its values cannot be "
        "matched to PyTorch's"
    )


def test_module_that_cannot_be_exported_is_compared_by_submodules(
    search: Searcher, tmp_path: Path
) -> None:
    """The module whose nodes introduce the error is found, and its nodes stay together."""
    plain, branching = (text.replace("DEPTH", "4") for text in (REFERENCE, BRANCHING))
    model = perturb(exported(tmp_path / "made", plain), "blocks.2.linear.weight")
    report = search(spec(), {"model.onnx": model.SerializeToString(), "reference.py": branching})
    assert report.truth == "the PyTorch reference's own modules"
    assert report.origin is not None, "\n".join(report.lines())
    assert report.origin.module == "blocks.2.linear"
