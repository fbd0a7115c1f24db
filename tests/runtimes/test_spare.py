"""The spare worker: forked ahead, handed out once, replaced when it died, never left behind."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator

import pytest

from harness.runtimes.launchers import LocalLauncher, Server
from harness.runtimes.workers import Worker
from tests.runtimes.conftest import MISBEHAVING, program_environment
from tests.runtimes.processes import PATIENCE_S, descendants, left_over


@pytest.fixture
def launcher() -> Iterator[LocalLauncher]:
    """Yield a launcher whose fork server stands and has no worker; scope function."""
    with LocalLauncher(program_environment()) as own:
        first = own.launch(sys.executable, MISBEHAVING, fork=True)
        first.close()
        assert left_over({first.pid}) == set()
        yield own


def server_of(launcher: LocalLauncher) -> Server:
    """Return the fork server of the misbehaving program."""
    return launcher._servers[sys.executable, MISBEHAVING]


def children(launcher: LocalLauncher, count: int) -> set[int]:
    """Wait until the fork server has this many children, and return them."""
    server, deadline = server_of(launcher)._process.pid, time.monotonic() + PATIENCE_S
    while len(descendants(server)) != count and time.monotonic() < deadline:
        time.sleep(0.02)
    return descendants(server)


def answers(worker: Worker) -> bool:
    """Return whether the worker answers; it is closed then."""
    reply, _ = worker.request("answer", {"value": 7}, [], limit_s=60, doing="testing")
    worker.close()
    return bool(reply["got"] == 7)


def test_next_launch_takes_it(launcher: LocalLauncher) -> None:
    """The worker that was forked ahead is the one that the next launch returns."""
    launcher.prepare(sys.executable, MISBEHAVING)
    spare = children(launcher, 1)
    worker = launcher.launch(sys.executable, MISBEHAVING, fork=True)
    assert {worker.pid} == spare
    assert worker.start_method == "fork"
    assert answers(worker)


def test_handed_out_once(launcher: LocalLauncher) -> None:
    """Two launches never share a worker."""
    launcher.prepare(sys.executable, MISBEHAVING)
    one = launcher.launch(sys.executable, MISBEHAVING, fork=True)
    other = launcher.launch(sys.executable, MISBEHAVING, fork=True)
    assert one.pid != other.pid
    assert answers(one)
    assert answers(other)


def test_preparing_twice_makes_one(launcher: LocalLauncher) -> None:
    """One worker waits at a time, however often it is asked for."""
    for _ in range(3):
        launcher.prepare(sys.executable, MISBEHAVING)
    worker = launcher.launch(sys.executable, MISBEHAVING, fork=True)
    assert children(launcher, 1) == {worker.pid}
    worker.close()


def test_dead_one_is_replaced(launcher: LocalLauncher) -> None:
    """A spare worker that was killed, for memory perhaps, costs no item."""
    launcher.prepare(sys.executable, MISBEHAVING)
    (spare,) = children(launcher, 1)
    os.kill(spare, signal.SIGKILL)
    order, deadline = server_of(launcher)._spare, time.monotonic() + PATIENCE_S
    assert order is not None
    while not order.ended and time.monotonic() < deadline:
        time.sleep(0.02)
    worker = launcher.launch(sys.executable, MISBEHAVING, fork=True)
    assert worker.pid != spare
    assert answers(worker)


def test_spawning_leaves_it_aside(launcher: LocalLauncher) -> None:
    """Where a fresh interpreter is asked for, a forked worker will not do; it ends."""
    launcher.prepare(sys.executable, MISBEHAVING)
    spare = children(launcher, 1)
    worker = launcher.launch(sys.executable, MISBEHAVING, fork=False)
    assert worker.start_method == "spawn"
    assert left_over(spare) == set()
    assert answers(worker)


def test_dead_server(launcher: LocalLauncher) -> None:
    """Asking a server that died is quiet; the next launch starts another one."""
    process = server_of(launcher)._process
    process.kill()
    process.wait()
    launcher.prepare(sys.executable, MISBEHAVING)
    assert answers(launcher.launch(sys.executable, MISBEHAVING, fork=True))


def test_nothing_to_prepare() -> None:
    """Before the first launch there is no server, and none is started."""
    with LocalLauncher(program_environment()) as launcher:
        launcher.prepare(sys.executable, MISBEHAVING)
        assert launcher._servers == {}


def test_closing_ends_it() -> None:
    """A launcher that is closed leaves no waiting worker behind."""
    with LocalLauncher(program_environment()) as launcher:
        launcher.launch(sys.executable, MISBEHAVING, fork=True).close()
        launcher.prepare(sys.executable, MISBEHAVING)
        family = {server_of(launcher)._process.pid, *children(launcher, 1)}
    assert left_over(family) == set()
