"""Baselines on disk: what is written is read, and a file that does not hold is told in full."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.domain.baseline import plain
from harness.errors import EnvironmentProblem, HarnessError, SpecError
from harness.files.baselines import Baselines
from harness.files.places import cache_folder
from tests.baselines import ENVIRONMENT, baseline, local

REFRESH = "delete it, then `onnx-harness baseline refresh --model mnist --reason TEXT`"
ID = ENVIRONMENT.id


@pytest.fixture
def store(tmp_path: Path) -> Baselines:
    """Return a folder of baselines that does not exist yet; scope function."""
    return Baselines(tmp_path / "baselines")


def written(store: Baselines, content: bytes | str | dict[str, Any]) -> Path:
    """Write the portable file of the model `mnist` as it is given, and return its path."""
    path = store.folder / "mnist.json"
    path.parent.mkdir(exist_ok=True)
    if isinstance(content, dict):
        content = json.dumps(content)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def refused(read: Callable[[], object]) -> HarnessError:
    """Return why a file is not believed."""
    with pytest.raises(HarnessError) as caught:
        read()
    return caught.value


def portable_refused(store: Baselines, content: bytes | str | dict[str, Any]) -> HarnessError:
    """Return why a portable file with this content is not believed."""
    written(store, content)
    return refused(lambda: store.portable("mnist"))


def changed(path: str, value: Any) -> dict[str, Any]:
    """Return the plain values of a baseline with the value at a dotted path replaced."""
    values = plain(baseline())
    *parents, last = path.split(".")
    table = values
    for name in parents:
        table = table[name]
    table[last] = value
    return values


def test_what_is_written_is_read(store: Baselines) -> None:
    """Both parts come back as they were."""
    store.write(baseline())
    store.write_local(local())
    assert store.portable("mnist") == baseline()
    assert store.local("mnist", ID) == local()


def test_what_is_not_there_is_no_error(store: Baselines) -> None:
    """Nobody has approved anything yet."""
    assert store.portable("mnist") is None
    assert store.local("mnist", ID) is None
    assert (store.models(), store.environments()) == ([], [])


def test_the_layout(store: Baselines) -> None:
    """One file per model, and one folder per environment."""
    store.write(baseline("b"))
    store.write(baseline("a"))
    store.write_local(local("a"))
    (store.folder / "artefacts").mkdir()
    (store.folder / "artefacts" / "note.json").touch()
    (store.folder / "empty").mkdir()
    (store.folder / "README.md").touch()
    assert (store.folder / "a.json").is_file()
    assert (store.folder / ID / "a.json").is_file()
    assert store.models() == ["a", "b"]
    assert store.environments() == [ID]


def test_a_folder_that_somebody_renamed_is_listed(store: Baselines) -> None:
    """What can never be found by its id must not be overlooked."""
    store.write_local(local())
    (store.folder / ID).rename(store.folder / "my-runner")
    assert store.environments() == ["my-runner"]


def test_a_file_in_full(store: Baselines) -> None:
    """Sorted keys, one value a line, text as people write it, a newline at the end."""
    store.write(baseline())
    text = (store.folder / "mnist.json").read_text(encoding="utf-8")
    assert text.startswith(
        '{\n "entries": {\n  "fp32/cpu": {\n   "artefact": "' + "2" * 64 + '",\n   "change": {\n'
    )
    assert '\n    "who": "Zoë"\n' in text
    assert text.endswith('\n "model": "mnist",\n "schema_version": 1\n}\n')


def test_four_digits_are_kept(store: Baselines) -> None:
    """Noise in the tenth digit makes no diff; great and small numbers keep theirs."""
    store.write_local(local(p50_ms=1.23456789, spread=0.000123456, startup_ms=123456.7))
    path = store.folder / ID / "mnist.json"
    point = json.loads(path.read_text())["entries"]["fp32/cpu"]["points"]["batch1"]
    assert (point["p50_ms"], point["spread"], point["startup_ms"]) == (1.235, 0.0001235, 123500.0)
    assert point["memory_bytes"] == 50_000_000
    before = path.read_bytes()
    again = store.local("mnist", ID)
    assert again is not None
    store.write_local(again)
    assert path.read_bytes() == before


def test_the_same_again_leaves_the_file_alone(store: Baselines) -> None:
    """Its time of change stays too; anything else is written."""
    store.write(baseline())
    path = store.folder / "mnist.json"
    os.utime(path, ns=(1, 1))
    store.write(baseline())
    assert path.stat().st_mtime_ns == 1
    store.write(baseline(threads=2))
    assert path.stat().st_mtime_ns != 1


def test_text_that_is_no_text_is_written_all_the_same(store: Baselines) -> None:
    """A terminal may hand over bytes that are not UTF-8."""
    entry = baseline().entries["fp32/cpu"]
    odd = replace(entry, change=replace(entry.change, reason="caf\udce9"))
    store.write(replace(baseline(), entries={"fp32/cpu": odd}))
    found = store.portable("mnist")
    assert found is not None
    assert found.entries["fp32/cpu"].change.reason == "caf?"


# former names


def test_a_former_name(store: Baselines) -> None:
    """A renamed model keeps its baseline; its own file comes first, then the aliases in order."""
    store.write(baseline("old"))
    store.write_local(local("old"))
    assert store.portable("mnist") is None
    assert store.portable("mnist", ["older", "old"]) == baseline("old")
    assert store.local("mnist", ID, ["older", "old"]) == local("old")
    store.write(baseline("older", threads=2))
    assert store.portable("mnist", ["older", "old"]) == baseline("older", threads=2)
    store.write(baseline("mnist", threads=3))
    assert store.portable("mnist", ["older", "old"]) == baseline("mnist", threads=3)


def test_a_broken_file_is_not_covered_by_that_of_a_former_name(store: Baselines) -> None:
    """Falling back would judge against what was replaced."""
    store.write(baseline("old"))
    written(store, "{")
    assert refused(lambda: store.portable("mnist", ["old"])).code == "baseline.unreadable"


def test_a_file_that_was_renamed_with_its_model(store: Baselines) -> None:
    """The name inside may be a former one."""
    written(store, plain(baseline("old")))
    assert store.portable("mnist", ["old"]) == baseline("old")


# files that cannot be believed


def test_another_model_in_full(store: Baselines) -> None:
    """A file that was copied is not taken for the model's own."""
    problem = portable_refused(store, plain(baseline("resnet")))
    path = store.folder / "mnist.json"
    assert (type(problem), problem.code) == (SpecError, "baseline.unreadable")
    assert str(problem) == (
        "Baseline of another model: 'resnet'\n"
        f"  where:    {path}, model\n"
        "  expected: 'mnist'\n"
        "  got:      'resnet'\n"
        f"  next:     git checkout -- {path}\n"
        f"            or: {REFRESH}\n"
        "            or: rename the file, or name the former name in 'aliases' of the model's spec"
    )


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("", "Baseline is not valid JSON (line 1, column 1): Expecting value"),
        ('{\n"a": ', "Baseline is not valid JSON (line 2, column 6): Expecting value"),
        (
            "<<<<<<< HEAD\n{}",
            "Baseline is not valid JSON (line 1, column 1): Expecting value",
        ),
        (
            '{"model": "mnist", "model": "mnist"}',
            "Baseline is not valid JSON: the key 'model' stands twice in one object",
        ),
        ('{"a": NaN}', "Baseline is not valid JSON: 'NaN' is no number of JSON"),
        ('{"a": -Infinity}', "Baseline is not valid JSON: '-Infinity' is no number of JSON"),
        (b'{"a": "\xff"}', "Baseline is not UTF-8 text: invalid start byte at byte 7"),
        ("[" * 100_000, "Baseline is nested too deeply"),
    ],
    ids=["empty", "truncated", "conflict", "twice", "nan", "infinity", "latin", "nested"],
)
def test_what_is_no_json(store: Baselines, content: bytes | str, what: str) -> None:
    """Where a file breaks off is told, and nothing of it is used."""
    problem = portable_refused(store, content)
    path = store.folder / "mnist.json"
    assert (problem.code, problem.what) == ("baseline.unreadable", what)
    assert problem.where == str(path)
    assert problem.next_step == f"git checkout -- {path}\nor: {REFRESH}"


@pytest.mark.parametrize("length", [1, 10, 100, 500])
def test_a_file_that_breaks_off(store: Baselines, length: int) -> None:
    """Wherever it does."""
    store.write(baseline())
    whole = (store.folder / "mnist.json").read_bytes()
    assert portable_refused(store, whole[:length]).code == "baseline.unreadable"


RECIPE = "entries.fp32/cpu.recipe"


@pytest.mark.parametrize(
    ("path", "value", "key", "fault"),
    [
        ("moddel", "x", "moddel", "unknown key 'moddel'; did you mean 'model'?"),
        (f"{RECIPE}.thread", 1, f"{RECIPE}.thread",
         f"unknown key '{RECIPE}.thread'; did you mean 'threads'?"),
        (f"{RECIPE}.threads", 0, RECIPE, f"'{RECIPE}' 'threads' must be at least 1, got 0"),
        (f"{RECIPE}.threads", True, f"{RECIPE}.threads",
         f"'{RECIPE}.threads' must be a valid integer, got true"),
        (f"{RECIPE}.threads", "2", f"{RECIPE}.threads",
         f"'{RECIPE}.threads' must be a valid integer, got \"2\""),
        (f"{RECIPE}.io_mode", "disk", f"{RECIPE}.io_mode",
         f"'{RECIPE}.io_mode' must be 'host' or 'device', got \"disk\""),
        ("model", 3, "model", "'model' must be a valid string, got 3"),
    ],
)  # fmt: skip
def test_wrong_keys_and_values(
    store: Baselines, path: str, value: Any, key: str, fault: str
) -> None:
    """Each is told with its dotted key; nothing is converted."""
    problem = portable_refused(store, changed(path, value))
    assert problem.code == "baseline.unreadable"
    assert problem.what == f"Baseline has 1 fault: {fault}"
    assert problem.where == f"{store.folder / 'mnist.json'}, {key}"
    assert problem.got == fault


def test_all_faults_of_a_file_are_told(store: Baselines) -> None:
    """So that a file edited by hand is mended once."""
    values = changed(f"{RECIPE}.threads", "2")
    values["more"] = 1
    problem = portable_refused(store, values)
    assert problem.what.startswith("Baseline has 2 faults: ")
    assert len(problem.got.splitlines()) == 2


@pytest.mark.parametrize("content", ["[]", "3", "null", '"text"'])
def test_json_that_is_no_object(store: Baselines, content: str) -> None:
    """It has no keys, but it is told all the same."""
    problem = portable_refused(store, content)
    assert problem.code == "baseline.unreadable"
    assert problem.where == str(store.folder / "mnist.json")


@pytest.mark.parametrize(
    ("version", "got"), [(2, "2"), (0, "0"), ("1", '"1"'), (True, "true"), (1.0, "1.0")]
)
def test_another_version(store: Baselines, version: Any, got: str) -> None:
    """It explains all other faults, so it is told alone."""
    problem = portable_refused(store, {"schema_version": version, "unknown": 1})
    assert problem.code == "baseline.version"
    assert problem.what == f"Baseline has schema version {got}"
    assert problem.where.endswith("mnist.json, schema_version")
    assert (problem.expected, problem.got) == ("1", got)
    assert problem.next_step.endswith("or: upgrade onnx-harness") is (version == 2)


def test_no_version(store: Baselines) -> None:
    """A file that does not say its version is not taken for one of ours."""
    values = plain(baseline())
    del values["schema_version"]
    problem = portable_refused(store, values)
    assert (problem.code, problem.got) == ("baseline.version", "none")


def test_figures_of_another_environment_in_full(store: Baselines) -> None:
    """A folder that was copied from another machine is not taken for this one's."""
    other = replace(ENVIRONMENT, cores=64)
    store.write_local(local(environment=other))
    (store.folder / other.id).rename(store.folder / ID)
    problem = refused(lambda: store.local("mnist", ID))
    path = store.folder / ID / "mnist.json"
    assert problem.code == "baseline.unreadable"
    assert str(problem) == (
        "Figures of another environment than their folder's\n"
        f"  where:    {path}, environment\n"
        f"  expected: the environment with the id '{ID}'\n"
        f"  got:      one with the id '{other.id}'\n"
        f"  next:     git checkout -- {path}\n"
        f"            or: {REFRESH}"
    )


def test_impossible_figures(store: Baselines) -> None:
    """A time below 0 is told with its dotted key."""
    store.write_local(local())
    path = store.folder / ID / "mnist.json"
    path.write_text(path.read_text().replace('"p50_ms": 1.25', '"p50_ms": -1.25'))
    problem = refused(lambda: store.local("mnist", ID))
    key = "entries.fp32/cpu.points.batch1"
    assert problem.where == f"{path}, {key}"
    assert problem.got == f"'{key}' 'p50_ms' must be a time from 1e-06 ms, got -1.25"


def test_a_folder_where_a_file_belongs(store: Baselines) -> None:
    """It cannot be read, which is not the same as not being there."""
    (store.folder / "mnist.json").mkdir(parents=True)
    problem = refused(lambda: store.portable("mnist"))
    assert problem.code == "baseline.unreadable"
    assert problem.what == "Baseline cannot be read: Is a directory"


def test_a_file_where_the_folder_belongs(store: Baselines) -> None:
    """No baseline could ever be found."""
    store.folder.write_text("")
    problem = refused(lambda: store.portable("mnist"))
    assert problem.what == "Baseline cannot be read: Not a directory"
    for read in (store.models, store.environments):
        assert refused(read).what == f"'{store.folder}' is no folder"


def test_a_link_that_leads_nowhere(store: Baselines) -> None:
    """Somebody meant a baseline to be here."""
    store.folder.mkdir()
    (store.folder / "mnist.json").symlink_to("gone.json")
    problem = refused(lambda: store.portable("mnist"))
    assert problem.what == "Baseline cannot be read: No such file or directory"


def test_a_file_without_rights(store: Baselines, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether or not the tests run as root."""
    store.write(baseline())

    def deny(_: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", deny)
    problem = refused(lambda: store.portable("mnist"))
    assert (problem.code, problem.what) == (
        "baseline.unreadable",
        "Baseline cannot be read: Permission denied",
    )


# writing


def test_a_full_disk_leaves_the_old_file(store: Baselines, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a file is never seen, and nothing is left behind."""
    store.write(baseline())
    before = (store.folder / "mnist.json").read_bytes()

    def fill(path: Path, data: bytes) -> int:
        with path.open("wb") as file:
            file.write(data[:20])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", fill)
    problem = refused(lambda: store.write(baseline(threads=2)))
    path = store.folder / "mnist.json"
    assert (type(problem), problem.code) == (EnvironmentProblem, "baseline.unwritable")
    assert str(problem) == (
        "Baseline of 'mnist' cannot be written: No space left on device\n"
        f"  where:    {path}\n"
        "  expected: a folder that can be written, with room for the file\n"
        "  got:      OSError; what was there before is as it was\n"
        "  next:     make room or mend the rights, then repeat the command"
    )
    assert path.read_bytes() == before
    assert [entry.name for entry in store.folder.iterdir()] == ["mnist.json"]


def test_a_link_stays_a_link(store: Baselines, tmp_path: Path) -> None:
    """Several checkouts may share one file."""
    store.write(baseline())
    path, shared = store.folder / "mnist.json", tmp_path / "shared.json"
    path.rename(shared)
    path.symlink_to(shared)
    store.write(baseline(threads=2))
    assert path.is_symlink()
    assert store.portable("mnist") == baseline(threads=2)


def test_a_folder_that_cannot_be_made(store: Baselines) -> None:
    """A file is in the way."""
    store.folder.write_text("")
    problem = refused(lambda: store.write_local(local()))
    assert (type(problem), problem.code) == (EnvironmentProblem, "baseline.unwritable")
    assert problem.what == "Baseline of 'mnist' cannot be written: Not a directory"


#: Writes a baseline and is killed when the new content is on disk and not yet in place.
KILLED = """
import os, signal, sys
from pathlib import Path
from harness.files.baselines import Baselines
from tests.baselines import baseline
Path.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
Baselines(Path(sys.argv[1])).write(baseline(threads=2))
"""


def test_a_killed_writer_leaves_the_old_file(store: Baselines) -> None:
    """What it left behind is taken for no baseline."""
    store.write(baseline())
    root = str(Path(__file__).parents[2])
    done = subprocess.run([sys.executable, "-c", KILLED, str(store.folder)], cwd=root, check=False)
    assert done.returncode == -signal.SIGKILL
    assert len(list(store.folder.iterdir())) == 2
    assert store.models() == ["mnist"]
    assert store.portable("mnist") == baseline()


#: Reads a baseline, adds an entry and writes it, as a refresh does.
ADD = """
import sys, time
from dataclasses import replace
from pathlib import Path
from harness.files.baselines import Baselines
store = Baselines(Path(sys.argv[1]))
with store.lock():
    known = store.portable("mnist")
    time.sleep(0.2)
    entries = {**known.entries, sys.argv[2]: known.entries["fp32/cpu"]}
    store.write(replace(known, entries=entries))
"""


def test_no_entry_is_lost_between_two_refreshes(
    store: Baselines, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lock holds between processes, however they name the folder, and leaves no file in it."""
    monkeypatch.setenv("ONNX_HARNESS_CACHE", str(tmp_path / "cache"))
    store.write(baseline())
    roundabout = store.folder / ".." / "baselines"
    processes = [
        subprocess.Popen([sys.executable, "-c", ADD, str(folder), key])
        for folder, key in ((store.folder, "fp16/cpu"), (roundabout, "int8/cpu"))
    ]
    assert [process.wait() for process in processes] == [0, 0]
    found = store.portable("mnist")
    assert found is not None
    assert sorted(found.entries) == ["fp16/cpu", "fp32/cpu", "int8/cpu"]
    assert [entry.name for entry in store.folder.iterdir()] == ["mnist.json"]
    assert len(list((cache_folder() / "locks").iterdir())) == 1


def test_what_another_process_writes_is_seen(store: Baselines) -> None:
    """A file is understood once, and anew when its content is another one."""
    store.write(baseline())
    first = store.portable("mnist")
    assert store.portable("mnist") is first
    Baselines(store.folder).write(baseline(threads=3))
    assert store.portable("mnist") == baseline(threads=3)
    written(store, "{")
    assert portable_refused(store, "{").code == "baseline.unreadable"
