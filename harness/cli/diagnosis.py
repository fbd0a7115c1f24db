"""What `onnx-harness doctor` finds: every provider of every runtime, really opened in a worker."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any

from harness.domain.findings import Finding
from harness.domain.project import ProjectSettings
from harness.domain.providers import Provider, find
from harness.errors import HarnessError, UsageProblem
from harness.runtimes.launchers import Launcher
from harness.runtimes.probe import check_provider, missing_library
from harness.runtimes.registry import Resolved, Runtime, Runtimes

#: What stands between the probe's opening words and the cause.
_OPENING = "was requested but is not usable: "
_EP_ENDING = "ExecutionProvider"


class Status(StrEnum):
    """What became of opening a session."""

    WORKS = "works"
    TAKES_NO_NODE = "takes no node"
    NOT_USABLE = "not usable"
    BROKEN_RUNTIME = "broken runtime"
    NOT_MADE = "not made"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One provider of one runtime, or a runtime that could not be asked for its providers."""

    provider: str
    """Short name; empty where the runtime itself is the problem."""
    runtime: str
    status: Status
    ep: str = ""
    python: str = ""
    version: str = ""
    """Of ONNX Runtime."""
    placed: int | None = None
    """Nodes of a small model on the provider."""
    total: int | None = None
    """All nodes of the small model."""
    start_method: str = ""
    """`fork` or `spawn`."""
    declared: bool = False
    """Whether the project's settings or the command line name it, so that it has to work."""
    finding: Finding | None = None
    """Why it does not work."""

    @property
    def name(self) -> str:
        """Return what `--provider` takes, or the runtime's name."""
        return "@".join(part for part in (self.provider, self.runtime) if part)

    @property
    def cause(self) -> str:
        """Return one line: the missing library if there is one, else what was told first."""
        if self.finding is None:
            return ""
        library = missing_library(self.finding.got)
        what = self.finding.what.partition(_OPENING)[2] or self.finding.what
        return f"library '{library}' is missing" if library else what

    def as_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            **asdict(self),
            "name": self.name,
            "cause": self.cause,
            "missing_library": missing_library(self.finding.got) if self.finding else "",
        }


class Doctor:
    """Checks the providers of a project's runtimes."""

    def __init__(self, settings: ProjectSettings, runtimes: Runtimes, launcher: Launcher) -> None:
        self._settings = settings
        self._runtimes = runtimes
        self._launcher = launcher

    def asked(self, names: Sequence[str]) -> Iterator[Check]:
        """Yield one check per name, resolved as a run would resolve it.

        Raises:
            UsageProblem: If a provider or runtime has an unknown name.
        """
        for name in dict.fromkeys(names):
            find(name, self._runtimes.providers)
        for name in dict.fromkeys(names):
            yield self._by_name(name)

    def everything(self) -> Iterator[Check]:
        """Yield checks of all runtimes, of plugin providers, and what is declared but not made."""
        for runtime in self._runtimes.all():
            yield from self._of_runtime(runtime)
        for name, provider in self._runtimes.providers.items():
            if provider.plugin is not None:
                yield self._by_name(name, lenient=True)
        made = {runtime.name for runtime in self._runtimes.all()}
        for name in self._settings.runtimes:
            if name not in made:
                yield _not_made("", name, "")

    def _of_runtime(self, runtime: Runtime) -> Iterator[Check]:
        by_ep = {each.ep: each for each in self._runtimes.providers.values() if not each.plugin}
        try:
            facts = self._runtimes.facts(runtime)
        except HarnessError as error:
            yield _broken(runtime, error)
            return
        for ep in map(str, facts.available):
            short = ep.removesuffix(_EP_ENDING).lower()
            provider = by_ep.get(ep) or Provider(name=short, ep=ep)
            name = f"{provider.name}@{runtime.name}"
            yield self._open(Resolved(name=name, provider=provider, runtime=runtime))

    def _by_name(self, name: str, *, lenient: bool = False) -> Check:
        """Check what a name resolves to; `lenient` turns an unknown runtime into a check."""
        provider = find(name, self._runtimes.providers)
        try:
            resolved = self._runtimes.resolve(name)
        except HarnessError as error:
            wanted = name.partition("@")[2] or self._preferred(provider.name)
            if isinstance(error, UsageProblem) and wanted in self._settings.runtimes:
                return _not_made(provider.name, wanted, provider.ep)
            if isinstance(error, UsageProblem) and not lenient:
                raise
            return Check(
                provider=provider.name,
                runtime=wanted,
                ep=provider.ep,
                status=Status.NOT_USABLE,
                declared=True,
                finding=_finding(error),
            )
        return self._open(resolved, declared=True)

    def _preferred(self, provider: str) -> str:
        own = self._settings.providers.get(provider)
        return own.runtime or "" if own else ""

    def _open(self, resolved: Resolved, *, declared: bool = False) -> Check:
        provider, runtime = resolved.provider, resolved.runtime
        try:
            version = self._runtimes.facts(runtime).version
        except HarnessError as error:
            return replace(_broken(runtime, error), provider=provider.name, ep=provider.ep)
        check = Check(
            provider=provider.name,
            runtime=runtime.name,
            status=Status.NOT_USABLE,
            ep=provider.ep,
            python=runtime.python,
            version=version,
            declared=declared,
        )
        try:
            status = check_provider(self._launcher, resolved)
        except HarnessError as error:
            return replace(check, finding=_finding(error))
        return replace(
            check,
            status=Status.WORKS if status.placed else Status.TAKES_NO_NODE,
            placed=status.placed,
            total=status.total,
            start_method=status.facts.start_method,
            finding=None if status.placed else _no_node(resolved, status.total),
        )


def _broken(runtime: Runtime, error: HarnessError) -> Check:
    return Check(
        provider="",
        runtime=runtime.name,
        status=Status.BROKEN_RUNTIME,
        python=runtime.python,
        declared=True,
        finding=_finding(error),
    )


def _not_made(provider: str, runtime: str, ep: str) -> Check:
    finding = Finding(
        code="runtime.broken",
        what=f"Runtime '{runtime}' is declared but not made yet",
        where=f"settings, runtimes.{runtime}",
        next_step=f"onnx-harness runtime add {runtime}",
    )
    return Check(provider=provider, runtime=runtime, ep=ep, status=Status.NOT_MADE, finding=finding)


def _no_node(resolved: Resolved, total: int) -> Finding:
    provider, runtime = resolved.provider, resolved.runtime
    return Finding(
        code="placement.none",
        what=f"{provider.ep} opens a session but takes no node: all of them run elsewhere",
        where=f"provider '{provider.name}', runtime '{runtime.name}' ({runtime.python})",
        expected=f"at least 1 of {total} nodes of a small model",
        got=f"0 of {total} nodes",
        next_step=f"leave '{provider.name}' out, or configure it: nothing runs on it as it is",
    )


def _finding(error: HarnessError) -> Finding:
    """Return what an error tells; usage errors have no code of their own."""
    return Finding(
        code="runtime.broken" if isinstance(error, UsageProblem) else error.code,
        what=error.what,
        where=error.where,
        expected=error.expected,
        got=error.got,
        next_step=error.next_step,
    )
