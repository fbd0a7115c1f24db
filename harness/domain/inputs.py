"""Inputs drawn from the spec, the same on every machine, in every order of tests.

numpy does not promise the same distributions between releases, so values are made from the raw
64-bit words of the counter-based generator Philox, keyed by SHA-256 of model, case, input and
step. Variant, provider, selection and number of pytest workers do not enter.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from harness.domain.dtypes import DType
from harness.domain.spec import InputSpec
from harness.domain.values import Array, Value, Values, kind, leaves
from harness.errors import SpecError

Words = npt.NDArray[np.uint64]

#: Larger inputs are taken for a slip of the pen: drawing one would fill 16 GiB of memory.
MOST_ELEMENTS = 2**30
#: Drawn when the spec gives neither `range` nor `values`.
DEFAULT_RANGES = {"float": (-1.0, 1.0), "integer": (0.0, 2.0)}


def resolve_shape(spec: InputSpec, dims: Mapping[str, int], *, where: str) -> tuple[int, ...]:
    """Return the shape of an input with its named dimensions filled in.

    Raises:
        SpecError: If the case does not say how large a named dimension is.
    """
    missing = [size for size in spec.shape if isinstance(size, str) and size not in dims]
    if missing:
        msg = f"Case does not fix dimension '{missing[0]}'"
        raise SpecError(
            msg,
            code="spec.inputs",
            where=where,
            expected=f"a size for each of {', '.join(map(str, missing))}",
            next_step=f"add {missing[0]} to the case's dims",
        )
    shape = tuple(dims[size] if isinstance(size, str) else size for size in spec.shape)
    if math.prod(shape) > MOST_ELEMENTS:
        msg = f"Case asks for an input of {math.prod(shape)} elements"
        raise SpecError(
            msg,
            code="spec.inputs",
            where=where,
            expected=f"at most {MOST_ELEMENTS}",
            got=str(list(shape)),
            next_step="choose smaller dims",
        )
    return shape


def draw(spec: InputSpec, shape: tuple[int, ...], *, key: tuple[str, ...]) -> Array:
    """Return an array of `shape` and the spec's element type.

    Floating values are uniform in [low, high) on a grid of 2^-53; integers are uniform in
    [low, high) with a bias below 2^-32 for ranges that fit into 32 bits.

    Args:
        spec: Element type and range or list of values.
        shape: Resolved shape.
        key: Model, case, input name and step.
    """
    count = math.prod(shape)
    words = raw_words(key, count)
    if spec.values is not None:
        choices = np.array(spec.values, dtype=spec.dtype.numpy)
        picked: Array = choices[(words % np.uint64(len(choices))).astype(np.int64)]
        return picked.reshape(shape)
    if spec.dtype is DType.STRING:
        letters = [f"{word:016x}" for word in words.tolist()]
        return np.array(letters, dtype=object).reshape(shape)
    if spec.dtype is DType.BOOL:
        return (words & np.uint64(1)).astype(bool).reshape(shape)
    return _numbers(spec, words).reshape(shape)


def _numbers(spec: InputSpec, words: Words) -> Array:
    low, high = spec.range or DEFAULT_RANGES["float" if spec.dtype.is_floating else "integer"]
    unit = (words >> np.uint64(11)).astype(np.float64) * 2.0**-53
    scaled = low + unit * (high - low)
    if not spec.dtype.is_floating:
        return np.floor(scaled).astype(spec.dtype.numpy)
    return scaled.astype(spec.dtype.numpy)


def raw_words(key: tuple[str, ...], count: int) -> Words:
    """Return `count` words of the generator that `key` starts."""
    digest = hashlib.sha256("\0".join(key).encode()).digest()
    generator = np.random.Philox(key=int.from_bytes(digest[:16], "little"))
    return np.asarray(generator.random_raw(count), dtype=np.uint64)


def hash_values(values: Values) -> str:
    """Return the SHA-256 of named values: names, types, shapes and bytes."""
    digest = hashlib.sha256()
    for name in sorted(values):
        digest.update(f"{name}\0{kind(values[name])}\0".encode())  # an empty one has no leaves
        for path, array in leaves(values[name], name):
            digest.update(f"{path}\0{array.dtype.name}\0{array.shape}\0".encode())
            digest.update(_bytes(array))
    return digest.hexdigest()


def _bytes(array: Array) -> bytes:
    if array.dtype == object:
        return "\0".join(map(str, array.ravel().tolist())).encode()
    return np.ascontiguousarray(array).tobytes()


def zeros(dtype: DType, shape: tuple[int, ...]) -> Value:
    """Return the state before the first step."""
    if dtype is DType.STRING:
        return np.full(shape, "", dtype=object)
    return np.zeros(shape, dtype=dtype.numpy)
