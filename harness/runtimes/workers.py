"""The harness's end of a worker: requests with time limits, and the story of how it died."""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import signal
import time
from typing import Any

from harness.errors import HarnessError, RunFailed, WorkerDied
from harness.runtimes.worker.wire import Channel, WireClosed, WireCorrupt, WireTimeout

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
#: What ONNX Runtime puts before the cause: status, file, step, source line with its function.
_PLACES = tuple(map(re.compile, (
    r"\[ONNXRuntimeError\] : \d+ : \w+ : ",
    r"Load model from .*? failed:\s*",
    r"(?:Exception during (?:initialization|loading)|Fatal error): ",
    r"/\S+\.(?:h|cc|cpp|cu):\d+ [^()]*\((?:[^()]|\([^()]*\))*\)(?: const)?(?: \[with [^]]*\])? ",
    r"(?<!\S)\w+\.(?:h|cc|cpp|cu):\d+ \w+ ",
)))  # fmt: skip
#: Lines of a dead worker's log that an error shows.
LOG_LINES = 12
LOG_BYTES = 1 << 16
LINE_CHARACTERS = 300
#: How long to wait for the server's word on how a worker ended.
STATUS_S = 5.0


class Worker:
    """A process that answers requests until it is closed or dies.

    Made by a launcher. Every request either returns the reply, raises `RunFailed` with the
    worker alive, or raises `WorkerDied` and leaves nothing running.
    """

    def __init__(
        self, *, pid: int, channel: Channel, log_fd: int, status_fd: int, method: str
    ) -> None:
        self.pid = pid
        self.start_method = method
        self._channel = channel
        self._log_fd = log_fd
        self._status_fd = status_fd
        self._alive = True

    @property
    def alive(self) -> bool:
        """Return whether requests can still be sent."""
        return self._alive

    def request(
        self, op: str, fields: dict[str, Any], buffers: list[Any], *, limit_s: float, doing: str
    ) -> tuple[dict[str, Any], list[memoryview]]:
        """Send one request and return the reply with its buffers.

        Args:
            op: Name of the handler.
            fields: JSON values.
            buffers: Raw data that `fields` points at.
            limit_s: Seconds after which the worker is killed.
            doing: What it is asked to do, for messages: "opening a session".

        Raises:
            RunFailed: If the handler raised; the worker lives on.
            WorkerDied: If the worker ended or was too slow; it is gone.
        """
        started = time.monotonic()
        try:
            self._channel.send({"op": op, **fields}, buffers, timeout_s=limit_s)
            left = max(0.0, limit_s - (time.monotonic() - started))
            reply, data, _ = self._channel.receive(timeout_s=left)
        except WireTimeout:
            raise self._end_slow(limit_s, doing) from None
        except WireCorrupt as error:
            raise self._end_confused(str(error), doing) from None
        except WireClosed:
            raise self._end_dead(doing) from None
        except BaseException:  # Ctrl-C: the stream is in the middle of a frame
            self.kill()
            raise
        if "error" in reply:
            raise _refusal(reply["error"], doing, self.log_tail())
        return reply, data

    def log_tail(self) -> str:
        """Return the last lines that the worker wrote to its standard streams."""
        if not self._alive:
            return ""
        size = os.fstat(self._log_fd).st_size
        data = os.pread(self._log_fd, LOG_BYTES, max(0, size - LOG_BYTES))
        text = _COLOURS.sub("", data.decode(errors="replace"))
        lines = [line for line in text.splitlines() if line.strip()]
        return "\n".join(_cut(line) for line in lines[-LOG_LINES:])

    def close(self) -> None:
        """Let the worker end; an idle one leaves by itself when its stream closes."""
        if self._alive:
            self._alive = False
            self._channel.close()
            os.close(self._status_fd)
            os.close(self._log_fd)

    def end(self) -> None:
        """Let the worker end and wait for it, so that its memory is free afterwards."""
        if self._alive:
            self._channel.close()
            self._exit_code()
            self.close()

    def kill(self) -> None:
        """End the worker at once."""
        if self._alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            self.close()

    def _end_slow(self, limit_s: float, doing: str) -> WorkerDied:
        return self._end(
            f"Worker was killed while {doing}: no answer within {limit_s:g} s",
            code="worker.timeout",
            next_step="raise the limit in [limits] of the spec, or find out what hangs",
        )

    def _end_confused(self, error: str, doing: str) -> WorkerDied:
        return self._end(
            f"Worker broke the protocol while {doing}: {error}",
            code="worker.protocol",
            next_step="suspect the model's native code; report it if the model is trusted",
        )

    def _end_dead(self, doing: str) -> WorkerDied:
        code = self._exit_code()
        if code is not None and code < 0:
            return self._end(
                f"Worker was ended by {signal_name(-code)} while {doing}",
                code="worker.signal",
                next_step=_signal_advice(-code),
                has_ended=True,
            )
        return self._end(
            f"Worker ended with exit code {code} while {doing}",
            code="worker.exit",
            next_step="see the last lines of its log above",
            has_ended=code is not None,
        )

    def _end(self, what: str, *, code: str, next_step: str, has_ended: bool = False) -> WorkerDied:
        """Return the story of the worker's end, and leave nothing of it behind.

        A process that has ended is not killed: its number may belong to another one by now.
        """
        log = self.log_tail() or "nothing on its log"
        where = f"worker process {self.pid}"
        if has_ended:
            self.close()
        else:
            self.kill()
        return WorkerDied(what, code=code, where=where, got=log, next_step=next_step)

    def _exit_code(self) -> int | None:
        readable, _, _ = select.select([self._status_fd], [], [], STATUS_S)
        text = os.read(self._status_fd, 4096) if readable else b""
        try:
            return int(json.loads(text)["exit"])
        except (ValueError, KeyError):
            return None


def signal_name(number: int) -> str:
    """Return a signal's name with its number, such as `SIGSEGV (11)`."""
    try:
        return f"{signal.Signals(number).name} ({number})"
    except ValueError:
        return f"signal {number}"


def _signal_advice(number: int) -> str:
    if number == signal.SIGKILL:
        return "most often the kernel's out-of-memory killer: see `dmesg`, or use a smaller case"
    return "the model or a native library crashed; the saved inputs reproduce it"


def _cut(line: str) -> str:
    """Return both ends of a long line: ONNX Runtime begins with a place and ends with a cause."""
    if len(line) <= LINE_CHARACTERS:
        return line
    half = LINE_CHARACTERS // 2
    return f"{line[:half]} ... {line[-half:]}"


def shortened(text: str) -> str:
    """Return `text` without its middle lines, and without the middles of long ones."""
    lines = [_cut(line) for line in text.splitlines() if line.strip()]
    left_out = len(lines) - 2 * LOG_LINES
    if left_out > 0:
        lines[LOG_LINES:-LOG_LINES] = [f"... {left_out} more lines ..."]
    return "\n".join(lines)


def cause_of(message: str) -> str:
    """Return the first line that names a cause, without ONNX Runtime's source places."""
    for pattern in _PLACES:
        message = pattern.sub("", message)
    return next((line.strip() for line in message.splitlines() if line.strip()), "")


def _refusal(error: dict[str, str], doing: str, log: str) -> HarnessError:
    message = _COLOURS.sub("", error.get("message", ""))
    if error.get("code"):  # the worker refused in words of its own
        return RunFailed(f"{message} ({doing})", code=error["code"], got=log)
    first = cause_of(message) or error.get("type", "error")
    causes = [f"because of {cause}" for cause in error.get("causes", "").splitlines()]
    parts = [error.get("notes", ""), *causes, message if message != first else "", log]
    return RunFailed(
        f"{error.get('type', 'Error')} while {doing}: {first[:300]}",
        code="run.failed",
        got="\n".join(shortened(part) for part in parts if part),
    )
