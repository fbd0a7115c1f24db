"""Places of files that are named by their SHA-256: a local folder, or whatever fsspec reaches.

They raise what their file systems raise; `harness.files.artefacts` makes sense of it.
"""

from __future__ import annotations

import re
import secrets
import shutil
from pathlib import Path
from typing import Any

from harness.files import packages
from harness.files.cache import hash_file, write_atomically

NAME = re.compile(r"[0-9a-f]{64}")


class FolderStore:
    """A local folder; it may be missing."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def has(self, sha256: str) -> bool:
        """Return whether there is a file of this name."""
        return (self._folder / sha256).is_file()

    def put(self, source: Path, sha256: str) -> None:
        """Copy a file in, whole or not at all, unless it is there and unbroken."""
        target = self._folder / sha256
        if not (target.is_file() and hash_file(target) == sha256):
            write_atomically(target, lambda path: shutil.copyfile(source, path))

    def get(self, sha256: str, _: Path) -> Path:
        """Return the file where it is."""
        path = self._folder / sha256
        path.stat()  # FileNotFoundError
        return path

    def names(self) -> list[str]:
        """Return the hashes of all files, without what a killed writer or somebody else left."""
        if not self._folder.exists():
            return []
        return [entry.name for entry in self._folder.iterdir() if NAME.fullmatch(entry.name)]

    def remove(self, sha256: str) -> None:
        """Remove a file, if it is there."""
        (self._folder / sha256).unlink(missing_ok=True)


class RemoteStore:
    """A folder behind a URL, through fsspec."""

    def __init__(self, url: str) -> None:
        self._url = url

    def has(self, sha256: str) -> bool:
        """Return whether there is a file of this name."""
        system, folder = self._open()
        return bool(system.isfile(f"{folder}/{sha256}"))

    def put(self, source: Path, sha256: str) -> None:
        """Upload under another name, then rename: a reader must not meet half a file."""
        system, folder = self._open()
        target = f"{folder}/{sha256}"
        if system.isfile(target) and system.size(target) == source.stat().st_size:
            return
        part = f"{folder}/.tmp-{secrets.token_hex(8)}-{sha256}"
        system.makedirs(folder, exist_ok=True)
        system.put_file(str(source), part)
        system.mv(part, target)

    def get(self, sha256: str, scratch: Path) -> Path:
        """Download into the folder `scratch` and return the file."""
        system, folder = self._open()
        target = scratch / sha256
        system.get_file(f"{folder}/{sha256}", str(target))
        return target

    def _open(self) -> tuple[Any, str]:
        """Return the file system and the folder's path in it."""
        packages.version("fsspec")
        import fsspec  # an optional extra

        system, folder = fsspec.core.url_to_fs(self._url)
        return system, str(folder).rstrip("/")
