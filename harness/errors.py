"""The exception tree: one class per action that the reader takes.

Every error carries what happened, where, what was expected, what was found and what to do next,
and prints these as labelled lines. `code` is the stable finding code under which terminal, JSON,
JUnit and docs/findings.md know the same fact.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol


class HarnessError(Exception):
    """Base of all errors that the harness raises on purpose.

    Args:
        what: First line, complete in itself: what happened, with the cell or file concerned.
        code: Stable finding code, see docs/findings.md.
        where: File, dotted key, output or provider concerned.
        expected: What the rule asked for, and where the rule comes from.
        got: What was found instead.
        next_step: The command, key or file that mends it.
        cause: For `blocked`: the code of the failure that stands in the way.
    """

    def __init__(
        self,
        what: str,
        *,
        code: str = "harness.bug",
        where: str = "",
        expected: str = "",
        got: str = "",
        next_step: str = "",
        cause: str = "",
    ) -> None:
        super().__init__(what)
        self.what = what
        self.code = code
        self.where = where
        self.expected = expected
        self.got = got
        self.next_step = next_step
        self.cause = cause

    def __str__(self) -> str:
        """Return the whole message, one labelled line per known part."""
        return "\n".join(labelled_lines(self))


class SpecError(HarnessError):
    """The model spec or project configuration is wrong: fix that file."""


class ModelFileError(HarnessError):
    """A model file, its external data or recorded data is missing or broken: restore the file."""


class EnvironmentProblem(HarnessError):
    """A runtime, provider or package is missing or broken: fix the environment."""


class WorkerDied(HarnessError):
    """A worker ended by a signal, an abort or a time limit while it held the item in flight."""


class RunFailed(HarnessError):
    """ONNX Runtime or a reference refused or failed to do what it was asked; the worker lives."""


class UsageProblem(HarnessError):
    """The command line asks for something that is not there: change the command."""


class HarnessBug(HarnessError):
    """The harness broke its own rules: report it."""


def blocked_by(error: HarnessError) -> HarnessError:
    """Return the one-line form of a failure that another item has told in full.

    What was not judged stays so; everything else is an ERROR of the item that meets it again.
    """
    if error.code in {"package.missing", "blocked"}:
        return error
    what = f"Blocked by an earlier failure: {error.what}"
    return type(error)(what, code="blocked", cause=error.code)


class Told(Protocol):
    """Anything that tells what happened, where, expected, got and next."""

    @property
    def what(self) -> str:
        """First line."""

    @property
    def where(self) -> str:
        """Place."""

    @property
    def expected(self) -> str:
        """What the rule asked for."""

    @property
    def got(self) -> str:
        """What was found."""

    @property
    def next_step(self) -> str:
        """What to do."""


def labelled_lines(error: Told) -> Iterator[str]:
    """Yield the first line of `error`, then one indented line per part that is known."""
    yield error.what
    parts = (
        ("where", error.where),
        ("expected", error.expected),
        ("got", error.got),
        ("next", error.next_step),
    )
    for label, text in parts:
        if text:
            first, *rest = text.splitlines()
            yield f"  {label + ':':<10}{first}"
            yield from (f"  {'':<10}{line}" for line in rest)
