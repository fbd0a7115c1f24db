"""`onnx-harness baseline show`, `diff` and `history`: what is approved, and what was."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness.domain.baseline import LocalBaseline
from harness.runtimes.machine import this_environment
from harness.testing import MiniProject
from tests.baselines import CHANGE, CONTROL, ENVIRONMENT, MODEL, baseline, local
from tests.cli.baselines import add_model, commit, git, start_repository, write
from tests.cli.conftest import Command

PLACE = ENVIRONMENT.id
APPROVED = "2026-11-23T10:00:00+00:00 by Zoë at 333333333333: first release"
RECIPE = f"model {MODEL[:12]}, onnxruntime 1.32.0, CPUExecutionProvider, 1 thread, optimization all"


@pytest.fixture(autouse=True)
def _no_repository_above(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep git from a repository that temporary folders may lie in; scope function."""
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))


@pytest.fixture
def approved(project: MiniProject) -> MiniProject:
    """Return a repository whose last commit has a baseline of `tiny`; scope function."""
    start_repository(project)
    add_model(project)
    write(project, baseline("tiny"), local("tiny"))
    commit(project, "Approve tiny")
    return project


def approved_later(found: LocalBaseline, reason: str) -> LocalBaseline:
    """Return figures that were approved for another reason."""
    figures = replace(found.entries["fp32/cpu"], change=replace(CHANGE, reason=reason))
    return replace(found, entries={"fp32/cpu": figures})


def test_show_tells_recipe_control_and_figures(command: Command, project: MiniProject) -> None:
    """Those of this machine are marked."""
    here = this_environment()
    write(project, baseline("tiny"), local("tiny"), local("tiny", here, p50_ms=2.0))
    project.write(f"baselines/artefacts/{CONTROL}", b"a model")
    figures = (
        "start-up 40 ms ± 3.0%, memory 47.68 MiB; 8 workers, 400 calls",
        "    nodes: 7 on CPUExecutionProvider",
    )
    blocks = {
        PLACE: [f"  {PLACE}", f"    batch1: p50 1.25 ms ± 0.8%, {figures[0]}", figures[1]],
        here.id: [
            f"  {here.id} (this machine)",
            f"    batch1: p50 2 ms ± 0.8%, {figures[0]}",
            figures[1],
        ],
    }
    result = command("baseline", "show")
    assert result.code == 0
    assert result.out.splitlines() == [
        "tiny/fp32/cpu",
        f"  recipe:   {RECIPE}",
        "  size:     1 kB",
        f"  control:  kept as {CONTROL[:12]}",
        f"  approved: {APPROVED}",
        *(line for place in sorted(blocks) for line in blocks[place]),
    ]


def test_show_tells_what_a_control_lacks(command: Command, project: MiniProject) -> None:
    """A file that is lost is no file that was never kept."""
    (entry,) = baseline("a").entries.values()
    write(
        project,
        baseline("a"),
        replace(baseline("b"), entries={"x/cpu": replace(entry, artefact="")}),
    )
    rows = command("baseline", "show", "--json").json
    assert {row["cell"]: row["control"] for row in rows} == {
        "a/fp32/cpu": "missing",
        "b/x/cpu": "not kept",
    }


def test_show_takes_a_glob(command: Command, project: MiniProject) -> None:
    """Other files are not read."""
    write(project, baseline("tiny"), baseline("other"))
    project.write("baselines/broken.json", "{")
    rows = command("baseline", "show", "t*", "--json").json
    assert [row["cell"] for row in rows] == ["tiny/fp32/cpu"]


def test_show_without_a_baseline_says_what_to_do(command: Command, project: MiniProject) -> None:
    """Of any model, or of one that has none yet."""
    result = command("baseline", "show")
    assert result.code == 0
    assert result.out == (
        f"no baseline of any model in '{project.root / 'baselines'}'\n"
        "  next:     onnx-harness baseline refresh --reason '...'\n"
    )
    assert command("baseline", "show", "--json").json == []
    add_model(project)
    write(project, baseline("other"))
    assert command("baseline", "show", "tiny").out == (
        f"no baseline of 'tiny' in '{project.root / 'baselines'}'\n"
        "  next:     onnx-harness baseline refresh --model tiny --reason '...'\n"
    )


def test_show_of_an_unknown_name_is_refused(command: Command, project: MiniProject) -> None:
    """With the nearest one."""
    write(project, baseline("other"))
    result = command("baseline", "show", "othr")
    assert result.code == 2
    assert "did you mean 'other'" in result.err


def test_show_tells_broken_files_beside_the_others(command: Command, project: MiniProject) -> None:
    """The exit code is that of the file."""
    write(project, baseline("tiny"))
    project.write("baselines/broken.json", "{")
    result = command("baseline", "show")
    assert result.code == 2
    assert result.out.splitlines()[0] == "tiny/fp32/cpu"
    assert "baselines/broken.json" in result.err
    told = command("baseline", "show", "--json")
    assert (told.code, told.json[1]["problem"]["code"]) == (2, "baseline.unreadable")


def test_diff_without_a_change_says_so(command: Command, approved: MiniProject) -> None:
    """Against the last commit."""
    head = git(approved.root, "rev-parse", "HEAD")[:12]
    result = command("baseline", "diff")
    assert (result.code, result.out) == (0, f"no baseline differs from HEAD ({head})\n")


def test_diff_tells_what_a_reviewer_asks(command: Command, approved: MiniProject) -> None:
    """What is new, changed or removed; recipes and figures, old and new; who and why."""
    head = git(approved.root, "rev-parse", "HEAD")[:12]
    write(approved, baseline("tiny", model="5" * 64), baseline("fresh"))
    write(approved, approved_later(local("tiny", p50_ms=1.5), "faster export"))
    result = command("baseline", "diff")
    assert result.code == 0
    assert result.out.splitlines() == [
        "fresh/fp32/cpu: new",
        f"  approved: {APPROVED}",
        f"  recipe:   {RECIPE}",
        "  size:     1 kB",
        "tiny/fp32/cpu: changed",
        f"  approved: {APPROVED}",
        f"  approved: {APPROVED.replace('first release', 'faster export')}",
        "  model:    111111111111 -> 555555555555",
        f"  {PLACE}",
        "    batch1: p50 1.25 -> 1.5 ms (+20.0%), start-up 40 ms, memory 47.68 MiB",
        f"2 differences from HEAD ({head}): 1 new, 1 changed",
        "note: stored figures of two times scatter widely; the gate judges by duets",
    ]


def test_diff_gives_no_ratio_of_different_inputs(command: Command, approved: MiniProject) -> None:
    """It would compare two questions."""
    write(approved, local("tiny", p50_ms=1.5, inputs="5" * 64))
    assert command("baseline", "diff").out.splitlines()[3] == (
        "    batch1: p50 1.25 -> 1.5 ms, start-up 40 ms, memory 47.68 MiB; "
        "not comparable: inputs or threads differ"
    )


def test_diff_tells_what_was_removed(command: Command, approved: MiniProject) -> None:
    """Also where the whole folder is gone, and against an older commit."""
    first = git(approved.root, "rev-parse", "HEAD")
    (approved.root / "baselines" / "tiny.json").unlink()
    (approved.root / "baselines" / PLACE / "tiny.json").unlink()
    (approved.root / "baselines" / PLACE).rmdir()
    (approved.root / "baselines").rmdir()
    commit(approved, "Remove all")
    (row,) = command("baseline", "diff", "HEAD~1", "--json").json["changes"]
    assert (row["cell"], row["state"], row["after"]) == ("tiny/fp32/cpu", "removed", None)
    assert row["figures"][PLACE]["after"] is None
    assert command("baseline", "diff", first[:8], "--json").json["commit"] == first
    assert command("baseline", "diff", "--json").json["changes"] == []


def test_diff_of_a_file_that_cannot_be_read_is_not_complete(
    command: Command, approved: MiniProject
) -> None:
    """On either side; the others are told nevertheless."""
    approved.write("baselines/broken.json", "{")
    write(approved, baseline("fresh"))
    now = command("baseline", "diff", "--json")
    assert (now.code, now.json["broken"][0]["at"]) == (2, "working tree")
    assert [row["cell"] for row in now.json["changes"]] == ["fresh/fp32/cpu"]
    head = commit(approved, "Break one")
    (approved.root / "baselines" / "broken.json").unlink()
    then = command("baseline", "diff")
    assert then.code == 2
    assert then.out.splitlines()[-1].startswith(
        f"broken.json at HEAD ({head}) cannot be read: Baseline is not valid JSON"
    )


@pytest.mark.parametrize("name", ["diff", "history"])
def test_outside_a_repository_there_is_no_history(
    command: Command, project: MiniProject, name: str
) -> None:
    """The message has what git says."""
    result = command("baseline", name, *(["tiny"] if name == "history" else []))
    assert result.code == 2
    assert result.err.splitlines()[0].startswith(
        f"error: History of '{project.root}' cannot be read: git says: fatal: not a git repository"
    )


@pytest.mark.parametrize("revision", ["nope", "--all", "HEAD~9"])
def test_a_revision_that_is_none_is_refused(
    command: Command, approved: MiniProject, revision: str
) -> None:
    """Also one that looks like an option."""
    assert approved.root.is_dir()
    result = command("baseline", "diff", "--", revision)
    assert (result.code, result.err.splitlines()[0]) == (2, f"error: '{revision}' names no commit")


def test_history_tells_each_change_the_newest_first(
    command: Command, approved: MiniProject
) -> None:
    """What is not committed comes first; other commits and other models do not show."""
    first = git(approved.root, "rev-parse", "HEAD")[:12]
    write(approved, baseline("other"))
    commit(approved, "Approve other")
    write(approved, approved_later(local("tiny", p50_ms=1.5), "slower, and known"))
    second = commit(approved, "Approve tiny again")
    (approved.root / "baselines" / "tiny.json").unlink()
    result = command("baseline", "history", "tiny")
    assert result.code == 0
    assert [line.split() for line in result.out.splitlines()] == [
        ["commit", "date", "who", "entry", "state", "model", "p50", "reason"],
        f"uncommitted tiny/fp32/cpu removed 111111111111 {PLACE}: batch1 1.5 ms".split(),
        f"{second} 2027-02-20 Zoë tiny/fp32/cpu changed 111111111111 {PLACE}: batch1 1.5 ms "
        "slower, and known".split(),
        f"{first} 2027-02-20 Zoë tiny/fp32/cpu new 111111111111 {PLACE}: batch1 1.25 ms "
        "first release".split(),
    ]


def test_history_follows_former_names(command: Command, approved: MiniProject) -> None:
    """The file moves with the name."""
    add_model(approved, "large", head='aliases = ["tiny"]\n')
    (approved.root / "baselines" / "tiny.json").unlink()
    write(approved, baseline("large"))
    commit(approved, "Rename")
    rows = command("baseline", "history", "large", "--json").json
    assert [(row["entry"], row["state"]) for row in rows] == [
        ("large/fp32/cpu", "new"),
        ("tiny/fp32/cpu", "removed"),
        ("tiny/fp32/cpu", "new"),
    ]


def test_history_tells_a_file_that_could_not_be_read(
    command: Command, approved: MiniProject
) -> None:
    """It hides no other commit."""
    approved.write("baselines/tiny.json", "{")
    commit(approved, "Break it")
    rows = command("baseline", "history", "tiny", "--json").json
    assert [(row["entry"], row["state"]) for row in rows] == [
        ("tiny.json", "unreadable"),
        ("tiny/fp32/cpu", "new"),
    ]


def test_history_without_any_says_so(command: Command, approved: MiniProject) -> None:
    """No commit has it, and no file."""
    folder = approved.root / "baselines"
    result = command("baseline", "history", "nobody")
    assert (result.code, result.out) == (
        0,
        f"no baseline of 'nobody' in '{folder}', now or in a commit\n",
    )


def test_history_of_a_shallow_clone_says_what_it_lacks(
    command: Command, approved: MiniProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its oldest commit seems to begin everything."""
    commit(approved, "Later")
    copy = approved.root.parent / "copy"
    git(approved.root, "clone", "--quiet", "--depth", "1", approved.root.as_uri(), str(copy))
    monkeypatch.chdir(copy)
    assert command("baseline", "history", "tiny").out.splitlines()[-1] == (
        "note: the clone is shallow, and its oldest commit is told as if all began there"
    )
