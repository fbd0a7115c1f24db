"""The artefact store: model files of approved controls, each under the SHA-256 of its bytes.

The store is a folder or any fsspec URL. Whatever comes out of it is checked against the hash by
which it was asked for, so a store that others write to can hide a control but not change one.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from harness.errors import EnvironmentProblem, HarnessError, ModelFileError, UsageProblem
from harness.files import archives
from harness.files.cache import hash_file, locked, write_atomically
from harness.files.external import external_files
from harness.files.stores import NAME, FolderStore, RemoteStore

T = TypeVar("T")
FOLDER = "artefacts"
_TEXT_CHARACTERS = 300


class Artefacts:
    """The controls' model files.

    Args:
        place: A folder, or an fsspec URL such as `s3://bucket/controls`.
        cache: Cache folder; fetched files lie in `artefacts` of it.
    """

    def __init__(self, place: str | Path, cache: Path) -> None:
        is_url = isinstance(place, str) and "://" in place
        self._place = str(place).rstrip("/")
        self._store = RemoteStore(self._place) if is_url else FolderStore(Path(place))
        self._cache = cache / FOLDER

    def put(self, model_file: Path) -> str:
        """Store a model file, with its external data if it has any, and return its SHA-256.

        Raises:
            ModelFileError: If the model or its data cannot be read.
            EnvironmentProblem: If the store cannot be written.
        """
        locations = external_files(model_file)
        if not locations:
            return self._put(model_file)
        with self._scratch() as folder:
            archives.pack(model_file, locations, folder / "packed")
            return self._put(folder / "packed")

    def _put(self, file: Path) -> str:
        sha256 = hash_file(file)
        self._doing("written", sha256, lambda: self._store.put(file, sha256))
        return sha256

    def has(self, sha256: str) -> bool:
        """Return whether the store has a file of this name; only `fetch` looks into it."""
        if not sha256:
            return False
        _check_name(sha256)
        return self._doing("read", sha256, lambda: self._store.has(sha256))

    def fetch(self, sha256: str) -> Path:
        """Return a local copy of a stored model, its external data beside it.

        A folder is read every time, so that a broken file in it is told on every machine and not
        on those alone that never fetched it. From a URL each file is fetched once.

        Args:
            sha256: Its name; empty where the baseline says that it was not kept.

        Raises:
            ModelFileError: If the store lacks it (`baseline.incomparable`), or holds something
                else under its name (`baseline.control`).
            EnvironmentProblem: If the store cannot be read, or a package for it is missing.
        """
        if not sha256:
            raise self._not_kept()
        _check_name(sha256)
        home, record = self._cache / sha256, self._cache / f"{sha256}.json"
        with self._usable_cache(), locked(self._cache / f"{sha256}.lock"):
            if isinstance(self._store, FolderStore) or not _is_intact(home, record):
                self._renew(sha256, home, record)
            names: list[str] = list(json.loads(record.read_bytes()))
        return home / names[0]

    def _renew(self, sha256: str, home: Path, record: Path) -> None:
        """Check the stored file, and lay it out unless the cache has just that."""
        with self._scratch() as scratch:
            stored = self._doing("read", sha256, lambda: self._verified(sha256, scratch))
            if _is_intact(home, record):
                return
            files = self._laid_out(sha256, stored, scratch / "files")
            record.unlink(missing_ok=True)
            shutil.rmtree(home, ignore_errors=True)
            (scratch / "files").rename(home)
            write_atomically(record, lambda path: path.write_text(json.dumps(files)))

    def _verified(self, sha256: str, scratch: Path) -> Path:
        """Return the stored file, whose hash is its name."""
        try:
            stored = self._store.get(sha256, scratch)
        except FileNotFoundError:
            raise self._missing(sha256) from None
        got = hash_file(stored)
        if got == sha256:
            return stored
        msg = "Control in the artefact store has another SHA-256 than its name"
        raise self._wrong(sha256, msg, f"SHA-256 {got}, {stored.stat().st_size} bytes")

    def _laid_out(self, sha256: str, stored: Path, folder: Path) -> Mapping[str, str]:
        """Fill `folder` with the model's files and return name -> hash, the model first."""
        folder.mkdir()
        if not archives.is_archive(stored):
            shutil.copyfile(stored, folder / archives.MODEL)
            return {archives.MODEL: sha256}
        try:
            names = archives.unpack(stored, folder)
        except archives.BadArchive as error:
            msg = "Control in the artefact store is no archive that can be trusted"
            raise self._wrong(sha256, msg, str(error)) from None
        return {name: hash_file(folder / name) for name in names}

    def _not_kept(self) -> ModelFileError:
        msg = "Control was not kept: its baseline names no file in the artefact store"
        return ModelFileError(
            msg,
            code="baseline.incomparable",
            where=self._place,
            expected="an entry with 'artefact', which a refresh writes for files that are kept",
            next_step="raise 'largest_artefact_mb' of the settings or remove it, then approve anew",
        )

    def _missing(self, sha256: str) -> ModelFileError:
        msg = f"Control '{sha256}' is not in the artefact store"
        return ModelFileError(
            msg,
            code="baseline.incomparable",
            where=self._where(sha256),
            expected="the model file that the baseline names as its control",
            next_step="restore the file, or approve the candidate anew",
        )

    def _wrong(self, sha256: str, msg: str, got: str) -> ModelFileError:
        where = self._where(sha256)
        is_local = isinstance(self._store, FolderStore)
        advice = f"git checkout -- {where}" if is_local else f"restore {where}"
        return ModelFileError(
            msg,
            code="baseline.control",
            where=where,
            expected="the bytes that were approved, whose hash the baseline tells",
            got=got,
            next_step=f"{advice}; find out who changed it",
        )

    def unused(self, keep: set[str]) -> list[str]:
        """Return the hashes of stored files that are not in `keep`.

        Raises:
            UsageProblem: If the store is a URL.
        """
        folder = self._prunable()
        return sorted(set(self._doing("read", "", folder.names)) - keep)

    def remove(self, sha256: str) -> None:
        """Remove a stored file; one that is not there is no error.

        Raises:
            UsageProblem: If the store is a URL.
        """
        _check_name(sha256)
        folder = self._prunable()
        self._doing("written", sha256, lambda: folder.remove(sha256))

    def _prunable(self) -> FolderStore:
        if isinstance(self._store, FolderStore):
            return self._store
        msg = f"Artefact store '{self._place}' cannot be pruned from here"
        raise UsageProblem(
            msg,
            where=self._place,
            expected="a local folder: other branches and projects may need what this one does not",
            next_step="let the store's own rules expire old files",
        )

    def _where(self, sha256: str) -> str:
        return f"{self._place}/{sha256}" if sha256 else self._place

    def _doing(self, done: str, sha256: str, action: Callable[[], T]) -> T:
        """Return what `action` gives; whatever a file system raises becomes one error."""
        try:
            return action()
        except HarnessError:
            raise
        except ImportError as error:
            msg = f"Artefact store '{self._place}' needs a package that is missing: {error}"
            raise EnvironmentProblem(msg, code="package.missing", where=self._place) from None
        except Exception as error:  # noqa: BLE001 - each fsspec backend has exceptions of its own
            told = f"{type(error).__name__}: {str(error)[:_TEXT_CHARACTERS]}"
            msg = f"Artefact store cannot be {done}: {told}"
            raise EnvironmentProblem(
                msg,
                code="baseline.unwritable" if done == "written" else "baseline.control",
                where=self._where(sha256),
                next_step="make room, or mend the rights, the network or the store's credentials",
            ) from None

    @contextmanager
    def _scratch(self) -> Iterator[Path]:
        """Make a folder that is gone afterwards, on the cache's disk."""
        with self._usable_cache():
            self._cache.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=self._cache, prefix=".tmp-") as folder:
                yield Path(folder)

    @contextmanager
    def _usable_cache(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            msg = f"Cache of artefacts cannot be used: {error.strerror or type(error).__name__}"
            raise EnvironmentProblem(
                msg,
                code="cache.unusable",
                where=str(error.filename or self._cache),
                next_step="make room or mend the rights, or set ONNX_HARNESS_CACHE",
            ) from None


def _check_name(sha256: str) -> None:
    """Refuse what would name a file elsewhere; baselines hold nothing else than hashes."""
    if not NAME.fullmatch(sha256):
        msg = f"'{sha256}' is no SHA-256"
        raise ValueError(msg)


def _is_intact(home: Path, record: Path) -> bool:
    """Return whether the cache still holds what was once laid out."""
    try:
        files: dict[str, str] = json.loads(record.read_bytes())
        return bool(files) and all(hash_file(home / name) == own for name, own in files.items())
    except (OSError, ValueError, AttributeError):
        return False
