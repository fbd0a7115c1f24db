"""The machine's lock: shared by items, exclusive to measurements."""

from __future__ import annotations

import os
import select
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

import pytest

import harness
from harness.errors import EnvironmentProblem, HarnessBug
from harness.files import places
from harness.runtimes import quiet
from harness.runtimes.quiet import ROOM, TURNSTILE, WAITING, WAITING_FOR_DEVICE, Quiet
from tests.runtimes.processes import PATIENCE_S

if sys.platform != "linux":
    pytest.skip("nothing is locked elsewhere", allow_module_level=True)

import fcntl

#: Takes the machine shared, over and over.
STREAM = """
import sys, time
from pathlib import Path
from harness.runtimes.quiet import Quiet
own = Quiet(Path(sys.argv[1]))
while True:
    with own.shared():
        print("inside", flush=True)
        time.sleep(float(sys.argv[2]))
"""
#: Takes the machine or a device once, and holds it until its input ends.
HOLDER = """
import sys
from pathlib import Path
from harness.runtimes.quiet import Quiet
own = Quiet(Path(sys.argv[1]))
with own.device(sys.argv[3]) if sys.argv[2] == "device" else getattr(own, sys.argv[2])():
    print("inside", flush=True)
    sys.stdin.read()
"""
Process = subprocess.Popen[str]


@contextmanager
def process(program: str, *arguments: str) -> Iterator[Process]:
    """Yield a process of `program`; it is killed in the end."""
    started = subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(harness.__file__).parent.parent)},
    )
    with started:
        try:
            yield started
        finally:
            started.kill()


def is_inside(started: Process, *, wait_s: float = PATIENCE_S) -> bool:
    """Return whether a process got in, waiting for it."""
    assert started.stdout is not None
    return bool(select.select([started.stdout], [], [], wait_s)[0]) and (
        started.stdout.readline() == "inside\n"
    )


def is_free(path: Path) -> bool:
    """Return whether nobody has a file locked now."""
    fd = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(fd)
    return True


def wait_for_waiter(folder: Path, file: str = TURNSTILE) -> None:
    """Wait until a process holds the turnstile for long: it waits for those inside."""
    deadline = time.monotonic() + PATIENCE_S
    while is_free(folder / file):
        assert time.monotonic() < deadline, "nobody waits"
        time.sleep(0.01)


def leave(holder: Process) -> None:
    """Let a holder go on."""
    holder.communicate("")


def kill(holder: Process) -> None:
    """Kill a holder."""
    holder.send_signal(signal.SIGKILL)


@pytest.mark.parametrize("end", [leave, kill], ids=["leaves", "is killed"])
@pytest.mark.parametrize(
    ("first", "second"),
    [("exclusive", "shared"), ("exclusive", "exclusive"), ("shared", "exclusive")],
)
def test_a_measurement_excludes_all_others(
    tmp_path: Path, first: str, second: str, end: Callable[[Process], None]
) -> None:
    """The second gets in when the first is gone, however it went, and not before."""
    with process(HOLDER, str(tmp_path), first) as holder:
        assert is_inside(holder)
        with process(HOLDER, str(tmp_path), second) as waiting:
            wait_for_waiter(tmp_path)
            assert not is_inside(waiting, wait_s=0)
            end(holder)
            assert is_inside(waiting)


def test_items_do_not_exclude_each_other(tmp_path: Path) -> None:
    """Two processes hold the machine shared at the same time."""
    with Quiet(tmp_path).shared(), process(HOLDER, str(tmp_path), "shared") as other:
        assert is_inside(other)


def test_a_steady_stream_of_items_does_not_keep_a_measurement_out(tmp_path: Path) -> None:
    """It gets in although, without it, the machine would never be free."""
    with ExitStack() as stack:
        pauses = ("0.31", "0.37", "0.41", "0.43")
        stream = [stack.enter_context(process(STREAM, str(tmp_path), each)) for each in pauses]
        assert all(map(is_inside, stream))
        seen_free = 0
        for _ in range(50):
            seen_free += is_free(tmp_path / ROOM)
            time.sleep(0.02)
        assert seen_free == 0
        with process(HOLDER, str(tmp_path), "exclusive") as alone:
            assert is_inside(alone)


def test_items_of_one_device_take_turns(tmp_path: Path) -> None:
    """Others of the same name wait, those of another name do not."""
    own = Quiet(tmp_path)
    with ExitStack() as held:
        held.enter_context(own.shared())
        held.enter_context(own.device("0"))
        with (
            process(HOLDER, str(tmp_path), "device", "1,2") as other,
            process(HOLDER, str(tmp_path), "device", "0") as same,
        ):
            assert is_inside(other)
            assert not is_inside(same, wait_s=0.5)
            held.close()
            assert is_inside(same)
    assert (tmp_path / "onnx-harness.device-1-2").is_file()


def taken(own: Quiet, how: str) -> AbstractContextManager[None]:
    """Return what takes the machine, or a device."""
    if how == "device":
        return own.device("0")
    return own.shared() if how == "shared" else own.exclusive()


@pytest.mark.parametrize("inner", ["shared", "exclusive"])
@pytest.mark.parametrize("outer", ["shared", "exclusive", "device"])
def test_what_would_wait_for_itself_is_refused(tmp_path: Path, outer: str, inner: str) -> None:
    """A process that takes the machine inside what it holds would wait for ever."""
    own = Quiet(tmp_path)
    with (
        taken(own, outer),
        pytest.raises(HarnessBug, match="was to be taken inside what holds"),
        taken(own, inner),
    ):
        pass
    with taken(own, inner):
        pass  # what was refused does not count as held


def test_what_is_waited_for_is_said_when_it_takes_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And taken back afterwards; who need not wait says nothing."""
    monkeypatch.setattr(quiet, "PATIENCE_S", 0.0)
    said: list[str] = []
    with process(HOLDER, str(tmp_path), "exclusive") as holder:
        assert is_inside(holder)

        def say(text: str) -> None:
            said.append(text)
            if text:
                leave(holder)

        own = Quiet(tmp_path, say=say)
        with own.shared():
            assert said == [WAITING, ""]
    with own.exclusive():
        assert said == [WAITING, ""]


def test_a_device_that_is_waited_for_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The text is another one: nobody measures."""
    monkeypatch.setattr(quiet, "PATIENCE_S", 0.0)
    said: list[str] = []
    with process(HOLDER, str(tmp_path), "device", "0") as holder:
        assert is_inside(holder)

        def say(text: str) -> None:
            said.append(text)
            if text:
                leave(holder)

        with Quiet(tmp_path, say=say).device("0"):
            assert said == [WAITING_FOR_DEVICE, ""]


def test_every_user_may_open_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the umask; and none is opened to be made, which Linux refuses for others' files."""
    flags: list[int] = []

    def spy(path: Path, given: int, mode: int = 0o777) -> int:
        flags.append(given)
        return os_open(path, given, mode)

    os_open, before = os.open, os.umask(0o077)
    monkeypatch.setattr(os, "open", spy)
    try:
        for _ in range(2):
            with Quiet(tmp_path).shared():
                pass
    finally:
        os.umask(before)
    monkeypatch.undo()
    files = sorted(tmp_path.iterdir())
    assert [file.name for file in files] == [ROOM, TURNSTILE]
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o666}
    seen = [each for each in flags if not each & os.O_EXCL]  # tempfile makes its own that way
    assert seen
    assert not any(each & os.O_CREAT for each in seen)


def test_a_file_that_was_cleaned_away_does_not_divide_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who waited for the old file takes the new one, like everybody who comes later."""
    with Quiet(tmp_path).shared():
        pass
    flock = fcntl.flock
    gone: list[Path] = []

    def clean_away(fd: int, operation: int) -> None:
        flock(fd, operation)
        if not gone:
            gone.append(tmp_path / TURNSTILE)
            gone[0].unlink()

    monkeypatch.setattr(fcntl, "flock", clean_away)
    with Quiet(tmp_path).exclusive():
        monkeypatch.undo()
        assert gone[0].is_file()
        assert not is_free(tmp_path / ROOM)
    assert is_free(tmp_path / TURNSTILE)


def test_files_that_cannot_be_used_are_told_once_in_full(tmp_path: Path) -> None:
    """Afterwards in one line: no item of the run can do without."""
    own = Quiet(tmp_path / "none")
    with pytest.raises(EnvironmentProblem) as told, own.shared():
        pass
    assert str(told.value).splitlines() == [
        "The machine's lock cannot be used: No such file or directory",
        f"  where:    {tmp_path / 'none' / TURNSTILE}",
        "  expected: a file that every user of this machine may open",
        "  got:      FileNotFoundError",
        "  next:     mend it, or name a folder that all users share in ONNX_HARNESS_LOCKS",
    ]
    assert told.value.code == "lock.unusable"
    with pytest.raises(EnvironmentProblem) as again, own.exclusive():
        pass
    assert (again.value.code, again.value.cause) == ("blocked", "lock.unusable")


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    """Somebody else may have put it into a folder that everybody can write."""
    (tmp_path / TURNSTILE).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(EnvironmentProblem, match="symbolic links"), Quiet(tmp_path).shared():
        pass


def test_the_folder_is_the_same_for_all_users() -> None:
    """TMPDIR, which may differ, does not matter; ONNX_HARNESS_LOCKS names another one."""
    assert places.locks_folder({"TMPDIR": "/home/me"}) == Path("/tmp")
    assert places.locks_folder({"ONNX_HARNESS_LOCKS": "/locks"}) == Path("/locks")
