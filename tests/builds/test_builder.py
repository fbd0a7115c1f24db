"""Builds on disk: made once, the same everywhere, and made again when damaged."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import onnx
import pytest

from harness.builds.builder import Builder
from harness.builds.program import PROVENANCE
from harness.domain.builds import BuildStep
from harness.errors import EnvironmentProblem, ModelFileError
from harness.files import packages
from harness.runtimes.launchers import LocalLauncher
from harness.testing import identity_model
from tests.builds.test_steps import chain

pytest.importorskip("onnxruntime")

HALF = (BuildStep(step="float16"),)


@pytest.fixture(scope="module")
def launcher() -> Iterator[LocalLauncher]:
    """Yield a launcher for all tests of this module."""
    with LocalLauncher() as made:
        yield made


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Return a model file in a folder of its own; scope function."""
    path = tmp_path / "candidate" / "model.onnx"
    path.parent.mkdir()
    onnx.save(chain(), path)
    return path


def builder(launcher: LocalLauncher, folder: Path) -> Builder:
    """Return a builder that keeps its builds in a folder."""
    return Builder(launcher, sys.executable, folder / "builds")


def test_a_build_is_made_once(launcher: LocalLauncher, source: Path, tmp_path: Path) -> None:
    """The second call reads what the first one left, the difference of the graphs included."""
    first = builder(launcher, tmp_path).build(source, HALF, name="m/half")
    stamp = first.path.stat().st_mtime_ns
    again = builder(launcher, tmp_path).build(source, HALF, name="m/half")
    assert again == first
    assert again.path.stat().st_mtime_ns == stamp
    assert first.after.operators["Cast"] > first.before.operators.get("Cast", 0)
    assert first.after.size_bytes < first.before.size_bytes
    assert first.after.parameters == first.before.parameters == 2 * 32 * 32


def test_the_same_bytes_in_every_folder(
    launcher: LocalLauncher, source: Path, tmp_path: Path
) -> None:
    """Neither where the candidate lies nor where builds are kept is in them."""
    other = tmp_path / "elsewhere" / "model.onnx"
    other.parent.mkdir()
    shutil.copy(source, other)
    steps = (BuildStep(step="onnxruntime"), BuildStep(step="quantize-dynamic"))
    files = [
        builder(launcher, tmp_path / name).build(file, steps, name="m/v").path
        for name, file in (("one", source), ("two", other))
    ]
    assert files[0] != files[1]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_it_says_how_it_was_made(launcher: LocalLauncher, source: Path, tmp_path: Path) -> None:
    """Candidate, steps and versions of the tools stand in the model's metadata."""
    path = builder(launcher, tmp_path).build(source, HALF, name="m/half").path
    told = {each.key: each.value for each in onnx.load(path).metadata_props}[PROVENANCE]
    provenance = json.loads(told)
    assert provenance["steps"][0]["step"] == "float16"
    assert provenance["tools"] == packages.versions(["onnx", "onnxruntime"])
    assert len(provenance["candidate"]) == 64


@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_a_damaged_build_is_made_again(
    launcher: LocalLauncher, source: Path, tmp_path: Path, damage: str
) -> None:
    """Nothing of a broken cache reaches a session."""
    path = builder(launcher, tmp_path).build(source, HALF, name="m/half").path
    whole = path.read_bytes()
    path.unlink() if damage == "gone" else path.write_bytes(whole[:100])
    assert builder(launcher, tmp_path).build(source, HALF, name="m/half").path == path
    assert path.read_bytes() == whole


def test_another_candidate_or_other_keys_are_another_build(
    launcher: LocalLauncher, source: Path, tmp_path: Path
) -> None:
    """What it depends on is in its key."""
    made = builder(launcher, tmp_path)
    paths = {made.build(source, HALF, name="m/half").path}
    paths.add(made.build(source, (BuildStep(step="float16", keep=("last",)),), name="m/v").path)
    onnx.save(chain(dead=True), source)
    paths.add(made.build(source, HALF, name="m/half").path)
    assert len(paths) == 3


def test_what_cannot_be_built_leaves_nothing(launcher: LocalLauncher, tmp_path: Path) -> None:
    """The message has the build, the step and its place among the steps."""
    source = tmp_path / "model.onnx"
    onnx.save(identity_model(), source)
    steps = (BuildStep(step="onnxruntime"), *HALF)
    with pytest.raises(
        ModelFileError, match=r"'m/half' cannot be built\. Step 'float16'"
    ) as caught:
        builder(launcher, tmp_path).build(source, steps, name="m/half")
    assert (caught.value.code, caught.value.where) == ("build.failed", "step 2 of 2")
    assert list((tmp_path / "builds").glob("*/model.onnx")) == []


@pytest.mark.parametrize("damage", ["cut", "weights"])
def test_a_candidate_that_cannot_be_read_is_told(
    launcher: LocalLauncher, source: Path, tmp_path: Path, damage: str
) -> None:
    """By its file; neither a traceback nor half a build."""
    if damage == "cut":
        source.write_bytes(source.read_bytes()[:300])
    else:
        onnx.save(chain(), source, save_as_external_data=True, location="w.bin", size_threshold=0)
        (source.parent / "w.bin").unlink()
    with pytest.raises(ModelFileError, match="Its candidate cannot be read: ") as caught:
        builder(launcher, tmp_path).build(source, HALF, name="m/half")
    assert (caught.value.code, caught.value.where) == ("model.unreadable", str(source))


def test_weights_beside_the_candidate_are_a_part_of_it(
    launcher: LocalLauncher, source: Path, tmp_path: Path
) -> None:
    """Other weights in the same file beside the same graph are another build."""
    onnx.save(chain(), source, save_as_external_data=True, location="w.bin", size_threshold=0)
    first = builder(launcher, tmp_path).build(source, HALF, name="m/half")
    weights = source.parent / "w.bin"
    weights.write_bytes(bytes(weights.stat().st_size))
    again = builder(launcher, tmp_path).build(source, HALF, name="m/half")
    assert again.path != first.path


def test_a_missing_tool_is_told_before_anything_is_made(
    launcher: LocalLauncher, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the extra that brings it."""
    versions = packages.version

    def version(name: str) -> str:
        return versions("onnxsim-of-nobody" if name == "onnxsim" else name)

    monkeypatch.setattr(packages, "version", version)
    with pytest.raises(EnvironmentProblem, match="is not installed") as caught:
        builder(launcher, tmp_path).build(source, (BuildStep(step="simplify"),), name="m/v")
    assert caught.value.next_step == "pip install 'onnx-harness[builds]'"
    assert not (tmp_path / "builds").exists()
