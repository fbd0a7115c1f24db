"""Project settings on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.domain.project import ProjectSettings
from harness.errors import SpecError
from harness.files import toml

OWN_FILE = "onnx-harness.toml"
PYPROJECT = "pyproject.toml"
TABLE = "onnx-harness"


def find_root(start: Path) -> Path:
    """Return the project around `start`: the nearest folder upwards with settings, else `start`.

    pytest's rootdir will not do: pytest takes the values of options for paths when they exist,
    and `--harness-json ../run.json` would move the project to the folder above.
    """
    return next((folder for folder in (start, *start.parents) if _has_settings(folder)), start)


def _has_settings(folder: Path) -> bool:
    return (folder / OWN_FILE).is_file() or _table(folder / PYPROJECT) is not None


def load_settings(root: Path) -> ProjectSettings:
    """Return the settings of the project at `root`; defaults if it has none.

    Raises:
        SpecError: If the file is wrong, or both files hold settings.
    """
    own, shared = root / OWN_FILE, _table(root / PYPROJECT)
    if own.exists() and shared is not None:
        msg = f"Both '{OWN_FILE}' and '{PYPROJECT}' hold settings"
        raise SpecError(
            msg,
            code="spec.invalid",
            where=str(root),
            expected=f"either {OWN_FILE} or [tool.{TABLE}]",
            next_step="move all settings into one of them",
        )
    if own.exists():
        return _validated(toml.read(own), own)
    return _validated(shared or {}, root / PYPROJECT)


def artefacts_place(settings: ProjectSettings, root: Path, baselines: Path) -> str | Path:
    """Return where controls are kept: beside the baselines, unless the settings name a place."""
    place = settings.artefacts
    if place is None:
        return baselines / "artefacts"
    return place if "://" in place else root / place


def _validated(tables: dict[str, Any], path: Path) -> ProjectSettings:
    title = f"Settings file '{path.name}'"
    help_at = "docs/providers.md has all settings"
    return toml.validate(ProjectSettings, tables, path=path, title=title, help_at=help_at)


def _table(path: Path) -> dict[str, Any] | None:
    """Return the table of pyproject.toml, None if there is none."""
    if not path.exists():
        return None
    tool = toml.read(path).get("tool")
    table = tool.get(TABLE) if isinstance(tool, dict) else None
    if table is None or isinstance(table, dict):
        return table
    msg = f"'tool.{TABLE}' is no table"
    raise SpecError(
        msg, code="spec.invalid", where=str(path), expected=f"[tool.{TABLE}]", got=repr(table)
    )
