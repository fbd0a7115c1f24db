"""All baselines at once: those of a folder, and those of a commit wherever the folder lies."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness.errors import EnvironmentProblem, UsageProblem
from harness.files.baseline_states import Past, read_all
from harness.files.baselines import Baselines
from harness.testing import MiniProject
from tests.baselines import ENVIRONMENT, baseline, local
from tests.cli.baselines import commit, start_repository

PLACE = ENVIRONMENT.id


@pytest.fixture(autouse=True)
def _no_repository_above(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep git from a repository that temporary folders may lie in; scope function."""
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))


def fill(folder: Path) -> Baselines:
    """Return baselines with both files of a model, and what is no baseline."""
    baselines = Baselines(folder)
    baselines.write(baseline("tiny"))
    baselines.write_local(local("tiny"))
    (folder / "artefacts").mkdir()
    for strange in ("artefacts/tiny.json", "notes.txt", f"{PLACE}/deep/tiny.json"):
        (folder / strange).parent.mkdir(exist_ok=True)
        (folder / strange).write_text("{")
    return baselines


def test_a_missing_folder_has_no_baselines(tmp_path: Path) -> None:
    """Nothing was approved yet."""
    found = read_all(Baselines(tmp_path / "nowhere"))
    assert (found.portable, found.local, found.broken) == ({}, {}, {})


def test_a_broken_file_keeps_no_other_away(tmp_path: Path) -> None:
    """It is told with its place."""
    baselines = fill(tmp_path)
    for path in ("bad.json", f"{PLACE}/bad.json"):
        (tmp_path / path).write_text("{")
    found = read_all(baselines)
    assert list(found.portable) == ["tiny"]
    assert list(found.local) == [(PLACE, "tiny")]
    assert {place: error.code for place, error in found.broken.items()} == {
        ("", "bad"): "baseline.unreadable",
        (PLACE, "bad"): "baseline.unreadable",
    }


def test_only_what_is_wanted_is_read(tmp_path: Path) -> None:
    """By name, and with or without figures."""
    baselines = fill(tmp_path)
    assert list(read_all(baselines, wanted="other".__eq__).portable) == []
    assert read_all(baselines, with_figures=False).local == {}


@pytest.mark.parametrize("place", [".", "baselines", "deep/er", "od[d]* name"])
def test_a_commit_has_the_baselines_that_the_folder_had(project: MiniProject, place: str) -> None:
    """Wherever the folder lies in its repository, and also when it is gone."""
    start_repository(project)
    folder = project.root / place
    folder.mkdir(parents=True, exist_ok=True)
    now = read_all(fill(folder))
    known = commit(project, "Approve")
    for path in (folder / "tiny.json", folder / PLACE / "tiny.json"):
        path.unlink()
    commit(project, "Remove")
    commit(project, "Something else")
    past = Past(folder)
    then = past.read(past.commit(known))
    assert (then.portable, then.local, then.broken) == (now.portable, now.local, {})
    assert [each.subject for each in past.commits(["tiny"])] == ["Remove", "Approve"]
    assert past.commits(["other"]) == []
    assert past.read(past.commit("HEAD")).portable == {}


def test_a_folder_that_is_gone_has_its_history(project: MiniProject) -> None:
    """It is read from the nearest folder that is there."""
    start_repository(project)
    Baselines(project.root / "a" / "b").write(baseline("tiny"))
    commit(project, "Approve")
    (project.root / "a" / "b" / "tiny.json").unlink()
    (project.root / "a" / "b").rmdir()
    (project.root / "a").rmdir()
    past = Past(project.root / "a" / "b")
    assert list(past.read(past.commit("HEAD")).portable) == ["tiny"]


def test_a_repository_without_a_commit_has_no_history(project: MiniProject) -> None:
    """It is told, not taken for one without baselines."""
    start_repository(project)
    with pytest.raises(UsageProblem, match="'HEAD' names no commit"):
        Past(project.root).commit("HEAD")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may remove everything")
def test_a_file_that_cannot_be_removed_is_told(tmp_path: Path) -> None:
    """With the finding of a file that cannot be written."""
    baselines = fill(tmp_path)
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(EnvironmentProblem) as raised:
            baselines.remove("tiny")
    finally:
        tmp_path.chmod(0o700)
    assert raised.value.code == "baseline.unwritable"


def test_a_folder_in_a_files_place_is_not_removed(tmp_path: Path) -> None:
    """Nor is what lies in it."""
    (tmp_path / "tiny.json").mkdir()
    with pytest.raises(EnvironmentProblem) as raised:
        Baselines(tmp_path).remove("tiny")
    assert raised.value.code == "baseline.unwritable"
    assert (tmp_path / "tiny.json").is_dir()
