"""Runtimes whose ONNX Runtime is a stand-in, for what this machine has no hardware for."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.runtimes.conftest import PROGRAMS

_PYTHON = """#!/bin/sh
[ "$1" = -I ] && shift  # an isolated interpreter would not see the stand-in
PYTHONPATH='{folder}' exec '{python}' "$@"
"""


def make_runtime(folder: Path, behaviour: str) -> Path:
    """Return an interpreter whose ONNX Runtime behaves in this way.

    Args:
        folder: Where it is made.
        behaviour: `works`, `falls back`, `gives up` (in the middle of a run) or `breaks`.
    """
    source = (PROGRAMS / "fake_onnxruntime.py").read_text(encoding="utf-8")
    package = folder / "onnxruntime"
    package.mkdir(parents=True)
    text = source.replace('BEHAVIOUR = "works"', f'BEHAVIOUR = "{behaviour}"')
    (package / "__init__.py").write_text(text, encoding="utf-8")
    python = folder / "python"
    script = _PYTHON.format(folder=folder, python=sys.executable)
    python.write_text(script, encoding="utf-8")
    python.chmod(0o755)
    return python
