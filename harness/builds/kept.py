"""Folders that are made once, whole or not at all, and made again when damaged."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from harness.files.cache import hash_file, key_of, locked

CHECKSUM = "sha256"


def kept(home: Path, make: Callable[[Path], object]) -> Path:
    """Return the folder `home`, filled by `make` if it is not there as it was written.

    Args:
        home: Named by everything that its content depends on.
        make: Fills an empty folder, which is moved into place afterwards.
    """
    with locked(home.with_suffix(".lock")):
        if not _is_intact(home):
            shutil.rmtree(home, ignore_errors=True)
            with tempfile.TemporaryDirectory(dir=home.parent, prefix=".tmp-") as folder:
                made = Path(folder) / "made"
                made.mkdir()
                make(made)
                (made / CHECKSUM).write_text(_checksum(made), encoding="utf-8")
                made.rename(home)
    return home


def _is_intact(home: Path) -> bool:
    try:
        return (home / CHECKSUM).read_text(encoding="utf-8") == _checksum(home)
    except OSError:
        return False


def _checksum(folder: Path) -> str:
    files = sorted(path for path in folder.iterdir() if path.name != CHECKSUM)
    return key_of(*(f"{path.name}={hash_file(path)}" for path in files))
