"""Trying a drafted spec: its cases run once on the CPU, its reference once; nothing is compared."""

from __future__ import annotations

import sys
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from harness.domain.model_facts import ModelFacts
from harness.domain.session import SessionConfig
from harness.domain.spec import ModelSpec
from harness.errors import EnvironmentProblem, HarnessError
from harness.files import cases
from harness.files.models import Model
from harness.references.store import LiveReference
from harness.runtimes.launchers import Launcher
from harness.runtimes.registry import Resolved, Runtimes
from harness.runtimes.sessions import Session, open_session

PROVIDER = "cpu"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What trying showed."""

    cases: tuple[str, ...] = ()
    """Those that ran."""
    version: str = ""
    """Of ONNX Runtime."""
    problem: HarnessError | None = None
    """Why it ended early."""
    hopeless: bool = False
    """Whether other sizes cannot help: no session opens."""

    @property
    def failed(self) -> bool:
        """Return whether the draft, not the machine, is what did not work."""
        return self.problem is not None and not isinstance(self.problem, EnvironmentProblem)


class Tester:
    """Runs the cases of several drafts of one model in one session."""

    def __init__(self, name: str, folder: Path, *, launcher: Launcher, runtimes: Runtimes) -> None:
        self._name = name
        self._folder = folder
        self._launcher = launcher
        self._runtimes = runtimes
        self._session: Session | None = None

    def try_spec(self, spec: ModelSpec) -> Trial:
        """Run each case once."""
        try:
            session = self._open(spec)
        except HarnessError as error:
            return Trial(problem=error, hopeless=True)
        version = session.facts.version
        ran: list[str] = []
        for case in spec.case:
            try:
                feeds = cases.build(self._name, spec, case, self._folder)[0]
                session.run(feeds, limit_s=spec.limits.run_s)
            except HarnessError as error:
                return Trial(cases=tuple(ran), version=version, problem=error)
            ran.append(case.name)
        return Trial(cases=tuple(ran), version=version)

    def close(self) -> None:
        """End the worker."""
        if self._session is not None:
            self._session.close()

    def _open(self, spec: ModelSpec) -> Session:
        if self._session is None or not self._session.alive:
            resolved = self._runtimes.resolve(PROVIDER)
            self._session = open_session(
                self._launcher,
                resolved.runtime,
                _config(spec, resolved),
                self._folder / (spec.candidate.file or ""),
                fork=resolved.provider.forks,
                limit_s=spec.limits.load_s,
            )
        return self._session


def try_reference(model: Model, facts: ModelFacts, *, launcher: Launcher) -> HarnessError | None:
    """Build the reference and run it on the first case; return what is wrong with it."""
    try:
        feeds = cases.build(model.name, model.spec, model.spec.case[0], model.folder)[0]
        with closing(LiveReference(launcher, sys.executable, model)) as live:
            live.run(feeds, facts.outputs)
    except HarnessError as error:
        return error
    return None


def _config(spec: ModelSpec, resolved: Resolved) -> SessionConfig:
    return SessionConfig(
        provider=resolved.provider.ep,
        options=resolved.provider.options,
        threads=spec.session.threads,
        custom_ops=spec.session.custom_ops,
    )
