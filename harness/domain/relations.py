"""Inputs whose values owe something to a size: masks, lengths, indices, positions, orders.

One vocabulary for declared cases and searched examples: `drawn` leaves the choice of values to
its caller and sees to it that they keep the relation; `mended` does the same for values that were
cut out of real inputs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from harness.domain.dtypes import DType
from harness.domain.spec import InputSpec, ModelSpec, Relation
from harness.domain.values import Array
from harness.errors import SpecError

#: Makes values of a spec in a shape.
Maker = Callable[[InputSpec, tuple[int, ...]], Array]
Shapes = Mapping[str, tuple[int, ...]]


def drawn(
    name: str, spec: ModelSpec, make: Maker, *, shapes: Shapes, dims: Mapping[str, int], where: str
) -> Array:
    """Return the values of one input, made by `make`, that keep its relation.

    Args:
        name: Input.
        spec: The model's spec.
        make: Chooses values within an input's type and range.
        shapes: Resolved shapes of all inputs.
        dims: Sizes of the named dimensions.
        where: Place, for the message.

    Raises:
        SpecError: If these sizes leave no value that keeps the relation.
    """
    declared, shape = spec.inputs[name], shapes[name]
    relation = declared.relation
    if relation is None:
        return make(declared, shape)
    bounds = _bounds(relation, declared, shape, shapes=shapes, dims=dims)
    if bounds is None:
        return np.asarray(np.sort(make(replace(declared, relation=None), shape), axis=-1))
    if 0 in shape:
        return np.zeros(shape, dtype=declared.dtype.numpy)
    if not bounds[0] < bounds[1]:
        raise _unsatisfiable(name, relation, bounds, where)
    if relation.kind == "positions":
        return _positions(declared, shape, relation)
    if relation.kind == "prefix-mask":
        lengths = make(InputSpec(dtype=DType.INT64, range=bounds), shape[:-1])
        return _mask(lengths, shape, declared)
    return make(replace(declared, relation=None, range=bounds), shape)


def mended(
    name: str, spec: ModelSpec, array: Array, *, shapes: Shapes, dims: Mapping[str, int]
) -> Array:
    """Return the nearest values to `array` that keep the relation of its input."""
    declared = spec.inputs[name]
    relation = declared.relation
    if relation is None or 0 in array.shape:
        return array
    bounds = _bounds(relation, declared, array.shape, shapes=shapes, dims=dims)
    match relation.kind:
        case "prefix-mask":
            lengths = np.minimum.accumulate(array.astype(bool), axis=-1).sum(axis=-1)
            return _mask(np.maximum(lengths, 1), array.shape, declared)
        case "positions":
            return _positions(declared, array.shape, relation)
        case "sorted":
            return np.asarray(np.sort(array, axis=-1))
        case "length" | "less-than":
            low, high = bounds or (0.0, 1.0)
            whole = np.clip(array.astype(np.int64), int(low), math.ceil(high) - 1)
            return whole.astype(array.dtype)


def faults(spec: ModelSpec) -> Iterator[str]:
    """Yield what is wrong with the relations of a spec, each with its dotted key."""
    for name, declared in spec.inputs.items():
        if declared.relation is not None:
            key = f"inputs.{name}.relation"
            problem = _reference_fault(spec, declared, declared.relation)
            yield from [f"'{key}{problem}"] if problem else _size_faults(spec, name, key)


def _size_faults(spec: ModelSpec, name: str, key: str) -> Iterator[str]:
    """Yield what the smallest sizes cannot keep, and what the largest ask that no element holds."""
    declared = spec.inputs[name]
    for end in ("min", "max"):
        dims = {dim: getattr(size, end) for dim, size in spec.dims.items()}
        bounds = _bounds_at(spec, name, dims)
        if bounds is None:
            continue
        sizes = ", ".join(f"{dim} = {size}" for dim, size in dims.items()) or "its sizes"
        if not bounds[0] < bounds[1]:
            yield f"'{key}' cannot be satisfied at {sizes}: {_asked(declared.relation, bounds)}"
            return
        if declared.relation and declared.relation.kind != "prefix-mask" and not (
            declared.dtype.holds(math.ceil(bounds[1]) - 1)
        ):  # fmt: skip
            asked = _asked(declared.relation, bounds)
            yield f"'{key}' asks too much of {declared.dtype} at {sizes}: {asked}"


def _bounds_at(spec: ModelSpec, name: str, dims: Mapping[str, int]) -> tuple[float, float] | None:
    """Return what a relation asks at these sizes; None where it asks for no number."""
    shapes = {
        each: tuple(dims.get(size, 1) if isinstance(size, str) else size for size in port.shape)
        for each, port in spec.inputs.items()
    }
    declared = spec.inputs[name]
    if declared.relation is None or 0 in shapes[name]:
        return None
    return _bounds(declared.relation, declared, shapes[name], shapes=shapes, dims=dims)


def _reference_fault(spec: ModelSpec, declared: InputSpec, relation: Relation) -> str:
    """Return what a relation names that is not there, behind its key, or nothing."""
    if relation.of is not None and relation.of not in spec.inputs:
        return f".of' names the input '{relation.of}', which 'inputs' lacks"
    if relation.dim is not None and relation.dim not in spec.dims:
        return f".dim' names the dimension '{relation.dim}', which 'dims' lacks"
    measured = declared if relation.of is None else spec.inputs[relation.of]
    if relation.axis is not None and relation.axis >= len(measured.shape):
        return f".axis' = {relation.axis} is outside the {len(measured.shape)} axes of its input"
    return ""


def _bounds(
    relation: Relation,
    declared: InputSpec,
    shape: Sequence[int],
    *,
    shapes: Shapes,
    dims: Mapping[str, int],
) -> tuple[float, float] | None:
    """Return [low, high) of what a relation asks of values or lengths; None for an order."""
    match relation.kind:
        case "prefix-mask":
            return 1.0, shape[-1] + 1.0
        case "length":
            size = shapes[str(relation.of)][relation.axis or 0]
            return _within(declared, 1.0, size + 1.0)
        case "less-than":
            return _within(declared, 0.0, float(dims[str(relation.dim)]))
        case "positions":
            return 0.0, float(shape[relation.axis or 0])
        case "sorted":
            return None


def _within(declared: InputSpec, low: float, high: float) -> tuple[float, float]:
    own = declared.range
    return (low, high) if own is None else (max(low, own[0]), min(high, own[1]))


def _positions(declared: InputSpec, shape: tuple[int, ...], relation: Relation) -> Array:
    axis = relation.axis or 0
    along = [1] * len(shape)
    along[axis] = shape[axis]
    numbers = np.arange(shape[axis]).reshape(along)
    return np.broadcast_to(numbers, shape).astype(declared.dtype.numpy)


def _mask(lengths: Array, shape: tuple[int, ...], declared: InputSpec) -> Array:
    ones = np.arange(shape[-1]) < lengths.astype(np.int64)[..., None]
    return np.broadcast_to(ones, shape).astype(declared.dtype.numpy)


def _asked(relation: Relation | None, bounds: tuple[float, float]) -> str:
    kind = relation.kind if relation else ""
    return f"'{kind}' asks for a whole number from {bounds[0]:g} to below {bounds[1]:g}"


def _unsatisfiable(
    name: str, relation: Relation, bounds: tuple[float, float], where: str
) -> SpecError:
    return SpecError(
        f"Relation of input '{name}' cannot be satisfied",
        code="spec.inputs",
        where=f"{where}, inputs.{name}.relation",
        expected=_asked(relation, bounds),
        got="no such number",
        next_step="narrow dims, or correct the relation",
    )
