"""Builds on disk: made by a worker once, kept under everything that they depend on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness.builds.kept import kept
from harness.domain.builds import TOOLS, BuildStep
from harness.errors import EnvironmentProblem, ModelFileError
from harness.files import packages
from harness.files.cache import hash_file, key_of
from harness.runtimes.launchers import Launcher, Program

#: Raised when the way builds are made changes.
REVISION = "1"
PROGRAM = Program(name="harness.builds.program", preload=("numpy", "onnx"), needs_harness=True)
MODEL, DIFFERENCE = "model.onnx", "difference.json"
#: Seconds for all steps of a build; quantising a model of 90 MB takes one.
LIMIT_S = 1800.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """What is counted of a graph."""

    operators: dict[str, int]
    """Operator to number of nodes, subgraphs included."""
    parameters: int
    """Elements of all weights."""
    size_bytes: int
    """Of the model with its weights."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """A build and what became of its graph."""

    path: Path
    before: Graph
    after: Graph

    def files(self) -> list[Path]:
        """Return the model file and the weights that lie beside it."""
        return [self.path, *sorted(self.path.parent.glob("weights.bin"))]


class Builder:
    """Makes builds away from this process.

    Args:
        launcher: Starts the worker.
        python: The harness's own interpreter.
        folder: Where builds are kept.
    """

    def __init__(self, launcher: Launcher, python: str, folder: Path) -> None:
        self._launcher = launcher
        self._python = python
        self._folder = folder

    def build(self, source: Path, steps: Sequence[BuildStep], *, name: str) -> Built:
        """Return the build of a file, made if it is not there yet.

        Args:
            source: The candidate's file; weights beside it belong to it.
            steps: What is done to it, in this order.
            name: Of the variant, for messages.

        Raises:
            EnvironmentProblem: If a step's package is missing; code `package.missing`.
            ModelFileError: If a step cannot be done; code `build.failed`.
            WorkerDied: If a tool crashes or hangs.
        """
        tools = _tools(steps)
        plain = [asdict(each) for each in steps]
        provenance = {"candidate": _hash(source), "steps": plain, "tools": tools}
        home = kept(
            self._folder / key_of(REVISION, json.dumps(provenance, sort_keys=True))[:32],
            lambda folder: self._make(source, folder, provenance, name),
        )
        told = json.loads((home / DIFFERENCE).read_text(encoding="utf-8"))
        graphs = {side: Graph(**told[side]) for side in ("before", "after")}
        return Built(path=home / MODEL, before=graphs["before"], after=graphs["after"])

    def _make(self, source: Path, folder: Path, provenance: dict[str, Any], name: str) -> None:
        worker = self._launcher.launch(self._python, PROGRAM, fork=True)
        try:
            request = {
                "source": str(source),
                "target": str(folder / MODEL),
                "steps": provenance["steps"],
                "provenance": json.dumps(provenance, sort_keys=True),
            }
            doing = f"making {name}"
            reply, _ = worker.request("build", request, [], limit_s=LIMIT_S, doing=doing)
        finally:
            worker.close()
        if (refused := reply.get("refused")) is not None:
            msg = f"'{name}' cannot be built. {refused.pop('what')}"
            raise ModelFileError(msg, **refused)
        text = json.dumps({side: reply[side] for side in ("before", "after")})
        (folder / DIFFERENCE).write_text(text, encoding="utf-8")


def _tools(steps: Sequence[BuildStep]) -> dict[str, str]:
    """Return the versions of all packages that the steps use."""
    names = sorted({"onnx", *(name for each in steps for name in TOOLS[each.step])})
    try:
        return packages.versions(names)
    except EnvironmentProblem as error:
        error.next_step = "pip install 'onnx-harness[builds]'"
        raise


def _hash(source: Path) -> str:
    """Return the hash of a model file with all that lies beside it, its weights among it."""
    files = sorted(each for each in source.parent.iterdir() if each.is_file())
    return key_of(*(f"{each.name}={hash_file(each)}" for each in files))
