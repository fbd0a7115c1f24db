"""Settings and fixtures of the harness's own tests."""

from __future__ import annotations

import os
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


@pytest.fixture(scope="session", autouse=True)
def locks(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Share one lock among all runs that tests start, and none with the machine's other runs.

    A test must not wait until somebody else has measured; scope session, also of xdist's workers.
    """
    base = tmp_path_factory.getbasetemp()
    folder = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    os.environ["ONNX_HARNESS_LOCKS"] = str(folder)


@pytest.fixture
def project(tmp_path: Path) -> MiniProject:
    """Return an empty mini project; scope function."""
    return MiniProject(tmp_path / "project")
