"""ONNX values as the harness holds them.

A tensor is a numpy array (with `ml_dtypes` where numpy lacks the type; dtype object holding `str`
for strings), a sequence a tuple, a map a dict, and an empty optional is `None`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[np.generic]
Value: TypeAlias = "Array | tuple[Value, ...] | dict[int | str, Value] | None"
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
