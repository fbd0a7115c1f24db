"""Exported candidates: made once, the same in every folder, with the declared free dimensions."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import onnx
import pytest

from harness.builds.candidates import candidate_file, example
from harness.errors import SpecError
from harness.files.models import Model, load_model
from harness.references.store import References
from harness.runtimes.launchers import LocalLauncher

TORCH_SPEC = """
schema_version = 1
candidate = { export = { opset = 20 } }
reference = { torch = "reference.py:build" }
inputs.x = { dtype = "float32", shape = ["batch", 3] }
outputs.y = {}
dims.batch = { min = 1, max = 8 }
case = [{ name = "one", dims = { batch = 1 } }]
"""
TORCH_REFERENCE = """
import torch
def build():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.ReLU())
"""


@pytest.fixture(scope="module")
def launcher() -> Iterator[LocalLauncher]:
    """Yield a launcher that all tests of this module share."""
    with LocalLauncher() as made:
        yield made


def export(launcher: LocalLauncher, model: Model, cache: Path) -> Path:
    """Return the exported file of a model."""
    references = References(launcher, sys.executable, cache / "references")
    try:
        return candidate_file(model, "fp32", references=references, cache=cache)
    finally:
        references.close()


def make(folder: Path, spec: str = TORCH_SPEC, reference: str = TORCH_REFERENCE) -> Model:
    """Return a model in `folder`."""
    folder.mkdir(parents=True)
    (folder / "model.toml").write_text(spec)
    (folder / "reference.py").write_text(reference)
    model = load_model(folder)
    assert isinstance(model, Model), model.problem
    return model


def test_an_export_does_not_depend_on_its_folder(launcher: LocalLauncher, tmp_path: Path) -> None:
    """The same source in two folders gives the same bytes, with the declared dimension free."""
    first = make(tmp_path / "a" / "tiny")
    shutil.copytree(tmp_path / "a", tmp_path / "elsewhere")
    second = load_model(tmp_path / "elsewhere" / "tiny")
    assert isinstance(second, Model)
    one = export(launcher, first, tmp_path / "cache1")
    other = export(launcher, second, tmp_path / "cache2")
    assert one.read_bytes() == other.read_bytes()
    batch = onnx.load(one).graph.input[0].type.tensor_type.shape.dim[0]
    assert batch.dim_param == "batch"


def test_an_export_is_made_once(launcher: LocalLauncher, tmp_path: Path) -> None:
    """The second question is answered with the file of the first."""
    model = make(tmp_path / "tiny")
    path = export(launcher, model, tmp_path / "cache")
    written = path.stat().st_mtime_ns
    assert export(launcher, model, tmp_path / "cache") == path
    assert path.stat().st_mtime_ns == written


def test_a_damaged_export_is_made_again(launcher: LocalLauncher, tmp_path: Path) -> None:
    """A file of the cache that changed is not the export any more."""
    model = make(tmp_path / "tiny")
    path = export(launcher, model, tmp_path / "cache")
    sound = path.read_bytes()
    for damaged in (sound[:-1], sound[:-9] + b"\0" + sound[-8:], b""):
        path.write_bytes(damaged)
        assert export(launcher, model, tmp_path / "cache").read_bytes() == sound


def test_free_dimensions_are_shown_with_two_or_more(tmp_path: Path) -> None:
    """PyTorch would fix a dimension that it sees at 0 or 1."""
    model = make(tmp_path / "tiny")
    ((shape,),) = [[value.shape] for value in example(model.spec).values()]  # type: ignore[union-attr]
    assert shape == (2, 3)


def test_only_torch_and_sklearn_can_be_exported(launcher: LocalLauncher, tmp_path: Path) -> None:
    """An export from a TorchScript archive is a fault of the spec."""
    spec = TORCH_SPEC.replace("torch =", "torchscript =")
    model = make(tmp_path / "tiny", spec)
    with pytest.raises(SpecError) as caught:
        export(launcher, model, tmp_path / "cache")
    assert caught.value.what == (
        "Candidate of 'tiny' cannot be exported from a 'torchscript' reference"
    )
