"""The saved block: a model of one node with its inputs and what is expected of it.

`node.onnx`, `inputs.npz`, `expected.npz` and `report.json` lie in one folder. Element types that
`.npz` files lack are stored as their bits, with the type's name in `report.json`.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harness.domain import dtypes
from harness.domain.dtypes import DType
from harness.domain.session import SessionConfig
from harness.domain.values import Array, Values
from harness.errors import UsageProblem
from harness.files.cache import write_atomically
from harness.localise.workbench import Setup

MODEL, INPUTS, EXPECTED, REPORT = "node.onnx", "inputs.npz", "expected.npz", "report.json"
_BITS = {1: np.uint8, 2: np.uint16}


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """A block as it was saved."""

    model: Path
    inputs: Values
    expected: Values
    provider: str
    """As asked for on the command line."""
    config: dict[str, Any]
    """Threads, level, options, entries and custom operators of the session."""
    introduced: float | None
    """What it introduced when it was saved; None for values that are not finite."""
    node: str


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
    """Return a saved block.

    Raises:
        UsageProblem: If the folder does not hold one.
    """
    try:
        told = json.loads((folder / REPORT).read_text(encoding="utf-8"))
        replay, origin = told["replay_with"], told["origin"]
        values = {
            side: read_arrays(folder / file, replay["dtypes"][side])
            for side, file in (("inputs", INPUTS), ("expected", EXPECTED))
        }
        keys = ("threads", "optimization", "options", "config", "custom_ops")
        saved = Saved(
            model=folder / MODEL,
            inputs=values["inputs"],
            expected=values["expected"],
            provider=str(replay["provider"]),
            config={key: replay[key] for key in keys},
            introduced=origin["introduced"],
            node=f"{origin['node']} ({origin['operator']})",
        )
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise _no_block(folder, error) from None
    if not saved.model.is_file():
        raise _no_block(folder, FileNotFoundError(f"no file '{MODEL}'"))
    return saved


def config_of(saved: Saved, base: SessionConfig) -> SessionConfig:
    """Return the session that the block was saved with, on the provider of `base`."""
    return SessionConfig(
        provider=base.provider,
        plugin=base.plugin,
        preload=base.preload,
        options=dict(saved.config["options"]),
        threads=int(saved.config["threads"]),
        optimization=str(saved.config["optimization"]),
        config=dict(saved.config["config"]),
        custom_ops=tuple(saved.config["custom_ops"]),
    )


def _no_block(folder: Path, error: Exception) -> UsageProblem:
    msg = "Folder holds no saved node"
    return UsageProblem(
        msg,
        where=str(folder),
        expected=f"{MODEL}, {INPUTS}, {EXPECTED} and {REPORT}",
        got=f"{type(error).__name__}: {error}",
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
    """Return what `write_arrays` wrote; `kinds` are the element types by name."""
    with zipfile.ZipFile(path) as archive:
        found = {}
        for member in archive.namelist():
            name = member.partition(":")[2].removesuffix(".npy")
            with archive.open(member) as file:
                array = np.lib.format.read_array(file, allow_pickle=False)
            wanted = DType(kinds[name]).numpy
            found[name] = array if array.dtype == wanted else array.view(wanted)
        return found


def _as_bits(array: Array) -> Array:
    """Return types of ml_dtypes as whole numbers: `.npz` files would lose them."""
    if array.dtype.kind in "biufc" and not dtypes.of_array(array).value.startswith("bfloat"):
        return array
    return array.view(_BITS[array.dtype.itemsize])
