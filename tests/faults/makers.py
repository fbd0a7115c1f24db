"""All broken models by test id, and what a machine needs to make them."""

from __future__ import annotations

import importlib.util
import shutil

from tests.faults import bad_files, bad_inputs, bad_references, bad_sessions, bad_specs
from tests.faults.table import Maker

GROUPS = (bad_files, bad_inputs, bad_references, bad_sessions, bad_specs)
MAKERS: dict[str, Maker] = {id_: make for group in GROUPS for id_, make in group.MAKERS.items()}


def lacking(id_: str) -> str:
    """Return what this machine lacks for a row, or nothing."""
    if id_ in bad_sessions.MAKERS and shutil.which("cc") is None:
        return "a C compiler (cc)"
    if id_ not in bad_references.MAKERS:
        return ""
    wanted = "skl2onnx" if id_.startswith(("methods", "converter")) else "torch"
    return "" if importlib.util.find_spec(wanted) else wanted
