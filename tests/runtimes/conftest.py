"""Launchers whose workers run the programs of this folder."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.runtimes.launchers import LocalLauncher, Program
from harness.runtimes.workers import Worker

PROGRAMS = Path(__file__).parent / "programs"
MISBEHAVING = Program(name="misbehaving", needs_harness=True)

Make = Callable[[], Worker]


def program_environment() -> dict[str, str]:
    """Return this environment, with the programs importable."""
    paths = [str(PROGRAMS), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}


@pytest.fixture(scope="session")
def launcher() -> Iterator[LocalLauncher]:
    """Yield a launcher that is shared, since each test takes a worker of its own."""
    with LocalLauncher(program_environment()) as shared:
        yield shared


@pytest.fixture(params=["fork", "spawn"])
def make_worker(request: pytest.FixtureRequest, launcher: LocalLauncher) -> Make:
    """Return what makes a misbehaving worker, once forked and once spawned."""
    fork = request.param == "fork"
    return lambda: launcher.launch(sys.executable, MISBEHAVING, fork=fork)
