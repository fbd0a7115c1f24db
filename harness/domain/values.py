"""ONNX values as the harness holds them.

A tensor is a numpy array (with `ml_dtypes` where numpy lacks the type; dtype object holding `str`
for strings), a sequence a tuple, a map a dict, and an empty optional is `None`. A large recorded
tensor may be a sample of its elements.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[np.generic]
Positions: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SampledTensor:
    """What a recording keeps of a tensor that is too large to keep; see `harness.domain.samples`.

    It occurs among recorded outputs only: no session takes or gives one.
    """

    shape: tuple[int, ...]
    """Of the whole tensor."""
    sha256: str
    """Of the whole tensor's type, shape and data."""
    positions: Positions
    """Which elements are kept, counted in row-major order; ascending."""
    elements: Array
    """These elements, one axis, in the tensor's own type."""


Value: TypeAlias = "Array | tuple[Value, ...] | dict[int | str, Value] | SampledTensor | None"
#: Values by input or output name.
Values: TypeAlias = Mapping[str, Value]


def leaves(value: Value, path: str) -> Iterator[tuple[str, Array]]:
    """Yield every tensor inside `value` with its path, such as `probabilities[3]['setosa']`."""
    match value:
        case None:
            return
        case tuple():
            for index, item in enumerate(value):
                yield from leaves(item, f"{path}[{index}]")
        case dict():
            for key, item in value.items():
                yield from leaves(item, f"{path}[{key!r}]")
        case SampledTensor():
            yield f"{path}, sample", value.elements
        case _:
            yield path, value


def kind(value: Value) -> str:
    """Return what ONNX calls this kind of value."""
    match value:
        case None:
            return "empty optional"
        case tuple():
            return "sequence"
        case dict():
            return "map"
        case _:
            return "tensor"
