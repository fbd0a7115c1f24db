"""Project settings: `[tool.onnx-harness]` of pyproject.toml, or onnx-harness.toml."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from harness.domain.spec import STRICT


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeSettings:
    """One runtime: an environment to be made, or an interpreter that exists."""

    __pydantic_config__: ClassVar = STRICT

    requirements: tuple[str, ...] = ()
    """What `onnx-harness runtime add` installs, as pip takes it."""
    python: str | None = None
    """Path of an existing interpreter, relative to the project."""

    def __post_init__(self) -> None:
        """Check that one of the two is given."""
        if bool(self.requirements) == (self.python is not None):
            msg = "needs either 'requirements' or 'python'"
            raise ValueError(msg)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderSettings:
    """What this project says about one provider."""

    __pydantic_config__: ClassVar = STRICT

    runtime: str | None = None
    """Runtime to use; by default the first that has the provider."""
    options: dict[str, str] = field(default_factory=dict)
    """Provider options for every model."""
    ep: str | None = None
    """For a plugin provider: the name under which its devices appear."""
    library: str | None = None
    """For a plugin provider: its library, or the Python package that tells its path."""

    def __post_init__(self) -> None:
        """Check that a plugin is described completely."""
        if (self.ep is None) != (self.library is None):
            msg = "a plugin provider needs both 'ep' and 'library'"
            raise ValueError(msg)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectSettings:
    """All settings of a project."""

    __pydantic_config__: ClassVar = STRICT

    models: str = "models"
    """Folder of the models, relative to the project."""
    baselines: str = "baselines"
    """Folder of the baselines, relative to the project."""
    artefacts: str | None = None
    """Folder of the controls' model files, relative to the project, or any fsspec URL; by default
    `artefacts` inside the folder of baselines."""
    largest_artefact_mb: float | None = None
    """Size beyond which a control's file is not kept, MB; without it every one is."""
    runtimes: dict[str, RuntimeSettings] = field(default_factory=dict)
    """Runtimes by name."""
    providers: dict[str, ProviderSettings] = field(default_factory=dict)
    """Providers by short name."""
