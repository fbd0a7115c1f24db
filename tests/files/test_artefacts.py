"""The artefact store: what comes out is what was approved, or is told to be something else."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import external_data_helper, numpy_helper

from harness.errors import EnvironmentProblem, HarnessError, ModelFileError, UsageProblem
from harness.files import archives, external
from harness.files.artefacts import Artefacts
from harness.files.cache import hash_file
from harness.testing import linear_model

ABSENT = "0" * 64
WEIGHTS = np.arange(6, dtype=np.float32).reshape(2, 3)


@pytest.fixture
def store(tmp_path: Path) -> Artefacts:
    """Return a store in a folder that does not exist yet; scope function."""
    return Artefacts(tmp_path / "store", tmp_path / "cache")


def plain_model(folder: Path) -> Path:
    """Write a model in one file and return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "plain.onnx"
    path.write_bytes(linear_model().SerializeToString())
    return path


def split_model(folder: Path, *locations: str, name: str = "split.onnx") -> Path:
    """Write a model with one weight in a file at each location, and return its path."""
    model = linear_model()
    for number, location in enumerate(locations):
        tensor = numpy_helper.from_array(WEIGHTS + number, f"data-{number}")
        path = folder / location
        if location:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(tensor.raw_data)
        external_data_helper.set_external_data(tensor, location, offset=0, length=24)
        tensor.ClearField("raw_data")
        model.graph.initializer.append(tensor)
    target = folder / name
    target.write_bytes(model.SerializeToString())
    return target


def weights(model_file: Path) -> list[bytes]:
    """Return the external weights of a model as the onnx package finds them."""
    model = onnx.load(model_file)
    return [tensor.raw_data for tensor in model.graph.initializer if "data-" in tensor.name]


def refused(action: Callable[[], object]) -> HarnessError:
    """Return why something cannot be stored or fetched."""
    with pytest.raises(HarnessError) as caught:
        action()
    return caught.value


def files(folder: Path) -> set[str]:
    """Return all files below a folder, locks aside."""
    paths = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock")
    return {path.relative_to(folder).as_posix() for path in paths}


def test_a_model_in_one_file(store: Artefacts, tmp_path: Path) -> None:
    """It is stored as it is, under the hash of its bytes."""
    model = plain_model(tmp_path)
    sha256 = store.put(model)
    assert sha256 == hashlib.sha256(model.read_bytes()).hexdigest()
    assert files(tmp_path / "store") == {sha256}
    fetched = store.fetch(sha256)
    assert fetched == tmp_path / "cache" / "artefacts" / sha256 / "model.onnx"
    assert fetched.read_bytes() == model.read_bytes()


def test_a_model_with_external_data(store: Artefacts, tmp_path: Path) -> None:
    """Its data files come along under their names, and nothing else of its folder does."""
    model = split_model(tmp_path / "m", "w.bin", "deep/er/ü.bin")
    (tmp_path / "m" / "secret.txt").touch()
    sha256 = store.put(model)
    assert sha256 == hash_file(tmp_path / "store" / sha256)
    fetched = store.fetch(sha256)
    assert files(fetched.parent) == {"model.onnx", "w.bin", "deep/er/ü.bin"}
    assert fetched.read_bytes() == model.read_bytes()
    assert weights(fetched) == [WEIGHTS.tobytes(), (WEIGHTS + 1).tobytes()]


def test_the_same_files_make_the_same_artefact(store: Artefacts, tmp_path: Path) -> None:
    """Whatever the model is called, whenever and with which rights it was written."""
    model = split_model(tmp_path / "a", "w.bin", "v.bin")
    again = shutil.copytree(tmp_path / "a", tmp_path / "b") / "other.onnx"
    (tmp_path / "b" / model.name).rename(again)
    os.utime(again, (1, 1))
    again.chmod(0o600)
    assert store.put(again) == store.put(model)
    (tmp_path / "b" / "w.bin").write_bytes(b"\1" * 24)
    assert store.put(again) != store.put(model)


def test_data_that_have_the_name_of_the_model(store: Artefacts, tmp_path: Path) -> None:
    """Then the model gets another name."""
    model = split_model(tmp_path / "m", "model.onnx", "model-1.onnx")
    fetched = store.fetch(store.put(model))
    assert fetched.name == "model-2.onnx"
    assert fetched.read_bytes() == model.read_bytes()
    assert weights(fetched) == [WEIGHTS.tobytes(), (WEIGHTS + 1).tobytes()]


def test_the_bytes_of_an_archive_never_change(tmp_path: Path) -> None:
    """Not with the release of Python either: baselines name archives by their hash."""
    (tmp_path / "m.onnx").write_bytes(b"model")
    (tmp_path / "ü.bin").write_bytes(b"data")
    archives.pack(tmp_path / "m.onnx", ["./ü.bin", "ü.bin"], tmp_path / "packed")
    with zipfile.ZipFile(tmp_path / "packed") as archive:
        assert [entry.filename for entry in archive.infolist()] == ["model.onnx", "ü.bin"]
        assert {entry.compress_type for entry in archive.infolist()} == {zipfile.ZIP_STORED}
    known = "5c83ac772899a3b664fe15cecb887f14a9518c0361d4f37fca244f7442a7b8ae"
    assert hash_file(tmp_path / "packed") == known


@pytest.mark.parametrize(
    ("location", "problem"),
    [
        ("../w.bin", "'../w.bin' points outside the model's folder"),
        ("in/../w.bin", "'in/../w.bin' points outside the model's folder"),
        ("/etc/hostname", "'/etc/hostname' points outside the model's folder"),
        ("link.bin", "'link.bin' points outside the model's folder"),
        ("", "'' points outside the model's folder"),
        ("none.bin", "'none.bin' is missing"),
        ("folder", "'folder' is missing"),
    ],
)
def test_data_that_cannot_be_kept(
    store: Artefacts, tmp_path: Path, location: str, problem: str
) -> None:
    """A model must not carry files of this machine into a store that others read."""
    folder = tmp_path / "m"
    model = split_model(folder, "w.bin")
    (tmp_path / "w.bin").write_bytes(b"secret")
    (folder / "folder").mkdir()
    (folder / "link.bin").symlink_to(tmp_path / "w.bin")
    data = onnx.ModelProto.FromString(model.read_bytes())
    data.graph.initializer[-1].external_data[0].value = location
    model.write_bytes(data.SerializeToString())
    found = refused(lambda: store.put(model))
    assert (type(found), found.code) == (ModelFileError, "model.external-data")
    assert found.what == f"External data of 'split.onnx' cannot be kept: {problem}"
    assert files(tmp_path / "store") == set()


@pytest.mark.parametrize("data", [b"not a model", None])
def test_a_file_that_is_no_model(store: Artefacts, tmp_path: Path, data: bytes | None) -> None:
    """Neither noise nor a file that is not there is stored."""
    path = tmp_path / "m.onnx"
    if data is not None:
        path.write_bytes(data)
    found = refused(lambda: store.put(path))
    assert (type(found), found.code) == (ModelFileError, "model.unreadable")
    assert found.what == "Model 'm.onnx' cannot be read"
    assert found.got.partition(":")[0] == ("DecodeError" if data else "FileNotFoundError")


def test_a_parser_that_hangs_or_dies(
    store: Artefacts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It runs in a process of its own, which has a time limit."""
    model = plain_model(tmp_path)
    monkeypatch.setattr(external, "LIMIT_S", 0.01)
    assert refused(lambda: store.put(model)).got == "no answer within 0.01 s"
    monkeypatch.setattr(external, "LIMIT_S", 60.0)
    monkeypatch.setattr(sys, "executable", _script(tmp_path, "kill -SEGV $$"))
    assert refused(lambda: store.put(model)).got == "the process ended with -11"


def _script(folder: Path, line: str) -> str:
    path = folder / "python"
    path.write_text(f"#!/bin/sh\n{line}\n", encoding="utf-8")
    path.chmod(0o755)
    return str(path)


# fetching


def test_an_artefact_that_is_missing_in_full(store: Artefacts, tmp_path: Path) -> None:
    """Without its control a cell is not judged."""
    found = refused(lambda: store.fetch(ABSENT))
    assert (type(found), found.code) == (ModelFileError, "baseline.incomparable")
    assert str(found) == (
        f"Control '{ABSENT}' is not in the artefact store\n"
        f"  where:    {tmp_path}/store/{ABSENT}\n"
        "  expected: the model file that the baseline names as its control\n"
        "  next:     restore the file, or approve the candidate anew"
    )
    assert not store.has(ABSENT)


def test_a_control_that_was_not_kept_in_full(store: Artefacts, tmp_path: Path) -> None:
    """Large models may be left out of the store; their cells are not judged."""
    found = refused(lambda: store.fetch(""))
    assert (type(found), found.code) == (ModelFileError, "baseline.incomparable")
    assert str(found) == (
        "Control was not kept: its baseline names no file in the artefact store\n"
        f"  where:    {tmp_path}/store\n"
        "  expected: an entry with 'artefact', which a refresh writes for files that are kept\n"
        "  next:     raise 'largest_artefact_mb' of the settings or remove it, then approve anew"
    )
    assert not store.has("")


@pytest.mark.parametrize("cached", [False, True])
def test_an_artefact_that_was_changed_in_full(
    store: Artefacts, tmp_path: Path, *, cached: bool
) -> None:
    """It is told on every machine, also where the right file was fetched before."""
    sha256 = store.put(plain_model(tmp_path))
    if cached:
        store.fetch(sha256)
    path = tmp_path / "store" / sha256
    path.write_bytes(b"other")
    found = refused(lambda: store.fetch(sha256))
    assert (type(found), found.code) == (ModelFileError, "baseline.control")
    assert str(found) == (
        "Control in the artefact store has another SHA-256 than its name\n"
        f"  where:    {path}\n"
        "  expected: the bytes that were approved, whose hash the baseline tells\n"
        f"  got:      SHA-256 {hashlib.sha256(b'other').hexdigest()}, 5 bytes\n"
        f"  next:     git checkout -- {path}; find out who changed it"
    )
    assert store.has(sha256)


def test_storing_again_mends_a_broken_artefact(store: Artefacts, tmp_path: Path) -> None:
    """And leaves one that is whole alone."""
    model = plain_model(tmp_path)
    path = tmp_path / "store" / store.put(model)
    os.utime(path, ns=(1, 1))
    store.put(model)
    assert path.stat().st_mtime_ns == 1
    path.write_bytes(b"other")
    assert store.fetch(store.put(model)).read_bytes() == model.read_bytes()


@pytest.mark.parametrize("name", ["model.onnx", "w.bin"])
@pytest.mark.parametrize("broken", [True, False])
def test_a_cache_that_was_changed_is_filled_again(
    store: Artefacts, tmp_path: Path, name: str, *, broken: bool
) -> None:
    """Nobody vouches for a cache."""
    model = split_model(tmp_path / "m", "w.bin")
    sha256 = store.put(model)
    file = store.fetch(sha256).parent / name
    whole = file.read_bytes()
    if broken:
        file.write_bytes(b"x")
    else:
        file.unlink()
    assert (store.fetch(sha256).parent / name).read_bytes() == whole


@pytest.mark.parametrize("text", ["", "[]", "{}", "3"])
def test_a_broken_record_in_the_cache(store: Artefacts, tmp_path: Path, text: str) -> None:
    """It is made again."""
    sha256 = store.put(plain_model(tmp_path))
    store.fetch(sha256)
    (tmp_path / "cache" / "artefacts" / f"{sha256}.json").write_text(text)
    assert store.fetch(sha256).name == "model.onnx"


def test_a_cache_that_is_whole_is_not_written(store: Artefacts, tmp_path: Path) -> None:
    """A session may hold the file open."""
    sha256 = store.put(plain_model(tmp_path))
    path = store.fetch(sha256)
    os.utime(path, ns=(1, 1))
    assert store.fetch(sha256).stat().st_mtime_ns == 1


def test_nothing_is_left_behind(store: Artefacts, tmp_path: Path) -> None:
    """Neither by what works nor by what fails."""
    sha256 = store.put(split_model(tmp_path / "m", "w.bin"))
    store.fetch(sha256)
    refused(lambda: store.fetch(ABSENT))
    home = tmp_path / "cache" / "artefacts"
    assert files(home) == {f"{sha256}.json", f"{sha256}/model.onnx", f"{sha256}/w.bin"}
    assert [path for path in home.iterdir() if path.name.startswith(".tmp-")] == []


FETCH = """
import sys
from pathlib import Path
from harness.files.artefacts import Artefacts
print(Artefacts(Path(sys.argv[1]), Path(sys.argv[2])).fetch(sys.argv[3]).read_bytes().hex())
"""


def test_several_processes_fetch_at_once(store: Artefacts, tmp_path: Path) -> None:
    """Each gets the whole model."""
    model = split_model(tmp_path / "m", "w.bin")
    arguments = [str(tmp_path / "store"), str(tmp_path / "cache"), store.put(model)]
    processes = [
        subprocess.Popen([sys.executable, "-c", FETCH, *arguments], stdout=subprocess.PIPE)
        for _ in range(3)
    ]
    told = {process.communicate()[0].decode().strip() for process in processes}
    assert told == {model.read_bytes().hex()}


@pytest.mark.parametrize("name", ["../x", "x" * 64, "A" * 64, ".", "1" * 63])
def test_a_name_that_is_no_hash(store: Artefacts, name: str) -> None:
    """It could lead out of the store."""
    for action in (store.fetch, store.has, store.remove):
        with pytest.raises(ValueError, match="is no SHA-256"):
            action(name)


# archives that somebody else made


def stored_archive(tmp_path: Path, *entries: tuple[str, bytes], compress: bool = False) -> str:
    """Put an archive into the store, past `put`, and return its hash."""
    path = tmp_path / "made.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in entries:
            kind = zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED
            entry = zipfile.ZipInfo("x")
            entry.filename = name  # the constructor would clean it
            archive.writestr(entry, data, kind)
    sha256 = hash_file(path)
    (tmp_path / "store").mkdir(exist_ok=True)
    path.rename(tmp_path / "store" / sha256)
    return sha256


@pytest.mark.parametrize(
    ("entries", "got"),
    [
        ([("../evil", b"x")], "the entry '../evil' points outside the archive"),
        ([("model.onnx", b""), ("a/../../evil", b"x")],
         "the entry 'a/../../evil' points outside the archive"),
        ([("/evil", b"x")], "the entry '/evil' points outside the archive"),
        ([("..\\evil", b"x")], "the entry '..\\evil' points outside the archive"),
        ([("folder/", b"")], "the entry 'folder/' points outside the archive"),
        ([("a//b", b"")], "the entry 'a//b' points outside the archive"),
        ([("a", b""), ("a/b", b"")], "an entry is in the way of another: a"),
    ],
)  # fmt: skip
def test_an_archive_that_reaches_out(
    store: Artefacts, tmp_path: Path, entries: list[tuple[str, bytes]], got: str
) -> None:
    """Nothing is written outside of the cache, and nothing of it is used."""
    found = refused(lambda: store.fetch(stored_archive(tmp_path, *entries)))
    assert (type(found), found.code) == (ModelFileError, "baseline.control")
    assert found.what == "Control in the artefact store is no archive that can be trusted"
    assert found.got == got
    assert list(tmp_path.rglob("*evil*")) == []


def test_an_archive_with_a_name_twice(store: Artefacts, tmp_path: Path) -> None:
    """Which of the two is the model is not guessed."""
    with pytest.warns(UserWarning, match="Duplicate name"):
        sha256 = stored_archive(tmp_path, ("model.onnx", b"1"), ("model.onnx", b"2"))
    found = refused(lambda: store.fetch(sha256))
    assert found.got == "an entry is in the way of another: model.onnx"


def test_a_compressed_archive(store: Artefacts, tmp_path: Path) -> None:
    """A few bytes could fill the disk."""
    sha256 = stored_archive(tmp_path, ("model.onnx", bytes(1_000_000)), compress=True)
    found = refused(lambda: store.fetch(sha256))
    assert found.got == "the entry 'model.onnx' is compressed or encrypted"


@pytest.mark.parametrize(
    ("offset", "value", "got"),
    [
        (8, b"\x01", "the entry 'model.onnx' is compressed or encrypted"),
        (24, b"\xff\xff\xff\x0f", "its entries do not add up to its size"),
        (16, b"\0\0\0\0", "Bad CRC-32 for file 'model.onnx'"),
    ],
    ids=["encrypted", "size", "checksum"],
)
def test_an_archive_whose_directory_lies(
    store: Artefacts, tmp_path: Path, offset: int, value: bytes, got: str
) -> None:
    """Whoever made it computed its hash afterwards, so that says nothing."""
    made = tmp_path / "store" / stored_archive(tmp_path, ("model.onnx", b"model"))
    data = bytearray(made.read_bytes())
    start = data.index(b"PK\x01\x02") + offset
    data[start : start + len(value)] = value
    sha256 = hashlib.sha256(data).hexdigest()
    made.with_name(sha256).write_bytes(data)
    found = refused(lambda: store.fetch(sha256))
    assert (found.code, found.got) == ("baseline.control", got)


def test_a_link_in_an_archive_is_a_file(store: Artefacts, tmp_path: Path) -> None:
    """Its text is written, and it leads nowhere."""
    path = tmp_path / "made.zip"
    entry = zipfile.ZipInfo("model.onnx")
    entry.external_attr = 0o120777 << 16
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(entry, "/etc/hostname")
    sha256 = hash_file(path)
    (tmp_path / "store").mkdir()
    path.rename(tmp_path / "store" / sha256)
    fetched = store.fetch(sha256)
    assert not fetched.is_symlink()
    assert fetched.read_bytes() == b"/etc/hostname"


@pytest.mark.parametrize("data", [b"PK\x03\x04", b"PK\x03\x04" + b"x" * 100])
def test_a_broken_archive(store: Artefacts, tmp_path: Path, data: bytes) -> None:
    """It is told, not unpacked as far as it goes."""
    sha256 = hashlib.sha256(data).hexdigest()
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / sha256).write_bytes(data)
    found = refused(lambda: store.fetch(sha256))
    assert (found.code, found.got) == ("baseline.control", "File is not a zip file")


# pruning


def test_pruning(store: Artefacts, tmp_path: Path) -> None:
    """What no baseline names is found and removed; what is no artefact is left alone."""
    one, two = store.put(plain_model(tmp_path)), store.put(split_model(tmp_path / "m", "w.bin"))
    (tmp_path / "store" / "README.md").touch()
    (tmp_path / "store" / ".tmp-123").touch()
    assert store.unused(set()) == sorted([one, two])
    assert store.unused({one, ABSENT}) == [two]
    store.remove(two)
    store.remove(two)
    assert (store.has(one), store.has(two)) == (True, False)
    assert files(tmp_path / "store") == {one, "README.md", ".tmp-123"}


def test_a_store_that_does_not_exist_has_nothing_to_prune(store: Artefacts) -> None:
    """Nothing was ever stored."""
    assert store.unused(set()) == []


# places that cannot be used


def test_a_store_that_cannot_be_written(store: Artefacts, tmp_path: Path) -> None:
    """A file is in the way of the folder."""
    (tmp_path / "store").write_text("")
    model = plain_model(tmp_path)
    found = refused(lambda: store.put(model))
    assert (type(found), found.code) == (EnvironmentProblem, "baseline.unwritable")
    assert found.what.startswith("Artefact store cannot be written: FileExistsError: ")
    assert found.where == f"{tmp_path}/store/{hash_file(model)}"


def test_a_full_disk_leaves_no_half_artefact(
    store: Artefacts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name of the store stands for whole files only."""

    def fill(_: Path, target: Path) -> None:
        target.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    model = plain_model(tmp_path)
    monkeypatch.setattr(shutil, "copyfile", fill)
    assert refused(lambda: store.put(model)).code == "baseline.unwritable"
    assert files(tmp_path / "store") == set()


def test_an_artefact_that_is_a_folder(store: Artefacts, tmp_path: Path) -> None:
    """It cannot be read, which is not the same as not being there."""
    (tmp_path / "store" / ABSENT).mkdir(parents=True)
    found = refused(lambda: store.fetch(ABSENT))
    assert (type(found), found.code) == (EnvironmentProblem, "baseline.control")
    assert found.what.startswith("Artefact store cannot be read: IsADirectoryError: ")


def test_a_cache_that_cannot_be_used(store: Artefacts, tmp_path: Path) -> None:
    """It is the machine's fault, not the store's."""
    sha256 = store.put(plain_model(tmp_path))
    (tmp_path / "cache").write_text("")
    found = refused(lambda: store.fetch(sha256))
    assert (type(found), found.code) == (EnvironmentProblem, "cache.unusable")
    assert found.what == "Cache of artefacts cannot be used: Not a directory"


# behind a URL


@pytest.fixture(params=["file", "memory"])
def remote(request: pytest.FixtureRequest, tmp_path: Path) -> Artefacts:
    """Return an empty store behind a URL; scope function."""
    pytest.importorskip("fsspec")
    place = f"{request.param}://{tmp_path}/remote/"
    return Artefacts(place, tmp_path / "cache")


def test_a_store_behind_a_url(remote: Artefacts, tmp_path: Path) -> None:
    """Any backend of fsspec will do; storing twice stores once."""
    model = split_model(tmp_path / "m", "w.bin")
    sha256 = remote.put(model)
    assert not remote.has(ABSENT)
    assert remote.has(sha256)
    assert remote.put(model) == sha256
    assert weights(remote.fetch(sha256)) == [WEIGHTS.tobytes()]
    system, folder = remote._store._open()  # type: ignore[union-attr] # a URL's store
    assert [name.rpartition("/")[2] for name in system.ls(folder, detail=False)] == [sha256]


def test_a_url_is_read_once(remote: Artefacts, tmp_path: Path) -> None:
    """What is in the cache and whole needs no network."""
    model = plain_model(tmp_path)
    sha256 = remote.put(model)
    remote.fetch(sha256)
    system, folder = remote._store._open()  # type: ignore[union-attr] # a URL's store
    system.rm(f"{folder}/{sha256}")
    assert remote.fetch(sha256).read_bytes() == model.read_bytes()
    remote.fetch(sha256).write_bytes(b"x")
    assert refused(lambda: remote.fetch(sha256)).code == "baseline.incomparable"


def test_a_changed_artefact_behind_a_url(remote: Artefacts, tmp_path: Path) -> None:
    """The advice is not about git; storing it again mends it where its size tells."""
    model = plain_model(tmp_path)
    sha256 = remote.put(model)
    system, folder = remote._store._open()  # type: ignore[union-attr] # a URL's store
    system.pipe(f"{folder}/{sha256}", b"other")
    found = refused(lambda: remote.fetch(sha256))
    assert found.code == "baseline.control"
    assert found.next_step == f"restore {found.where}; find out who changed it"
    assert remote.fetch(remote.put(model)).read_bytes() == model.read_bytes()


def test_a_url_cannot_be_pruned_in_full(remote: Artefacts) -> None:
    """Others may need what this project does not."""
    place = remote._place
    for action in (lambda: remote.unused(set()), lambda: remote.remove(ABSENT)):
        found = refused(action)
        assert type(found) is UsageProblem
        assert str(found) == (
            f"Artefact store '{place}' cannot be pruned from here\n"
            f"  where:    {place}\n"
            "  expected: a local folder: other branches and projects may need what this one does "
            "not\n"
            "  next:     let the store's own rules expire old files"
        )


def test_a_url_that_nothing_understands(tmp_path: Path) -> None:
    """Whatever a backend raises becomes one error with the place."""
    pytest.importorskip("fsspec")
    found = refused(lambda: Artefacts("nonsense://x", tmp_path).fetch(ABSENT))
    assert (type(found), found.code) == (EnvironmentProblem, "baseline.control")
    assert found.what.startswith("Artefact store cannot be read: ValueError: ")
    assert found.where == f"nonsense://x/{ABSENT}"


def test_a_backend_that_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The missing package is named."""
    fsspec = pytest.importorskip("fsspec")

    def fail(*_: object) -> None:
        message = "install s3fs"
        raise ImportError(message)

    monkeypatch.setattr(fsspec.core, "url_to_fs", fail)
    found = refused(lambda: Artefacts("s3://b/x", tmp_path).has(ABSENT))
    assert (type(found), found.code) == (EnvironmentProblem, "package.missing")
    assert found.what == ("Artefact store 's3://b/x' needs a package that is missing: install s3fs")


def test_without_fsspec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The package is named as it is for candidates."""

    def absent(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", absent)
    found = refused(lambda: Artefacts("s3://b/x", tmp_path).fetch(ABSENT))
    assert (found.code, found.what) == ("package.missing", "Package 'fsspec' is not installed")
