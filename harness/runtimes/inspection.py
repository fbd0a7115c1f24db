"""The program of the inspection worker: it parses model files away from the harness's process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.domain import encoding
from harness.files import taps
from harness.files.hints import hints
from harness.files.inspection import inspect
from harness.files.taps import evaluate


def _inspect(request: dict[str, Any], _: list[memoryview]) -> tuple[dict[str, Any], list[Any]]:
    return inspect(Path(request["model"])), []


def _hints(request: dict[str, Any], _: list[memoryview]) -> tuple[dict[str, Any], list[Any]]:
    return hints(Path(request["model"])), []


def _outline(request: dict[str, Any], _: list[memoryview]) -> tuple[dict[str, Any], list[Any]]:
    return taps.outline(Path(request["model"])), []


def _structure(request: dict[str, Any], _: list[memoryview]) -> tuple[dict[str, Any], list[Any]]:
    return taps.structure(Path(request["model"])), []


def _tap(request: dict[str, Any], _: list[memoryview]) -> tuple[dict[str, Any], list[Any]]:
    path, target = Path(request["model"]), Path(request["target"])
    return taps.tap(path, target, names=request["names"], sizes=request["sizes"]), []


def _cut(request: dict[str, Any], _: list[memoryview]) -> tuple[dict[str, Any], list[Any]]:
    path, target = Path(request["model"]), Path(request["target"])
    blocks, types, embed = request["blocks"], request["types"], request["embed"]
    return taps.cut(path, target, blocks=blocks, types=types, embed=embed), []


def _evaluate(
    request: dict[str, Any], buffers: list[memoryview]
) -> tuple[dict[str, Any], list[Any]]:
    """Run a model by the ONNX reference evaluator."""
    feeds = encoding.decode_all(list(request["feeds"].items()), buffers)
    out: list[Any] = []
    weights = Path(request["weights"])
    outputs = evaluate(Path(request["model"]), feeds, weights=weights)
    return {"outputs": [[name, encoding.encode(value, out)] for name, value in outputs]}, out


HANDLERS = {
    "inspect": _inspect,
    "hints": _hints,
    "outline": _outline,
    "structure": _structure,
    "tap": _tap,
    "cut": _cut,
    "evaluate": _evaluate,
}
