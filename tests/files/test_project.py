"""Project settings: in pyproject.toml or in a file of their own, not in both."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.domain.project import ProjectSettings
from harness.errors import SpecError
from harness.files.project import load_settings

SETTINGS = ProjectSettings(models="zoo")


def test_no_settings_at_all(tmp_path: Path) -> None:
    """Defaults."""
    assert load_settings(tmp_path) == ProjectSettings()


@pytest.mark.parametrize("text", ["", "[tool.other]\nx = 1\n", "[tool]\n", "tool = 3\n"])
def test_a_pyproject_of_others(tmp_path: Path, text: str) -> None:
    """A table that is not ours says nothing."""
    (tmp_path / "pyproject.toml").write_text(text)
    assert load_settings(tmp_path) == ProjectSettings()


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("pyproject.toml", '[tool.onnx-harness]\nmodels = "zoo"\n'),
        ("onnx-harness.toml", 'models = "zoo"\n'),
    ],
)
def test_both_places(tmp_path: Path, file: str, text: str) -> None:
    """The same keys in either file."""
    (tmp_path / file).write_text(text)
    assert load_settings(tmp_path) == SETTINGS


def test_places_of_baselines(tmp_path: Path) -> None:
    """Both can be moved; the store may be a URL."""
    text = 'baselines = "approved"\nartefacts = "s3://bucket/controls"\n'
    (tmp_path / "onnx-harness.toml").write_text(text)
    found = load_settings(tmp_path)
    assert (found.baselines, found.artefacts) == ("approved", "s3://bucket/controls")
    assert (ProjectSettings().baselines, ProjectSettings().artefacts) == ("baselines", None)


def test_a_file_of_its_own_beside_a_pyproject_without_our_table(tmp_path: Path) -> None:
    """Only two tables contradict."""
    (tmp_path / "onnx-harness.toml").write_text('models = "zoo"\n')
    (tmp_path / "pyproject.toml").write_text("[tool.other]\n")
    assert load_settings(tmp_path) == SETTINGS


def test_both_files_in_full(tmp_path: Path) -> None:
    """Which one wins is not guessed."""
    (tmp_path / "onnx-harness.toml").write_text("")
    (tmp_path / "pyproject.toml").write_text("[tool.onnx-harness]\n")
    with pytest.raises(SpecError) as caught:
        load_settings(tmp_path)
    assert caught.value.code == "spec.invalid"
    assert str(caught.value) == (
        "Both 'onnx-harness.toml' and 'pyproject.toml' hold settings\n"
        f"  where:    {tmp_path}\n"
        "  expected: either onnx-harness.toml or [tool.onnx-harness]\n"
        "  next:     move all settings into one of them"
    )


@pytest.mark.parametrize(
    ("text", "first_line"),
    [
        ("[tool.onnx-harness]\nmodel = 1\n", "unknown key 'model'; did you mean 'models'?"),
        (
            "[tool.onnx-harness.runtimes.old]\n",
            "'runtimes.old' needs either 'requirements' or 'python'",
        ),
        (
            '[tool.onnx-harness.providers.x]\nep = "X"\n',
            "'providers.x' a plugin provider needs both 'ep' and 'library'",
        ),
    ],
)
def test_wrong_settings(tmp_path: Path, text: str, first_line: str) -> None:
    """Faults are told as those of specs."""
    (tmp_path / "pyproject.toml").write_text(text)
    with pytest.raises(SpecError) as caught:
        load_settings(tmp_path)
    assert caught.value.what == f"Settings file 'pyproject.toml' has 1 fault: {first_line}"
    assert caught.value.where == str(tmp_path / "pyproject.toml")


def test_broken_toml(tmp_path: Path) -> None:
    """A pyproject that is no TOML is told, not passed over."""
    (tmp_path / "pyproject.toml").write_text("[tool")
    with pytest.raises(SpecError, match=r"^'pyproject\.toml' is not valid TOML"):
        load_settings(tmp_path)


def test_a_setting_where_our_table_is_due(tmp_path: Path) -> None:
    """A value is not passed over."""
    (tmp_path / "pyproject.toml").write_text("[tool]\nonnx-harness = 3\n")
    with pytest.raises(SpecError) as caught:
        load_settings(tmp_path)
    assert str(caught.value) == (
        "'tool.onnx-harness' is no table\n"
        f"  where:    {tmp_path}/pyproject.toml\n"
        "  expected: [tool.onnx-harness]\n"
        "  got:      3"
    )
