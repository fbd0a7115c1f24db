"""The command `onnx-harness`: its entry point, and what its exit codes mean.

Importing this package loads nothing heavy; each command imports what it needs when it runs.
"""

from __future__ import annotations

import io
import sys
import traceback
from collections.abc import Iterator, Sequence
from enum import IntEnum

from harness.errors import (
    EnvironmentProblem,
    HarnessBug,
    HarnessError,
    ModelFileError,
    RunFailed,
    SpecError,
    UsageProblem,
    WorkerDied,
    labelled_lines,
)

PROGRAM = "onnx-harness"


class ExitCode(IntEnum):
    """What the command's exit code says."""

    PASSED = 0
    """Everything asked for is as it should be."""
    VERDICT_FAILED = 1
    """Something was judged, and failed."""
    USAGE = 2
    """The command line, a spec or a model file is wrong."""
    ENVIRONMENT = 3
    """A runtime, provider, package or folder of this machine is missing or broken."""
    BUG = 4
    """The harness broke its own rules."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code; nothing is raised.

    Args:
        arguments: What follows the command's name; by default that of this process.
    """
    _tolerate_odd_names()
    try:
        return _run(arguments)
    except Exception as error:  # noqa: BLE001 - the last line of defence tells a bug from bad input
        told = unexpected(error)
        print(*error_lines(told), sep="\n", file=sys.stderr)
        return exit_code_of(told)


def exit_code_of(error: HarnessError) -> ExitCode:
    """Return the exit code that tells the reader which action an error asks for."""
    match error:
        case UsageProblem() | SpecError() | ModelFileError():
            return ExitCode.USAGE
        case EnvironmentProblem():
            return ExitCode.ENVIRONMENT
        case RunFailed() | WorkerDied():
            return ExitCode.VERDICT_FAILED
        case _:
            return ExitCode.BUG


def _run(arguments: Sequence[str] | None) -> int:
    from harness.cli.app import command

    try:
        command().main(None if arguments is None else list(arguments), prog_name=PROGRAM)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else ExitCode.PASSED
    return ExitCode.PASSED


def _tolerate_odd_names() -> None:
    """Let file names that are not UTF-8 be printed with escapes instead of raising."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def error_lines(error: HarnessError) -> Iterator[str]:
    """Yield an error as the command tells it."""
    first, *rest = labelled_lines(error)
    yield f"error: {first}" if exit_code_of(error) is not ExitCode.BUG else f"Harness bug: {first}"
    yield from rest


def unexpected(error: Exception) -> HarnessError:
    """Return any error as one of ours: the system's is the machine's fault, another one a bug."""
    if isinstance(error, HarnessError):
        return error
    if isinstance(error, OSError):
        where = "" if error.filename is None else str(error.filename)
        return EnvironmentProblem(error.strerror or str(error), where=where)
    msg = f"{type(error).__name__}: {error}; please report with the lines below"
    return HarnessBug(msg, got="".join(traceback.format_exception(error)).rstrip())
