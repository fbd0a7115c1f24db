"""The day on which a build is judged: that of its last commit, else today."""

from __future__ import annotations

import datetime
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from harness.errors import UsageProblem
from harness.files import commits
from harness.files.commits import as_of

WHEN = "2027-02-20T23:30:00+0500"
DAY = datetime.date(2027, 2, 20)
#: Signs anything, and finds every signature good.
GPG = """#!/bin/sh
case "$*" in *--verify*) echo "gpg: Good signature" >&2; echo "[GNUPG:] GOODSIG 0 N"; exit;; esac
cat > /dev/null
printf -- '-----BEGIN PGP SIGNATURE-----\\n\\nx\\n-----END PGP SIGNATURE-----\\n'
printf '\\n[GNUPG:] SIG_CREATED \\n' >&2
"""


@pytest.fixture(autouse=True)
def _no_repository_above(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep git from a repository that temporary folders may lie in; scope function."""
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Return a git repository with one commit of a known day; scope function."""
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    folder = tmp_path / "project"
    folder.mkdir()
    git(folder, "init", "--quiet")
    commit(folder, WHEN)
    return folder


def git(folder: Path, *arguments: str, **env: str) -> str:
    """Run git and return what it prints."""
    settings = ("-c", "user.name=N", "-c", "user.email=n@example.com", "-c", "commit.gpgsign=false")
    command = ["git", "-C", str(folder), *settings, *arguments]
    done = subprocess.run(command, env={**os.environ, **env}, capture_output=True, check=True)
    return done.stdout.decode().strip()


def commit(folder: Path, when: str) -> None:
    """Make an empty commit; its author wrote it years before."""
    env = {"GIT_COMMITTER_DATE": when, "GIT_AUTHOR_DATE": "2020-01-01T00:00:00+0000"}
    git(folder, "commit", "--quiet", "--allow-empty", "--message", "m", **env)


def today() -> set[datetime.date]:
    """Return the days that today may be, around midnight."""
    now = datetime.datetime.now(datetime.UTC)
    return {now.date(), (now - datetime.timedelta(minutes=1)).date()}


def test_the_last_commit_tells_the_day(repository: Path) -> None:
    """The committer's, in the committer's time zone, also below the repository's root."""
    (repository / "inner").mkdir()
    known = git(repository, "rev-parse", "HEAD")[:12]
    for folder in (repository, repository / "inner"):
        day = as_of(folder, None)
        assert (day.date, day.source) == (DAY, f"the date of commit {known}")
        assert str(day) == f"2027-02-20, the date of commit {known}"


def test_a_later_commit_moves_the_day(repository: Path) -> None:
    """Nothing but a commit does."""
    (repository / "new.txt").write_text("not committed", encoding="utf-8")
    assert as_of(repository, None).date == DAY
    commit(repository, "2027-03-05T00:00:00+0000")
    assert as_of(repository, None).date == datetime.date(2027, 3, 5)


def test_a_shallow_clone(repository: Path, tmp_path: Path) -> None:
    """It has the last commit, which is all that is asked for."""
    commit(repository, "2027-03-05T00:00:00+0000")
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "--quiet", "--depth", "1", f"file://{repository}", str(clone))
    assert git(clone, "rev-list", "--count", "HEAD") == "1"
    assert as_of(clone, None) == as_of(repository, None)


def test_a_detached_head(repository: Path) -> None:
    """What is checked out counts, as on most CI runners."""
    first = git(repository, "rev-parse", "HEAD")
    commit(repository, "2027-03-05T00:00:00+0000")
    git(repository, "checkout", "--quiet", first)
    assert as_of(repository, None).date == DAY


def test_inside_a_hook_of_another_repository(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What git sets for its hooks does not lead away from the project."""
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "other"))
    assert as_of(repository, None).date == DAY


def test_signatures_are_not_looked_at(repository: Path) -> None:
    """A user who has them shown before each commit gets the same day."""
    program = repository / "gpg"
    program.write_text(GPG, encoding="utf-8")
    program.chmod(0o755)
    git(repository, "config", "gpg.program", str(program))
    git(repository, "config", "log.showSignature", "true")
    when = {"GIT_COMMITTER_DATE": "2027-03-05T00:00:00+0000"}
    git(repository, "commit", "--quiet", "--allow-empty", "-Skey", "--message", "m", **when)
    assert git(repository, "log", "-1", "--format=%cs").startswith("gpg: Good signature")
    assert as_of(repository, None).date == datetime.date(2027, 3, 5)


def test_without_a_repository(tmp_path: Path) -> None:
    """Today counts, and the record can say why."""
    day = as_of(tmp_path, None)
    assert day.date in today()
    assert day.source.startswith("today (UTC), because git ")


def test_a_repository_without_a_commit(tmp_path: Path, repository: Path) -> None:
    """It has no day yet."""
    assert repository.is_dir()
    empty = tmp_path / "empty"
    empty.mkdir()
    git(empty, "init", "--quiet")
    day = as_of(empty, None)
    assert day.date in today()
    assert day.source.startswith("today (UTC), because git says: fatal: ")


def test_without_git(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is no reason to fail."""
    monkeypatch.setenv("PATH", "")
    day = as_of(repository, None)
    assert day.date in today()
    assert day.source == "today (UTC), because git is not installed"


@pytest.mark.parametrize(
    ("script", "because"),
    [
        ("exit 3", "git says: exit code 3"),
        ("echo 'fatal: detected dubious ownership' >&2; exit 128", ("git says: fatal: detected "
         "dubious ownership")),
        ("echo nonsense", "git says: nonsense"),
        ("exec sleep 60", "git did not answer: TimeoutExpired"),
    ],
)  # fmt: skip
def test_a_git_that_does_not_help(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, because: str
) -> None:
    """Whatever it says, the run goes on with today."""
    program = tmp_path / "git"
    program.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(commits, "LIMIT_S", 1.0)
    day = as_of(tmp_path, None)
    assert (day.date in today(), day.source) == (True, f"today (UTC), because {because}")


def test_a_day_that_is_given(repository: Path) -> None:
    """It beats the commit."""
    day = as_of(repository, "2030-01-02")
    assert (day.date, day.source) == (datetime.date(2030, 1, 2), "given by --as-of")


@pytest.mark.parametrize("text", ["", "tomorrow", "2027-02-30", "01.03.2027", "20270301"])
def test_what_is_no_day(text: str) -> None:
    """The message says how one is written."""
    with pytest.raises(UsageProblem) as caught:
        as_of(Path(), text)
    assert str(caught.value) == (
        f"'{text}' is no day\n  where:    --as-of\n  expected: YYYY-MM-DD, for example 2027-03-01"
    )
