"""The command as a whole: exit codes, messages, help."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import harness
from harness import cli
from harness.cli import ExitCode, exit_code_of, main
from harness.errors import (
    EnvironmentProblem,
    HarnessBug,
    HarnessError,
    ModelFileError,
    RunFailed,
    SpecError,
    UsageProblem,
    WorkerDied,
)
from harness.testing import MiniProject
from tests.cli.conftest import Command


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageProblem, ExitCode.USAGE),
        (SpecError, ExitCode.USAGE),
        (ModelFileError, ExitCode.USAGE),
        (EnvironmentProblem, ExitCode.ENVIRONMENT),
        (RunFailed, ExitCode.VERDICT_FAILED),
        (WorkerDied, ExitCode.VERDICT_FAILED),
        (HarnessBug, ExitCode.BUG),
        (HarnessError, ExitCode.BUG),
    ],
)
def test_every_kind_of_error_has_its_exit_code(error: type[HarnessError], code: ExitCode) -> None:
    """The code tells the reader which action to take."""
    assert exit_code_of(error("something")) is code


def test_version(command: Command) -> None:
    """The version is that of the package."""
    result = command("--version")
    assert (result.code, result.out) == (0, f"onnx-harness {harness.__version__}\n")


def test_an_unknown_command_is_a_usage_error(command: Command) -> None:
    """A misspelled noun exits with 2 and names itself."""
    result = command("modle")
    assert result.code == ExitCode.USAGE
    assert "No such command 'modle'" in result.err


def test_wrong_settings_are_told_without_a_traceback(
    command: Command, project: MiniProject
) -> None:
    """A misspelled key of the settings exits with 2."""
    path = project.write("onnx-harness.toml", 'modles = "models"\n')
    result = command("runtime", "list")
    assert result.code == ExitCode.USAGE
    assert result.err == (
        "error: Settings file 'onnx-harness.toml' has 1 fault: "
        "unknown key 'modles'; did you mean 'models'?\n"
        f"  where:    {path}\n"
        "  got:      unknown key 'modles'; did you mean 'models'?\n"
        "  next:     mend the keys above; docs/providers.md has all settings\n"
    )


def test_settings_are_found_upwards(
    command: Command, project: MiniProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A command in a folder below the project uses the project's settings."""
    project.write("pyproject.toml", '[tool.onnx-harness]\nmodels = "zoo"\n')
    below = project.write("zoo/tiny/model.toml", "").parent
    monkeypatch.chdir(below)
    assert command("model", "list", "--json").json[0]["name"] == "tiny"


def test_a_bug_says_so_and_shows_where(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is no HarnessError is the harness's fault: exit code 4 and a traceback to report."""

    def fail(_: object) -> int:
        msg = "surprise"
        raise TypeError(msg)

    monkeypatch.setattr(cli, "_run", fail)
    assert main([]) == ExitCode.BUG
    first, *rest = capsys.readouterr().err.splitlines()
    assert first == "Harness bug: TypeError: surprise; please report with the lines below"
    assert rest[-1].strip() == "TypeError: surprise"


def test_a_folder_that_cannot_be_used_is_the_environments_fault(
    command: Command, project: MiniProject
) -> None:
    """An error of the operating system names its file and exits with 3."""
    blocked = project.write("models/file", "")
    blocked.unlink()
    project.models.rmdir()
    project.write("models", "a file where the folder should be")
    model = project.write("tiny.onnx", _tiny())
    result = command("model", "add", model, "--models", project.root / "models" / "deep")
    assert result.code == ExitCode.ENVIRONMENT
    assert result.err == f"error: Not a directory\n  where:    {project.root / 'models' / 'deep'}\n"


def test_help_loads_nothing_heavy(tmp_path: Path) -> None:
    """Importing the command's tree loads neither numpy nor onnx nor pydantic nor rich."""
    code = (
        "import sys, harness.cli.app\n"
        "heavy = {'numpy', 'onnx', 'pydantic', 'onnxruntime', 'torch', 'pytest', 'rich.console'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    root = str(Path(harness.__file__).parent.parent)
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": root},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "[]\n"


def _tiny() -> bytes:
    from harness.testing import linear_model

    return linear_model().SerializeToString()
