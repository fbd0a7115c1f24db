"""Failing examples on disk: a recipe that draws one again, and its inputs as a case's file.

They lie in the cache, one folder for each model, variant and provider, one recipe for each law.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from harness.domain.cells import Cell
from harness.domain.examples import Example
from harness.domain.spec import STRICT, ModelSpec
from harness.domain.values import Array
from harness.files.cache import write_atomically


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A failing example, as it is kept."""

    __pydantic_config__: ClassVar = STRICT

    schema_version: Literal[1] = 1
    """Version of this format."""
    cell: str
    """Model, variant and provider that failed."""
    code: str
    """Finding code of the broken law."""
    example: Example
    """What to draw again."""


def failure_folder(cache: Path, cell: Cell) -> Path:
    """Return where what failed in a cell is kept."""
    return cache / "failures" / str(cell).replace("/", "__")


def keep(folder: Path, recipe: Recipe, arrays: Mapping[str, Array]) -> tuple[Path, Path]:
    """Write a recipe and its inputs; return both files."""
    text = json.dumps(asdict(recipe), indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    inputs = write_arrays(folder / f"{recipe.code}.npz", arrays)
    file = folder / f"{recipe.code}.json"
    write_atomically(file, lambda target: target.write_text(text, encoding="utf-8"))
    return file, inputs


def kept(folder: Path, spec: ModelSpec) -> tuple[list[Recipe], list[Path]]:
    """Return the recipes of a folder, and the files that hold none for this spec any more."""
    from pydantic import TypeAdapter, ValidationError  # noqa: PLC0415 - few runs have failures

    recipes: list[Recipe] = []
    useless: list[Path] = []
    for file in sorted(folder.glob("*.json")):
        try:
            recipe = TypeAdapter(Recipe).validate_json(file.read_bytes(), strict=True)
        except (OSError, ValidationError):
            useless.append(file)
            continue
        if fits(recipe.example, spec):
            recipes.append(recipe)
        else:
            useless.append(file)
    return recipes, useless


def fits(example: Example, spec: ModelSpec) -> bool:
    """Return whether an example is a point of the input space that a spec declares now."""
    left_out = spec.properties.leave_out
    states = set(spec.state.feedback.values() if spec.state else ())
    cases = {case.name for case in spec.case if case.inputs}
    return (
        set(example.dims) == set(spec.dims)
        and all(spec.dims[name].min <= size <= spec.dims[name].max
                for name, size in example.dims.items())
        and set(example.inputs) <= set(spec.inputs)
        and (bool(example.real) or set(example.inputs) >= set(spec.inputs) - states)
        and not any(left_out and filling.kind in left_out.kinds
                    for filling in example.inputs.values())
        and (not example.real or example.real in cases)
        and 1 <= example.steps <= (spec.state.steps if spec.state else 1)
    )  # fmt: skip


def forget(folder: Path, code: str) -> None:
    """Remove a recipe whose example fails no more."""
    for suffix in (".json", ".npz"):
        (folder / f"{code}{suffix}").unlink(missing_ok=True)


def write_arrays(path: Path, arrays: Mapping[str, Array]) -> Path:
    """Write arrays as `.npz`, texts without pickle."""

    def write(target: Path) -> None:
        with zipfile.ZipFile(target, "w") as archive:  # np.savez takes no input named 'file'
            for name, array in arrays.items():
                plain = array.astype(str) if array.dtype == object else array
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, plain, allow_pickle=False)

    return write_atomically(path, write)
