"""Baselines on disk: one JSON file per model, and one per model and environment.

Reading gives values that hold, or says in which file and key they do not; a file that is not
there is no error here. Nothing but `write` and `write_local` changes a file.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NoReturn, TypeVar, cast

from pydantic import ValidationError

from harness.domain.baseline import SCHEMA_VERSION, Baseline, LocalBaseline, plain
from harness.errors import EnvironmentProblem, SpecError
from harness.files import toml
from harness.files.cache import key_of, locked, write_atomically
from harness.files.places import cache_folder

T = TypeVar("T", Baseline, LocalBaseline)
#: Path -> what was asked for and read, and what it says.
Known = dict[Path, tuple[tuple[tuple[str, ...], bytes], Baseline | LocalBaseline]]
SUFFIX = ".json"
#: Folder of the artefact store inside that of the baselines; no environment.
ARTEFACTS = "artefacts"
#: More digits than any clock is good for make every line of a diff change.
DIGITS = 4


class Baselines:
    """The folder of baselines of a project; it may be missing.

    Args:
        folder: `baselines/` of the project, or what stands for it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._known: Known = {}

    def portable(self, model: str, aliases: Sequence[str] = ()) -> Baseline | None:
        """Return what holds of a model on every machine, None if nothing was approved.

        Args:
            model: Name of the model.
            aliases: Its former names, whose files are read if there is none of its own.

        Raises:
            SpecError: If the file cannot be read or believed.
        """
        return _first(Baseline, self.folder, (model, *aliases), self._known)[1]

    def local(
        self, model: str, environment_id: str, aliases: Sequence[str] = ()
    ) -> LocalBaseline | None:
        """Return the figures of a model in an environment, None if there are none.

        Raises:
            SpecError: If the file cannot be read or believed, or is of another environment.
        """
        path, found = _first(
            LocalBaseline, self.folder / environment_id, (model, *aliases), self._known
        )
        if found is not None and found.environment.id != environment_id:
            _refuse(
                path, model, "Figures of another environment than their folder's",
                key="environment", expected=f"the environment with the id '{environment_id}'",
                got=f"one with the id '{found.environment.id}'",
            )  # fmt: skip
        return found

    def models(self, environment_id: str = "") -> list[str]:
        """Return the names of all portable files, or of an environment's, in order.

        Raises:
            SpecError: If something else than a folder lies there.
        """
        self._refuse_a_file()
        return sorted(path.stem for path in _json_files(self.folder / environment_id))

    def environments(self) -> list[str]:
        """Return the folders that hold figures, in order."""
        self._refuse_a_file()
        try:
            folders = [entry for entry in self.folder.iterdir() if entry.is_dir()]
        except OSError:
            return []
        return sorted(
            entry.name for entry in folders if entry.name != ARTEFACTS and any(_json_files(entry))
        )

    def _refuse_a_file(self) -> None:
        """Refuse what is no folder: it would look like one without baselines."""
        if self.folder.is_dir() or not os.path.lexists(self.folder):
            return
        msg = f"'{self.folder}' is no folder"
        raise SpecError(
            msg,
            code="baseline.unreadable",
            where=str(self.folder),
            expected="the folder of the baselines, or nothing",
            got="a broken link" if self.folder.is_symlink() else "a file",
            next_step="move it away, or name the folder with --baselines",
        )

    def write(self, baseline: Baseline) -> None:
        """Write the portable part of a model; a file that holds the same already is not touched.

        Raises:
            EnvironmentProblem: If it cannot be written; the file is then as it was.
        """
        _write(self.folder / f"{baseline.model}{SUFFIX}", baseline)

    def write_local(self, local: LocalBaseline) -> None:
        """Write the figures of a model, as `write` does."""
        _write(self.folder / local.environment.id / f"{local.model}{SUFFIX}", local)

    def remove(self, model: str, environment_id: str = "") -> None:
        """Remove the portable file of a model, or that of an environment.

        Raises:
            EnvironmentProblem: If it cannot be removed.
        """
        path = self.folder / environment_id / f"{model}{SUFFIX}"
        try:
            path.unlink(missing_ok=True)
            if environment_id and not any(path.parent.iterdir()):
                path.parent.rmdir()
        except OSError as error:
            raise _unwritable(path, f"Baseline of '{model}' cannot be removed", error) from None

    def lock(self) -> AbstractContextManager[None]:
        """Return a lock between processes, to be held from reading until writing is done.

        Its file lies in the cache, where nobody commits it.
        """
        name = key_of(str(self.folder.resolve()))
        return locked(cache_folder() / "locks" / f"baselines-{name}")


def _json_files(folder: Path) -> Iterator[Path]:
    """Yield the files of models, without noise and what a killed writer left behind."""
    for path in folder.glob(f"*{SUFFIX}"):
        if not path.name.startswith((".", "_")):
            yield path


def _first(
    kind: type[T], folder: Path, names: Sequence[str], known: Known
) -> tuple[Path, T | None]:
    """Return the first file that is there and what it says.

    A file is read each time, because another process may have written it, and understood once.
    """
    for name in names:
        path = folder / f"{name}{SUFFIX}"
        data = _read(path, names[0])
        if data is None:
            continue
        content = (tuple(names), data)
        if path not in known or known[path][0] != content:
            known[path] = (content, _parsed(kind, path, names, data))
        return path, cast("T", known[path][1])
    return folder / f"{names[0]}{SUFFIX}", None


def _parsed(kind: type[T], path: Path, names: Sequence[str], data: bytes) -> T:
    text = _text(path, names[0], data)
    _check_version(path, names[0], text)
    found = _validated(kind, path, names[0], text)
    if found.model not in names:
        _refuse(
            path, names[0], f"Baseline of another model: '{found.model}'", key="model",
            expected=" or ".join(f"'{name}'" for name in names), got=f"'{found.model}'",
            or_else="rename the file, or name the former name in 'aliases' of the model's spec",
        )  # fmt: skip
    return found


def _read(path: Path, model: str) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError as error:
        if isinstance(error, FileNotFoundError) and not path.is_symlink():
            return None
        reason = error.strerror or type(error).__name__
    return _refuse(
        path, model, f"Baseline cannot be read: {reason}", expected="a file that can be read"
    )


def _text(path: Path, model: str, data: bytes) -> str:
    """Return the text of a file that is JSON without double meanings.

    Python's parser comes first: it says where a file breaks off, and pydantic's takes the last of
    two equal keys, which is how a badly merged file hides an entry.
    """
    expected = "JSON, as a refresh writes it"
    try:
        text = data.decode()
        json.loads(text, object_pairs_hook=_unique, parse_constant=_no_number)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        what = f"Baseline is not valid JSON ({place}): {error.msg}"
    except UnicodeDecodeError as error:
        what = f"Baseline is not UTF-8 text: {error.reason} at byte {error.start}"
    except RecursionError:
        what = "Baseline is nested too deeply"
    except ValueError as error:
        what = f"Baseline is not valid JSON: {error}"
    else:
        return text
    return _refuse(path, model, what, expected=expected)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        msg = f"the key '{twice}' stands twice in one object"
        raise ValueError(msg)
    return found


def _no_number(name: str) -> NoReturn:
    msg = f"'{name}' is no number of JSON"
    raise ValueError(msg)


def _check_version(path: Path, model: str, text: str) -> None:
    """Refuse another format before its keys are looked at: it explains all other faults."""
    values = json.loads(text)
    if not isinstance(values, dict):
        return
    version = values.get("schema_version")
    if version == SCHEMA_VERSION and type(version) is int:
        return
    is_newer = type(version) is int and version > SCHEMA_VERSION
    got = "none" if version is None else json.dumps(version)
    _refuse(
        path, model, f"Baseline has schema version {got}", key="schema_version",
        code="baseline.version", expected=str(SCHEMA_VERSION), got=got,
        or_else="upgrade onnx-harness" if is_newer else "",
    )  # fmt: skip


def _validated(kind: type[T], path: Path, model: str, text: str) -> T:
    try:
        return toml.adapter(kind).validate_json(text, strict=True)
    except ValidationError as error:
        errors = error.errors(include_url=False)
        faults = list(toml.faults(kind, errors))
    count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
    return _refuse(
        path, model, f"Baseline has {count}: {faults[0]}", key=toml.dotted_key(errors[0]["loc"]),
        expected=f"a baseline of schema version {SCHEMA_VERSION}, as a refresh writes it",
        got="\n".join(faults),
    )  # fmt: skip


def _refuse(
    path: Path,
    model: str,
    what: str,
    *,
    code: str = "baseline.unreadable",
    key: str = "",
    expected: str = "",
    got: str = "",
    or_else: str = "",
) -> NoReturn:
    """Raise what is wrong with a file, and how to get one that is right."""
    refresh = f"delete it, then `onnx-harness baseline refresh --model {model} --reason TEXT`"
    steps = (f"git checkout -- {path}", refresh, or_else)
    raise SpecError(
        what,
        code=code,
        where=f"{path}, {key}" if key else str(path),
        expected=expected,
        got=got,
        next_step="\nor: ".join(filter(None, steps)),
    )


def _write(path: Path, baseline: Baseline | LocalBaseline) -> None:
    """Write the file whole or not at all."""
    data = _as_text(baseline).encode(errors="replace")  # who and why may come from odd terminals
    try:
        if path.is_file() and path.read_bytes() == data:
            return
        # a link stays one: it may lead to where several checkouts keep their baselines
        write_atomically(path.resolve(), lambda temporary: temporary.write_bytes(data))
    except OSError as error:
        msg = f"Baseline of '{baseline.model}' cannot be written"
        raise _unwritable(path, msg, error) from None


def _unwritable(path: Path, what: str, error: OSError) -> EnvironmentProblem:
    return EnvironmentProblem(
        f"{what}: {error.strerror or type(error).__name__}",
        code="baseline.unwritable",
        where=str(path),
        expected="a folder that can be written, with room for the file",
        got=f"{type(error).__name__}; what was there before is as it was",
        next_step="make room or mend the rights, then repeat the command",
    )


def _as_text(baseline: Baseline | LocalBaseline) -> str:
    """Return the JSON text, fit to be read in a diff."""
    values = _rounded(plain(baseline))
    text = json.dumps(values, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return text + "\n"


def _rounded(value: Any) -> Any:
    match value:
        case float():
            return float(f"{value:.{DIGITS}g}")
        case dict():
            return {key: _rounded(inner) for key, inner in value.items()}
        case list() | tuple():
            return [_rounded(inner) for inner in value]
        case _:
            return value
