"""References of models: computed in a worker once, kept under everything they depend on."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harness.domain.encoding import decode_all, encode, encode_all
from harness.domain.inputs import hash_values
from harness.domain.model_facts import ModelFacts
from harness.domain.repetition import difference
from harness.domain.session import Port
from harness.domain.spec import ModelSpec
from harness.domain.values import Values
from harness.errors import (
    HarnessError,
    ModelFileError,
    RunFailed,
    SpecError,
    WorkerDied,
    blocked_by,
)
from harness.files import packages
from harness.files.cache import ValueCache, hash_file, key_of
from harness.files.models import Model
from harness.references import recordings
from harness.runtimes.launchers import Launcher, Program

#: Raised when the way references are run changes, so that old cache entries are not found.
REVISION = "2"
#: Floating type of a reference that runs as its code builds it.
AS_BUILT = ""
#: Kind of reference -> distributions that it needs, and modules its fork server loads once.
FRAMEWORKS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "torch": (("torch",), ("numpy", "torch")),
    "torchscript": (("torch",), ("numpy", "torch")),
    "sklearn": (("scikit-learn",), ("numpy", "sklearn")),
    "onnx": (("onnx",), ("numpy", "onnx.reference")),
}

Runner = Callable[[Values], Values]


def run_steps(run: Runner, steps: Sequence[Values], spec: ModelSpec) -> tuple[Values, ...]:
    """Run a model step by step, feeding its state outputs back into its state inputs.

    Reference and candidate each go their own way: a state that drifts shows in the outputs.

    Args:
        run: Runs the model once.
        steps: Inputs of each step; only the first holds the states.
        spec: Tells the order of inputs and what is fed back.
    """
    outputs: list[Values] = []
    states: dict[str, Any] = {}
    for feeds in steps:
        known = {**feeds, **states}
        ordered = {name: known[name] for name in spec.inputs} if spec.inputs else known
        result = run(ordered)
        outputs.append(result)
        if spec.state is not None:
            states = {to: _state(result, back) for back, to in spec.state.feedback.items()}
    return tuple(outputs)


def _state(outputs: Values, name: str) -> Any:
    if name in outputs:
        return outputs[name]
    msg = f"State output '{name}' is none of the outputs"
    raise SpecError(
        msg,
        code="spec.invalid",
        where=f"spec, state.feedback.{name}",
        expected=f"one of {', '.join(outputs)}",
        next_step="correct state.feedback",
    )


def source_key(model: Model) -> tuple[str, ...]:
    """Return what a live reference depends on, apart from its inputs.

    Raises:
        ModelFileError: If a declared file is missing.
        EnvironmentProblem: If a package is missing.
    """
    reference = model.spec.reference
    needed, _ = FRAMEWORKS[reference.kind]
    versions = packages.versions([*needed, *model.spec.requires])
    files = [f"{name}={_hash(model.folder / name)}" for name in _declared(model)]
    return (
        REVISION,
        reference.kind,
        str(_entry(model)),
        json.dumps(versions, sort_keys=True),
        json.dumps(reference.methods, sort_keys=True),
        *files,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PreciseOutputs:
    """What a reference gives in one floating type, or why it gives nothing."""

    steps: tuple[Values, ...] = ()
    """Outputs of every step."""
    refused: str = ""
    """Why there are none: it does not run in that type, or not in all of its parts."""


class LiveReference:
    """A reference that runs in a worker of its own."""

    def __init__(self, launcher: Launcher, python: str, model: Model) -> None:
        self._limit_s = model.spec.limits.reference_s
        self._model = model
        self._is_steady = False
        _, preload = FRAMEWORKS[model.spec.reference.kind]
        program = Program(name="harness.references.program", preload=preload, needs_harness=True)
        self._worker = launcher.launch(python, program, fork=True)
        try:
            self._build()
        except BaseException:  # Ctrl-C too must not leave the worker behind
            self.close()
            raise

    @property
    def alive(self) -> bool:
        """Return whether the worker still answers."""
        return self._worker.alive

    def run(self, feeds: Values, outputs: Sequence[Port]) -> Values:
        """Return the reference's outputs by name; `outputs` are those of the candidate.

        The first run is done twice: a reference that answers differently proves nothing.
        """
        found, _ = self.run_in(AS_BUILT, feeds, outputs)
        if not self._is_steady:
            again, _ = self.run_in(AS_BUILT, feeds, outputs)
            if changed := difference(found, again):
                raise _unsteady(self._model, changed)
            self._is_steady = True
        return found

    def run_in(
        self, dtype: str, feeds: Values, outputs: Sequence[Port]
    ) -> tuple[Values, tuple[str, ...]]:
        """Return the outputs in a floating type, and the places that computed with fewer bits."""
        described, buffers = encode_all(feeds)
        ports = [[port.name, port.type, port.shape] for port in outputs]
        fields = {"feeds": described, "outputs": ports, "dtype": dtype}
        doing = f"running the reference{dtype and f' in {dtype}'}"
        reply, data = self._request("run", fields, buffers, doing)
        return decode_all(reply["outputs"], data), tuple(map(str, reply["below"]))

    def export(self, feeds: Values, fields: dict[str, Any]) -> None:
        """Write the exported model to `fields["target"]`."""
        described, buffers = encode_all(feeds)
        model = self._model
        request = {"feeds": described, "kind": model.spec.reference.kind, **fields}
        request["folder"] = str(model.folder)
        self._request("export", request, buffers, "exporting the reference")

    def trace(
        self, feeds: Values, example: Values, fields: dict[str, Any], *, limit_s: float
    ) -> tuple[Values, dict[str, Any]]:
        """Return intermediate values by name, and the reply with what else there is.

        Args:
            feeds: Inputs of the run.
            example: Inputs that the module is exported with.
            fields: `names`, and how it is exported; see `harness.references.tracing`.
            limit_s: Seconds before the worker is killed, at most those of the spec.
        """
        buffers: list[Any] = []
        described = [
            {name: encode(value, buffers) for name, value in each.items()}
            for each in (feeds, example)
        ]
        request = {"feeds": described[0], "example": described[1], **fields}
        doing = "tracing the reference"
        reply, data = self._request("trace", request, buffers, doing, limit_s=limit_s)
        return decode_all(reply["outputs"], data), reply

    def close(self) -> None:
        """End the worker."""
        self._worker.close()

    def _build(self) -> None:
        reference = self._model.spec.reference
        fields = {
            "kind": reference.kind,
            "folder": str(self._model.folder),
            "entry": str(_entry(self._model)),
            "methods": reference.methods,
        }
        self._request("build", fields, [], "building the reference")

    def _request(
        self,
        op: str,
        fields: dict[str, Any],
        buffers: list[Any],
        doing: str,
        *,
        limit_s: float | None = None,
    ) -> tuple[dict[str, Any], list[memoryview]]:
        declared = [str((self._model.folder / name).resolve()) for name in _declared(self._model)]
        request = {**fields, "declared": declared}
        doing = f"{doing} of '{self._model.name}'"
        limit_s = min(self._limit_s, limit_s or self._limit_s)
        try:
            reply, data = self._worker.request(op, request, buffers, limit_s=limit_s, doing=doing)
        except (RunFailed, WorkerDied) as error:
            raise _as_reference_error(error, self._model, op) from None
        if reply["undeclared"]:
            raise _undeclared(self._model, reply["undeclared"])
        return reply, data


class References:
    """All references of a run."""

    def __init__(self, launcher: Launcher, python: str, cache: Path, *, anew: bool = False) -> None:
        self._launcher = launcher
        self._python = python
        self._cache = ValueCache(cache)
        self._anew = anew
        self._sources: dict[str, tuple[str, ...]] = {}
        self._live: tuple[str, LiveReference] | None = None
        self._broken: dict[str, HarnessError] = {}
        self._died: dict[tuple[str, str], PreciseOutputs] = {}

    def outputs(
        self, model: Model, case: str, steps: Sequence[Values], facts: ModelFacts
    ) -> tuple[tuple[Values, ...], str]:
        """Return the outputs of every step, and where they came from.

        The second part is `recorded`, `cached` or `live`, for the receipt.

        Raises:
            HarnessError: If the reference is missing, broken, too slow, or undeclared.
        """
        if model.recorded is not None:
            return recordings.read_outputs(model, case, facts), "recorded"
        key = key_of(*self._source(model), *map(hash_values, steps), *_ports(model, facts))
        cached = None if self._anew else self._cache.get(key)
        if cached is not None:
            return cached, "cached"
        live = self.live(model)
        try:
            outputs = run_steps(lambda feeds: live.run(feeds, facts.outputs), steps, model.spec)
        except WorkerDied as error:  # a hang or a crash is not met once more per case
            self._broken[model.name] = error
            raise
        if not self._anew:  # what is drawn afresh each time would fill the cache for nothing
            self._cache.put(key, outputs)
        return outputs, "live"

    def precise(
        self, model: Model, steps: Sequence[Values], facts: ModelFacts, dtype: str
    ) -> PreciseOutputs:
        """Return the outputs of every step as the reference computes them in a floating type.

        That it cannot is an answer too, and kept like outputs; a worker that hung or died is
        remembered for this run alone, because another limit or machine may let it answer.

        Raises:
            HarnessError: If the reference cannot be built.
        """
        if model.recorded is not None:
            return PreciseOutputs(refused="recorded outputs cannot be computed again")
        if self._anew:
            return self._run_precisely(model, steps, facts, dtype)
        key = key_of(dtype, *self._source(model), *map(hash_values, steps), *_ports(model, facts))
        if (cached := self._cache.get(key)) is not None:
            return PreciseOutputs(steps=cached)
        if (refusal := self._cache.get(key_of(key, "refused"))) is not None:
            return PreciseOutputs(refused=str(np.asarray(refusal[0]["why"]).item()))
        found = self._run_precisely(model, steps, facts, dtype)
        if (model.name, dtype) in self._died:
            return found
        if found.refused:
            why = np.array(found.refused, dtype=object)
            self._cache.put(key_of(key, "refused"), ({"why": why},))
        else:
            self._cache.put(key, found.steps)
        return found

    def _run_precisely(
        self, model: Model, steps: Sequence[Values], facts: ModelFacts, dtype: str
    ) -> PreciseOutputs:
        if (died := self._died.get((model.name, dtype))) is not None:
            return died  # waiting once per case and example may take hours
        below: list[str] = []
        live = self.live(model)

        def run(feeds: Values) -> Values:
            outputs, lower = live.run_in(dtype, feeds, facts.outputs)
            below.extend(lower)
            return outputs

        try:
            outputs = run_steps(run, steps, model.spec)
        except (RunFailed, WorkerDied) as error:
            if error.code == "reference.undeclared-file":
                raise
            cause = error.what.partition(f" of '{model.name}': ")[2] or error.what
            refusal = PreciseOutputs(refused=f"it does not run in {dtype}: {cause}")
            if isinstance(error, WorkerDied):
                self._died[model.name, dtype] = refusal
            return refusal
        if below:
            return PreciseOutputs(refused=f"it is not {dtype} at {below[0]}")
        return PreciseOutputs(steps=outputs)

    def _source(self, model: Model) -> tuple[str, ...]:
        """Return what the reference depends on, hashed once in a run: examples come by hundreds."""
        if model.name not in self._sources:
            self._sources[model.name] = source_key(model)
        return self._sources[model.name]

    def live(self, model: Model) -> LiveReference:
        """Return the model's worker; one reference is kept at a time.

        Raises:
            HarnessError: If it cannot be built; in full the first time, then in one line.
        """
        if model.name in self._broken:
            raise blocked_by(self._broken[model.name])
        if self._live is not None:
            name, reference = self._live
            if name == model.name and reference.alive:
                return reference
            reference.close()
            self._live = None
        try:
            reference = LiveReference(self._launcher, self._python, model)
        except HarnessError as error:
            self._broken[model.name] = error
            raise
        self._live = (model.name, reference)
        return reference

    def close(self) -> None:
        """End the worker that is kept."""
        if self._live is not None:
            self._live[1].close()
            self._live = None


def _ports(model: Model, facts: ModelFacts) -> tuple[str, ...]:
    """Return what the naming of outputs depends on; the evaluator depends on the model too."""
    ports = [f"{port.name}:{port.type}:{port.shape}" for port in facts.outputs]
    return (*ports, facts.hash) if model.spec.reference.kind == "onnx" else tuple(ports)


def _entry(model: Model) -> str | Path:
    reference = model.spec.reference
    value = getattr(reference, reference.kind)
    if value is True:  # onnx = true: the candidate itself
        return str(model.spec.candidate.file)
    return str(value)


def _declared(model: Model) -> list[str]:
    """Return the files of the reference, relative to the model's folder."""
    return [str(_entry(model)).partition(":")[0], *model.spec.reference.depends]


def _hash(path: Path) -> str:
    try:
        return hash_file(path)
    except OSError as error:
        msg = f"File of the reference cannot be read: {error.strerror}"
        raise ModelFileError(
            msg, code="reference.failed", where=str(path),
            next_step="restore it, or correct the table [reference]",
        ) from None  # fmt: skip


def _unsteady(model: Model, changed: str) -> HarnessError:
    return RunFailed(
        f"Reference of '{model.name}' gives other outputs for the same inputs",
        code="reference.unstable",
        where=str(model.folder / _declared(model)[0]),
        expected="the same bits each time",
        got=changed,
        next_step="switch off what is random (dropout, sampling), and keep no state between calls",
    )


def _undeclared(model: Model, files: list[str]) -> HarnessError:
    return RunFailed(
        f"Reference of '{model.name}' read files that its spec does not declare",
        code="reference.undeclared-file",
        where=str(model.spec_file),
        expected="every file that the reference reads in reference.depends",
        got="\n".join(files[:8]),
        next_step="add them to reference.depends: the cache must notice when they change",
    )


def _as_reference_error(error: HarnessError, model: Model, op: str) -> HarnessError:
    codes = {"worker.timeout": "reference.timeout", "worker.signal": "reference.signal"}
    failed = "export.failed" if op == "export" else "reference.failed"
    return type(error)(
        error.what,
        code=codes.get(error.code, failed),
        where=f"{model.folder / _declared(model)[0]}",
        expected=error.expected,
        got=error.got,
        next_step=error.next_step or "run the reference alone to see it fail",
    )
