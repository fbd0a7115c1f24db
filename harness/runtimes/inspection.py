"""The program of the inspection worker: it parses model files away from the harness's process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.files.hints import hints
from harness.files.inspection import inspect


def _inspect(request: dict[str, Any], _: list[memoryview]) -> tuple[dict[str, Any], list[Any]]:
    return inspect(Path(request["model"])), []


def _hints(request: dict[str, Any], _: list[memoryview]) -> tuple[dict[str, Any], list[Any]]:
    return hints(Path(request["model"])), []


HANDLERS = {"inspect": _inspect, "hints": _hints}
