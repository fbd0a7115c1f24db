"""Making and removing runtimes: an environment of its own for each build of ONNX Runtime.

An environment counts once its mark is written, which happens last: after pip was done and a
worker inside it has imported ONNX Runtime. What fails or is interrupted leaves nothing behind,
and an environment that is being replaced comes back.
"""

from __future__ import annotations

import datetime
import fcntl
import json
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from harness.domain.spec import PLAIN_NAME
from harness.errors import EnvironmentProblem, HarnessError, UsageProblem
from harness.files.cache import write_atomically
from harness.runtimes.launchers import Launcher
from harness.runtimes.registry import MARK, OWN_RUNTIME, Runtime, RuntimeFacts, ask

#: Lines of pip's or venv's output that an error shows.
SHOWN_LINES = 12
#: Beside the runtimes; an environment that is being replaced waits here.
_REPLACED = ".replaced"


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What to make."""

    name: str
    requirements: tuple[str, ...]
    """As pip takes them."""
    python: str
    """Interpreter that the environment is made from."""
    base: Path
    """Folder that relative requirements are relative to."""


def check_name(name: str) -> None:
    """Refuse a name that cannot name a runtime.

    Raises:
        UsageProblem: If it is not plain, or taken by the harness's own interpreter.
    """
    if name == OWN_RUNTIME:
        msg = f"Runtime name '{name}' stands for the harness's own interpreter"
        raise UsageProblem(msg, next_step="choose another name")
    if not PLAIN_NAME.fullmatch(name):
        msg = f"Runtime name '{name}' is not a plain name"
        raise UsageProblem(
            msg, expected=f"a name that matches {PLAIN_NAME.pattern}", next_step="choose another"
        )


def add_runtime(
    order: Order, *, folder: Path, launcher: Launcher, replace: bool
) -> tuple[Runtime, RuntimeFacts]:
    """Make an environment, install into it, prove that its ONNX Runtime starts, and keep it.

    Args:
        order: Name, requirements, interpreter.
        folder: Where all runtimes lie.
        launcher: Starts the worker that proves it.
        replace: Whether a complete runtime of this name may be replaced.

    Raises:
        UsageProblem: If the name is not plain, or the runtime exists and `replace` is off.
        EnvironmentProblem: If it could not be made; code `runtime.broken`, with pip's last lines.
    """
    check_name(order.name)
    home = folder / order.name
    with _alone(folder, order.name):
        if (home / MARK).exists() and not replace:
            raise _exists(home)
        with _replacing(home):
            _run([order.python, "-m", "venv", str(home)], order, doing="making the environment")
            python = str(home / "bin" / "python")
            pip = [python, "-m", "pip", "install", "--disable-pip-version-check", "--no-input"]
            _run([*pip, *order.requirements], order, doing="installing")
            runtime = Runtime(
                name=order.name, python=python, source="added", requirements=order.requirements
            )
            facts = _prove(launcher, runtime)
            _write_mark(home, runtime, facts)
    return runtime, facts


def remove_runtime(name: str, *, folder: Path) -> Path:
    """Delete an environment that `add_runtime` made, complete or not; return where it was.

    Raises:
        UsageProblem: If there is none of this name.
    """
    check_name(name)
    home = folder / name
    if not home.is_dir():
        msg = f"No runtime '{name}' was added"
        known = ", ".join(sorted(path.parent.name for path in folder.glob(f"*/{MARK}")))
        expected = f"one of {known}" if known else "an added runtime; there is none"
        advice = "`onnx-harness runtime list` shows all runtimes"
        raise UsageProblem(msg, where=str(folder), expected=expected, next_step=advice)
    with _alone(folder, name):
        (home / MARK).unlink(missing_ok=True)  # first, so that a half-deleted one does not count
        _delete(home)
    return home


def _exists(home: Path) -> UsageProblem:
    msg = f"Runtime '{home.name}' exists already"
    return UsageProblem(
        msg,
        where=str(home),
        next_step=f"add --replace, or `onnx-harness runtime remove {home.name}` first",
    )


@contextmanager
def _alone(folder: Path, name: str) -> Iterator[None]:
    """Hold a lock on one runtime: two jobs of one machine may want to make the same."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f".{name}.lock").open("w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def _replacing(home: Path) -> Iterator[None]:
    """Put what is there aside; delete it at the end, or bring it back if the new one fails."""
    aside = home.parent / _REPLACED / home.name
    if (home / MARK).exists():
        _delete(aside)
        aside.parent.mkdir(exist_ok=True)
        home.rename(aside)
    _delete(home)  # what an interrupted attempt left
    try:
        yield
    except BaseException:  # Ctrl-C too must not leave half an environment
        _delete(home)
        if aside.exists():
            aside.rename(home)
        raise
    _delete(aside)


def _delete(path: Path) -> None:
    if path.is_symlink():
        path.unlink()
    elif path.exists():
        shutil.rmtree(path)


def _run(command: Sequence[str], order: Order, *, doing: str) -> None:
    try:
        done = subprocess.run(
            command,
            cwd=order.base,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
    except OSError as error:
        raise _failed(order, f"{doing}: {error.strerror}", where=command[0]) from None
    if done.returncode:
        lines = done.stdout.decode(errors="replace").strip().splitlines()
        raise _failed(
            order,
            f"{doing} ended with exit code {done.returncode}",
            where=" ".join(command),
            got="\n".join(lines[-SHOWN_LINES:]),
        )


def _prove(launcher: Launcher, runtime: Runtime) -> RuntimeFacts:
    try:
        return ask(launcher, runtime)
    except HarnessError as error:
        msg = f"Runtime '{runtime.name}' was not made: its ONNX Runtime does not start"
        raise EnvironmentProblem(
            msg,
            code="runtime.broken",
            where=", ".join(runtime.requirements),
            got="\n".join(part for part in (error.what, error.got) if part),
            next_step="name a build of ONNX Runtime that fits this machine and Python",
        ) from None


def _failed(order: Order, cause: str, *, where: str, got: str = "") -> EnvironmentProblem:
    return EnvironmentProblem(
        f"Runtime '{order.name}' was not made: {cause}",
        code="runtime.broken",
        where=where,
        got=got,
        next_step="mend the requirements, the interpreter or the package index, and try again",
    )


def _write_mark(home: Path, runtime: Runtime, facts: RuntimeFacts) -> None:
    now = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    mark = {
        "python": runtime.python,
        "requirements": list(runtime.requirements),
        "onnxruntime": facts.version,
        "created": now.isoformat(),
    }
    text = json.dumps(mark, indent=1, sort_keys=True) + "\n"
    write_atomically(home / MARK, lambda path: path.write_text(text, encoding="utf-8"))
