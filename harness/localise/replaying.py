"""A saved node, run again on the provider that it was saved for."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.domain.session import SessionConfig, SessionFacts
from harness.errors import EnvironmentProblem, RunFailed, UsageProblem
from harness.evidence import BLOCKING
from harness.localise import artefacts
from harness.localise.deviations import Deviation, deviation, worst
from harness.localise.report import share
from harness.runtimes.inspectors import Inspector
from harness.runtimes.launchers import Launcher
from harness.runtimes.registry import Resolved, Runtimes
from harness.runtimes.sessions import open_session

#: One node; its weights may still be large.
LIMIT_S = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """What running a saved node again gave."""

    node: str
    provider: str
    version: str
    """Of ONNX Runtime."""
    error: Deviation
    """What it introduces now."""
    saved: float | None
    """What it introduced when it was saved; None for values that are not finite."""

    @property
    def agrees(self) -> bool:
        """Return whether rounding explains the difference now."""
        return not self.error.notable_alone

    def as_json(self) -> dict[str, Any]:
        """Return plain JSON values; an error that is not finite becomes null."""
        now = self.error.relative
        return {
            "agrees": self.agrees,
            "node": self.node,
            "provider": self.provider,
            "onnxruntime": self.version,
            "introduced": now if now < float("inf") else None,
            "introduced_when_saved": self.saved,
        }

    def lines(self) -> Iterator[str]:
        """Yield the outcome as text."""
        verb = "agrees with" if self.agrees else "still differs from"
        yield f"{self.node} {verb} what is expected of it"
        yield f"  {'provider:':<12}{self.provider}, onnxruntime {self.version}"
        yield f"  {'introduced:':<12}{share(self.error.relative)}"
        yield f"  {'saved:':<12}{share(float('inf') if self.saved is None else self.saved)}"


def replayed(folder: Path, *, launcher: Launcher, runtimes: Runtimes) -> Replay:
    """Run a saved node again.

    Raises:
        HarnessError: If the folder holds none that runs, or its provider cannot be had.
    """
    saved = artefacts.load(folder)
    _refuse_damaged(saved, launcher)
    resolved = _resolved(saved, runtimes)
    provider = resolved.provider
    base = SessionConfig(provider=provider.ep, plugin=provider.plugin, preload=provider.preload)
    config = artefacts.config_of(saved, base)
    with (
        _refused(saved),
        open_session(
            launcher,
            resolved.runtime,
            config,
            saved.model,
            fork=provider.forks,
            limit_s=LIMIT_S,
        ) as session,
    ):
        _refuse_other_names(saved, session.facts)
        given = session.run(saved.inputs, limit_s=LIMIT_S).outputs
        version = session.facts.version
    parts = [
        deviation(reference=expected, candidate=given.get(name))
        for name, expected in saved.expected.items()
    ]
    return Replay(
        node=saved.node,
        provider=saved.settings.provider,
        version=version,
        error=worst(parts),
        saved=saved.introduced,
    )


def _refuse_damaged(saved: artefacts.Saved, launcher: Launcher) -> None:
    """Raise UsageProblem if the model's file cannot be read, or gives nothing."""
    with closing(Inspector(launcher, sys.executable)) as inspector:
        facts = inspector.inspect(saved.model, limit_s=LIMIT_S)
    for code, message in facts.faults:
        if code in BLOCKING:
            raise artefacts.no_block(saved.folder, artefacts.MODEL, message)


def _resolved(saved: artefacts.Saved, runtimes: Runtimes) -> Resolved:
    """Return the provider that the report names; it is no option of this command.

    Raises:
        UsageProblem: If its name is unknown.
        EnvironmentProblem: If no runtime has it.
    """
    name = saved.settings.provider
    try:
        return runtimes.resolve(name)
    except (UsageProblem, EnvironmentProblem) as error:
        advice = "replay it where the provider is known: `onnx-harness doctor` shows those of here"
        raise type(error)(
            error.what,
            code=error.code,
            where=f"{saved.folder / artefacts.REPORT}, replay_with.provider",
            expected=error.expected,
            got=error.got or f"'{name}'",
            next_step=error.next_step or advice,
        ) from None


def _refuse_other_names(saved: artefacts.Saved, facts: SessionFacts) -> None:
    """Raise UsageProblem unless the files of arrays fit the node."""
    inputs = {port.name for port in facts.inputs}
    outputs = {port.name for port in facts.outputs}
    if lost := sorted(inputs - set(saved.inputs)):
        got = f"it lacks the node's input {lost[0]!r}"
        raise artefacts.no_block(saved.folder, artefacts.INPUTS, got)
    for file, arrays, known in (
        (artefacts.INPUTS, saved.inputs, inputs),
        (artefacts.EXPECTED, saved.expected, outputs),
    ):
        if other := sorted(set(arrays) - known):
            got = f"it holds {other[0]!r}, which {artefacts.MODEL} does not name"
            raise artefacts.no_block(saved.folder, file, got)


@contextmanager
def _refused(saved: artefacts.Saved) -> Iterator[None]:
    """Tell a node that does not run at all apart from one that differs: exit code 1 says that."""
    try:
        yield
    except RunFailed as error:
        settings = saved.settings
        msg = f"Saved node {saved.node} does not run: {error.what}"
        raise UsageProblem(
            msg,
            where=str(saved.model),
            expected=f"a run on {settings.provider} with what {artefacts.REPORT} names: "
            f"optimisation {settings.optimization}, options {settings.options}, "
            f"custom operators {list(settings.custom_ops)}",
            got=error.got or error.what,
            next_step="replay it with the runtime that saved it, or save it again with "
            "`onnx-harness localise`",
        ) from None
