"""Settings and fixtures of the harness's own tests."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from harness.testing import MiniProject

#: The same examples in every run, and no deadline: a shared machine may pause any test.
settings.register_profile(
    "harness",
    deadline=None,
    derandomize=True,
    max_examples=60,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("harness")


@pytest.fixture
def project(tmp_path: Path) -> MiniProject:
    """Return an empty mini project; scope function."""
    return MiniProject(tmp_path / "project")
