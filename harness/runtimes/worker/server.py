"""The process that makes workers: it imports once, then forks (or spawns) on request.

A fork server is one process per runtime with numpy and ONNX Runtime loaded and warmed up, and
no session open. It has a single thread, so its forked children start sound; it refuses to fork
when its imports started more. Each child dies with it (`PR_SET_PDEATHSIG`), and it dies with the
harness (end of the control stream), so nothing is left behind, not even after SIGKILL.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import functools
import gc
import importlib
import json
import os
import resource
import select
import signal
import socket
import sys
import traceback
from types import ModuleType
from typing import Any

from .serve import serve
from .wire import Channel, WireClosed, WireCorrupt

PR_SET_PDEATHSIG = 1
NO_SIGNAL = 0


def main(arguments: list[str]) -> None:
    """Run as fork server (`--control-fd`) or as one worker (`--serve-fd`)."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--program", required=True)
    parser.add_argument("--path")
    parser.add_argument("--preload", default="")
    parser.add_argument("--control-fd", type=int)
    parser.add_argument("--serve-fd", type=int)
    options = parser.parse_args(arguments)
    if options.path:
        _make_importable(options.path)
    if options.serve_fd is not None:
        _serve(options.program, Channel(socket.socket(fileno=options.serve_fd)))
    else:
        control = Channel(socket.socket(fileno=options.control_fd))
        ForkServer(options.program, control, arguments).run(options.preload.split(","))


def _make_importable(folder: str) -> None:
    """Let the harness be imported from `folder`, and from nowhere else, without shadowing others.

    An installed harness beside a checkout would give this process parts of both.
    """
    sys.path.insert(0, folder)
    importlib.import_module("harness")
    sys.path.remove(folder)
    sys.path.append(folder)


def load_program(name: str) -> ModuleType:
    """Import the module whose HANDLERS a worker serves; a leading dot means this package."""
    return importlib.import_module(name, __package__)


class ForkServer:
    """Makes children, waits for them, and reports how each of them ended."""

    def __init__(self, program: str, control: Channel, arguments: list[str]) -> None:
        self._program = program
        self._control = control
        self._arguments = arguments
        self._status_pipes: dict[int, int] = {}

    def run(self, preload: list[str]) -> None:
        """Import, say what is there, then serve requests until the harness is gone."""
        # An import that hangs would never see the end of the control stream. The harness's thread
        # waits meanwhile, so this signal, which goes with the thread, comes only if all of it dies.
        _end_with_parent(signal.SIGKILL)
        if self._control.is_closed():
            return
        try:
            for module in filter(None, preload):
                importlib.import_module(module)
            load_program(self._program)
        except BaseException:  # reported to the harness, which names the cause
            self._control.send({"ready": False, "error": traceback.format_exc(limit=-3)})
            return
        if any(preload):
            with contextlib.suppress(Exception):  # what is wrong shows in the first answer
                getattr(load_program(self._program), "warm_up", int)()
        gc.freeze()  # a collection in a child would touch, and so copy, all that is here
        _end_with_parent(NO_SIGNAL)
        self._control.send({"ready": True, "threads": _thread_count()})
        try:
            self._loop()
        except (WireClosed, WireCorrupt):
            pass
        finally:
            for pid in self._status_pipes:
                _kill_group(pid)
        os._exit(0)

    def _loop(self) -> None:
        wake_read, wake_write = os.pipe()
        os.set_blocking(wake_write, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        while True:
            readable, _, _ = select.select([self._control.fileno(), wake_read], [], [])
            if wake_read in readable:
                os.read(wake_read, 4096)
                self._reap()
            if self._control.fileno() in readable:
                self._answer()

    def _answer(self) -> None:
        request, _, fds = self._control.receive()
        data_fd, log_fd, status_fd = fds
        try:
            pid = self._make(request["method"], data_fd, log_fd)
        except Exception as error:  # no memory, no process: the harness tells it
            self._control.send({"error": f"{type(error).__name__}: {error}"})
            os.close(status_fd)
        else:
            self._status_pipes[pid] = status_fd
            self._control.send({"pid": pid})
        finally:
            os.close(data_fd)
            os.close(log_fd)

    def _make(self, method: str, data_fd: int, log_fd: int) -> int:
        if method == "fork" and _thread_count() > 1:
            raise RuntimeError(f"{_thread_count()} threads are running: forking is not safe")
        server = os.getpid()
        pid = os.fork()
        if pid:
            return pid
        try:
            self._become_worker(server, log_fd)
            if method == "spawn":
                self._exec_worker(data_fd)
            _serve(self._program, Channel(socket.socket(fileno=data_fd)))
        except BaseException:  # a child must never return into the server's loop
            traceback.print_exc()
        os._exit(70)

    def _become_worker(self, server: int, log_fd: int) -> None:
        _dump_no_core()
        os.setpgid(0, 0)  # what a reference or a library starts ends with the worker
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self._control.close()
        for status_fd in self._status_pipes.values():
            os.close(status_fd)
        os.dup2(log_fd, 1)
        os.dup2(log_fd, 2)
        _die_with(server)
        _be_first_to_be_killed()

    def _exec_worker(self, data_fd: int) -> None:
        os.set_inheritable(data_fd, True)  # noqa: FBT003 - its only form
        kept = _without(self._arguments, "--control-fd")
        main_file = os.path.dirname(os.path.abspath(__file__))
        isolated = ["-I"] if sys.flags.isolated else []
        command = [sys.executable, *isolated, main_file, *kept, "--serve-fd", str(data_fd)]
        os.execv(sys.executable, command)  # noqa: S606 - a list, no shell

    def _reap(self) -> None:
        while self._status_pipes:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            _kill_group(pid)
            pipe = self._status_pipes.pop(pid)
            code = os.waitstatus_to_exitcode(status)
            with contextlib.suppress(OSError):  # the harness may have lost interest in it
                os.write(pipe, json.dumps({"exit": code}).encode())
            os.close(pipe)


def _serve(program: str, channel: Channel) -> None:
    handlers: dict[str, Any] = load_program(program).HANDLERS
    serve(channel, handlers)
    sys.stdout.flush()
    os._exit(0)  # native libraries must not run their exit handlers in a forked child


def _kill_group(leader: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)


def _thread_count() -> int:
    try:
        return len(os.listdir("/proc/self/task"))
    except OSError:
        return 1


def _die_with(parent: int) -> None:
    _end_with_parent(signal.SIGKILL)
    if os.getppid() != parent:  # it died before the call took effect
        os._exit(1)


def _end_with_parent(number: int) -> None:
    """Let the kernel send this signal when the thread that started this process ends."""
    if sys.platform == "linux":
        _libc().prctl(PR_SET_PDEATHSIG, number)


@functools.cache
def _libc() -> ctypes.CDLL:
    """Return the C library, loaded once: children inherit it."""
    return ctypes.CDLL(None)


def _dump_no_core() -> None:
    """Let a crash leave no file behind; 1 byte also stops pipes to a crash collector."""
    if resource.getrlimit(resource.RLIMIT_CORE)[1] != 0:
        resource.setrlimit(resource.RLIMIT_CORE, (1, 1))


def _be_first_to_be_killed() -> None:
    """Keep the kernel's out-of-memory killer away from pytest."""
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")


def _without(arguments: list[str], option: str) -> list[str]:
    index = arguments.index(option)
    return arguments[:index] + arguments[index + 2 :]
