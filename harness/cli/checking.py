"""What `onnx-harness model check` finds beyond the spec's own rules: files, providers, cases."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from harness.domain.cells import short_name
from harness.domain.known_failures import EXPIRED_ADVICE
from harness.domain.project import ProjectSettings
from harness.domain.providers import Provider, find
from harness.domain.session import check_config_keys
from harness.domain.spec import Candidate, ModelSpec, rules_of_outputs
from harness.errors import HarnessError
from harness.files import cases
from harness.files.commits import as_of
from harness.files.models import BrokenModel, Model
from harness.runtimes.registry import known_providers

#: Model name to what is wrong with it.
Faults = dict[str, list[HarnessError]]


def check_models(
    models: Mapping[str, Model | BrokenModel], settings: ProjectSettings, root: Path
) -> Faults:
    """Return the faults of each model, those without any included."""
    known = known_providers(settings)
    return {name: list(_faults(model, known, root)) for name, model in models.items()}


def _faults(
    model: Model | BrokenModel, providers: Mapping[str, Provider], root: Path
) -> Iterator[HarnessError]:
    """Yield everything that is wrong with a model before anything is run."""
    if isinstance(model, BrokenModel):
        yield model.problem
        return
    yield from _provider_faults(model, providers)
    yield from _file_faults(model)
    yield from _session_faults(model)
    yield from _case_faults(model)
    yield from _expired_faults(model, root)


def _provider_faults(model: Model, providers: Mapping[str, Provider]) -> Iterator[HarnessError]:
    for key, name in _provider_keys(model.spec):
        try:
            find(name, providers)
        except HarnessError as error:
            yield _told(error, error.what, f"{model.spec_file}, {key}")


def _provider_keys(spec: ModelSpec) -> Iterator[tuple[str, str]]:
    """Yield each key that is a provider's name, with the name."""
    yield from ((f"providers.{name}", name) for name in spec.providers)
    yield from ((f"placement.{name}", name) for name in spec.placement)
    for key, rule in rules_of_outputs(spec):
        for name in rule.tolerance:
            if name != "default":
                yield f"{key}.tolerance.{name}", short_name(name)


def _file_faults(model: Model) -> Iterator[HarnessError]:
    for key, file in _files(model.spec):
        path = model.folder / file
        if not path.exists():
            yield _fault(
                f"'{key}' names '{file}', which does not exist",
                where=str(model.spec_file),
                expected=str(path),
            )


def _files(spec: ModelSpec) -> Iterator[tuple[str, str]]:
    yield from _candidate_file("candidate", spec.candidate)
    for name, variant in spec.variants.items():
        if not variant.build:
            yield from _candidate_file(f"variants.{name}", spec.source(name))
    reference = spec.reference
    for kind in ("torch", "torchscript", "sklearn", "onnx"):
        entry = getattr(reference, kind)
        if isinstance(entry, str):
            yield f"reference.{kind}", entry.rpartition(":")[0] or entry
    yield from (("reference.depends", file) for file in reference.depends)


def _candidate_file(key: str, source: Candidate) -> Iterator[tuple[str, str]]:
    if source.file is not None and source.package is None:
        yield f"{key}.file", source.file


def _session_faults(model: Model) -> Iterator[HarnessError]:
    where = f"{model.spec_file}, session.config"
    for key in model.spec.session.config:
        try:
            check_config_keys([key], where=where)
        except HarnessError as error:
            yield error


def _case_faults(model: Model) -> Iterator[HarnessError]:
    """Draw every declared case; recorded data sets are read when they are run."""
    for case in model.spec.case:
        if model.recorded is not None and not case.inputs:
            continue
        try:
            cases.build(model.name, model.spec, case, model.folder)
        except HarnessError as error:
            yield error


def _expired_faults(model: Model, root: Path) -> Iterator[HarnessError]:
    """Yield the known failures whose last day is over at the project's last commit."""
    if not model.spec.known_failure:
        return
    day = as_of(root, None)
    for index, entry in enumerate(model.spec.known_failure):
        if day.date > entry.expires:
            yield _fault(
                f"Known failure '{entry.code}' expired on {entry.expires}: {entry.issue}",
                where=f"{model.spec_file}, known_failure[{index}].expires",
                expected=f"a day on or after {day}",
                next_step=EXPIRED_ADVICE,
            )


def _told(error: HarnessError, what: str, where: str) -> HarnessError:
    return _fault(what, where=where, expected=error.expected, next_step=error.next_step)


def _fault(what: str, *, where: str, expected: str = "", next_step: str = "") -> HarnessError:
    return HarnessError(what, where=where, expected=expected, next_step=next_step)
