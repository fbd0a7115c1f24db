"""`--as-of`: the day on which known failures are judged; by default that of the last commit."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from typing import Any

import numpy as np
import pytest

from harness.testing import MiniProject, identity_model

ONE = np.ones((2, 3), np.float32)
SPEC = """schema_version = 1
candidate.file = "model.onnx"
reference.recorded = "."

[[known_failure]]
cell = "*"
code = "parity.tolerance"
issue = "https://example.com/issues/7"
expires = 2020-03-01
"""


@pytest.fixture
def wrong(project: MiniProject) -> MiniProject:
    """Return a project whose one case fails, as it was expected until March 2020."""
    project.add_zoo_model("m", identity_model(shape=("n", 3)), [((ONE,), (2 * ONE,))])
    project.write("models/m/model.toml", SPEC)
    return project


def asked(project: MiniProject) -> dict[str, Any]:
    """Return what the run record says about the selection."""
    record = json.loads((project.root / "record.json").read_text(encoding="utf-8"))
    found: dict[str, Any] = record["asked"]
    return found


def git(project: MiniProject, *arguments: str) -> str:
    """Run git in the project, as somebody who commits in February 2020."""
    who = ("-c", "user.name=N", "-c", "user.email=n@example.com", "-c", "commit.gpgsign=false")
    when = {"GIT_COMMITTER_DATE": "2020-02-02T12:00:00+0000"}
    done = subprocess.run(
        ["git", "-C", str(project.root), *who, *arguments],  # noqa: S607 - as a user would
        env={**os.environ, **when},
        capture_output=True,
        check=True,
    )
    return done.stdout.decode().strip()


def test_the_day_decides(wrong: MiniProject) -> None:
    """The same build is green on one day and red after another; the record says which was used."""
    assert wrong.run("--as-of", "2020-03-01").exit_code == 0
    assert asked(wrong)["as_of"] == ["2020-03-01", "given by --as-of"]
    assert wrong.run("--as-of", "2020-03-02").exit_code == pytest.ExitCode.TESTS_FAILED


def test_the_last_commit_is_the_default(wrong: MiniProject) -> None:
    """Years later, the build that was green is green; without a repository, today counts."""
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    alone = {"GIT_CEILING_DIRECTORIES": str(wrong.root.parent)}
    assert wrong.run(env=alone).exit_code == pytest.ExitCode.TESTS_FAILED
    assert asked(wrong)["as_of"][1].startswith("today (UTC), because git says: ")
    git(wrong, "init", "--quiet")
    git(wrong, "add", "--all")
    git(wrong, "commit", "--quiet", "--message", "m")
    known = git(wrong, "rev-parse", "HEAD")[:12]
    assert wrong.run().exit_code == 0
    assert asked(wrong)["as_of"] == ["2020-02-02", f"the date of commit {known}"]


def test_without_known_failures_no_day_is_looked_up(tiny: MiniProject) -> None:
    """Nobody pays for git, and the record has no day."""
    tiny.write("bin/git", "#!/bin/sh\ntouch called\n").chmod(0o755)
    path = os.pathsep.join((str(tiny.root / "bin"), os.environ["PATH"]))
    # pytest-benchmark asks git for its own reasons
    assert tiny.run("-p", "no:benchmark", env={"PATH": path}).exit_code == 0
    assert "as_of" not in asked(tiny)
    assert not (tiny.root / "called").exists()


@pytest.mark.parametrize("day", ["tomorrow", ""])
def test_what_is_no_day_is_a_usage_error(tiny: MiniProject, day: str) -> None:
    """Whether or not there is a known failure."""
    outcome = tiny.run(f"--as-of={day}")
    assert outcome.exit_code == pytest.ExitCode.USAGE_ERROR
    assert (
        f"ERROR: '{day}' is no day\n"
        "  where:    --as-of\n"
        "  expected: YYYY-MM-DD, for example 2027-03-01\n"
    ) in outcome.text


def test_the_option_asks_for_the_harness(tiny: MiniProject) -> None:
    """Like the others, it is an error if no suite is collected."""
    tiny.write("test_own.py", "def test_own(): pass\n")
    outcome = tiny.run("test_own.py", "--as-of", "2027-03-01", suites=False)
    assert outcome.exit_code == pytest.ExitCode.USAGE_ERROR
    assert "no suite was collected" in outcome.text
