"""Where a model's file comes from: a path, an installed package, or a URL with its SHA-256."""

from __future__ import annotations

import shutil
from pathlib import Path

from harness.domain.spec import Candidate
from harness.errors import EnvironmentProblem, ModelFileError
from harness.files import packages
from harness.files.cache import hash_file, write_atomically


def locate(source: Candidate, folder: Path, *, downloads: Path) -> Path:
    """Return the file of a candidate that is not exported.

    Args:
        source: The spec's table.
        folder: The model's folder.
        downloads: Cache folder for URLs.

    Raises:
        ModelFileError: If the file is missing or a download has another hash.
        EnvironmentProblem: If a package is missing.
    """
    if source.url is not None and source.sha256 is not None:
        return _download(source.url, source.sha256, downloads)
    if source.file is None:
        msg = "an exported candidate has no file of its own"
        raise ValueError(msg)
    if source.package is not None:
        return packages.file_of(source.package, source.file)
    path = folder / source.file
    check_path(path)
    if not path.is_file():
        msg = f"Model file '{source.file}' does not exist"
        raise ModelFileError(
            msg,
            code="model.missing",
            where=str(path),
            expected="the file that candidate.file names",
            next_step="restore the file, or correct candidate.file",
        )
    return path


def check_path(path: Path) -> None:
    """Refuse a path that is not UTF-8: ONNX Runtime cannot open one.

    Raises:
        ModelFileError: With the path's bytes escaped.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError:
        shown = str(path).encode(errors="backslashreplace").decode()
        msg = "Path of a model is not UTF-8"
        raise ModelFileError(
            msg,
            code="model.missing",
            where=shown,
            expected="a path that ONNX Runtime can open",
            next_step="rename the folder or the file",
        ) from None


def _download(url: str, sha256: str, downloads: Path) -> Path:
    """Return the verified file behind `url`, fetched at most once."""
    path = downloads / sha256[:2] / sha256 / "model.onnx"
    if path.is_file() and hash_file(path) == sha256:
        return path
    return write_atomically(path, lambda temporary: _fetch(url, sha256, temporary))


def _fetch(url: str, sha256: str, target: Path) -> None:
    packages.version("fsspec")
    import fsspec  # an optional extra

    try:
        with fsspec.open(url, "rb") as remote, target.open("wb") as local:
            shutil.copyfileobj(remote, local, 1 << 20)
    except ImportError as error:
        msg = f"Reading '{url}' needs a package that is missing: {error}"
        raise EnvironmentProblem(msg, code="package.missing", where=url) from None
    except Exception as error:  # noqa: BLE001 - each fsspec backend has exceptions of its own
        msg = f"Model cannot be fetched: {type(error).__name__}: {str(error)[:300]}"
        raise ModelFileError(msg, code="model.download", where=url) from None
    got = hash_file(target)
    if got != sha256:
        msg = "Fetched model has another SHA-256 than its spec"
        raise ModelFileError(
            msg,
            code="model.hash",
            where=url,
            expected=f"{sha256} (spec, candidate.sha256)",
            got=got,
            next_step="find out who changed the file; never correct the hash blindly",
        )
