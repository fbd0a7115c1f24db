"""Where the harness keeps what it makes: caches that can be deleted, runtimes to keep, locks."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import platformdirs

from harness.errors import UsageProblem

APPLICATION = "onnx-harness"
#: The same for all users and jobs; `TMPDIR` may name another folder for each.
TEMPORARY = Path("/tmp")  # noqa: S108 - files there are opened without following links


def cache_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """Return the folder of caches: `ONNX_HARNESS_CACHE`, else the user's cache folder."""
    return Path(environment.get("ONNX_HARNESS_CACHE") or platformdirs.user_cache_path(APPLICATION))


def writable(folder: Path, where: str) -> Path:
    """Return `folder`, made if need be.

    Args:
        folder: Where files are to be written.
        where: Option or variable that names it, for the message.

    Raises:
        UsageProblem: If nothing can be written there; told before hours of work, not after.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        reason = "" if os.access(folder, os.W_OK | os.X_OK) else "Permission denied"
    except OSError as error:
        reason = error.strerror or str(error)
    if reason:
        msg = f"Cannot write to '{folder}': {reason}"
        raise UsageProblem(msg, where=where, next_step="name a folder that can be written")
    return folder


def runtimes_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """Return the folder of runtimes: `ONNX_HARNESS_RUNTIMES`, else the user's data folder."""
    own = environment.get("ONNX_HARNESS_RUNTIMES")
    return Path(own) if own else platformdirs.user_data_path(APPLICATION) / "runtimes"


def locks_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """Return the folder of the machine's locks: `ONNX_HARNESS_LOCKS`, else /tmp."""
    return Path(environment.get("ONNX_HARNESS_LOCKS") or TEMPORARY)
