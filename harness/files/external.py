"""The program that tells which other files hold a model's weights, in a process of its own.

A model file is parsed where it can do no harm: it may be anybody's, and a parser that dies takes
its process along. Storing is rare, so a fresh interpreter for each file is cheap enough.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path, PurePosixPath

import harness
from harness.errors import ModelFileError

#: Reading two gigabytes from a slow disk takes minutes; a hang must end all the same.
LIMIT_S = 300.0
_LAST_CHARACTERS = 300
_EXPECTED = "an ONNX model whose external data lie in its folder"


def external_files(model_file: Path) -> list[str]:
    """Return the locations of a model's external data, relative to its folder, in order.

    Raises:
        ModelFileError: If the model cannot be read, or a location is missing or leaves its folder.
    """
    locations = _locations(model_file)
    for location in locations:
        problem = _problem(location, model_file.parent)
        if problem:
            msg = f"External data of '{model_file.name}' cannot be kept: {problem}"
            raise ModelFileError(
                msg,
                code="model.external-data",
                where=str(model_file),
                expected=_EXPECTED,
                next_step="save the model again with its data beside it",
            )
    return locations


def _locations(model_file: Path) -> list[str]:
    """Ask a process that parses the file."""
    command = [sys.executable, "-P", "-m", __name__, os.fspath(model_file)]
    home = os.fspath(Path(harness.__file__).parents[1])  # it may come from conftest's sys.path
    found = [home, *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(found)}
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, timeout=LIMIT_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise _unreadable(model_file, f"no answer within {LIMIT_S:g} s") from None
    if done.returncode != 0:
        told = done.stderr.decode(errors="replace").strip()[-_LAST_CHARACTERS:]
        raise _unreadable(model_file, told or f"the process ended with {done.returncode}")
    return [str(location) for location in json.loads(done.stdout)]


def _unreadable(model_file: Path, got: str) -> ModelFileError:
    msg = f"Model '{model_file.name}' cannot be read"
    return ModelFileError(
        msg, code="model.unreadable", where=str(model_file), expected=_EXPECTED, got=got
    )


def _problem(location: str, folder: Path) -> str:
    """Return why the file at a location is no part of the model's folder."""
    path = PurePosixPath(location)
    if not path.parts or path.is_absolute() or ".." in path.parts or "\0" in location:
        return f"'{location}' points outside the model's folder"
    if not (folder / path).resolve().is_relative_to(folder.resolve()):
        return f"'{location}' points outside the model's folder"
    return "" if (folder / path).is_file() else f"'{location}' is missing"


def main(model_file: str) -> int:
    """Print the locations as JSON."""
    import onnx  # noqa: PLC0415 - the process that asks does not need it

    from harness.files.inspection import external_locations  # noqa: PLC0415 - the same

    try:
        model = onnx.ModelProto.FromString(Path(model_file).read_bytes())
    except Exception as error:  # noqa: BLE001 - parsers raise types of their own
        sys.stderr.write(f"{type(error).__name__}: {error}")
        return 1
    sys.stdout.write(json.dumps(sorted(set(external_locations(model)))))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
