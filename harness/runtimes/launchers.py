"""Where workers run: this machine's launcher, one fork server per interpreter and program."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import harness
from harness.errors import EnvironmentProblem
from harness.runtimes.worker.wire import Channel, WireClosed, WireTimeout
from harness.runtimes.workers import LOG_BYTES, Worker

WORKER_FOLDER = Path(__file__).parent / "worker"
#: Importing numpy and ONNX Runtime takes 0.3 s here; a cold disk may need far longer.
START_S = 120.0

#: Set before a worker's first import. ONNX Runtime starts a telemetry thread unless told not to,
#: which kills forked children; OpenBLAS starts one thread per core when numpy is imported.
#: Hash randomisation is off so that a reference built twice is built the same way.
WORKER_ENVIRONMENT = {
    "ORT_DISABLE_TELEMETRY": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "PYTHONHASHSEED": "0",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """What a worker runs."""

    name: str
    """Module with `HANDLERS`; a leading dot means the stand-alone worker package."""
    preload: tuple[str, ...] = ()
    """Modules that the fork server imports once."""
    needs_harness: bool = False
    """Whether it imports the harness, and so runs in the harness's own interpreter."""


INFERENCE = Program(name=".session", preload=("numpy", "onnxruntime"))
INSPECTION = Program(
    name="harness.runtimes.inspection", preload=("numpy", "onnx"), needs_harness=True
)


class Launcher(Protocol):
    """Starts workers somewhere."""

    def launch(self, python: str, program: Program, *, fork: bool) -> Worker:
        """Return a new worker of `program` in the interpreter `python`."""

    def prepare(self, python: str, program: Program) -> None:
        """Say that another worker of the same kind will be launched soon."""

    def close(self) -> None:
        """End everything that was started."""


class LocalLauncher:
    """Starts workers on this machine; nothing outlives it."""

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        self._environment = {**(os.environ if environment is None else environment)}
        self._environment.update(WORKER_ENVIRONMENT)
        self._servers: dict[tuple[str, Program], Server] = {}

    def launch(self, python: str, program: Program, *, fork: bool) -> Worker:
        """Return a new worker, forked where that is asked for and safe, else spawned.

        Raises:
            EnvironmentProblem: If the interpreter or its packages are missing or broken.
        """
        server = self._servers.get((python, program))
        if server is not None and not server.alive:
            self._servers.pop((python, program)).close()
            server = None
        if server is None:
            server = Server(python, program, self._environment, preload=fork)
            self._servers[python, program] = server
        return server.make_worker(fork=fork and server.can_fork)

    def prepare(self, python: str, program: Program) -> None:
        """Fork a worker ahead, so that the next launch finds it ready."""
        server = self._servers.get((python, program))
        if server is not None:
            server.make_spare()

    def close(self) -> None:
        """End all servers, and with them their workers."""
        for server in self._servers.values():
            server.close()
        self._servers.clear()

    def __enter__(self) -> LocalLauncher:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()


def _log_file() -> int:
    """Return the descriptor of a file without a name, for a worker's standard streams."""
    fd, name = tempfile.mkstemp(prefix="onnx-harness-log-")
    Path(name).unlink()
    return fd


@dataclass(frozen=True, slots=True, kw_only=True)
class _Order:
    """A worker that was asked for, with the harness's ends of its streams."""

    method: str
    socket: socket.socket
    log_fd: int
    status_fd: int

    @property
    def ended(self) -> bool:
        """Return whether the worker is gone already, killed for memory perhaps."""
        return bool(select.select([self.status_fd], [], [], 0)[0])

    def cancel(self) -> None:
        """Close the streams; the worker, if there is one, ends with them."""
        self.socket.close()
        os.close(self.log_fd)
        os.close(self.status_fd)


class Server:
    """The process that makes the workers of one interpreter and program."""

    def __init__(
        self, python: str, program: Program, environment: Mapping[str, str], *, preload: bool
    ) -> None:
        self._python = python
        self._program = program
        self._log_fd = _log_file()
        self._spare: _Order | None = None
        try:
            self._process, self._control = self._start(environment, preload=preload)
        except BaseException:  # Ctrl-C too must not leave the file open
            os.close(self._log_fd)
            raise
        try:
            self.can_fork = self._wait_until_ready() == 1 and preload
        except BaseException:  # Ctrl-C too must not leave the process behind
            self._process.kill()
            self.close()
            raise

    @property
    def alive(self) -> bool:
        """Return whether the process still runs."""
        return self._process.poll() is None

    def make_worker(self, *, fork: bool) -> Worker:
        """Return a new worker process, the spare one if there is one."""
        spare, self._spare = self._spare, None
        if spare is not None:
            usable = fork and not spare.ended
            worker = self._receive(spare)
            if usable:
                return worker
            worker.close()
        return self._receive(self._order("fork" if fork else "spawn"))

    def make_spare(self) -> None:
        """Have a worker forked for the next call of `make_worker`, without waiting for it."""
        if self.can_fork and self._spare is None:
            with contextlib.suppress(EnvironmentProblem):  # that call tells it
                self._spare = self._order("fork")

    def _order(self, method: str) -> _Order:
        """Ask for a worker without waiting for it."""
        ours, theirs = socket.socketpair()
        status_read, status_write = os.pipe()
        order = _Order(method=method, socket=ours, log_fd=_log_file(), status_fd=status_read)
        try:
            fds = (theirs.fileno(), order.log_fd, status_write)
            self._control.send({"method": method}, fds=fds, timeout_s=START_S)
        except (WireClosed, WireTimeout) as error:
            order.cancel()
            msg = f"the process that makes workers ended: {error}"
            raise self._not_made(msg) from None
        finally:
            theirs.close()
            os.close(status_write)
        return order

    def _receive(self, order: _Order) -> Worker:
        """Return the worker that was asked for."""
        try:
            answer, _, _ = self._control.receive(timeout_s=START_S)
        except (WireClosed, WireTimeout) as error:
            answer = {"error": f"the process that makes workers ended: {error}"}
        if "pid" not in answer:
            order.cancel()
            raise self._not_made(answer["error"])
        return Worker(
            pid=answer["pid"],
            channel=Channel(order.socket),
            log_fd=order.log_fd,
            status_fd=order.status_fd,
            method=order.method,
        )

    def _not_made(self, why: str) -> EnvironmentProblem:
        return self._broken(f"No worker could be made: {why}")

    def close(self) -> None:
        """End the process; its children die with it."""
        if self._spare is not None:
            self._spare.cancel()
        self._control.close()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._log_fd)

    def _start(
        self, environment: Mapping[str, str], *, preload: bool
    ) -> tuple[subprocess.Popen[bytes], Channel]:
        ours, theirs = socket.socketpair()
        command = [*self._command(preload=preload), "--control-fd", str(theirs.fileno())]
        try:
            process = subprocess.Popen(
                command,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=self._log_fd,
                stderr=self._log_fd,
                env=dict(environment),
                start_new_session=True,  # Ctrl-C goes to pytest alone, which then ends workers
            )
        except OSError as error:
            ours.close()
            msg = f"Interpreter '{self._python}' cannot be started: {error.strerror}"
            raise EnvironmentProblem(
                msg,
                code="runtime.broken",
                where=self._python,
                next_step="`onnx-harness runtime list` shows all runtimes; add it again",
            ) from None
        finally:
            theirs.close()
        return process, Channel(ours)

    def _command(self, *, preload: bool) -> list[str]:
        program = ["--program", self._program.name]
        if preload:
            program += ["--preload", ",".join(self._program.preload)]
        if self._program.needs_harness:
            root = str(Path(harness.__file__).parent.parent)
            return [self._python, str(WORKER_FOLDER), "--path", root, *program]
        return [self._python, "-I", str(WORKER_FOLDER), *program]

    def _wait_until_ready(self) -> int:
        try:
            answer, _, _ = self._control.receive(timeout_s=START_S)
        except (WireClosed, WireTimeout):
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=1)
            said = os.pread(self._log_fd, LOG_BYTES, 0).decode(errors="replace").strip()
            msg = "Interpreter ended before it was ready"
            raise self._broken(msg, got=said) from None
        if not answer["ready"]:
            last = answer["error"].strip().splitlines()[-1]
            msg = f"Imports failed: {last}"
            raise self._broken(msg, got=answer["error"])
        return int(answer["threads"])

    def _broken(self, what: str, got: str = "") -> EnvironmentProblem:
        return EnvironmentProblem(
            what,
            code="runtime.broken",
            where=self._python,
            expected=f"an interpreter with {', '.join(self._program.preload) or 'Python 3.10'}",
            got=got[-2000:],
            next_step="`onnx-harness doctor` checks every runtime",
        )
