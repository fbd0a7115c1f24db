"""Caches: an entry is whole and unchanged, or it is not there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given

from harness.domain.values import Value, Values
from harness.files import cache
from harness.files.cache import ValueCache
from tests.strategies import VALUES, same

KEY = "0" * 64
STEPS: tuple[Values, ...] = ({"y": np.ones((2, 3), np.float32), "n": None}, {"y": np.zeros(1)})


def stored(folder: Path) -> Path:
    """Store an entry and return its file."""
    ValueCache(folder).put(KEY, STEPS)
    (file,) = folder.rglob("*.values")
    return file


def test_entries_come_back(tmp_path: Path) -> None:
    """Another process finds the same steps."""
    stored(tmp_path)
    got = ValueCache(tmp_path).get(KEY)
    assert got is not None
    assert [list(step) for step in got] == [["y", "n"], ["y"]]
    assert all(same(step[name], old[name]) for step, old in zip(got, STEPS, strict=True)
               for name in old)  # fmt: skip


@given(VALUES)
def test_all_values_can_be_stored(value: Value) -> None:
    """Nothing is lost on the way through an entry."""
    (step,) = cache._read(cache._write([{"y": value}]))
    assert same(step["y"], value)


def test_an_absent_entry(tmp_path: Path) -> None:
    """None, whether or not the folder exists."""
    assert ValueCache(tmp_path / "none").get(KEY) is None


@pytest.mark.parametrize("place", [0, 25, 60, 100, -1])
def test_a_changed_byte_is_noticed(tmp_path: Path, place: int) -> None:
    """A broken entry is computed again instead of trusted."""
    file = stored(tmp_path)
    data = bytearray(file.read_bytes())
    data[place] ^= 1
    file.write_bytes(data)
    assert ValueCache(tmp_path).get(KEY) is None


@pytest.mark.parametrize("keep", [0, 10, 60, -1])
def test_a_cut_entry_is_noticed(tmp_path: Path, keep: int) -> None:
    """Half of an entry is none."""
    file = stored(tmp_path)
    file.write_bytes(file.read_bytes()[:keep])
    assert ValueCache(tmp_path).get(KEY) is None


def test_an_entry_can_be_replaced(tmp_path: Path) -> None:
    """A broken entry does not stay."""
    stored(tmp_path).write_bytes(b"")
    stored(tmp_path)
    assert ValueCache(tmp_path).get(KEY) is not None


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    """Neither the file nor a temporary one."""

    def fail(target: Path) -> None:
        target.write_text("half")
        message = "disk full"
        raise OSError(message)

    target = tmp_path / "a" / "file"
    with pytest.raises(OSError, match="disk full"):
        cache.write_atomically(target, fail)
    assert list(target.parent.iterdir()) == []


def test_a_failed_write_keeps_what_was_there(tmp_path: Path) -> None:
    """The old file stays until the new one is whole."""
    target = tmp_path / "file"
    cache.write_atomically(target, lambda path: path.write_text("old"))

    def fail(path: Path) -> None:
        assert target.read_text() == "old"
        path.write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.write_atomically(target, fail)
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_keys_keep_their_parts_apart() -> None:
    """`a` with `bc` is not `ab` with `c`."""
    assert cache.key_of("a", "bc") != cache.key_of("ab", "c")
    assert cache.key_of("a") != cache.key_of("a", "")
    assert cache.key_of("a", "b") == cache.key_of("a", "b")


def test_hash_of_a_file(tmp_path: Path) -> None:
    """SHA-256 of the content."""
    file = tmp_path / "f"
    file.write_bytes(b"abc")
    assert cache.hash_file(file).startswith("ba7816bf")


#: Read, then write: what two processes must not do at once.
APPEND = """
import sys
from pathlib import Path
from harness.files import cache
folder = Path(sys.argv[1])
with cache.locked(folder / "lock"):
    file = folder / "numbers"
    known = file.read_text() if file.exists() else ""
    file.write_text(known + sys.argv[2] + ",")
"""


def test_a_lock_holds_between_processes(tmp_path: Path) -> None:
    """No update is lost."""
    processes = [
        subprocess.Popen([sys.executable, "-c", APPEND, str(tmp_path), str(number)])
        for number in range(3)
    ]
    assert [process.wait() for process in processes] == [0, 0, 0]
    numbers = (tmp_path / "numbers").read_text().split(",")
    assert sorted(filter(None, numbers)) == ["0", "1", "2"]
