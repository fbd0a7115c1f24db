"""Noise on disk: one file beside the baselines of an environment.

Its name begins with `_`, which no model's does, so it is never taken for the figures of a model.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import NoReturn

from pydantic import ValidationError

from harness.domain.cells import Cell
from harness.domain.environment import Environment
from harness.domain.noise import SCHEMA_VERSION, LocalNoise, Noise
from harness.errors import EnvironmentProblem, SpecError
from harness.files import toml
from harness.files.cache import key_of, locked, write_atomically
from harness.files.places import cache_folder

FILE = "_noise.json"
#: As many as a scatter of some dozens of pairs is good for.
DIGITS = 3


class NoiseBook:
    """What the folder of baselines knows about noise; each environment is read once.

    Args:
        folder: Of the baselines; it may be missing.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read: dict[str, LocalNoise | None] = {}

    def path(self, environment_id: str) -> Path:
        """Return where the noise of an environment stands."""
        return self._folder / environment_id / FILE

    def scatter(self, environment_id: str, cell: Cell) -> float | None:
        """Return what single pairs of a cell scatter by there; None if nobody calibrated it.

        Raises:
            SpecError: If the file cannot be read or believed; code `baseline.unreadable`.
        """
        if environment_id not in self._read:
            self._read[environment_id] = _read(self.path(environment_id), environment_id)
        known = self._read[environment_id]
        noise = known.cells.get(str(cell)) if known else None
        return noise.scatter if noise else None

    def write(self, environment: Environment, cells: Mapping[Cell, Noise]) -> Path:
        """Add calibrated cells to an environment's file, whole or not at all; return its path.

        Raises:
            SpecError: If the file that is there cannot be read or believed.
            EnvironmentProblem: If it cannot be written; code `baseline.unwritable`.
        """
        path = self.path(environment.id)
        with locked(cache_folder() / "locks" / f"noise-{key_of(str(path.resolve()))}"):
            before = _read(path, environment.id) or LocalNoise(environment=environment)
            new = {str(cell): _rounded(noise) for cell, noise in cells.items()}
            _write(path, replace(before, cells={**before.cells, **new}))
        self._read.pop(environment.id, None)
        return path


def _rounded(noise: Noise) -> Noise:
    scatter, p50_ms = (float(f"{each:.{DIGITS}g}") for each in (noise.scatter, noise.p50_ms))
    return replace(noise, scatter=scatter, p50_ms=p50_ms)


def _read(path: Path, environment_id: str) -> LocalNoise | None:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        _refuse(path, f"cannot be read: {getattr(error, 'strerror', None) or error}")
    try:
        found = toml.adapter(LocalNoise).validate_json(text, strict=True)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        place = ".".join(map(str, fault["loc"]))
        _refuse(path, f"is not to be believed: {fault['msg']}", place=place)
    if found.environment.id != environment_id:
        what = f"is of another environment than its folder: '{found.environment.id}'"
        _refuse(path, what, place="environment")
    return found


def _refuse(path: Path, what: str, *, place: str = "") -> NoReturn:
    msg = f"Noise of this machine {what}"
    raise SpecError(
        msg,
        code="baseline.unreadable",
        where=f"{path}, {place}" if place else str(path),
        expected=f"a file of schema version {SCHEMA_VERSION}, as a calibration writes it",
        next_step=f"git checkout -- {path}\nor: delete it, then `onnx-harness baseline calibrate`",
    )


def _write(path: Path, noise: LocalNoise) -> None:
    text = json.dumps(asdict(noise), indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    try:
        write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
    except OSError as error:
        msg = f"Noise of this machine cannot be written: {error.strerror or type(error).__name__}"
        raise EnvironmentProblem(
            msg,
            code="baseline.unwritable",
            where=str(path),
            expected="a folder that can be written, with room for the file",
            got=f"{type(error).__name__}; what was there before is as it was",
            next_step="make room or mend the rights, then repeat the command",
        ) from None
