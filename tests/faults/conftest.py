"""One project that holds a healthy model and all broken ones, and one run over it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.testing import MiniProject, Outcome, file_spec, linear_model
from tests.faults.makers import MAKERS, lacking

HEALTHY = "healthy"


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """What one run over all broken models gave."""

    outcome: Outcome
    made: frozenset[str]
    """Rows whose model could be made here."""
    changed: tuple[str, ...]
    """Files of the models folder that the run made, changed or removed."""


@pytest.fixture(scope="session")
def faults(tmp_path_factory: pytest.TempPathFactory) -> Faults:
    """Return the outcome of one run over a healthy model and all broken ones."""
    project = MiniProject(tmp_path_factory.mktemp("faults") / "project")
    project.add_model(HEALTHY, file_spec(), {"model.onnx": linear_model().SerializeToString()})
    made = frozenset(id_ for id_ in MAKERS if not lacking(id_))
    for id_ in made:
        MAKERS[id_](project, id_)
    before = _contents(project.models)
    outcome = project.run("--provider", "cpu")
    after = _contents(project.models)
    changed = tuple(sorted(name for name, _ in before.items() ^ after.items()))
    return Faults(outcome=outcome, made=made, changed=changed)


def _contents(folder: Path) -> dict[str, str]:
    """Return the files below `folder` with their sizes and hashes; sparse ones without."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            size = path.stat().st_size
            data = path.read_bytes() if size < 2**30 else b""
            found[str(path)] = f"{size} {hashlib.sha256(data).hexdigest()}"
    return found
