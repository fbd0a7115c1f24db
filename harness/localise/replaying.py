"""A saved node, run again on the provider that it was saved for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.domain.session import SessionConfig
from harness.localise import artefacts
from harness.localise.deviations import Deviation, deviation, worst
from harness.localise.report import share
from harness.runtimes.launchers import Launcher
from harness.runtimes.registry import Runtimes
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
        HarnessError: If the folder holds none, or its provider cannot be had.
    """
    saved = artefacts.load(folder)
    resolved = runtimes.resolve(saved.provider)
    provider = resolved.provider
    base = SessionConfig(provider=provider.ep, plugin=provider.plugin, preload=provider.preload)
    with open_session(
        launcher,
        resolved.runtime,
        artefacts.config_of(saved, base),
        saved.model,
        fork=provider.forks,
        limit_s=LIMIT_S,
    ) as session:
        given = session.run(saved.inputs, limit_s=LIMIT_S).outputs
        version = session.facts.version
    parts = [
        deviation(reference=expected, candidate=given.get(name))
        for name, expected in saved.expected.items()
    ]
    return Replay(
        node=saved.node,
        provider=saved.provider,
        version=version,
        error=worst(parts),
        saved=saved.introduced,
    )
