"""What git knows of a folder: its last commit, whose date does not move when the clock does."""

from __future__ import annotations

import datetime
import getpass
import os
import re
import shutil
import subprocess
from pathlib import Path

from harness.domain.known_failures import AsOf
from harness.errors import UsageProblem

#: Reading one commit takes milliseconds; a network file system may be slow.
LIMIT_S = 10.0
#: Digits of a commit's hash in messages.
SHORT = 12
_COMMIT = re.compile(r"(?P<day>\d{4}-\d\d-\d\d) (?P<commit>[0-9a-f]+)")
_CHANGE = re.compile(r"(?P<commit>[0-9a-f]+) (?P<date>\S+)")
_NOTHING = "git says nothing"
#: Set inside git's hooks, where they may point at another repository than the project's.
_FOREIGN = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE")


def as_of(project: Path, given: str | None) -> AsOf:
    """Return the day that counts: the one given, else the last commit's, else today.

    The commit's date is the committer's own, in the committer's time zone. A shallow clone has
    its last commit; changes that are not committed have no date, so they move nothing.

    Raises:
        UsageProblem: If `given` is no day.
    """
    if given is not None:
        return AsOf(date=_day(given), source="given by --as-of")
    told = _git(project, "log", "-1", "--no-show-signature", "--format=%cs %H")
    if (found := _COMMIT.fullmatch(told)) is None:
        today = datetime.datetime.now(datetime.UTC).date()
        why = told if told.startswith("git ") else f"git says: {told}"
        return AsOf(date=today, source=f"today (UTC), because {why}")
    source = f"the date of commit {found['commit'][:SHORT]}"
    return AsOf(date=datetime.date.fromisoformat(found["day"]), source=source)


def _day(text: str) -> datetime.date:
    try:
        return datetime.datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=datetime.UTC).date()
    except ValueError:
        msg = f"'{text}' is no day"
        raise UsageProblem(
            msg, where="--as-of", expected="YYYY-MM-DD, for example 2027-03-01"
        ) from None


def last_commit(folder: Path) -> dict[str, str]:
    """Return `commit` and `date` of the last change to a folder.

    Empty where there is none to name: no git, no repository, or changes that are not committed.
    """
    if _git(folder, "status", "--porcelain", "--", ".") != _NOTHING:
        return {}
    told = _git(folder, "log", "-1", "--no-show-signature", "--format=%H %cI", "--", ".")
    if (found := _CHANGE.fullmatch(told)) is None:
        return {}
    return {"commit": found["commit"], "date": found["date"]}


def head(folder: Path) -> str:
    """Return the hash of the commit that is checked out; empty outside a repository."""
    told = _git(folder, "rev-parse", "HEAD")
    return told if re.fullmatch(r"[0-9a-f]{40,64}", told) else ""


def author(folder: Path) -> str:
    """Return who works here: git's name for them, else the account's."""
    told = _git(folder, "config", "user.name")
    return getpass.getuser() if told.startswith("git ") else told


def printed(folder: Path, *arguments: str) -> bytes:
    """Return all that git prints.

    Raises:
        UsageProblem: If git is missing, does not answer, or refuses.
    """
    done = _ran(folder, *arguments)
    if not isinstance(done, str) and not done.returncode:
        return done.stdout
    why = done if isinstance(done, str) else _first_line(done)
    msg = f"History of '{folder}' cannot be read: {why}"
    raise UsageProblem(
        msg, where=str(folder), expected="a folder in a git repository that has commits"
    )


def _git(folder: Path, *arguments: str) -> str:
    """Return the first line that git prints, or why there is none."""
    done = _ran(folder, *arguments)
    return done if isinstance(done, str) else _first_line(done)


def _first_line(done: subprocess.CompletedProcess[bytes]) -> str:
    told = (done.stderr if done.returncode else done.stdout).decode(errors="replace").splitlines()
    if done.returncode:
        return f"git says: {told[0] if told else f'exit code {done.returncode}'}"
    return told[0] if told else _NOTHING


def _ran(folder: Path, *arguments: str) -> subprocess.CompletedProcess[bytes] | str:
    """Return what git did, or why it could not be asked."""
    git = shutil.which("git")
    if git is None:
        return "git is not installed"
    kept = {name: text for name, text in os.environ.items() if name not in _FOREIGN}
    try:
        return subprocess.run(
            [git, "-C", str(folder), *arguments],
            env={**kept, "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=LIMIT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"git did not answer: {type(error).__name__}"
