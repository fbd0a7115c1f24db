"""Where the harness keeps what it makes: caches that can be deleted, runtimes that are kept."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import platformdirs

APPLICATION = "onnx-harness"


def cache_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """Return the folder of caches: `ONNX_HARNESS_CACHE`, else the user's cache folder."""
    return Path(environment.get("ONNX_HARNESS_CACHE") or platformdirs.user_cache_path(APPLICATION))


def runtimes_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """Return the folder of runtimes: `ONNX_HARNESS_RUNTIMES`, else the user's data folder."""
    own = environment.get("ONNX_HARNESS_RUNTIMES")
    return Path(own) if own else platformdirs.user_data_path(APPLICATION) / "runtimes"
