"""Launchers: forked and spawned workers are alike, broken interpreters are told, all ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

import harness
from harness.domain.session import SessionConfig
from harness.domain.verdict import Verdict
from harness.errors import EnvironmentProblem, WorkerDied
from harness.runtimes.inspectors import Inspector
from harness.runtimes.launchers import INFERENCE, LocalLauncher, Program
from harness.runtimes.registry import Runtime
from harness.runtimes.sessions import open_session
from harness.testing import MiniProject, file_spec, linear_model, suites_folder, write_sets
from tests.faults.bad_sessions import loop_model
from tests.runtimes.conftest import MISBEHAVING, PROGRAMS, program_environment
from tests.runtimes.processes import PATIENCE_S, descendants, left_over

OWN = Runtime(name="own", python=sys.executable, source="own")
CPU = SessionConfig(provider="CPUExecutionProvider")


def test_fork_and_spawn_give_the_same_answer(tmp_path: Path) -> None:
    """How a worker is started shows in the facts, and nowhere in the numbers."""
    path = tmp_path / "model.onnx"
    path.write_bytes(linear_model().SerializeToString())
    feeds = {"x": np.linspace(-1, 1, 6, dtype=np.float32).reshape(2, 3)}
    found = {}
    with LocalLauncher() as launcher:
        for fork in (True, False):
            with open_session(launcher, OWN, CPU, path, fork=fork, limit_s=60) as session:
                y = session.run(feeds, limit_s=60).outputs["y"]
                assert isinstance(y, np.ndarray)
                found[session.facts.start_method] = (y.tobytes(), session.facts.placement)
    assert set(found) == {"fork", "spawn"}
    assert found["fork"] == found["spawn"]


def test_threads_forbid_forking(launcher: LocalLauncher) -> None:
    """A server whose imports started a thread spawns instead: its children would not be sound."""
    program = Program(name="misbehaving", preload=("threaded",), needs_harness=True)
    worker = launcher.launch(sys.executable, program, fork=True)
    assert worker.start_method == "spawn"
    reply, _ = worker.request("answer", {"value": 3}, [], limit_s=60, doing="testing")
    worker.close()
    assert reply["got"] == 3


def test_onnxruntime_leaves_no_thread(tmp_path: Path) -> None:
    """Inference workers are forked although the caller's environment would start telemetry."""
    path = tmp_path / "model.onnx"
    path.write_bytes(linear_model().SerializeToString())
    plain = {n: v for n, v in os.environ.items() if n not in {"CI", "ORT_DISABLE_TELEMETRY"}}
    with (
        LocalLauncher(plain) as launcher,
        open_session(launcher, OWN, CPU, path, fork=True, limit_s=60) as session,
    ):
        assert session.facts.start_method == "fork"


def test_gate_without_ci_in_the_environment(project: MiniProject) -> None:
    """On a laptop, where nothing says CI and telemetry is not off, the gate forks and passes."""
    project.add_model("tiny", file_spec(), {"model.onnx": linear_model().SerializeToString()})
    outcome = project.run("--provider", "cpu", env={"CI": "", "ORT_DISABLE_TELEMETRY": ""})
    item = outcome.items["parity tiny/fp32/cpu/one"]
    assert (item.verdict, item.facts["start_method"]) == (Verdict.PASS, "fork")


def test_one_harness_where_another_is_importable(tmp_path: Path) -> None:
    """A worker of ours imports the harness that started it, whatever else is on its path."""
    other = tmp_path / "site" / "harness"
    other.mkdir(parents=True)
    (other / "__init__.py").write_text("raise ImportError('another harness')", encoding="utf-8")
    path = tmp_path / "model.onnx"
    path.write_bytes(linear_model().SerializeToString())
    with (
        LocalLauncher({**os.environ, "PYTHONPATH": str(other.parent)}) as launcher,
        closing(Inspector(launcher, sys.executable)) as inspector,
    ):
        assert inspector.inspect(path, limit_s=60).faults == ()


def test_missing_interpreter() -> None:
    """A path that is no program is told with the system's words."""
    with LocalLauncher() as launcher, pytest.raises(EnvironmentProblem) as caught:
        launcher.launch("/no/python", INFERENCE, fork=True)
    assert str(caught.value) == (
        "Interpreter '/no/python' cannot be started: No such file or directory\n"
        "  where:    /no/python\n"
        "  next:     `onnx-harness runtime list` shows all runtimes; add it again"
    )
    assert caught.value.code == "runtime.broken"


def test_interpreter_that_ends_at_once(tmp_path: Path) -> None:
    """A program that is no Python is told with what it printed."""
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho 'no such option' >&2\nexit 3\n", encoding="utf-8")
    python.chmod(0o755)
    with LocalLauncher() as launcher, pytest.raises(EnvironmentProblem) as caught:
        launcher.launch(str(python), INFERENCE, fork=True)
    assert str(caught.value) == (
        "Interpreter ended before it was ready\n"
        f"  where:    {python}\n"
        "  expected: an interpreter with numpy, onnxruntime\n"
        "  got:      no such option\n"
        "  next:     `onnx-harness doctor` checks every runtime"
    )


def test_interpreter_without_its_packages(launcher: LocalLauncher) -> None:
    """An import that fails is named, and nothing of the server stays."""
    program = Program(name="misbehaving", preload=("no_such_module",), needs_harness=True)
    with pytest.raises(EnvironmentProblem) as caught:
        launcher.launch(sys.executable, program, fork=True)
    assert caught.value.what == (
        "Imports failed: ModuleNotFoundError: No module named 'no_such_module'"
    )


def test_broken_runtime_leaves_nothing_open() -> None:
    """Trying broken runtimes again and again costs no descriptors."""
    program = Program(name="misbehaving", preload=("no_such_module",), needs_harness=True)
    with LocalLauncher(program_environment()) as launcher:
        counts = []
        for _ in range(3):
            with pytest.raises(EnvironmentProblem):
                launcher.launch(sys.executable, program, fork=True)
            counts.append(len(list(Path("/proc/self/fd").iterdir())))
    assert counts[1] == counts[2]


def test_dead_server_is_replaced(launcher: LocalLauncher) -> None:
    """Workers end with their server; the next launch starts another one."""
    worker = launcher.launch(sys.executable, MISBEHAVING, fork=True)
    server = launcher._servers[sys.executable, MISBEHAVING]._process
    server.kill()
    server.wait()
    with pytest.raises(WorkerDied):
        worker.request("answer", {"value": 1}, [], limit_s=60, doing="testing")
    assert left_over({worker.pid}) == set()
    again = launcher.launch(sys.executable, MISBEHAVING, fork=True)
    reply, _ = again.request("answer", {"value": 2}, [], limit_s=60, doing="testing")
    again.close()
    assert reply["got"] == 2


def test_closing_ends_busy_workers() -> None:
    """A launcher that is closed leaves no process behind, not even one that is stuck."""
    with LocalLauncher(program_environment()) as launcher:
        worker = launcher.launch(sys.executable, MISBEHAVING, fork=True)
        worker._channel.send({"op": "hang"})
        server = launcher._servers[sys.executable, MISBEHAVING]._process
    assert left_over({worker.pid, server.pid}) == set()
    worker.close()


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_killed_parent_leaves_no_orphans(method: str) -> None:
    """After SIGKILL nobody can clean up, so servers and workers see it and end themselves."""
    root = str(Path(harness.__file__).parents[1])
    paths = os.pathsep.join([str(PROGRAMS), root])
    with subprocess.Popen(
        [sys.executable, str(PROGRAMS / "holds_workers.py"), method],
        env={**os.environ, "PYTHONPATH": paths},
        stdout=subprocess.PIPE,
        text=True,
    ) as parent:
        assert parent.stdout is not None
        idle, stuck = map(int, parent.stdout.readline().split())
        family = descendants(parent.pid)
        assert {idle, stuck} < family
        parent.kill()
    assert left_over(family) == set()


def test_parent_killed_while_a_server_imports() -> None:
    """A server that is stuck in an import cannot see the end of its stream, yet it ends."""
    root = str(Path(harness.__file__).parents[1])
    code = (
        "import sys; from harness.runtimes.launchers import LocalLauncher, Program\n"
        "program = Program(name='misbehaving', preload=('stuck',), needs_harness=True)\n"
        "LocalLauncher().launch(sys.executable, program, fork=True)"
    )
    paths = os.pathsep.join([str(PROGRAMS), root])
    environment = {**os.environ, "PYTHONPATH": paths}
    with subprocess.Popen([sys.executable, "-c", code], env=environment) as parent:
        family = _wait_for_descendants(parent.pid, 1)
        time.sleep(0.5)  # the import has begun, or is about to: both must end
        parent.kill()
    assert left_over(family) == set()


def test_interrupted_run_leaves_no_orphans(project: MiniProject) -> None:
    """Ctrl-C in a run that waits for a worker ends pytest with its own code, and all workers."""
    spec = file_spec(reference='recorded = "."', inputs="", case="", more="[limits]\nrun_s = 600.0")
    x = np.ones(3, np.float32)
    folder = project.add_model("long", spec, {"model.onnx": loop_model().SerializeToString()})
    write_sets(folder, loop_model(), [([x], [x])])
    command = [sys.executable, "-m", "pytest", "-p", "harness.plugin", "-v"]
    command += [str(suites_folder()), "--provider", "cpu", "-c", str(project.root / "pytest.ini")]
    with subprocess.Popen(
        command,
        cwd=project.root,
        env=project._environment({"PYTHONUNBUFFERED": "1"}),
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=_take_interrupts,  # noqa: PLW1509 - this process has one thread
    ) as run:
        assert run.stdout is not None
        seen = _read_until(run.stdout.fileno(), "test_parity[long")
        family = _wait_for_descendants(run.pid, 3)
        time.sleep(0.5)  # the run inside the worker has begun
        run.send_signal(signal.SIGINT)
        try:
            rest, _ = run.communicate(timeout=PATIENCE_S)
        finally:
            run.kill()
    assert run.returncode == pytest.ExitCode.INTERRUPTED, seen + rest
    assert "KeyboardInterrupt" in rest
    assert left_over(family) == set()


def _take_interrupts() -> None:
    """Undo what a shell does to jobs in the background: they ignore Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _wait_for_descendants(pid: int, count: int) -> set[int]:
    deadline = time.monotonic() + PATIENCE_S
    while len(descendants(pid)) < count and time.monotonic() < deadline:
        time.sleep(0.05)
    return descendants(pid)


def _read_until(fd: int, text: str) -> str:
    """Read from a pipe until `text` has come; what a test prints before it runs has no newline."""
    seen = ""
    while text not in seen:
        data = os.read(fd, 4096)
        assert data, seen
        seen += data.decode()
    return seen
