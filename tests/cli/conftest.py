"""Fixtures of the command's tests: a project to stand in, and the command itself."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from harness.cli import main
from harness.testing import MiniProject


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What one call of the command gave."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Return the standard output as JSON."""
        return json.loads(self.out)


Command = Callable[..., Result]


@pytest.fixture
def command(
    project: MiniProject, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    """Return the command, run in the project's folder with its own places; scope function."""
    monkeypatch.chdir(project.root)
    monkeypatch.setenv("ONNX_HARNESS_RUNTIMES", str(project.root / ".runtimes"))
    monkeypatch.setenv("ONNX_HARNESS_CACHE", str(project.root / ".cache"))

    def run(*arguments: str | Path) -> Result:
        capsys.readouterr()
        code = main(list(map(str, arguments)))
        shown = capsys.readouterr()
        return Result(code=code, out=shown.out, err=shown.err)

    return run


@pytest.fixture
def fake_python(project: MiniProject) -> Callable[..., Path]:
    """Return a maker of interpreters that fake `venv` and `pip` and are real otherwise."""

    def make(*, pip: str = "exit 0", real: bool = True) -> Path:
        rest = f'exec "{sys.executable}" "$@"' if real else "exit 9"
        lines = (
            "#!/bin/sh",
            'case "$*" in',
            '*"-m venv "*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;',
            f'*"-m pip install"*) {pip} ;;',
            f"*) {rest} ;;",
            "esac",
        )
        path = project.write("tools/python", "\n".join(lines) + "\n")
        path.chmod(0o755)
        return path

    return make
