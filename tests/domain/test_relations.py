"""Relations: masks, lengths, indices, positions and orders, drawn and mended."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from harness.domain import relations
from harness.domain.dtypes import DType
from harness.domain.fillings import KINDS, Filling, fill
from harness.domain.spec import (
    Candidate,
    DimSpec,
    InputSpec,
    ModelSpec,
    Reference,
    Relation,
)
from harness.domain.values import Array
from harness.errors import SpecError

IDS = InputSpec(dtype=DType.INT64, shape=("batch", "tokens"), range=(0, 9))
DIMS = {"batch": 3, "tokens": 5}
SHAPES = {"ids": (3, 5), "other": (3, 5)}
ROW = ("batch", "tokens")


def model(other: InputSpec, least: int = 1) -> ModelSpec:
    """Return a spec with the inputs `ids` and `other`."""
    return ModelSpec(
        schema_version=1,
        candidate=Candidate(file="model.onnx"),
        reference=Reference(onnx=True),
        inputs={"ids": IDS, "other": other},
        dims={"batch": DimSpec(max=4), "tokens": DimSpec(min=least, max=300)},
    )


def related(
    kind: str,
    *,
    shape: tuple[int | str, ...] = ROW,
    dtype: DType = DType.INT64,
    value_range: tuple[float, float] | None = None,
    **keys: Any,
) -> InputSpec:
    """Return an input with a relation."""
    relation = Relation(kind=kind, **keys)  # type: ignore[arg-type]  # parametrised
    return InputSpec(dtype=dtype, shape=shape, range=value_range, relation=relation)


def drawn(other: InputSpec, filling: Filling, shape: tuple[int, ...] = (3, 5)) -> Array:
    """Return the values of `other`."""
    return relations.drawn(
        "other",
        model(other),
        lambda spec, size: fill(filling, spec, size, key="other"),
        shapes={**SHAPES, "other": shape},
        dims=DIMS,
        where="here",
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [DType.INT64, DType.FLOAT32, DType.BOOL])
def test_a_prefix_mask_is_ones_then_zeros(kind: str, dtype: DType) -> None:
    """Each row has at least one one, whatever the kind of values."""
    mask = drawn(related("prefix-mask", dtype=dtype), Filling(kind=kind, seed=3))  # type: ignore[arg-type]  # parametrised
    assert mask.dtype == dtype.numpy
    numbers = mask.astype(int)
    assert set(np.unique(numbers)) <= {0, 1}
    assert (numbers[:, 0] == 1).all()
    assert (np.diff(numbers, axis=-1) <= 0).all()


def test_masks_differ() -> None:
    """Lengths are drawn, not all alike."""
    mask = drawn(related("prefix-mask"), Filling(seed=1))
    assert len(set(mask.sum(axis=-1).tolist())) > 1


@pytest.mark.parametrize("kind", KINDS)
def test_lengths_and_indices_stay_below_their_size(kind: str) -> None:
    """A length is 1 to the size of the measured axis, an index 0 to below its dimension."""
    filling = Filling(kind=kind, seed=2)  # type: ignore[arg-type]  # parametrised
    lengths = drawn(related("length", shape=("batch",), of="ids", axis=1), filling, (3,))
    assert set(lengths.tolist()) <= {1, 2, 3, 4, 5}
    indices = drawn(related("less-than", dim="tokens"), filling)
    assert set(indices.ravel().tolist()) <= {0, 1, 2, 3, 4}


def test_positions_count_along_their_axis() -> None:
    """Every row is 0, 1, 2, ..."""
    assert drawn(related("positions", axis=1), Filling()).tolist() == [[0, 1, 2, 3, 4]] * 3


def test_sorted_rows_rise() -> None:
    """The values are those that were drawn, in order."""
    rows = drawn(related("sorted", value_range=(0, 100)), Filling(seed=5))
    assert (np.diff(rows, axis=-1) >= 0).all()
    assert len(np.unique(rows)) > 1


@pytest.mark.parametrize(
    ("kind", "keys", "given", "expected"),
    [
        ("prefix-mask", {}, [[0, 1, 1], [1, 0, 1]], [[1, 0, 0], [1, 0, 0]]),
        ("length", {"of": "ids", "axis": 1}, [[0, 9, 3]], [[1, 5, 3]]),
        ("less-than", {"dim": "tokens"}, [[-1, 9, 3]], [[0, 4, 3]]),
        ("positions", {"axis": 1}, [[7, 7, 7]], [[0, 1, 2]]),
        ("sorted", {}, [[3, 1, 2]], [[1, 2, 3]]),
    ],
)
def test_pieces_of_real_values_are_mended(
    kind: str, keys: dict[str, Any], given: list[list[int]], expected: list[list[int]]
) -> None:
    """What was cut out of real inputs keeps its relation again."""
    spec, array = model(related(kind, **keys)), np.array(given)
    got = relations.mended("other", spec, array, shapes=SHAPES, dims=DIMS)
    assert got.tolist() == expected


def test_a_size_that_leaves_no_value_is_refused() -> None:
    """The error names the key."""
    other = related("less-than", dim="tokens", value_range=(7, 100))
    with pytest.raises(SpecError, match="Relation of input 'other' cannot be satisfied") as caught:
        drawn(other, Filling())
    assert caught.value.where == "here, inputs.other.relation"
    assert caught.value.expected == "'less-than' asks for a whole number from 7 to below 5"


@pytest.mark.parametrize(
    ("other", "fault"),
    [
        (related("length", shape=("batch",), of="idz", axis=1),
         "'inputs.other.relation.of' names the input 'idz', which 'inputs' lacks"),
        (related("length", shape=("batch",), of="ids", axis=2),
         "'inputs.other.relation.axis' = 2 is outside the 2 axes of its input"),
        (related("less-than", dim="token"),
         "'inputs.other.relation.dim' names the dimension 'token', which 'dims' lacks"),
        (related("less-than", dim="tokens", value_range=(7, 100)),
         ("'inputs.other.relation' cannot be satisfied at batch = 1, tokens = 1: "
          "'less-than' asks for a whole number from 7 to below 1")),
        (related("less-than", dim="tokens", dtype=DType.INT8),
         ("'inputs.other.relation' asks too much of int8 at batch = 4, tokens = 300: "
          "'less-than' asks for a whole number from 0 to below 300")),
    ],
    ids=["of", "axis", "dim", "unsatisfiable", "dtype"],
)  # fmt: skip
def test_a_relation_that_cannot_hold_is_a_fault_of_the_spec(other: InputSpec, fault: str) -> None:
    """It is told when the spec is read, with its dotted key."""
    assert list(relations.faults(model(other))) == [fault]


def test_sound_relations_have_no_fault() -> None:
    """Each kind can be declared."""
    for other in (
        related("prefix-mask"),
        related("length", shape=("batch",), of="ids", axis=1),
        related("less-than", dim="tokens"),
        related("positions", axis=1),
        related("sorted"),
    ):
        assert list(relations.faults(model(other))) == []


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: related("length", of="ids"), "'length' needs 'axis'"),
        (lambda: related("sorted", axis=1), "'sorted' does not take 'axis'"),
        (lambda: related("positions", axis=-1), "'axis' must be 0 or greater, got -1"),
        (lambda: related("positions", axis=0, dtype=DType.FLOAT32),
         "'relation' of kind 'positions' does not fit 'float32'"),
        (lambda: related("prefix-mask", dtype=DType.STRING),
         "'relation' of kind 'prefix-mask' does not fit 'string'"),
        (lambda: related("prefix-mask", value_range=(0, 2)),
         "'relation' of kind 'prefix-mask' and 'range' exclude each other"),
        (lambda: related("sorted", shape=()), "needs an axis, and 'shape' has none"),
    ],
)  # fmt: skip
def test_contradictions_of_one_table_are_refused(make: object, message: str) -> None:
    """Keys that do not belong to a kind, and types that it does not fit."""
    with pytest.raises(ValueError, match=message):
        make()  # type: ignore[operator]  # parametrised
