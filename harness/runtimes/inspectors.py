"""The inspection worker as the harness uses it: one process for many files, renewed if it dies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.domain.encoding import decode_all, encode_all
from harness.domain.model_facts import ModelFacts
from harness.domain.session import Port
from harness.domain.values import Values
from harness.errors import WorkerDied
from harness.runtimes.launchers import INSPECTION, Launcher
from harness.runtimes.workers import Worker


class Inspector:
    """Inspects model files away from this process."""

    def __init__(self, launcher: Launcher, python: str) -> None:
        self._launcher = launcher
        self._python = python
        self._worker: Worker | None = None

    def inspect(self, path: Path, *, limit_s: float) -> ModelFacts:
        """Return what is known of a model file without running it; faults are part of it."""
        try:
            reply = self._ask("inspect", path, limit_s)
        except WorkerDied as error:
            return _unreadable("model.unreadable", f"{error.what}\n{error.got}")
        if "unreadable" in reply:
            return _unreadable(*reply["unreadable"])
        return _facts(reply)

    def hints(self, path: Path, *, limit_s: float) -> dict[str, Any]:
        """Return what the graph gives away about its inputs: see `harness.files.hints`.

        Raises:
            HarnessError: If the file cannot be read; ask `inspect` first.
        """
        return self._ask("hints", path, limit_s)

    def edit(
        self, op: str, path: Path, fields: dict[str, Any], *, limit_s: float
    ) -> dict[str, Any]:
        """Return what an edit or a reading of a model's graph gave: see `harness.files.taps`.

        Args:
            op: `outline`, `structure`, `tap` or `cut`.
            path: The model.
            fields: What the function takes, as JSON values.
            limit_s: Seconds before the worker is killed.

        Raises:
            HarnessError: If the file cannot be read or written.
        """
        return self._ask(op, path, limit_s, fields)

    def evaluate(self, path: Path, feeds: Values, *, weights: Path, limit_s: float) -> Values:
        """Return the outputs that the ONNX reference evaluator computes.

        Args:
            path: The model.
            feeds: Inputs by name.
            weights: Folder of the model's external data.
            limit_s: Seconds before the worker is killed.

        Raises:
            HarnessError: If it lacks an operator, fails or is too slow.
        """
        described, buffers = encode_all(feeds)
        request = {"model": str(path), "feeds": described, "weights": str(weights)}
        reply, data = self._live().request(
            "evaluate", request, buffers, limit_s=limit_s, doing="running the ONNX evaluator"
        )
        return decode_all(reply["outputs"], data)

    def close(self) -> None:
        """End the worker."""
        if self._worker is not None:
            self._worker.close()

    def _ask(
        self, op: str, path: Path, limit_s: float, fields: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        request = {"model": str(path), **(fields or {})}
        reply, _ = self._live().request(
            op, request, [], limit_s=limit_s, doing=f"inspecting {path.name}"
        )
        return reply

    def _live(self) -> Worker:
        if self._worker is None or not self._worker.alive:
            self._worker = self._launcher.launch(self._python, INSPECTION, fork=True)
        return self._worker


def _unreadable(code: str, message: str) -> ModelFacts:
    return ModelFacts(
        hash="",
        size_bytes=0,
        ir_version=0,
        opsets={},
        producer="",
        nodes=0,
        parameters=0,
        inputs=(),
        outputs=(),
        faults=((code, message),),
    )


def _facts(reply: dict[str, Any]) -> ModelFacts:
    ports = {
        side: tuple(
            Port(name=name, type=kind, shape=None if shape is None else tuple(shape))
            for name, kind, shape in reply[side]
        )
        for side in ("inputs", "outputs")
    }
    return ModelFacts(
        hash=reply["hash"],
        size_bytes=reply["size_bytes"],
        ir_version=reply["ir_version"],
        opsets=reply["opsets"],
        producer=reply["producer"],
        nodes=reply["nodes"],
        parameters=reply["parameters"],
        inputs=ports["inputs"],
        outputs=ports["outputs"],
        faults=tuple((code, message) for code, message in reply["faults"]),
    )
