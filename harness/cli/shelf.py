"""All models of a project beside all of its baselines, for commands that measure nothing."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.cli.project import open_project
from harness.errors import UsageProblem
from harness.files import places
from harness.files.artefacts import Artefacts
from harness.files.baselines import Baselines
from harness.files.models import BrokenModel, Model, load_models, with_known_providers
from harness.files.project import artefacts_place
from harness.runtimes.registry import known_providers


@dataclass(frozen=True, slots=True, kw_only=True)
class Shelf:
    """All models of a project with its baselines and controls."""

    models: Mapping[str, Model | BrokenModel]
    providers: Collection[str]
    """All that are known here, by short name."""
    baselines: Baselines
    artefacts: Artefacts


def open_shelf(models: Path | None, baselines: Path | None) -> Shelf:
    """Return what lies in a project; broken specs are part of it.

    Raises:
        UsageProblem: If there is no model, or models are named without their baselines.
    """
    _refuse_strangers(models, baselines)
    project = open_project()
    loaded = load_models(project.models_folder(models))
    folder = baselines_folder(baselines)
    providers = known_providers(project.settings)
    return Shelf(
        models=with_known_providers(loaded, providers),
        providers=providers,
        baselines=Baselines(folder),
        artefacts=open_artefacts(folder),
    )


def baselines_folder(given: Path | None) -> Path:
    """Return the folder of baselines: the one given, else that of the settings."""
    project = open_project()
    return project.root / project.settings.baselines if given is None else given


def open_artefacts(folder: Path) -> Artefacts:
    """Return the store of the controls of a folder of baselines."""
    project = open_project()
    place = artefacts_place(project.settings, project.root, folder)
    return Artefacts(place, places.writable(places.cache_folder(), "ONNX_HARNESS_CACHE"))


def _refuse_strangers(models: Path | None, baselines: Path | None) -> None:
    """Refuse --models alone: the project's baselines would all be without a cell."""
    if models is not None and baselines is None:
        msg = "--models without --baselines: the project's baselines are those of its own models"
        raise UsageProblem(
            msg, where="--models", next_step="add --baselines DIR, or leave --models out"
        )
