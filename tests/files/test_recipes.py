"""Recipes of failing examples: kept, read back, and dropped when they fit no more."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from harness.domain.cells import Cell
from harness.domain.dtypes import DType
from harness.domain.examples import Example
from harness.domain.fillings import Filling, Special
from harness.domain.spec import (
    Candidate,
    CaseSpec,
    DimSpec,
    InputSpec,
    LeaveOut,
    ModelSpec,
    PropertiesSpec,
    Reference,
)
from harness.files import recipes
from harness.files.recipes import Recipe

SPEC = ModelSpec(
    schema_version=1,
    candidate=Candidate(file="model.onnx"),
    reference=Reference(onnx=True),
    inputs={"x": InputSpec(dtype=DType.FLOAT32, shape=("batch",))},
    dims={"batch": DimSpec(max=4)},
    case=(CaseSpec(name="real", inputs="real.npz"),),
    properties=PropertiesSpec(leave_out=LeaveOut(kinds=("ramp",), reason="a test")),
)
EXAMPLE = Example(
    dims={"batch": 2},
    inputs={"x": Filling(kind="bell", seed=3, specials=(Special(position=1, mark="-0"),))},
    pick=7,
)
RECIPE = Recipe(cell="tiny/fp32/cpu", code="property.parity", example=EXAMPLE)


def test_a_recipe_is_read_back_as_it_was(tmp_path: Path) -> None:
    """With its inputs beside it; forgotten, both are gone."""
    file, inputs = recipes.keep(tmp_path, RECIPE, {"x": np.ones(2), "t": np.array(["a"], object)})
    assert recipes.kept(tmp_path, SPEC) == ([RECIPE], [])
    with np.load(inputs) as held:
        assert (held["x"].tolist(), held["t"].tolist()) == ([1.0, 1.0], ["a"])
    recipes.forget(tmp_path, "property.parity")
    assert (file.exists(), inputs.exists()) == (False, False)
    assert recipes.kept(tmp_path, SPEC) == ([], [])


def test_what_is_no_recipe_is_named(tmp_path: Path) -> None:
    """A broken file, and one of another version."""
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "later.json").write_text('{"schema_version": 2}')
    found, useless = recipes.kept(tmp_path, SPEC)
    assert (found, [file.name for file in useless]) == ([], ["broken.json", "later.json"])


@pytest.mark.parametrize(
    "example",
    [
        Example(dims={"batch": 5}, inputs=EXAMPLE.inputs),
        Example(dims={}, inputs=EXAMPLE.inputs),
        Example(dims={"batch": 2}, inputs={"z": Filling()}),
        Example(dims={"batch": 2}, inputs={"x": Filling(kind="ramp")}),
        Example(dims={"batch": 2}, inputs={}, real="gone"),
        Example(dims={"batch": 2}, inputs={}),
        Example(dims={"batch": 2}, inputs=EXAMPLE.inputs, steps=2),
    ],
    ids=["size", "dims", "input", "kind", "case", "unfilled", "steps"],
)
def test_an_example_of_another_spec_does_not_fit(tmp_path: Path, example: Example) -> None:
    """The spec has changed since: the example is no point of its input space."""
    recipes.keep(tmp_path, Recipe(cell="c", code="property.parity", example=example), {})
    found, useless = recipes.kept(tmp_path, SPEC)
    assert (found, len(useless)) == ([], 1)


def test_each_cell_has_its_folder() -> None:
    """Named like its cell."""
    folder = recipes.failure_folder(Path("cache"), Cell("m", "fp32", "cpu"))
    assert folder == Path("cache/failures/m__fp32__cpu")
