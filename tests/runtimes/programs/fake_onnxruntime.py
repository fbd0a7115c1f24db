"""A stand-in for a GPU build of ONNX Runtime, put into a folder as the package `onnxruntime`.

`BEHAVIOUR` is replaced when the package is written; see `tests.runtimes.fakes`.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

BEHAVIOUR = "works"
CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
LOADER = (
    b"Failed to load library libonnxruntime_providers_cuda.so with error: "
    b"libcublasLt.so.13: cannot open shared object file: No such file or directory\n"
)

__version__ = "9.9.9"

if BEHAVIOUR == "breaks":
    msg = "libcudart.so.13: cannot open shared object file"
    raise ImportError(msg)


class GraphOptimizationLevel:
    """The levels that sessions ask for."""

    ORT_ENABLE_ALL = 99


class SessionOptions:
    """Takes any option."""

    enable_profiling = False
    profile_file_prefix = ""

    def add_session_config_entry(self, key: str, value: str) -> None:
        """Forget it."""


class Port:
    """One input or output of the small model."""

    type, shape = "tensor(float)", (2, 3)

    def __init__(self, name: str) -> None:
        self.name = name


class InferenceSession:
    """Has the providers that `BEHAVIOUR` gives it."""

    def __init__(self, _: str, options: Any, providers: Any = None, **__: Any) -> None:
        self._options = options
        self._providers = [name for name, _ in providers]
        if BEHAVIOUR == "falls back":
            os.write(2, LOADER)
            self._providers = [CPU]

    def disable_fallback(self) -> None:
        """Do nothing."""

    def get_providers(self) -> list[str]:
        """Return what the session got."""
        return self._providers

    def get_provider_options(self) -> dict[str, Any]:
        """Return nothing."""
        return {}

    def get_inputs(self) -> list[Port]:
        """Return the input of the small model."""
        return [Port("x")]

    def get_outputs(self) -> list[Port]:
        """Return the output of the small model."""
        return [Port("y")]

    def run(self, _: list[str], __: Any) -> list[Any]:
        """Return ones; one behaviour changes the providers meanwhile."""
        if BEHAVIOUR == "gives up":
            self._providers = [CPU]
        return [np.ones((2, 3), np.float32)]

    def end_profiling(self) -> str:
        """Write one node per provider and return the file."""
        path = f"{self._options.profile_file_prefix}.json"
        events = [
            {
                "cat": "Node",
                "name": f"{name}_kernel_time",
                "ts": ts,
                "dur": 1,
                "args": {"provider": name, "op_name": "Op", "node_index": str(ts)},
            }
            for ts, name in enumerate(self._providers)
        ]
        events.append({"cat": "Session", "name": "model_run", "ts": 0, "dur": 9, "args": {}})
        Path(path).write_text(json.dumps(events), encoding="utf-8")
        return path


def get_available_providers() -> list[str]:
    """Return what the build has, whether it works or not."""
    return [CUDA, CPU]


def preload_dlls() -> None:
    """Do nothing."""
