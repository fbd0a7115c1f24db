"""`--models`: the folder of the models."""

from __future__ import annotations

import pytest

from harness.testing import MiniProject, file_spec, linear_model

MODEL = {"model.onnx": linear_model().SerializeToString()}


def test_a_folder_of_the_command_line(project: MiniProject) -> None:
    """Relative to where pytest was started."""
    project.write("zoo/other/model.toml", file_spec())
    project.write("zoo/other/model.onnx", linear_model().SerializeToString())
    outcome = project.run("--models", "zoo", "-m", "contract")
    assert [*outcome.items] == ["contract other/fp32"]
    assert outcome.exit_code == pytest.ExitCode.OK


def test_the_folder_of_the_settings(project: MiniProject) -> None:
    """Without the option the settings say where."""
    project.write("onnx-harness.toml", 'models = "zoo"\n')
    project.write("zoo/other/model.toml", file_spec())
    outcome = project.run("--collect-only", "-q", "-m", "contract")
    assert "test_contract[other/fp32]" in outcome.text


def test_wrong_settings(tiny: MiniProject) -> None:
    """A fault of the settings ends the run before it starts."""
    tiny.write("onnx-harness.toml", "model = 1\n")
    outcome = tiny.run()
    assert outcome.exit_code == pytest.ExitCode.USAGE_ERROR
    assert outcome.text.startswith(
        "ERROR: Settings file 'onnx-harness.toml' has 1 fault: "
        "unknown key 'model'; did you mean 'models'?\n"
    )


def test_a_folder_that_does_not_exist(tiny: MiniProject) -> None:
    """The message says how to make one."""
    outcome = tiny.run("--models", "zoo")
    folder = tiny.root / "zoo"
    assert outcome.exit_code == pytest.ExitCode.USAGE_ERROR
    assert outcome.text.strip() == (
        f"ERROR: Models folder '{folder}' does not exist\n"
        f"  where:    {folder}\n"
        "  expected: a folder with one folder per model\n"
        "  next:     give --models DIR, or make a model with `onnx-harness model add FILE`"
    )


def test_an_empty_folder(project: MiniProject) -> None:
    """No model is no green run."""
    outcome = project.run()
    assert outcome.exit_code == pytest.ExitCode.USAGE_ERROR
    assert outcome.text.startswith(
        f"ERROR: Models folder '{project.models}' holds no model: nothing would be checked\n"
    )
