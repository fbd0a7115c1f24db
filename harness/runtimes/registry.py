"""Runtimes: which interpreters there are, what their ONNX Runtime has, which serves a provider."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from harness.domain.project import ProjectSettings, ProviderSettings
from harness.domain.providers import BUILTIN, Provider, did_you_mean, find
from harness.domain.session import Plugin
from harness.errors import EnvironmentProblem, HarnessError, SpecError, UsageProblem
from harness.runtimes.launchers import INFERENCE, Launcher

#: The interpreter that runs the harness, if it has an ONNX Runtime.
OWN_RUNTIME = "own"
#: Written last, so that its presence means a complete environment.
MARK = "onnx-harness-runtime.json"
FACTS_S = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """An interpreter with one build of ONNX Runtime."""

    name: str
    python: str
    """Path of the interpreter."""
    source: str
    """Where it comes from: own, settings, or added."""
    requirements: tuple[str, ...] = ()
    """What was installed into it, if the harness made it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeFacts:
    """What a runtime's ONNX Runtime says of itself."""

    version: str
    available: tuple[str, ...]
    """`get_available_providers()`: what is built in, not what works."""
    devices: tuple[tuple[str, str], ...]
    """Devices of `get_ep_devices()`: provider, vendor."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """A provider's short name, resolved to a runtime."""

    name: str
    """As asked for: `openvino`, `cpu@ort-1.31`."""
    provider: Provider
    runtime: Runtime


class Library(NamedTuple):
    """A library of custom operators."""

    version: str
    """Of its package; empty for a file."""
    file: Path


class Runtimes:
    """All runtimes of a project, asked for their facts at most once each."""

    def __init__(
        self, settings: ProjectSettings, root: Path, folder: Path, launcher: Launcher
    ) -> None:
        self._settings = settings
        self._launcher = launcher
        self._runtimes = {runtime.name: runtime for runtime in _find(settings, root, folder)}
        self._facts: dict[str, RuntimeFacts | HarnessError] = {}
        self._libraries: dict[tuple[str, tuple[str, ...]], tuple[Library, ...]] = {}
        self.providers = known_providers(settings)

    def all(self) -> tuple[Runtime, ...]:
        """Return all runtimes, the harness's own interpreter first."""
        return tuple(self._runtimes.values())

    def facts(self, runtime: Runtime) -> RuntimeFacts:
        """Return what the runtime has.

        Raises:
            HarnessError: If its interpreter or ONNX Runtime is broken; the same each time.
        """
        if runtime.name not in self._facts:
            try:
                self._facts[runtime.name] = ask(self._launcher, runtime)
            except HarnessError as error:
                self._facts[runtime.name] = error
        known = self._facts[runtime.name]
        if isinstance(known, HarnessError):
            raise known
        return known

    def libraries(self, runtime: Runtime, custom_ops: tuple[str, ...]) -> tuple[Library, ...]:
        """Return libraries of custom operators, as the runtime finds them.

        Args:
            runtime: Whose packages are meant.
            custom_ops: Paths of files, and names of packages.

        Raises:
            HarnessError: If the runtime is broken, or has no such library.
        """
        key = (runtime.name, custom_ops)
        if key not in self._libraries:
            self._libraries[key] = _found_libraries(self._launcher, runtime, custom_ops)
        return self._libraries[key]

    def check_name(self, name: str, *, where: str = "--provider") -> None:
        """Raise UsageProblem if a provider is an unknown name, or the runtime it is to run in.

        Args:
            name: Short name, maybe with a runtime after `@`.
            where: The option that it was given to.
        """
        provider = find(name, self.providers, where=where)
        if runtime := name.partition("@")[2] or self._preferred(provider):
            self._named(runtime, where)

    def resolve(self, name: str) -> Resolved:
        """Return the runtime that serves a provider.

        A runtime named after `@` or in the settings is taken as it is; else the first one whose
        ONNX Runtime was built with the provider.

        Raises:
            UsageProblem: If provider or runtime are unknown names.
            EnvironmentProblem: If no runtime has the provider; code `provider.unavailable`.
        """
        provider = find(name, self.providers)
        wanted = name.partition("@")[2] or self._preferred(provider)
        if wanted:
            return Resolved(name=name, provider=provider, runtime=self._named(wanted, "--provider"))
        seen = []
        for runtime in self.all():
            try:
                facts = self.facts(runtime)
            except HarnessError as error:
                seen.append(f"{runtime.name} ({runtime.python}): {error.what}")
                continue
            if provider.ep in facts.available:
                return Resolved(name=name, provider=provider, runtime=runtime)
            seen.append(f"{runtime.name} (onnxruntime {facts.version}): {list(facts.available)}")
        raise _unavailable(name, provider, seen)

    def _preferred(self, provider: Provider) -> str:
        own = self._settings.providers.get(provider.name)
        if own is not None and own.runtime is not None:
            return own.runtime
        return OWN_RUNTIME if provider.plugin else ""

    def _named(self, name: str, where: str) -> Runtime:
        if name in self._runtimes:
            return self._runtimes[name]
        declared = name in self._settings.runtimes
        msg = f"Runtime '{name}' {'is declared but not made yet' if declared else 'is unknown'}"
        advice = f"onnx-harness runtime add {name}"
        raise UsageProblem(
            msg,
            where=where,
            expected=f"one of {', '.join(self._runtimes) or 'none'}",
            next_step=advice if declared else did_you_mean(name, self._runtimes, advice),
        )


def ask(launcher: Launcher, runtime: Runtime) -> RuntimeFacts:
    """Return what a worker in the runtime says of its ONNX Runtime.

    Raises:
        HarnessError: If its interpreter or ONNX Runtime is broken.
    """
    worker = launcher.launch(runtime.python, INFERENCE, fork=True)
    try:
        reply, _ = worker.request("facts", {}, [], limit_s=FACTS_S, doing="asking for facts")
    finally:
        worker.close()
    return RuntimeFacts(
        version=reply["version"],
        available=tuple(reply["available"]),
        devices=tuple((name, vendor) for name, vendor in reply["devices"]),
    )


def _found_libraries(
    launcher: Launcher, runtime: Runtime, custom_ops: tuple[str, ...]
) -> tuple[Library, ...]:
    if not custom_ops:
        return ()
    worker = launcher.launch(runtime.python, INFERENCE, fork=True)
    try:
        reply, _ = worker.request(
            "libraries",
            {"custom_ops": list(custom_ops)},
            [],
            limit_s=FACTS_S,
            doing="looking for libraries of custom operators",
        )
    finally:
        worker.close()
    return tuple(Library(version, Path(file)) for version, file in reply["libraries"])


def _find(settings: ProjectSettings, root: Path, folder: Path) -> Iterator[Runtime]:
    """Yield the harness's own interpreter, those of the settings, and those that were added."""
    if importlib.util.find_spec("onnxruntime") is not None:
        yield Runtime(name=OWN_RUNTIME, python=sys.executable, source="own")
    for name, declared in settings.runtimes.items():
        if declared.python is not None:
            python = str(root / Path(declared.python).expanduser())
            yield Runtime(name=name, python=python, source="settings")
    yield from added_runtimes(folder)


def added_runtimes(folder: Path) -> Iterator[Runtime]:
    """Yield the runtimes that `onnx-harness runtime add` made."""
    for mark in sorted(folder.glob(f"*/{MARK}")):
        try:
            facts = json.loads(mark.read_text(encoding="utf-8"))
            python, requirements = str(facts["python"]), tuple(map(str, facts["requirements"]))
        except (ValueError, KeyError, TypeError) as error:
            msg = f"Runtime '{mark.parent.name}' has a broken mark: {error}"
            raise EnvironmentProblem(
                msg,
                code="runtime.broken",
                where=str(mark),
                next_step=f"onnx-harness runtime remove {mark.parent.name}",
            ) from None
        yield Runtime(
            name=mark.parent.name, python=python, source="added", requirements=requirements
        )


def known_providers(settings: ProjectSettings) -> Mapping[str, Provider]:
    """Return all providers by short name: the built-in ones, and those of the settings."""
    return {**BUILTIN, **dict(_configured(settings.providers))}


def _configured(settings: Mapping[str, ProviderSettings]) -> Iterator[tuple[str, Provider]]:
    for name, own in settings.items():
        known = BUILTIN.get(name)
        if own.ep is not None and own.library is not None:
            plugin = Plugin(provider=own.ep, library=own.library)
            yield name, Provider(name=name, ep=own.ep, options=own.options, plugin=plugin)
        elif known is not None:
            yield name, replace(known, options={**known.options, **own.options})
        else:
            raise _unknown(name)


def _unknown(name: str) -> SpecError:
    msg = f"Settings describe a provider '{name}' that ONNX Runtime does not have"
    return SpecError(
        msg,
        code="spec.invalid",
        where=f"settings, providers.{name}",
        expected="a built-in provider, or 'ep' and 'library' of a plugin",
        next_step=did_you_mean(name, BUILTIN),
    )


def _unavailable(name: str, provider: Provider, seen: list[str]) -> EnvironmentProblem:
    msg = f"Provider '{name}' is not available: no runtime has {provider.ep}"
    return EnvironmentProblem(
        msg,
        code="provider.unavailable",
        where=f"--provider {name}",
        expected=f"a runtime whose ONNX Runtime was built with {provider.ep}",
        got="\n".join(seen) or "no runtime at all: onnxruntime is not installed",
        next_step=provider.hint or "see docs/providers.md",
    )
