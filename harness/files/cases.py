"""The inputs of one case: drawn from the spec, read from `.npz`, or recorded."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from harness.domain import inputs as drawing
from harness.domain.dtypes import DType
from harness.domain.spec import CaseSpec, InputSpec, ModelSpec
from harness.domain.values import Array, Values
from harness.errors import SpecError

#: `numpy.dtype.isbuiltin` of the types that ml_dtypes registers.
USER_DEFINED = 2


def build(model: str, spec: ModelSpec, case: CaseSpec, folder: Path) -> tuple[Values, ...]:
    """Return the inputs of every step of a case (one step unless the model is recurrent).

    States are held by the first step only: later ones come from the model itself.

    Args:
        model: Name, part of the key of drawn values.
        spec: The model's spec.
        case: The case.
        folder: The model's folder, for `.npz` files.

    Raises:
        SpecError: If a dimension is open, or a file does not fit the spec.
    """
    where = f"{folder / 'model.toml'}, case '{case.name}'"
    given = _read_npz(folder / case.inputs, where) if case.inputs else {}
    _refuse_unknown(given, spec, where)
    steps = spec.state.steps if spec.state else 1
    states = set(spec.state.feedback.values()) if spec.state else set()
    return tuple(
        {
            name: _value(model, spec, case, name, step, given, where)
            for name in spec.inputs
            if step == 0 or name not in states
        }
        for step in range(steps)
    )


def _value(
    model: str,
    spec: ModelSpec,
    case: CaseSpec,
    name: str,
    step: int,
    given: Mapping[str, Array],
    where: str,
) -> Array:
    declared = spec.inputs[name]
    is_state = spec.state is not None and name in spec.state.feedback.values()
    if name in given:
        array = given[name] if spec.state is None or is_state else _step(given[name], step, where)
        return _fitting(array, declared, name, where, dims=case.dims)
    dims = {**_smallest(spec), **case.dims}
    shape = drawing.resolve_shape(declared, dims, where=f"{where}, input '{name}'")
    if is_state:
        return np.asarray(drawing.zeros(declared.dtype, shape))
    return drawing.draw(declared, shape, key=(model, case.name, name, str(step)))


def _smallest(spec: ModelSpec) -> dict[str, int]:
    """Dimensions with a single size need no mention in a case."""
    return {name: size.min for name, size in spec.dims.items() if size.min == size.max}


def _step(array: Array, step: int, where: str) -> Array:
    if array.ndim == 0 or array.shape[0] <= step:
        msg = "Recorded inputs are shorter than the model's steps"
        raise SpecError(
            msg,
            code="spec.inputs",
            where=where,
            expected=f"a leading axis of at least {step + 1} steps",
            got=f"shape {list(array.shape)}",
        )
    return np.asarray(array[step])


def _fitting(
    array: Array, declared: InputSpec, name: str, where: str, dims: Mapping[str, int]
) -> Array:
    """Return `array` with the declared type; refuse another type, rank or size."""
    shape = [dims.get(size, size) if isinstance(size, str) else size for size in declared.shape]
    if declared.dtype is DType.STRING:
        array = array.astype(object)
    wanted = declared.dtype.numpy
    if array.dtype == np.dtype((np.void, wanted.itemsize)) and wanted.isbuiltin == USER_DEFINED:
        array = array.view(wanted)  # numpy stores the types of ml_dtypes as plain bytes
    fits = len(array.shape) == len(shape) and all(
        isinstance(size, str) or size == got for size, got in zip(shape, array.shape, strict=False)
    )
    if array.dtype != wanted or not fits:
        msg = f"Array for input '{name}' does not fit the spec"
        raise SpecError(
            msg,
            code="spec.inputs",
            where=where,
            expected=f"{declared.dtype} {shape}",
            got=f"{array.dtype} {list(array.shape)}",
            next_step="write the file again with the declared type and shape",
        )
    return array


def _read_npz(path: Path, where: str) -> dict[str, Array]:
    try:
        with zipfile.ZipFile(path) as archive:
            found = {
                name.removesuffix(".npy"): _member(archive, name) for name in archive.namelist()
            }
        if not found:
            msg = "no array in it"
            raise ValueError(msg)  # noqa: TRY301 - told like all other faults of the file
    except Exception as error:  # noqa: BLE001 - zipfile, zlib and numpy raise anything on broken data
        msg = f"Inputs '{path.name}' cannot be read"
        raise SpecError(
            msg,
            code="spec.inputs",
            where=f"{where}, {path}",
            expected="a .npz archive of plain arrays",
            got=f"{type(error).__name__}: {error}",
            next_step="write it with numpy.savez, one plain array per input",
        ) from None
    return found


def _member(archive: zipfile.ZipFile, name: str) -> Array:
    """Return one array; pickled objects are refused."""
    with archive.open(name) as member:
        array: Array = np.lib.format.read_array(member, allow_pickle=False)
    if array.dtype.kind == "U":
        "".join(array.ravel().tolist()).encode()  # raises for what is no Unicode text
    return array


def _refuse_unknown(given: Mapping[str, Array], spec: ModelSpec, where: str) -> None:
    unknown = sorted(set(given) - set(spec.inputs))
    if unknown:
        msg = f"Inputs file holds '{unknown[0]}', which is no input of the spec"
        raise SpecError(
            msg, code="spec.inputs", where=where, expected=", ".join(spec.inputs), got=str(unknown)
        )
