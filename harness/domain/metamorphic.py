"""Laws that a model keeps whatever its inputs: how inputs change, and what becomes of outputs.

Each law turns the inputs of an example into others, and says which part of one run's outputs must
agree with which part of the other's. Nothing here runs a model or compares values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from harness.domain.session import Port
from harness.domain.spec import InputSpec, ModelSpec, PaddingSpec
from harness.domain.values import Array, Value, Values

Steps = tuple[Values, ...]
#: Both sides of a comparison: what the whole run gave, what the other run gave.
Sides = tuple[Steps, Steps]
#: How far an example is padded at most.
MOST_PADDING = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class Law:
    """One law at one example."""

    code: str
    """Finding code of a broken one."""
    says: str
    """What was done, for the message."""
    inputs: Steps
    """The other inputs."""
    sides: Callable[[Steps, Steps], Sides]
    """From the outputs of both runs to what must agree."""


def batch_law(spec: ModelSpec, steps: Steps, dims: Mapping[str, int], pick: int) -> Law | None:
    """Return that a row of the batch equals the row alone; None for a batch of less than two."""
    dim = spec.properties.batch
    size = dims.get(dim, 0) if dim else 0
    if dim is None or size < 2:  # noqa: PLR2004 - one row is alone already
        return None
    row = pick % size
    return Law(
        code="property.batch",
        says=f"row {row} of {size} along '{dim}' was run alone",
        inputs=_each(spec, steps, dim, lambda array, axis: _taken(array, axis, [row])),
        sides=lambda whole, alone: (_rows_like(whole, alone, row, size), alone),
    )


def padding_law(spec: ModelSpec, steps: Steps, dims: Mapping[str, int], pick: int) -> Law | None:
    """Return that padding changes nothing before it; None where the dimension cannot grow."""
    padding = spec.properties.padding
    if padding is None:
        return None
    size = dims[padding.dim]
    room = min(MOST_PADDING, spec.dims[padding.dim].max - size)
    if room < 1:
        return None
    extra = 1 + pick % room
    return Law(
        code="property.padding",
        says=f"'{padding.dim}' was padded from {size} to {size + extra}",
        inputs=_padded(spec, steps, padding, extra),
        sides=lambda whole, padded: (whole, _cut_like(padded, whole)),
    )


def permutation_law(
    spec: ModelSpec,
    steps: Steps,
    dims: Mapping[str, int],
    pick: int,
    *,
    inputs: Sequence[Port],
    outputs: Sequence[Port],
) -> Law | None:
    """Return that another order gives the same, in that order; None for less than two."""
    dim = spec.properties.permutation
    size = dims.get(dim, 0) if dim else 0
    if dim is None or size < 2:  # noqa: PLR2004 - nothing to permute
        return None
    order = _order(size, pick)
    axes = output_axes(spec, dim, inputs, outputs)
    return Law(
        code="property.permutation",
        says=f"'{dim}' was put into the order {_shown(order)}",
        inputs=_each(spec, steps, dim, lambda array, axis: _taken(array, axis, order)),
        sides=lambda whole, moved: (_ordered(whole, axes, order), moved),
    )


def output_axes(
    spec: ModelSpec, dim: str, inputs: Sequence[Port], outputs: Sequence[Port]
) -> dict[str, int]:
    """Return which axis of each output has the dimension `dim`, by the names in the file.

    The file may have another name for it, or none: what stands at the same place of an input's
    shape. A sequence with one item per row counts as axis 0.
    """
    names: set[str | None] = {dim}
    for port in inputs:
        declared = spec.inputs.get(port.name)
        for own, theirs in zip(declared.shape if declared else (), port.shape or (), strict=False):
            if own == dim and not isinstance(theirs, int):
                names.add(theirs)
    sequences = {port.name: 0 for port in outputs if port.type.startswith("seq(")}
    found = {
        port.name: [axis for axis, size in enumerate(port.shape or ()) if size in names]
        for port in outputs
    }
    return {**sequences, **{name: axes[0] for name, axes in found.items() if axes}}


def _each(spec: ModelSpec, steps: Steps, dim: str, change: Callable[[Array, int], Array]) -> Steps:
    """Return the inputs with `change` done to every axis that is the dimension `dim`."""
    return tuple(
        {name: _changed(spec.inputs[name], value, dim, change) for name, value in step.items()}
        for step in steps
    )


def _changed(
    port: InputSpec, value: Value, dim: str, change: Callable[[Array, int], Array]
) -> Value:
    array = np.asarray(value)
    for axis, size in enumerate(port.shape):
        if size == dim:
            array = change(array, axis)
    return array


def _taken(array: Array, axis: int, indices: Sequence[int]) -> Array:
    return np.take(array, np.asarray(indices), axis=axis)


def _padded(spec: ModelSpec, steps: Steps, padding: PaddingSpec, extra: int) -> Steps:
    def pad(name: str, value: Value) -> Value:
        fill = 0.0 if name == padding.mask else padding.inputs.get(name, 0.0)

        def grown(array: Array, axis: int) -> Array:
            shape = [extra if each == axis else size for each, size in enumerate(array.shape)]
            blank: object = "" if array.dtype == object else fill
            more = np.full(shape, blank, dtype=array.dtype)
            return np.concatenate([array, more], axis=axis)

        return _changed(spec.inputs[name], value, padding.dim, grown)

    return tuple({name: pad(name, value) for name, value in step.items()} for step in steps)


def _order(size: int, pick: int) -> list[int]:
    """Return an order that is not the given one: the reverse, or the reverse turned."""
    turned = list(range(size))[::-1]
    shift = pick % size
    order = turned[shift:] + turned[:shift]
    return order if order != list(range(size)) else turned


def _shown(order: Sequence[int]) -> str:
    shown = ", ".join(map(str, order[:8]))
    return f"{shown}, ..." if len(order) > 8 else shown  # noqa: PLR2004 - one line


def _rows_like(whole: Steps, alone: Steps, row: int, size: int) -> Steps:
    """Return row `row` of every output, along the axis where the run alone has size 1.

    An output that has the same shape in both runs has no rows, and must be the same.
    """
    return tuple(
        {name: _row_like(value, other.get(name), row, size) for name, value in step.items()}
        for step, other in zip(whole, alone, strict=True)
    )


def _row_like(value: Value, alone: Value, row: int, size: int) -> Value:
    if isinstance(value, tuple) and isinstance(alone, tuple):
        return value[row : row + 1] if (len(value), len(alone)) == (size, 1) else value
    if not (isinstance(value, np.ndarray) and isinstance(alone, np.ndarray)):
        return value
    for axis in _differing_axes(value, alone):
        if (value.shape[axis], alone.shape[axis]) == (size, 1):
            value = _taken(value, axis, [row])
    return value


def _cut_like(padded: Steps, whole: Steps) -> Steps:
    """Return the padded run's outputs without what stands behind the size of the whole run's."""
    return tuple(
        {name: _cut(value, other.get(name)) for name, value in step.items()}
        for step, other in zip(padded, whole, strict=True)
    )


def _cut(value: Value, whole: Value) -> Value:
    if isinstance(value, tuple) and isinstance(whole, tuple):
        return value[: len(whole)]
    if not (isinstance(value, np.ndarray) and isinstance(whole, np.ndarray)):
        return value
    for axis in _differing_axes(value, whole):
        if value.shape[axis] > whole.shape[axis]:
            value = _taken(value, axis, range(whole.shape[axis]))
    return value


def _differing_axes(one: Array, other: Array) -> list[int]:
    if one.ndim != other.ndim:
        return []
    return [axis for axis in range(one.ndim) if one.shape[axis] != other.shape[axis]]


def _ordered(whole: Steps, axes: Mapping[str, int], order: Sequence[int]) -> Steps:
    return tuple(
        {name: _reordered(value, axes.get(name), order) for name, value in step.items()}
        for step in whole
    )


def _reordered(value: Value, axis: int | None, order: Sequence[int]) -> Value:
    if axis is None:
        return value
    if isinstance(value, tuple):
        return tuple(value[index] for index in order) if len(value) == len(order) else value
    if not isinstance(value, np.ndarray) or axis >= value.ndim or value.shape[axis] != len(order):
        return value
    return _taken(value, axis, order)
