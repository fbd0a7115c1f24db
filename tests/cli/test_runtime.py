"""`onnx-harness runtime` makes, lists and removes environments; nothing half-made counts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.runtimes.registry import MARK
from harness.testing import MiniProject
from tests.cli.conftest import Command

pytest.importorskip("onnxruntime")

MakePython = Callable[..., Path]


def runtimes(project: MiniProject) -> list[str]:
    """Return what lies in the folder of runtimes, locks aside."""
    folder = project.root / ".runtimes"
    return sorted(path.name for path in folder.glob("*") if not path.name.endswith(".lock"))


def test_a_runtime_is_added_listed_and_removed(
    command: Command, project: MiniProject, fake_python: MakePython
) -> None:
    """The mark is written, the list shows it, a run could use it, and it goes away again."""
    python = fake_python()
    added = command("runtime", "add", "second", "onnxruntime", "--python", python)
    home = project.root / ".runtimes" / "second"
    assert added.code == 0, added.err
    assert added.out.splitlines()[1:] == [
        f"  python:   {home / 'bin' / 'python'}",
        "  next:     onnx-harness doctor",
    ]
    mark = json.loads((home / MARK).read_text(encoding="utf-8"))
    assert mark["requirements"] == ["onnxruntime"]
    row = next(row for row in command("runtime", "list", "--json").json if row["name"] == "second")
    assert (row["source"], row["onnxruntime"]) == ("added", mark["onnxruntime"])
    assert command("doctor", "--provider", "cpu@second").code == 0
    removed = command("runtime", "remove", "second")
    assert (removed.code, removed.out) == (0, f"removed runtime 'second' ({home})\n")
    assert runtimes(project) == []


def test_a_failed_install_leaves_nothing_and_tells_pips_last_lines(
    command: Command, project: MiniProject, fake_python: MakePython
) -> None:
    """The cause is what pip said last; the folder is gone."""
    python = fake_python(pip="echo 'ERROR: no such wheel'; exit 7")
    result = command("runtime", "add", "second", "nonsense==1", "--python", python)
    inner = project.root / ".runtimes" / "second" / "bin" / "python"
    assert result.code == 3
    assert result.err == (
        "error: Runtime 'second' was not made: installing ended with exit code 7\n"
        f"  where:    {inner} -m pip install --disable-pip-version-check --no-input nonsense==1\n"
        "  got:      ERROR: no such wheel\n"
        "  next:     mend the requirements, the interpreter or the package index, and try again\n"
    )
    assert runtimes(project) == []


def test_a_runtime_whose_onnxruntime_does_not_start_is_not_kept(
    command: Command, project: MiniProject, fake_python: MakePython
) -> None:
    """What pip installed has to prove itself in a worker."""
    python = fake_python(real=False)
    result = command("runtime", "add", "second", "onnxruntime", "--python", python)
    assert result.code == 3
    first, where, got, *_ = result.err.splitlines()
    assert first == "error: Runtime 'second' was not made: its ONNX Runtime does not start"
    assert where == "  where:    onnxruntime"
    assert got == "  got:      Interpreter ended before it was ready"
    assert runtimes(project) == []


def test_a_runtime_is_replaced_only_when_asked(
    command: Command, project: MiniProject, fake_python: MakePython
) -> None:
    """Without --replace nothing is touched; a replacement that fails brings the old one back."""
    good = fake_python()
    assert command("runtime", "add", "second", "first", "--python", good).code == 0
    home = project.root / ".runtimes" / "second"
    again = command("runtime", "add", "second", "other", "--python", good)
    assert again.code == 2
    assert again.err == (
        "error: Runtime 'second' exists already\n"
        f"  where:    {home}\n"
        "  next:     add --replace, or `onnx-harness runtime remove second` first\n"
    )
    bad = fake_python(pip="exit 1")
    failed = command("runtime", "add", "second", "other", "--python", bad, "--replace")
    assert failed.code == 3
    assert json.loads((home / MARK).read_text(encoding="utf-8"))["requirements"] == ["first"]
    good = fake_python()
    assert command("runtime", "add", "second", "other", "--python", good, "--replace").code == 0
    assert json.loads((home / MARK).read_text(encoding="utf-8"))["requirements"] == ["other"]


def test_what_an_interrupted_attempt_left_is_no_runtime(
    command: Command, project: MiniProject, fake_python: MakePython
) -> None:
    """A folder without a mark is not listed and does not stand in the way."""
    project.write(".runtimes/second/leftover", "")
    assert [row["name"] for row in command("runtime", "list", "--json").json] == ["own"]
    assert command("runtime", "add", "second", "x", "--python", fake_python()).code == 0
    assert not (project.root / ".runtimes" / "second" / "leftover").exists()


def test_declared_requirements_are_installed(
    command: Command, project: MiniProject, fake_python: MakePython
) -> None:
    """Without requirements on the command line, those of the settings count."""
    project.write("onnx-harness.toml", '[runtimes.second]\nrequirements = ["declared==1"]\n')
    listed = command("runtime", "list")
    assert "second: not made yet: `onnx-harness runtime add second`\n" in listed.out
    assert command("runtime", "add", "second", "--python", fake_python()).code == 0
    mark = (project.root / ".runtimes" / "second" / MARK).read_text(encoding="utf-8")
    assert json.loads(mark)["requirements"] == ["declared==1"]


@pytest.mark.parametrize(
    ("arguments", "first"),
    [
        (["add", "second"], "error: Nothing to install for runtime 'second'"),
        (["add", "own", "x"], "error: Runtime name 'own' stands for the harness's own interpreter"),
        (["add", "../up", "x"], "error: Runtime name '../up' is not a plain name"),
        (
            ["add", "there", "x"],
            "error: Runtime 'there' is an interpreter that exists: there is nothing to make",
        ),
        (
            ["add", "second", "x", "--python", "no-such-python"],
            "error: Interpreter 'no-such-python' does not exist or cannot be run",
        ),
        (["remove", "second"], "error: No runtime 'second' was added"),
        (["remove", "../.."], "error: Runtime name '../..' is not a plain name"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_names_and_requests_are_usage_errors(
    command: Command, project: MiniProject, arguments: list[str], first: str
) -> None:
    """Nothing is made or deleted."""
    project.write("onnx-harness.toml", '[runtimes.there]\npython = "tools/python"\n')
    result = command("runtime", *arguments)
    assert (result.code, result.err.splitlines()[0]) == (2, first)


def test_a_broken_mark_names_the_way_out(command: Command, project: MiniProject) -> None:
    """A runtime that cannot be read is told, and can be removed."""
    project.write(f".runtimes/second/{MARK}", "{")
    result = command("runtime", "list")
    assert result.code == 3
    assert result.err.splitlines()[-1] == "  next:     onnx-harness runtime remove second"
    assert command("runtime", "remove", "second").code == 0
    assert command("runtime", "list").code == 0
