"""The project that a command works on: its folder, its settings, its models."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from harness.domain.project import ProjectSettings
    from harness.runtimes.launchers import Launcher
    from harness.runtimes.registry import Runtimes

ModelsFolder = Annotated[
    Path | None,
    typer.Option(
        "--models",
        metavar="DIR",
        help="Folder of the models. Default: `models` of the settings, else ./models.",
    ),
]
BaselinesFolder = Annotated[
    Path | None,
    typer.Option(
        "--baselines",
        metavar="DIR",
        help="Folder of the baselines. Default: `baselines` of the settings, else ./baselines.",
    ),
]


class Project:
    """A folder with settings, or the current folder with none."""

    def __init__(self, root: Path, settings: ProjectSettings) -> None:
        self.root = root
        self.settings = settings

    def models_folder(self, given: Path | None) -> Path:
        """Return the folder of models: the one given, else that of the settings."""
        return self.root / self.settings.models if given is None else given

    def runtimes(self, launcher: Launcher) -> Runtimes:
        """Return all runtimes of this project and machine."""
        from harness.files.places import runtimes_folder
        from harness.runtimes.registry import Runtimes

        return Runtimes(self.settings, self.root, runtimes_folder(), launcher)


def open_project() -> Project:
    """Return the project around the current folder: the nearest folder upwards with settings.

    Raises:
        SpecError: If its settings are wrong.
    """
    from harness.files.project import find_root, load_settings

    root = find_root(Path.cwd())
    return Project(root, load_settings(root))
