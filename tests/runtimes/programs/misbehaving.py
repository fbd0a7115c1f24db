"""A worker program for tests: each request makes it misbehave in one way."""

from __future__ import annotations

import ctypes
import os
import signal
import stat
import subprocess
import sys
import time
from typing import Any

Reply = tuple[dict[str, Any], list[Any]]


def _answer(request: dict[str, Any], buffers: list[memoryview]) -> Reply:
    return {"got": request["value"], "environment": dict(os.environ)}, [bytes(b) for b in buffers]


def _signal(request: dict[str, Any], _: list[memoryview]) -> Reply:
    signal.signal(request["number"], signal.SIG_DFL) if request["number"] != signal.SIGKILL else 0
    os.kill(os.getpid(), request["number"])
    time.sleep(60)
    return {}, []


def _exit(request: dict[str, Any], _: list[memoryview]) -> Reply:
    os._exit(request["code"])


def _say(request: dict[str, Any], _: list[memoryview]) -> Reply:
    sys.stdout.write(request["text"] + "\n")
    sys.stdout.flush()
    os.write(2, b"native error line\n")
    os._exit(1)


def _raise(request: dict[str, Any], _: list[memoryview]) -> Reply:
    raise ValueError(request["message"]) from KeyError("the cause")


def _hang(_: dict[str, Any], __: list[memoryview]) -> Reply:
    ctypes.PyDLL(None).sleep(600)  # holds the interpreter lock, as native code may
    return {}, []


def _babble(_: dict[str, Any], __: list[memoryview]) -> Reply:
    for fd in range(3, 200):
        try:
            is_socket = stat.S_ISSOCK(os.fstat(fd).st_mode)
        except OSError:
            continue
        if is_socket:
            os.write(fd, b"this is not a frame of the protocol")
    return {}, []


def _child(_: dict[str, Any], __: list[memoryview]) -> Reply:
    return {"pid": subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]).pid}, []


HANDLERS = {
    "child": _child,
    "answer": _answer,
    "signal": _signal,
    "exit": _exit,
    "say": _say,
    "raise": _raise,
    "hang": _hang,
    "babble": _babble,
}
