"""Installed distributions that models need: their versions and the files they carry."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from harness.errors import EnvironmentProblem, ModelFileError


def version(distribution: str) -> str:
    """Return the installed version.

    Raises:
        EnvironmentProblem: If it is not installed; code `package.missing`.
    """
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        pass
    msg = f"Package '{distribution}' is not installed"
    raise EnvironmentProblem(
        msg,
        code="package.missing",
        expected=f"'{distribution}' beside the harness",
        next_step=f"pip install {distribution}",
    )


def versions(distributions: Iterable[str]) -> dict[str, str]:
    """Return the installed version of each; raises like `version` for the first missing one."""
    return {name: version(name) for name in distributions}


def file_of(distribution: str, path: str) -> Path:
    """Return where a distribution's file lies.

    Raises:
        EnvironmentProblem: If the distribution is not installed.
        ModelFileError: If it carries no such file.
    """
    version(distribution)
    for entry in metadata.files(distribution) or ():
        if str(entry) == path:
            return Path(str(entry.locate())).resolve()
    msg = f"Package '{distribution}' carries no file '{path}'"
    raise ModelFileError(
        msg,
        code="model.missing",
        where=f"package '{distribution}' {metadata.version(distribution)}",
        next_step="check the package's version and its list of files",
    )
