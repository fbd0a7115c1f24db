"""The day on which a build is judged: that of its last commit, so that it never depends on when."""

from __future__ import annotations

import datetime
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
    told = _last_commit(project)
    if (found := _COMMIT.fullmatch(told)) is None:
        today = datetime.datetime.now(datetime.UTC).date()
        return AsOf(date=today, source=f"today (UTC), because {told}")
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


def _last_commit(project: Path) -> str:
    """Return `YYYY-MM-DD HASH` of the last commit, or why there is none."""
    git = shutil.which("git")
    if git is None:
        return "git is not installed"
    kept = {name: text for name, text in os.environ.items() if name not in _FOREIGN}
    try:
        done = subprocess.run(
            [git, "-C", str(project), "log", "-1", "--no-show-signature", "--format=%cs %H"],
            env={**kept, "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=LIMIT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"git did not answer: {type(error).__name__}"
    told = (done.stderr if done.returncode else done.stdout).decode(errors="replace").splitlines()
    first = told[0] if told else f"exit code {done.returncode}"
    return first if _COMMIT.fullmatch(first) else f"git says: {first}"
