"""A model with external data as one file: an uncompressed zip whose first entry is the model.

The same files always give the same bytes, whatever the model was called, when it was written and
by whom. Unpacking trusts nothing: an archive may come from a store that others write to.
"""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

MODEL = "model.onnx"
#: What every zip begins with; no ONNX model can: it would hold a field of the number 0.
MAGIC = b"PK\x03\x04"
#: The oldest date that a zip can tell, for every entry.
_DATE = (1980, 1, 1, 0, 0, 0)
_MODE = 0o644 << 16
_UNIX = 3
_CHUNK = 1 << 20
_FLAG_ENCRYPTED = 0x1


class BadArchive(Exception):
    """The archive is broken, or holds what none of ours does."""


def is_archive(path: Path) -> bool:
    """Return whether a stored file is an archive and not a model."""
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def pack(model_file: Path, locations: Sequence[str], target: Path) -> None:
    """Write a model and the data files at `locations`, relative to its folder, as one archive."""
    normal = {str(PurePosixPath(location)) for location in locations}
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        _add(archive, _free_name(normal), model_file)
        for location in sorted(normal):
            _add(archive, location, model_file.parent / location)


def _free_name(taken: set[str]) -> str:
    """Return `model.onnx`, or the next name that no data file has."""
    name, number = MODEL, 1
    while name in taken:
        name, number = f"model-{number}.onnx", number + 1
    return name


def _add(archive: zipfile.ZipFile, name: str, source: Path) -> None:
    entry = zipfile.ZipInfo(name, _DATE)
    entry.create_system, entry.external_attr = _UNIX, _MODE
    entry.file_size = source.stat().st_size  # above 2 GiB the header must have room for it
    with source.open("rb") as data, archive.open(entry, "w") as inside:
        shutil.copyfileobj(data, inside, _CHUNK)


def unpack(path: Path, folder: Path) -> list[str]:
    """Write the entries of an archive below `folder` and return their names, the model first.

    Raises:
        BadArchive: If it is broken or an entry would land elsewhere; then nothing was written
            outside of `folder`.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            _check(entries, path.stat().st_size)
            for entry in entries:
                target = folder / entry.filename
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(entry) as inside, target.open("xb") as file:
                    shutil.copyfileobj(inside, file, _CHUNK)
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise BadArchive(str(error)) from None
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        msg = f"an entry is in the way of another: {Path(str(error.filename)).name}"
        raise BadArchive(msg) from None
    return [entry.filename for entry in entries]


def _check(entries: list[zipfile.ZipInfo], size: int) -> None:
    """Refuse what `pack` never writes, before anything is unpacked."""
    for entry in entries:
        if _leaves(entry.filename):
            msg = f"the entry '{entry.filename}' points outside the archive"
            raise BadArchive(msg)
        if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & _FLAG_ENCRYPTED:
            msg = f"the entry '{entry.filename}' is compressed or encrypted"
            raise BadArchive(msg)
    if not entries or sum(entry.file_size for entry in entries) > size:
        msg = "its entries do not add up to its size"
        raise BadArchive(msg)


def _leaves(name: str) -> bool:
    path = PurePosixPath(name)
    is_plain = name == str(path) and bool(path.parts) and "\\" not in name
    return not is_plain or path.is_absolute() or ".." in path.parts
