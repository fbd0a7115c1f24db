"""Projects with baselines and a history, for tests of the commands that read them."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from harness.domain.baseline import Baseline, LocalBaseline
from harness.files.baselines import Baselines
from harness.testing import MiniProject, file_spec, linear_model

WHEN = "2027-02-20T23:30:00+0500"


def git(folder: Path, *arguments: str) -> str:
    """Run git as Ada, on a known day, and return what it prints."""
    settings = ("-c", "user.name=Ada", "-c", "user.email=a@example.com")
    command = ["git", "-C", str(folder), *settings, "-c", "commit.gpgsign=false", *arguments]
    env = {**os.environ, "GIT_COMMITTER_DATE": WHEN, "GIT_AUTHOR_DATE": WHEN}
    return subprocess.run(command, env=env, capture_output=True, check=True).stdout.decode().strip()


def commit(project: MiniProject, subject: str) -> str:
    """Commit all of a project, and return the first digits of the commit."""
    git(project.root, "add", "--all")
    git(project.root, "commit", "--quiet", "--allow-empty", "--message", subject)
    return git(project.root, "rev-parse", "HEAD")[:12]


def start_repository(project: MiniProject) -> None:
    """Make the project a repository without a commit; its cache stays out of it."""
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    git(project.root, "init", "--quiet")
    project.write(".gitignore", ".cache\n.runtimes\n")


def write(project: MiniProject, *found: Baseline | LocalBaseline) -> None:
    """Write baselines into the project."""
    baselines = Baselines(project.root / "baselines")
    for each in found:
        if isinstance(each, Baseline):
            baselines.write(each)
        else:
            baselines.write_local(each)


def add_model(project: MiniProject, name: str = "tiny", head: str = "") -> None:
    """Add a model with one cell, `fp32/cpu`, and one latency point, `one`."""
    project.add_model(name, head + file_spec(), {"model.onnx": linear_model().SerializeToString()})
