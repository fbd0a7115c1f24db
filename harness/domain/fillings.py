"""How an array of an example is filled: a few numbers that say it all, and numpy does the rest.

A filling is drawn and shrunk in the place of the array itself: kind of values, seed, and a few
positions that hold special values. Values come from the raw words of the generator that the
declared cases use, so that an example is the same on every machine.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar, Literal, get_args

import numpy as np
import numpy.typing as npt

from harness.domain.dtypes import DType
from harness.domain.inputs import DEFAULT_RANGES, raw_words
from harness.domain.spec import STRICT, InputSpec, Kind
from harness.domain.values import Array

#: Positions in [0, 1] between the least and the greatest value.
Unit = npt.NDArray[np.float64]
Mark = Literal["low", "high", "+0", "-0", "denormal", "nan", "inf", "-inf"]
#: Shrinking goes to the left, and so does hypothesis where it is short of ideas: the first kind
#: must be one that tells much.
KINDS: tuple[Kind, ...] = get_args(Kind)
#: One element in so many differs from zero in `sparse`.
SPARSE = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Special:
    """A special value at one position."""

    __pydantic_config__: ClassVar = STRICT

    position: int
    """Position in the flattened array, modulo its size."""
    mark: Mark
    """Which value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Filling:
    """What one input of an example is filled with."""

    __pydantic_config__: ClassVar = STRICT

    kind: Kind = "uniform"
    """How values spread over the input's range."""
    seed: int = 0
    """Chooses among arrays of this kind."""
    specials: tuple[Special, ...] = field(default=())
    """Special values, set last."""

    def __str__(self) -> str:
        """Return it as a message shows it, such as `uniform, seed 3, -0 at 5`."""
        seed = [f"seed {self.seed}"] if self.kind in _SEEDED else []
        marks = [f"{special.mark} at {special.position}" for special in self.specials]
        return ", ".join([self.kind, *seed, *marks])


def fill(filling: Filling, spec: InputSpec, shape: tuple[int, ...], *, key: str) -> Array:
    """Return the array that a filling stands for.

    Args:
        filling: Kind, seed, special positions.
        spec: Element type and range or list of values.
        shape: Resolved shape.
        key: Input and step, so that equal seeds do not give equal inputs.
    """
    count = math.prod(shape)
    if filling.kind in {"zeros", "ones"} and spec.values is None and _has_range(spec):
        number = 0.0 if filling.kind == "zeros" else 1.0
        array = np.full(count, _nearest(spec, number), dtype=spec.dtype.numpy)
    else:
        array = _placed(spec, _UNITS[filling.kind](count, (str(filling.seed), key)))
    if filling.kind == "sparse" and spec.values is None and _has_range(spec):
        others = _uniform(count, (str(filling.seed), key, "others"))
        array[others * SPARSE >= 1] = _nearest(spec, 0.0)
    if count and spec.relation is None:
        for special in filling.specials:
            array[special.position % count] = special_value(spec, special.mark)
    return array.reshape(shape)


def marks(spec: InputSpec, *, non_finite: bool) -> tuple[Mark, ...]:
    """Return the special values that an input may hold by its type and range.

    NaN and infinity belong to no range; they are drawn where every output allows them.
    """
    if spec.relation is not None or spec.values is not None or not _has_range(spec):
        return ()
    allowed: list[Mark] = ["low", "high"]
    if not spec.dtype.is_floating or spec.dtype.value.startswith("complex"):
        return tuple(allowed)
    low, high = map(float, ends(spec))
    zeros: tuple[Mark, ...] = ("+0", "-0")
    allowed += zeros if low <= 0 <= high else ()
    allowed += ["denormal"] if low <= _denormal(spec.dtype) <= high else []
    return (*allowed, *(_non_finite(spec.dtype) if non_finite else ()))


def special_value(spec: InputSpec, mark: Mark) -> np.generic:
    """Return the element that a mark stands for."""
    match mark:
        case "low":
            return ends(spec)[0]
        case "high":
            return ends(spec)[1]
        case "denormal":
            return _as(spec.dtype, _denormal(spec.dtype))
        case _:
            return _as(spec.dtype, float(mark))


def ends(spec: InputSpec) -> tuple[np.generic, np.generic]:
    """Return the least and the greatest element of the range [low, high)."""
    low, high = spec.range or DEFAULT_RANGES["float" if spec.dtype.is_floating else "integer"]
    if not spec.dtype.is_floating:
        return _as(spec.dtype, math.floor(low)), _as(spec.dtype, math.ceil(high) - 1)
    real = {DType.COMPLEX64: DType.FLOAT32, DType.COMPLEX128: DType.FLOAT64}
    dtype = real.get(spec.dtype, spec.dtype)
    first, last = _as(dtype, low), _as(dtype, high)
    if float(first) < low:
        first = np.nextafter(first, last)
    if float(last) >= high:
        last = np.nextafter(last, first)
    return first, last


def _as(dtype: DType, number: float) -> np.generic:
    with np.errstate(over="ignore"):  # a bound may lie beyond what the type holds
        return dtype.numpy.type(np.array(number).astype(dtype.numpy))


def _has_range(spec: InputSpec) -> bool:
    return spec.dtype not in {DType.STRING, DType.BOOL}


def _nearest(spec: InputSpec, number: float) -> np.generic:
    """Return the element of the range that is nearest to `number`."""
    first, last = ends(spec)
    if number <= float(first):
        return first
    return last if number >= float(last) else _as(spec.dtype, number)


def _denormal(dtype: DType) -> float:
    import ml_dtypes  # noqa: PLC0415 - 20 ms that most runs never need

    return float(ml_dtypes.finfo(dtype.numpy).smallest_subnormal)


def _non_finite(dtype: DType) -> tuple[Mark, ...]:
    """Return which of NaN and infinity the type has."""
    found: list[Mark] = []
    for mark in ("nan", "inf", "-inf"):
        with np.errstate(all="ignore"):
            held = float(np.array(float(mark)).astype(dtype.numpy))
        if held == float(mark) or (mark == "nan" and math.isnan(held)):
            found.append(mark)
    return tuple(found)


def _placed(spec: InputSpec, unit: Unit) -> Array:
    """Return the elements at positions `unit` between the least and the greatest one."""
    if spec.values is not None:
        choices = np.array(spec.values, dtype=spec.dtype.numpy)
        return choices[np.minimum(unit * len(choices), len(choices) - 1).astype(np.int64)]
    if spec.dtype is DType.STRING:
        letters = [f"{round(each * 2.0**53):014x}" for each in unit.tolist()]
        return np.array(letters, dtype=object)
    if spec.dtype is DType.BOOL:
        return unit >= 0.5  # noqa: PLR2004 - the middle
    return _floats(spec, unit) if spec.dtype.is_floating else _integers(spec, unit)


def _floats(spec: InputSpec, unit: Unit) -> Array:
    low, high = spec.range or DEFAULT_RANGES["float"]
    first, last = ends(spec)
    within = np.clip(low + unit * (high - low), float(first), float(last))
    return within.astype(spec.dtype.numpy)


def _integers(spec: InputSpec, unit: Unit) -> Array:
    low, high = spec.range or DEFAULT_RANGES["integer"]
    first, last = ends(spec)
    whole = np.floor(low + unit * (high - low))
    at_top = whole >= float(last)  # float64 cannot hold the greatest int64
    array = np.where(at_top, float(first), whole).astype(spec.dtype.numpy)
    array[at_top] = last
    return array


def _uniform(count: int, key: tuple[str, ...]) -> Unit:
    return (raw_words(key, count) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _bell(count: int, key: tuple[str, ...]) -> Unit:
    """Return means of four: near enough to normal, bounded, and the same on every machine."""
    return np.asarray(_uniform(4 * count, key).reshape(4, count).mean(axis=0))


def _ramp(count: int, _: tuple[str, ...]) -> Unit:
    return np.linspace(0, 1, count)


_UNITS: dict[Kind, Callable[[int, tuple[str, ...]], Unit]] = {
    "zeros": lambda count, _: np.zeros(count),
    "ones": lambda count, _: np.ones(count),
    "constant": lambda count, key: np.repeat(_uniform(1, key), count),
    "ramp": _ramp,
    "extremes": lambda count, key: np.round(_uniform(count, key)),
    "sparse": _uniform,
    "bell": _bell,
    "uniform": _uniform,
}
_SEEDED = frozenset({"constant", "extremes", "sparse", "bell", "uniform"})
