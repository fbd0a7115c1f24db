"""Content-addressed caches: values of references, exported models, downloads.

An entry's name is the SHA-256 of everything it depends on. Entries are written to a temporary
name and renamed, so that a reader never sees half of one; each carries a checksum, so that a
broken entry is computed again instead of trusted.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from harness.domain import encoding
from harness.domain.values import Values

READABLE = 0o644
FORMAT = b"onnx-harness values 1\n"


def key_of(*parts: str) -> str:
    """Return the SHA-256 over `parts`, each delimited by its length."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode()
        digest.update(f"{len(data)}:".encode())
        digest.update(data)
    return digest.hexdigest()


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_atomically(path: Path, write: Callable[[Path], object]) -> Path:
    """Let `write` fill a temporary file beside `path`, then rename it into place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fd, name = tempfile.mkstemp(dir=path.parent, prefix=".tmp-", suffix=path.suffix)
    os.close(fd)
    temporary = Path(name)
    try:
        write(temporary)
        temporary.chmod(READABLE)  # mkstemp lets the owner alone read it
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock between processes (pytest-xdist workers, parallel jobs) on the file `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


class ValueCache:
    """Values of references: one entry holds the outputs of every step of one case."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, key: str) -> tuple[Values, ...] | None:
        """Return the entry, or None if there is none or it is broken."""
        try:
            return _read(self._path(key).read_bytes())
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def put(self, key: str, steps: Sequence[Values]) -> None:
        """Store the entry."""
        data = _write(steps)
        write_atomically(self._path(key), lambda path: path.write_bytes(data))

    def _path(self, key: str) -> Path:
        return self._folder / key[:2] / f"{key}.values"


def _write(steps: Sequence[Values]) -> bytes:
    buffers: list[memoryview] = []
    described = [
        [[name, encoding.encode(value, buffers)] for name, value in values.items()]
        for values in steps
    ]
    views = [memoryview(buffer).cast("B") for buffer in buffers]
    header = json.dumps({"steps": described, "sizes": [view.nbytes for view in views]}).encode()
    body = b"".join([len(header).to_bytes(8, "little"), header, *views])
    return FORMAT + hashlib.sha256(body).digest() + body


def _read(data: bytes) -> tuple[Values, ...]:
    start = len(FORMAT) + 32
    body = memoryview(data)[start:]
    if data[: len(FORMAT)] != FORMAT or hashlib.sha256(body).digest() != data[start - 32 : start]:
        msg = "the entry is broken"
        raise ValueError(msg)
    size = int.from_bytes(body[:8], "little")
    header = json.loads(bytes(body[8 : 8 + size]))
    buffers, position = [], 8 + size
    for nbytes in header["sizes"]:
        buffers.append(body[position : position + nbytes])
        position += nbytes
    return tuple(encoding.decode_all(step, buffers) for step in header["steps"])
