"""A reference in another floating type: float64 as the yardstick, a candidate's own type beside it.

A float64 run is worth something only if nothing in it computes with fewer bits. PyTorch code may
create tensors of the default type, or cast, and still return float64. So the default type is
float64 meanwhile, and every operator that gives a floating tensor of fewer bits is noted together
with the module that called it.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from harness.domain import dtypes
from harness.domain.dtypes import DType
from harness.domain.values import Value, Values, leaves
from harness.references import frameworks
from harness.references.rounding import SHAKE, holds_float32, shaken

#: Floating type of a reference that runs as its code builds it.
AS_BUILT = ""
#: Places below float64 that a reply names.
SHOWN_PLACES = 5
TORCH_KINDS = ("torch", "torchscript")


class PreciseReference:
    """A built reference, converted to one floating type."""

    def __init__(self, kind: str, built: Any, dtype: str, methods: Mapping[str, str]) -> None:
        self._kind = kind
        self._dtype = dtype
        self._built = built if dtype == AS_BUILT else _converted(kind, built, dtype)
        wide = kind == "onnx" and dtype != AS_BUILT
        self._run = self._evaluate if wide else frameworks.runner(kind, self._built, methods)

    def run(
        self, feeds: Values, outputs: Sequence[Any]
    ) -> tuple[list[tuple[str, Value]], list[str]]:
        """Return named outputs, and in float64 also the places that computed in less."""
        if self._dtype == AS_BUILT:
            return self._run(feeds, outputs), []
        feeds = {name: _cast(value, self._dtype) for name, value in feeds.items()}
        with self._computing() as below:
            found = self._run(feeds, outputs)
        if self._kind == "onnx":
            below += self._built.narrow
        if self._dtype == DType.FLOAT64:
            below += [f"output '{path}' is {kind}" for path, kind in _lower_outputs(found)]
            below += self._rounded(found, feeds, outputs)
        return found, list(dict.fromkeys(below))[:SHOWN_PLACES]

    def _rounded(
        self, found: Sequence[tuple[str, Value]], feeds: Values, outputs: Sequence[Any]
    ) -> Iterator[str]:
        """Yield outputs that were computed in float32 where no operator could be watched.

        Weights and inputs that float32 holds may give results that it holds too; once all of
        them are shaken, only code that rounds on its way does.
        """
        if self._kind not in TORCH_KINDS or not any(_suspicious(value) for _, value in found):
            return
        again = frameworks.runner(self._kind, _shaken_weights(self._built), {})
        with self._computing():
            results = again({name: shaken(value) for name, value in feeds.items()}, outputs)
        for name, value in results:
            if _suspicious(value):
                yield f"output '{name}' holds float32 values in float64"

    def _evaluate(self, feeds: Values, _: Sequence[Any]) -> list[tuple[str, Value]]:
        found = self._built.run({name: frameworks.plain(value) for name, value in feeds.items()})
        return [(name, frameworks.typed(value)) for name, value in found.items()]

    @contextlib.contextmanager
    def _computing(self) -> Iterator[list[str]]:
        """Yield the list of places that are noted meanwhile."""
        if self._kind not in TORCH_KINDS:
            yield []
            return
        with _default_dtype(self._dtype):
            if self._dtype != DType.FLOAT64:
                yield []
                return
            with _watching(self._built) as below:
                yield below


def _converted(kind: str, built: Any, dtype: str) -> Any:
    """Return the reference with its weights in `dtype`.

    Raises:
        ValueError: If this kind cannot compute in that type.
    """
    if kind in TORCH_KINDS:
        convert = {"float64": "double", "float32": "float", "float16": "half"}.get(dtype, dtype)
        return getattr(copy.deepcopy(built), convert)()  # leaves complex and whole numbers alone
    if kind == "sklearn" and dtype == DType.FLOAT64:
        return built
    if kind == "onnx" and dtype == DType.FLOAT64:
        from harness.references.widening import WideEvaluator  # noqa: PLC0415 - brings onnx

        return WideEvaluator(built.proto_)
    msg = f"a '{kind}' reference cannot compute in {dtype}"
    raise ValueError(msg)


def _cast(value: Value, dtype: str) -> Value:
    """Return floating tensors in `dtype`; every value of a narrower type stays what it is."""
    if not isinstance(value, np.ndarray) or not dtypes.of_array(value).is_floating:
        return value
    if value.dtype.kind == "c":
        return value
    return value.astype(DType(dtype).numpy)


def _suspicious(value: Value) -> bool:
    return any(holds_float32(array) for _, array in leaves(value, ""))


def _shaken_weights(built: Any) -> Any:
    """Return the module with weights that float32 cannot hold."""
    import torch

    other = copy.deepcopy(built)
    with torch.no_grad():
        for tensor in (*other.parameters(), *other.buffers()):
            if tensor.dtype == torch.float64:
                tensor.mul_(SHAKE)
    return other


def _lower_outputs(found: Sequence[tuple[str, Value]]) -> Iterator[tuple[str, DType]]:
    for name, value in found:
        for path, array in leaves(value, name):
            kind = dtypes.of_array(array)
            if kind.is_floating and kind not in {DType.FLOAT64, DType.COMPLEX128}:
                yield path, kind


@contextlib.contextmanager
def _default_dtype(dtype: str) -> Iterator[None]:
    """Let tensors without a type of their own, such as a first state of zeros, be of `dtype`."""
    import torch

    before = torch.get_default_dtype()
    torch.set_default_dtype(getattr(torch, dtype))
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextlib.contextmanager
def _watching(module: Any) -> Iterator[list[str]]:
    """Note the operators whose results are floating with fewer bits than float64."""
    from torch.nn.modules import module as hooks
    from torch.utils._python_dispatch import TorchDispatchMode

    names = {id(part): name or type(part).__name__ for name, part in module.named_modules()}
    inside: list[str] = []
    below: list[str] = []

    class Watch(TorchDispatchMode):  # type: ignore[misc]
        def __torch_dispatch__(
            self, operator: Any, _: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            result = operator(*args, **(kwargs or {}))
            results = result if isinstance(result, tuple | list) else [result]
            for lower in {str(each.dtype) for each in results if _is_lower(each)}:
                place = inside[-1] if inside else "the reference's function"
                below.append(f"{place}: {operator} gives {lower.removeprefix('torch.')}")
            return result

    def enter(part: Any, _: Any) -> None:
        inside.append(names.get(id(part), type(part).__name__))

    def leave(*_: Any) -> None:
        inside.pop()

    entering = hooks.register_module_forward_pre_hook(enter)
    leaving = hooks.register_module_forward_hook(leave, always_call=True)
    try:
        with Watch():
            yield below
    finally:
        entering.remove()
        leaving.remove()


def _is_lower(value: Any) -> bool:
    import torch

    if not isinstance(value, torch.Tensor):
        return False
    kind = value.dtype
    return bool(
        (kind.is_floating_point and kind is not torch.float64)
        or (kind.is_complex and kind is not torch.complex128)
    )
