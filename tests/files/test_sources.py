"""Where a candidate's file comes from: the folder, a package, a verified URL."""

from __future__ import annotations

import hashlib
import os
from importlib import metadata
from pathlib import Path

import pytest

from harness.domain.spec import Candidate, Export
from harness.errors import EnvironmentProblem, HarnessError, ModelFileError
from harness.files import sources

DATA = b"a model"
SHA = hashlib.sha256(DATA).hexdigest()
WRONG = "0" * 64


def located(source: Candidate, folder: Path) -> Path:
    """Locate a candidate; downloads go beside the model's folder."""
    return sources.locate(source, folder, downloads=folder / "downloads")


def refused(source: Candidate, folder: Path) -> HarnessError:
    """Return why a candidate cannot be located."""
    with pytest.raises(HarnessError) as caught:
        located(source, folder)
    return caught.value


def remote(folder: Path) -> str:
    """Return the URL of a file that stands for a remote one."""
    pytest.importorskip("fsspec")
    file = folder / "remote.onnx"
    file.write_bytes(DATA)
    return file.as_uri()


def test_a_file_of_the_folder(tmp_path: Path) -> None:
    """The path is relative to the model's folder."""
    (tmp_path / "m.onnx").write_bytes(DATA)
    assert located(Candidate(file="m.onnx"), tmp_path) == tmp_path / "m.onnx"


@pytest.mark.parametrize("name", ["m.onnx", "folder"])
def test_a_missing_file_in_full(tmp_path: Path, name: str) -> None:
    """A folder is no file."""
    (tmp_path / "folder").mkdir()
    problem = refused(Candidate(file=name), tmp_path)
    assert (type(problem), problem.code) == (ModelFileError, "model.missing")
    assert str(problem) == (
        f"Model file '{name}' does not exist\n"
        f"  where:    {tmp_path}/{name}\n"
        "  expected: the file that candidate.file names\n"
        "  next:     restore the file, or correct candidate.file"
    )


def test_a_path_that_is_not_utf8(tmp_path: Path) -> None:
    """ONNX Runtime cannot open it; the bytes are shown escaped."""
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff"))
    folder.mkdir()
    (folder / "m.onnx").write_bytes(DATA)
    problem = refused(Candidate(file="m.onnx"), folder)
    assert str(problem) == (
        "Path of a model is not UTF-8\n"
        f"  where:    {tmp_path}/\\udcff/m.onnx\n"
        "  expected: a path that ONNX Runtime can open\n"
        "  next:     rename the folder or the file"
    )


def test_an_export_has_no_file(tmp_path: Path) -> None:
    """Exports are made elsewhere."""
    with pytest.raises(ValueError, match="an exported candidate has no file of its own"):
        located(Candidate(export=Export(opset=20)), tmp_path)


def test_a_url_is_fetched_once_and_verified(tmp_path: Path) -> None:
    """The second time nothing is read from afar."""
    source = Candidate(url=remote(tmp_path), sha256=SHA)
    path = located(source, tmp_path)
    assert path.read_bytes() == DATA
    (tmp_path / "remote.onnx").unlink()
    assert located(source, tmp_path) == path


def test_a_broken_download_is_fetched_again(tmp_path: Path) -> None:
    """What lies in the cache is verified, too."""
    source = Candidate(url=remote(tmp_path), sha256=SHA)
    located(source, tmp_path).write_bytes(b"broken")
    assert located(source, tmp_path).read_bytes() == DATA


def test_a_wrong_hash_in_full(tmp_path: Path) -> None:
    """The file is not used and not kept."""
    url = remote(tmp_path)
    problem = refused(Candidate(url=url, sha256=WRONG), tmp_path)
    assert (type(problem), problem.code) == (ModelFileError, "model.hash")
    assert str(problem) == (
        "Fetched model has another SHA-256 than its spec\n"
        f"  where:    {url}\n"
        f"  expected: {WRONG} (spec, candidate.sha256)\n"
        f"  got:      {SHA}\n"
        "  next:     find out who changed the file; never correct the hash blindly"
    )
    assert [path for path in (tmp_path / "downloads").rglob("*") if path.is_file()] == []


def test_memory_is_a_url_too() -> None:
    """Any backend of fsspec will do."""
    fsspec = pytest.importorskip("fsspec")
    fsspec.filesystem("memory").pipe("/zoo/m.onnx", DATA)
    with fsspec.open("memory:///zoo/m.onnx", "rb") as file:
        assert file.read() == DATA


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("file:///no/such/file.onnx", "model.download"),
        ("nonsense://x/m.onnx", "model.download"),
        ("memory:///none.onnx", "model.download"),
    ],
)
def test_urls_that_cannot_be_read(tmp_path: Path, url: str, code: str) -> None:
    """Whatever a backend raises becomes one error with the URL."""
    pytest.importorskip("fsspec")
    problem = refused(Candidate(url=url, sha256=SHA), tmp_path)
    assert (problem.code, problem.where) == (code, url)
    assert problem.what.startswith("Model cannot be fetched: ")


def test_a_backend_that_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The missing package is named."""
    fsspec = pytest.importorskip("fsspec")

    def fail(*_: object) -> None:
        message = "install s3fs"
        raise ImportError(message)

    monkeypatch.setattr(fsspec, "open", fail)
    problem = refused(Candidate(url="s3://b/m.onnx", sha256=SHA), tmp_path)
    assert (type(problem), problem.code) == (EnvironmentProblem, "package.missing")
    assert problem.what == "Reading 's3://b/m.onnx' needs a package that is missing: install s3fs"


def test_without_fsspec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra that brings it is named."""
    monkeypatch.setattr(metadata, "version", _absent)
    problem = refused(Candidate(url="file:///m.onnx", sha256=SHA), tmp_path)
    assert str(problem) == (
        "Package 'fsspec' is not installed\n"
        "  expected: 'fsspec' beside the harness\n"
        "  next:     pip install fsspec"
    )


def _absent(name: str) -> str:
    raise metadata.PackageNotFoundError(name)


def test_a_file_of_a_package() -> None:
    """Package and file are found through the package's list of files."""
    source = Candidate(package="numpy", file="numpy/version.py")
    assert located(source, Path("unused")).name == "version.py"
