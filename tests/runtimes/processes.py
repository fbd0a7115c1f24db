"""What /proc tells of other processes, for tests that nothing is left behind."""

from __future__ import annotations

import time
from pathlib import Path

#: A machine under load may take long to end processes; a test that waits this long has failed.
PATIENCE_S = 30.0


def descendants(pid: int) -> set[int]:
    """Return the living children of a process, their children, and so on."""
    parents = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and (found := _state_and_parent(int(folder.name))):
            parents[int(folder.name)] = found[1]
    found_now = {child for child, parent in parents.items() if parent == pid}
    return found_now.union(*(descendants(child) for child in found_now))


def is_gone(pid: int) -> bool:
    """Return whether a process has ended; a zombie that nobody waits for has."""
    found = _state_and_parent(pid)
    return found is None or found[0] in "ZX"


def left_over(pids: set[int]) -> set[int]:
    """Wait for processes to end and return those that did not."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline and not all(map(is_gone, pids)):
        time.sleep(0.02)
    return {pid for pid in pids if not is_gone(pid)}


def _state_and_parent(pid: int) -> tuple[str, int] | None:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    state, parent = fields.rpartition(")")[2].split()[:2]
    return state, int(parent)
