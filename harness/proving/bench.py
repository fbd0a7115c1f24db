"""The mutants' worker as the harness uses it: one model, one mutant at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.domain.encoding import decode_all, encode_all
from harness.domain.mutants import Mutant
from harness.domain.values import Value, Values
from harness.errors import RunFailed, WorkerDied
from harness.references.store import run_steps
from harness.runtimes.launchers import Launcher, Program
from harness.runtimes.workers import Worker

PROGRAM = Program(
    name="harness.proving.program", preload=("numpy", "onnx.reference"), needs_harness=True
)
ORIGINAL, MUTANT = "original", "mutant"


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """All mutants that a model allows."""

    mutants: tuple[Mutant, ...]
    """Those that are counted."""
    curve: tuple[str, ...]
    """Ids of single-weight mutants."""


class NotInFloat64(RunFailed):
    """The evaluator could not compute the model, or not in float64."""


class Bench:
    """Makes mutants of one model and computes in float64, away from this process.

    Args:
        launcher: Where the worker is started.
        python: Interpreter of the harness.
        path: The model.
        limit_s: Seconds that one request may take.
    """

    def __init__(self, launcher: Launcher, python: str, path: Path, *, limit_s: float) -> None:
        self._launcher = launcher
        self._python = python
        self._path = path
        self._limit_s = limit_s
        self._worker: Worker | None = None
        self._made: tuple[str, Path] | None = None

    def listed(self) -> Listed:
        """Return all mutants of the model.

        Raises:
            HarnessError: If the file cannot be read.
        """
        reply = self._open()
        return Listed(
            mutants=tuple(Mutant(id=name, kind=kind) for name, kind in reply["mutants"]),
            curve=tuple(reply["curve"]),
        )

    def make(self, name: str, target: Path) -> bool:
        """Write a mutant to `target`; return whether its file says anything else.

        It may not: in 16 bits, a thousandth more can be the same number.
        """
        self._made = (name, target)
        reply, _ = self._request("make", {"id": name, "target": str(target)}, [], "making a mutant")
        return bool(reply["differs"])

    def scale(self, factor: float, target: Path) -> int:
        """Write the model with all weights scaled to `target`; return how many there are."""
        fields = {"factor": factor, "target": str(target)}
        reply, _ = self._request("scale", fields, [], "scaling all weights")
        return int(reply["weights"])

    def evaluate(self, which: str, steps: Sequence[Values], spec: Any) -> tuple[Values, ...]:
        """Return the float64 outputs of every step.

        Raises:
            NotInFloat64: If that is impossible, with the reason.
        """
        return run_steps(lambda feeds: self._evaluate(which, feeds), steps, spec)

    def close(self) -> None:
        """End the worker."""
        if self._worker is not None:
            self._worker.close()

    def _evaluate(self, which: str, feeds: Values) -> dict[str, Value]:
        described, buffers = encode_all(feeds)
        fields = {"which": which, "feeds": described}
        try:
            reply, data = self._request("evaluate", fields, buffers, "computing in float64")
        except (RunFailed, WorkerDied) as error:
            msg = f"The evaluator failed: {error.what}"
            raise NotInFloat64(msg, code="run.failed") from None
        if reply["narrow"]:
            msg = f"Not all of it is computed in float64: {'; '.join(reply['narrow'][:3])}"
            raise NotInFloat64(msg, code="run.failed")
        return decode_all(reply["outputs"], data)

    def _request(
        self, op: str, fields: dict[str, Any], buffers: list[Any], doing: str
    ) -> tuple[dict[str, Any], list[memoryview]]:
        if self._worker is None or not self._worker.alive:
            self._open()
            if self._made is not None and op == "evaluate":  # the mutant died with the worker
                name, target = self._made
                self._request("make", {"id": name, "target": str(target)}, [], "making a mutant")
        if self._worker is None:
            msg = "no worker after it was opened"
            raise AssertionError(msg)
        return self._worker.request(op, fields, buffers, limit_s=self._limit_s, doing=doing)

    def _open(self) -> dict[str, Any]:
        self.close()
        self._worker = self._launcher.launch(self._python, PROGRAM, fork=True)
        reply, _ = self._worker.request(
            "open", {"model": str(self._path)}, [], limit_s=self._limit_s, doing="listing mutants"
        )
        return reply
