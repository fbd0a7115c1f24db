"""What git knows of a folder: the commit that changed it last, whose date does not move."""

from __future__ import annotations

import subprocess
from pathlib import Path

#: Nobody waits for git: a slow disk only costs the note on the commit.
_LIMIT_S = 20


def last_commit(folder: Path) -> dict[str, str]:
    """Return `commit` and `date` of the last change to a folder.

    Empty where there is none to name: no git, no repository, or changes that are not committed.
    """
    if _git(folder, "status", "--porcelain", "--", ".") != "":
        return {}
    commit, _, date = (_git(folder, "log", "-1", "--format=%H %cI", "--", ".") or "").partition(" ")
    return {"commit": commit, "date": date} if date else {}


def _git(folder: Path, *arguments: str) -> str | None:
    """Return what git printed, or None if it failed."""
    try:
        done = subprocess.run(  # git is found where the user's shell finds it
            ["git", "-C", str(folder), *arguments],  # noqa: S607
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=_LIMIT_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode(errors="backslashreplace").strip()
