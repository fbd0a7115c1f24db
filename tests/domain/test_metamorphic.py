"""Laws: how inputs change, and what becomes of outputs."""

from __future__ import annotations

from typing import Any

import numpy as np

from harness.domain.dtypes import DType
from harness.domain.metamorphic import batch_law, output_axes, padding_law, permutation_law
from harness.domain.session import Port
from harness.domain.spec import (
    Candidate,
    DimSpec,
    InputSpec,
    ModelSpec,
    PaddingSpec,
    PropertiesSpec,
    Reference,
)
from harness.domain.values import Array, Values

IDS = np.arange(6).reshape(2, 3)
MASK = np.ones((2, 3), dtype=np.int64)
DIMS = {"batch": 2, "n": 3}
INPUTS = (Port(name="ids", type="tensor(int64)", shape=("N", "L")),)
OUTPUTS = (
    Port(name="rows", type="tensor(float)", shape=("N", 4)),
    Port(name="across", type="tensor(float)", shape=(4, "N")),
    Port(name="whole", type="tensor(float)", shape=(4,)),
    Port(name="items", type="seq(tensor(float))", shape=None),
)


def model(**properties: Any) -> ModelSpec:
    """Return a spec with tokens and a mask."""
    port = InputSpec(dtype=DType.INT64, shape=("batch", "n"))
    return ModelSpec(
        schema_version=1,
        candidate=Candidate(file="model.onnx"),
        reference=Reference(onnx=True),
        inputs={"ids": port, "mask": port},
        dims={"batch": DimSpec(max=4), "n": DimSpec(max=4)},
        properties=PropertiesSpec(**properties),
    )


def steps(ids: Array = IDS) -> tuple[Values, ...]:
    """Return one step of inputs."""
    return ({"ids": ids, "mask": MASK},)


def listed(values: tuple[Values, ...], name: str) -> object:
    """Return one value of the only step as lists."""
    return np.asarray(values[0][name]).tolist()


def test_a_row_is_compared_with_itself_alone() -> None:
    """Outputs give up the axis on which the run alone has size 1; others are compared whole."""
    law = batch_law(model(batch="batch"), steps(), DIMS, pick=3)
    assert law is not None
    assert listed(law.inputs, "ids") == [[3, 4, 5]]
    whole = ({"rows": np.arange(8).reshape(2, 4), "sum": np.array([9]), "items": ("a", "b")},)
    alone = ({"rows": np.zeros((1, 4)), "sum": np.array([5]), "items": ("b",)},)
    reference, candidate = law.sides(whole, alone)  # type: ignore[arg-type]  # texts stand for maps
    assert listed(reference, "rows") == [[4, 5, 6, 7]]
    assert listed(reference, "sum") == [9]
    assert reference[0]["items"] == ("b",)
    assert candidate is alone


def test_padding_grows_inputs_and_is_cut_from_outputs() -> None:
    """The mask is padded with zeros, inputs with their value, up to the largest size."""
    padding = PaddingSpec(dim="n", mask="mask", inputs={"ids": 7.0})
    law = padding_law(model(padding=padding), steps(), DIMS, pick=5)
    assert law is not None
    assert listed(law.inputs, "ids") == [[0, 1, 2, 7], [3, 4, 5, 7]]
    assert listed(law.inputs, "mask") == [[1, 1, 1, 0]] * 2
    whole, padded = ({"y": np.ones((2, 3))},), ({"y": np.arange(8).reshape(2, 4)},)
    reference, candidate = law.sides(whole, padded)
    assert reference is whole
    assert listed(candidate, "y") == [[0, 1, 2], [4, 5, 6]]


def test_an_order_is_kept_by_what_has_the_dimension() -> None:
    """Outputs with the axis are put into the same order, the others stay."""
    law = permutation_law(
        model(permutation="batch"), steps(), DIMS, 0, inputs=INPUTS, outputs=OUTPUTS
    )
    assert law is not None
    assert listed(law.inputs, "ids") == [[3, 4, 5], [0, 1, 2]]
    whole = ({"rows": np.arange(8).reshape(2, 4), "across": np.arange(8).reshape(4, 2),
              "whole": np.arange(4), "items": ("a", "b")},)  # fmt: skip
    reference, _ = law.sides(whole, ())  # type: ignore[arg-type]  # texts stand for maps
    assert listed(reference, "rows") == [[4, 5, 6, 7], [0, 1, 2, 3]]
    assert listed(reference, "across") == [[1, 0], [3, 2], [5, 4], [7, 6]]
    assert listed(reference, "whole") == [0, 1, 2, 3]
    assert reference[0]["items"] == ("b", "a")


def test_an_order_always_differs() -> None:
    """No choice gives the order that was there."""
    for size in (2, 3, 5):
        ids = np.arange(size * 3).reshape(size, 3)
        for pick in range(10):
            law = permutation_law(
                model(permutation="batch"),
                ({"ids": ids},),
                {"batch": size, "n": 3},
                pick,
                inputs=INPUTS,
                outputs=OUTPUTS,
            )
            assert law is not None
            assert sorted(np.asarray(law.inputs[0]["ids"])[:, 0].tolist()) == ids[:, 0].tolist()
            assert listed(law.inputs, "ids") != ids.tolist()


def test_axes_are_found_by_the_file_s_own_names() -> None:
    """Also where the file has no name for the dimension."""
    spec = model()
    assert output_axes(spec, "batch", INPUTS, OUTPUTS) == {"rows": 0, "across": 1, "items": 0}
    unnamed = (Port(name="ids", type="tensor(int64)", shape=(None, None)),)
    outputs = (Port(name="y", type="tensor(float)", shape=(4, None)),)
    assert output_axes(spec, "batch", unnamed, outputs) == {"y": 1}


def test_laws_that_say_nothing_at_these_sizes_are_left_out() -> None:
    """One row, one point, or no room for padding; and what is not declared."""
    ports = {"inputs": INPUTS, "outputs": OUTPUTS}
    alone = {"batch": 1, "n": 4}
    padding = PaddingSpec(dim="n", mask="mask")
    declared = model(batch="batch", permutation="batch", padding=padding)
    assert batch_law(declared, steps(), alone, 0) is None
    assert permutation_law(declared, steps(), alone, 0, **ports) is None
    assert padding_law(declared, steps(), alone, 0) is None
    assert batch_law(model(), steps(), DIMS, 0) is None
    assert permutation_law(model(), steps(), DIMS, 0, **ports) is None
    assert padding_law(model(), steps(), DIMS, 0) is None
