"""Installed distributions: versions and files."""

from __future__ import annotations

import numpy as np
import pytest

from harness.errors import EnvironmentProblem, ModelFileError
from harness.files import packages


def test_versions() -> None:
    """As the package's metadata says."""
    assert packages.versions(["numpy"]) == {"numpy": np.__version__}


def test_a_missing_package_in_full() -> None:
    """A package without an extra of ours is named itself."""
    with pytest.raises(EnvironmentProblem) as caught:
        packages.versions(["numpy", "no-such-distribution"])
    assert caught.value.code == "package.missing"
    assert str(caught.value) == (
        "Package 'no-such-distribution' is not installed\n"
        "  expected: 'no-such-distribution' beside the harness\n"
        "  next:     pip install no-such-distribution"
    )


def test_a_file_that_a_package_lacks() -> None:
    """The message has the version that was looked into."""
    with pytest.raises(ModelFileError) as caught:
        packages.file_of("numpy", "numpy/model.onnx")
    assert caught.value.code == "model.missing"
    assert str(caught.value) == (
        "Package 'numpy' carries no file 'numpy/model.onnx'\n"
        f"  where:    package 'numpy' {np.__version__}\n"
        "  next:     check the package's version and its list of files"
    )


def test_a_file_of_a_package() -> None:
    """It exists."""
    assert packages.file_of("numpy", "numpy/version.py").is_file()
