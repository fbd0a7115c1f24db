"""Quiet while timing: one lock for the whole machine, so that no item runs beside a stopwatch.

Items hold it shared, measurements exclusively. It is the kernel's (`flock`), so it ends with the
process that holds it, however that ends. Two files make it fair: whoever wants in takes the
turnstile first and keeps it until it is in. So while a measurement waits for those inside, nobody
else gets in, and a steady stream of items cannot keep it out.

Outside Linux nothing is locked: latency is not judged there.
"""

from __future__ import annotations

import os
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from harness.errors import EnvironmentProblem, HarnessBug, blocked_by
from harness.files import places

if sys.platform == "linux":
    import fcntl

#: Seconds of waiting after which it is told what is waited for.
PATIENCE_S = 2.0
ROOM, TURNSTILE = "onnx-harness.lock", "onnx-harness.turnstile"
WAITING = "waiting until no other harness run measures or is measured"
WAITING_FOR_DEVICE = "waiting until no other item runs on the device"
#: Neither a link nor a pipe that somebody left there may lead or stop us.
_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK if os.name == "posix" else 0


class Quiet:
    """Takes the machine, shared with others or alone.

    One process uses one of these, from one thread, and takes nothing twice: what it holds itself
    would keep it out for ever, so that is refused.

    Args:
        folder: Where the lock's files lie. Default: `ONNX_HARNESS_LOCKS`, else the system's folder
            of temporary files.
        say: Shows what is waited for, if it takes long; nothing when it is over.
    """

    def __init__(
        self, folder: Path | None = None, *, say: Callable[[str], None] = lambda _: None
    ) -> None:
        self._folder = places.locks_folder() if folder is None else folder
        self._say = say
        self._held: set[str] = set()
        self._problem: EnvironmentProblem | None = None

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Hold the machine together with others, while nobody measures.

        Raises:
            EnvironmentProblem: If the lock's files cannot be used; told in full once.
        """
        with self._once("the machine"), self._inside(exclusive=False):
            yield

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Hold the machine alone.

        Raises:
            EnvironmentProblem: If the lock's files cannot be used; told in full once.
        """
        with self._once("the machine"), self._inside(exclusive=True):
            yield

    @contextmanager
    def device(self, name: str) -> Iterator[None]:
        """Hold a device alone; the machine is taken before, never after.

        Args:
            name: Becomes part of a file's name.

        Raises:
            EnvironmentProblem: If the lock's files cannot be used; told in full once.
        """
        file = f"onnx-harness.device-{''.join(each if each.isalnum() else '-' for each in name)}"
        with self._once(file), self._locked(file, exclusive=True, told=WAITING_FOR_DEVICE):
            yield

    @contextmanager
    def _once(self, what: str) -> Iterator[None]:
        if what in self._held or (what == "the machine" and self._held):
            msg = f"{what} was to be taken inside what holds {', '.join(self._held)}"
            raise HarnessBug(msg, where=str(self._folder), next_step="leave that first")
        self._held.add(what)
        try:
            yield
        finally:
            self._held.discard(what)

    @contextmanager
    def _inside(self, *, exclusive: bool) -> Iterator[None]:
        with ExitStack() as room:
            with self._locked(TURNSTILE, exclusive=True, told=WAITING):
                room.enter_context(self._locked(ROOM, exclusive=exclusive, told=WAITING))
            yield

    @contextmanager
    def _locked(self, file: str, *, exclusive: bool, told: str) -> Iterator[None]:
        if sys.platform != "linux":
            yield
            return
        fd = self._lock(self._folder / file, fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH, told)
        try:
            yield
        finally:
            fcntl.flock(fd, fcntl.LOCK_UN)  # closing alone would not, if a forked child has a copy
            os.close(fd)

    def _lock(self, path: Path, operation: int, told: str) -> int:
        """Return the descriptor of a locked file.

        It is opened each time: a forked child must not share its parent's lock, and a file that
        somebody has cleaned away must not divide the machine.
        """
        if self._problem is not None:
            raise blocked_by(self._problem)
        try:
            while (fd := self._lock_file(path, operation, told)) is None:
                pass
        except OSError as error:
            self._problem = _unusable(path, error)
            raise self._problem from None
        return fd

    def _lock_file(self, path: Path, operation: int, told: str) -> int | None:
        """Return None if the file is another one by now."""
        fd = _open(path)
        try:
            self._wait(fd, operation, told)
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(fd), path.stat()):
                    return fd
        except BaseException:  # Ctrl-C too must not leave it locked
            os.close(fd)
            raise
        os.close(fd)
        return None

    def _wait(self, fd: int, operation: int, told: str) -> None:
        with suppress(BlockingIOError):
            fcntl.flock(fd, operation | fcntl.LOCK_NB)
            return
        timer = threading.Timer(PATIENCE_S, self._say, [told])
        timer.start()
        try:
            fcntl.flock(fd, operation)  # the kernel wakes us; asking again and again would lose
        finally:
            timer.cancel()
            timer.join()
            self._say("")


def _open(path: Path) -> int:
    """Return a descriptor of the file, made if need be.

    It is never opened to be made: Linux refuses that for another user's file in a folder like
    /tmp (`fs.protected_regular`).
    """
    with suppress(FileNotFoundError):
        return os.open(path, _FLAGS)
    _make(path)
    return os.open(path, _FLAGS)


def _make(path: Path) -> None:
    """Make a file that everybody may open; nobody sees it before that is so."""
    fd, name = tempfile.mkstemp(prefix=f"{path.name}-", dir=path.parent)
    try:
        os.fchmod(fd, 0o666)
        with suppress(FileExistsError):
            path.hardlink_to(name)
    finally:
        os.close(fd)
        Path(name).unlink()


def _unusable(path: Path, error: OSError) -> EnvironmentProblem:
    msg = f"The machine's lock cannot be used: {error.strerror}"
    return EnvironmentProblem(
        msg,
        code="lock.unusable",
        where=str(path),
        expected="a file that every user of this machine may open",
        got=type(error).__name__,
        next_step="mend it, or name a folder that all users share in ONNX_HARNESS_LOCKS",
    )
