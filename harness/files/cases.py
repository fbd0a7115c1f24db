"""The inputs of one case: drawn from the spec, read from `.npz`, or recorded."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from harness.domain import inputs as drawing
from harness.domain import relations
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


def real_inputs(spec: ModelSpec, folder: Path) -> dict[str, dict[str, Array]]:
    """Return what the files of the cases hold, case by case; a case without one is left out.

    Raises:
        SpecError: If a file is missing, broken, or does not fit the spec.
    """
    found = {}
    for case in spec.case:
        if not case.inputs:
            continue
        where = f"{folder / 'model.toml'}, case '{case.name}'"
        given = _read_npz(folder / case.inputs, where)
        _refuse_unknown(given, spec, where)
        for name in given:
            _taken(spec, case, name, 0, given, where)
        found[case.name] = {name: _typed(array, spec.inputs[name]) for name, array in given.items()}
    return found


def _value(
    model: str,
    spec: ModelSpec,
    case: CaseSpec,
    name: str,
    step: int,
    given: Mapping[str, Array],
    where: str,
) -> Array:
    if name in given:
        return _taken(spec, case, name, step, given, where)
    declared, dims = spec.inputs[name], {**_smallest(spec), **case.dims}
    shapes = {name: drawing.resolve_shape(declared, dims, where=f"{where}, input '{name}'")}
    if _is_state(spec, name):
        return np.asarray(drawing.zeros(declared.dtype, shapes[name]))
    measured = declared.relation.of if declared.relation else None
    if measured is not None and measured in given:
        shapes[measured] = _taken(spec, case, measured, step, given, where).shape
    elif measured is not None:
        asked = f"{where}, input '{measured}'"
        shapes[measured] = drawing.resolve_shape(spec.inputs[measured], dims, where=asked)

    def make(asked: InputSpec, shape: tuple[int, ...]) -> Array:
        return drawing.draw(asked, shape, key=(model, case.name, name, str(step)))

    return relations.drawn(name, spec, make, shapes=shapes, dims=dims, where=where)


def _taken(
    spec: ModelSpec,
    case: CaseSpec,
    name: str,
    step: int,
    given: Mapping[str, Array],
    where: str,
) -> Array:
    """Return what the case's file holds for an input, in one step of a recurrent model."""
    whole = spec.state is None or _is_state(spec, name)
    array = given[name] if whole else _step(given[name], step, where)
    return _fitting(array, spec.inputs[name], name, where, dims=case.dims)


def _is_state(spec: ModelSpec, name: str) -> bool:
    return spec.state is not None and name in spec.state.feedback.values()


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
    array, wanted = _typed(array, declared), declared.dtype.numpy
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


def _typed(array: Array, declared: InputSpec) -> Array:
    """Return texts as objects, and the types of ml_dtypes, which numpy stores as plain bytes."""
    if declared.dtype is DType.STRING:
        return array.astype(object)
    wanted = declared.dtype.numpy
    if array.dtype == np.dtype((np.void, wanted.itemsize)) and wanted.isbuiltin == USER_DEFINED:
        return array.view(wanted)
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
