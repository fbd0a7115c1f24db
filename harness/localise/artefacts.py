"""The saved block: a model of one node with its inputs and what is expected of it.

`node.onnx`, `inputs.npz`, `expected.npz` and `report.json` lie in one folder. Element types that
`.npz` files lack are stored as their bits, with the type's name in `report.json`.
"""

from __future__ import annotations

import json
import math
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np

from harness.domain import dtypes
from harness.domain.dtypes import DType
from harness.domain.session import SessionConfig, check_config_keys
from harness.domain.spec import STRICT, Level, SessionSettings
from harness.domain.values import Array, Values
from harness.errors import SpecError, UsageProblem
from harness.files import toml
from harness.files.cache import write_atomically
from harness.localise.workbench import Setup

MODEL, INPUTS, EXPECTED, REPORT = "node.onnx", "inputs.npz", "expected.npz", "report.json"
T = TypeVar("T")
#: What reading a damaged file raises: no JSON, no archive, members cut short or packed otherwise,
#: a size that no memory holds.
DAMAGE = (
    OSError,
    ValueError,
    TypeError,
    RuntimeError,
    EOFError,
    MemoryError,
    zipfile.BadZipFile,
    zlib.error,
)
_BITS = {1: np.uint8, 2: np.uint16}


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedOrigin:
    """What is read of the report's origin; the report says more."""

    node: str
    operator: str
    introduced: float | None
    """What it introduced when it was saved; None for values that are not finite."""

    def __post_init__(self) -> None:
        """Check that the share is one: JSON as Python reads it may hold NaN."""
        if self.introduced is not None and not 0 <= self.introduced < math.inf:
            msg = f"'introduced' must be a finite share or null, got {self.introduced}"
            raise ValueError(msg)


@dataclass(frozen=True, slots=True, kw_only=True)
class ElementTypes:
    """The names that the two files of arrays hold, with their element types."""

    __pydantic_config__: ClassVar = STRICT

    inputs: dict[str, DType]
    expected: dict[str, DType]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayWith(SessionSettings):
    """The session that the block was saved with, and what it is fed with."""

    __pydantic_config__: ClassVar = STRICT

    threads: int  # again, because here nothing has a default
    optimization: Level
    custom_ops: tuple[str, ...]
    config: dict[str, str]
    provider: str
    """As asked for on the command line."""
    options: dict[str, str]
    """Of the provider."""
    dtypes: ElementTypes


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What is read of `report.json`; the rest of it is for people."""

    origin: SavedOrigin
    replay_with: ReplayWith


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """A block as it was saved."""

    folder: Path
    inputs: Values
    expected: Values
    settings: ReplayWith
    introduced: float | None
    """What it introduced when it was saved; None for values that are not finite."""
    node: str

    @property
    def model(self) -> Path:
        """Return the file of the block."""
        return self.folder / MODEL


def folder_of(cache: Path, cell: str) -> Path:
    """Return where a cell's block lies, beside the inputs of the whole cell."""
    return cache / "failures" / cell.replace("/", "__") / "node"


def save(
    folder: Path, *, inputs: Values, expected: Values, setup: Setup, report: Mapping[str, Any]
) -> None:
    """Write everything but the model, which is there."""
    arrays = {"inputs": _arrays(inputs), "expected": _arrays(expected)}
    write_arrays(folder / INPUTS, arrays["inputs"])
    write_arrays(folder / EXPECTED, arrays["expected"])
    config = setup.config
    replay = {
        "provider": setup.resolved.name,
        "threads": config.threads,
        "optimization": config.optimization,
        "options": config.options,
        "config": config.config,
        "custom_ops": list(config.custom_ops),
        "dtypes": {
            side: {name: str(dtypes.of_array(array)) for name, array in found.items()}
            for side, found in arrays.items()
        },
    }
    text = json.dumps({**report, "replay_with": replay}, indent=1, sort_keys=True) + "\n"
    write_atomically(folder / REPORT, lambda target: target.write_text(text, encoding="utf-8"))


def load(folder: Path) -> Saved:
    """Return a saved block; everything that replaying reads is checked.

    Raises:
        UsageProblem: If the folder does not hold one.
    """
    told = _read(folder, REPORT, _told)
    replay, origin = told.replay_with, told.origin
    if not replay.dtypes.expected:
        got = "'replay_with.dtypes.expected' is empty: the node would be held against nothing"
        raise no_block(folder, REPORT, got)
    saved = Saved(
        folder=folder,
        inputs=_read(folder, INPUTS, lambda path: read_arrays(path, replay.dtypes.inputs)),
        expected=_read(folder, EXPECTED, lambda path: read_arrays(path, replay.dtypes.expected)),
        settings=replay,
        introduced=origin.introduced,
        node=f"{origin.node} ({origin.operator})",
    )
    if not saved.model.is_file():
        raise no_block(folder, MODEL, f"no file '{MODEL}'")
    return saved


def _told(path: Path) -> Told:
    """Return what the report says.

    Raises:
        ValueError: If it is no JSON.
        SpecError: If it says something else than a report.
    """
    tables = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(tables, dict):
        msg = f"no report but {type(tables).__name__}"
        raise TypeError(msg)
    told = toml.validate(Told, tables, path=path, title="Report")
    check_config_keys(told.replay_with.config, where=f"{path}, replay_with.config")
    return told


def _read(folder: Path, file: str, reader: Callable[[Path], T]) -> T:
    """Return what a reader makes of a file of the folder; damage of any kind is told alike."""
    try:
        return reader(folder / file)
    except SpecError as error:
        raise no_block(folder, file, error.got or error.what) from None
    except DAMAGE as error:
        raise no_block(folder, file, f"{type(error).__name__}: {error}") from None


def config_of(saved: Saved, base: SessionConfig) -> SessionConfig:
    """Return the session that the block was saved with, on the provider of `base`.

    Raises:
        UsageProblem: If a library of custom operators is no longer there.
    """
    settings = saved.settings
    for library in settings.custom_ops:
        if Path(library).is_absolute() and not Path(library).is_file():
            got = f"'replay_with.custom_ops' names '{library}', which does not exist"
            raise no_block(saved.folder, REPORT, got)
    return replace(
        base,
        options=settings.options,
        threads=settings.threads,
        optimization=settings.optimization,
        config=settings.config,
        custom_ops=settings.custom_ops,
    )


def no_block(folder: Path, file: str, got: str) -> UsageProblem:
    """Return the error of a folder that cannot be replayed, because of one of its files."""
    msg = "Folder holds no saved node"
    return UsageProblem(
        msg,
        where=str(folder / file),
        expected=f"{MODEL}, {INPUTS}, {EXPECTED} and {REPORT}, as they were saved",
        got=got,
        next_step="name the folder that the report of `onnx-harness localise` shows",
    )


def _arrays(values: Values) -> dict[str, Array]:
    return {name: value for name, value in values.items() if isinstance(value, np.ndarray)}


def write_arrays(path: Path, arrays: Mapping[str, Array]) -> None:
    """Write arrays under any names; a number keeps names apart that files could not."""

    def write(target: Path) -> None:
        with zipfile.ZipFile(target, "w") as archive:
            for index, (name, array) in enumerate(arrays.items()):
                with archive.open(f"{index}:{name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, _as_bits(array), allow_pickle=False)

    write_atomically(path, write)


def read_arrays(path: Path, kinds: Mapping[str, str]) -> dict[str, Array]:
    """Return what `write_arrays` wrote; `kinds` are the element types by name.

    Raises:
        ValueError: If the file holds other names than `kinds`, or other element types.
    """
    found = {}
    with zipfile.ZipFile(path) as archive:
        for member in archive.namelist():
            name = member.partition(":")[2].removesuffix(".npy")
            if name not in kinds or name in found:
                fault = "a second time" if name in found else f"which {REPORT} does not name"
                msg = f"it holds '{name}', {fault}"
                raise ValueError(msg)
            with archive.open(member) as file:
                array = np.lib.format.read_array(file, allow_pickle=False)
            found[name] = _of_bits(array, DType(kinds[name]).numpy, name)
    if lost := sorted(set(kinds) - set(found)):
        msg = f"it lacks {', '.join(map(repr, lost))}, which {REPORT} names"
        raise ValueError(msg)
    return found


def _of_bits(array: Array, wanted: np.dtype[np.generic], name: str) -> Array:
    """Return an array in the element type that the report tells."""
    if array.dtype == wanted:
        return array
    if array.dtype == _BITS.get(wanted.itemsize) and wanted.kind not in "biufc":
        return array.view(wanted)
    msg = f"'{name}' has the element type {array.dtype} instead of {wanted}"
    raise ValueError(msg)


def _as_bits(array: Array) -> Array:
    """Return types of ml_dtypes as whole numbers: `.npz` files would lose them."""
    if array.dtype.kind in "biufc" and not dtypes.of_array(array).value.startswith("bfloat"):
        return array
    return array.view(_BITS[array.dtype.itemsize])
