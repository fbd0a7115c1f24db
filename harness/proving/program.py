"""The program of the mutants' worker: it makes mutants of one model and computes in float64."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from harness.domain import encoding
from harness.domain.values import Array, Value
from harness.proving import mutators
from harness.proving.graphs import ADDED, forget_inferred_shapes
from harness.references.widening import WideEvaluator

Reply = tuple[dict[str, Any], list[Any]]
#: Above this, weights go into a file of their own (protobuf ends at 2 GiB).
_EXTERNAL_BYTES = 1_500_000_000


class Bench:
    """The one model of this worker, and its latest mutant."""

    def __init__(self) -> None:
        self._original = onnx.ModelProto()
        self._mutant = onnx.ModelProto()
        self._evaluators: dict[str, WideEvaluator] = {}

    def open(self, request: dict[str, Any], _: list[memoryview]) -> Reply:
        """Read the model; the reply names all its mutants, and those of the curve."""
        self._original = onnx.load(request["model"])
        self._evaluators = {}
        named = {change.id: change.kind for change in mutators.changes(self._original)}
        curve = [change.id for change in mutators.single_weights(self._original)]
        return {"mutants": list(named.items()), "curve": list(dict.fromkeys(curve))}, []

    def make(self, request: dict[str, Any], _: list[memoryview]) -> Reply:
        """Make the mutant `id` and write it to `target`."""
        mutant = self._copy()
        wanted = request["id"]
        single = wanted.startswith(f"{mutators.SINGLE}/")
        for change in (mutators.single_weights if single else mutators.changes)(mutant):
            if change.id == wanted:
                change.make()
                self._write(mutant, Path(request["target"]))
                return {"differs": mutant != self._original}, []
        msg = f"the model has no mutant '{wanted}'"
        raise LookupError(msg)

    def scale(self, request: dict[str, Any], _: list[memoryview]) -> Reply:
        """Scale all weights by `factor`; the reply tells how many there are."""
        mutant = self._copy()
        count = mutators.all_weights(mutant, request["factor"])
        self._write(mutant, Path(request["target"]))
        return {"weights": count}, []

    def evaluate(self, request: dict[str, Any], buffers: list[memoryview]) -> Reply:
        """Return the float64 outputs of the `original` or the `mutant`, and what fell short."""
        which = request["which"]
        if which not in self._evaluators:
            model = self._original if which == "original" else self._mutant
            self._evaluators[which] = WideEvaluator(model, keep=ADDED)
        evaluator = self._evaluators[which]
        feeds = encoding.decode_all(list(request["feeds"].items()), buffers)
        outputs = evaluator.run({name: _plain(value) for name, value in feeds.items()})
        out: list[Any] = []
        described = [[name, encoding.encode(_value(each), out)] for name, each in outputs.items()]
        return {"outputs": described, "narrow": list(evaluator.narrow)}, out

    def _copy(self) -> onnx.ModelProto:
        copy = onnx.ModelProto()
        copy.CopyFrom(self._original)
        return copy

    def _write(self, mutant: onnx.ModelProto, target: Path) -> None:
        forget_inferred_shapes(mutant)
        self._mutant = mutant
        self._evaluators.pop("mutant", None)
        large = mutant.ByteSize() > _EXTERNAL_BYTES
        target.with_suffix(".data").unlink(missing_ok=True)
        onnx.save(
            mutant, target, save_as_external_data=large, location=target.with_suffix(".data").name
        )


def _plain(value: Value) -> Any:
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def _value(value: Any) -> Value:
    """Return what the evaluator gave as a value of the harness."""
    if value is None:
        return None
    if isinstance(value, Mapping):
        return {key: np.asarray(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return tuple(_value(item) for item in value)
    array: Array = np.asarray(value)
    return array.astype(object) if array.dtype.kind in "UST" else array


_bench = Bench()
HANDLERS = {
    "open": _bench.open,
    "make": _bench.make,
    "scale": _bench.scale,
    "evaluate": _bench.evaluate,
}
