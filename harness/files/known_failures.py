"""Where known failures stand: the lines of a spec that make up an entry, for whoever deletes it."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from dataclasses import asdict

from harness.domain.cells import Cell
from harness.domain.known_failures import AsOf, Declared, is_about
from harness.domain.questions import Question
from harness.domain.spec import KnownFailure
from harness.files import toml_text
from harness.files.models import Model

KEY = "known_failure"
_HEADER = re.compile(r"\s*\[\[\s*[\"']?known_failure[\"']?\s*\]\]\s*(#.*)?")
_ANY_HEADER = re.compile(r"\s*\[")
_NO_CONTENT = re.compile(r"\s*(#.*)?")


def declared(model: Model, question: Question, cell: Cell, as_of: AsOf) -> tuple[Declared, ...]:
    """Return the known failures that a model's spec declares for one item."""
    entries = model.spec.known_failure
    return tuple(
        _placed(model, index, as_of)
        for index, entry in enumerate(entries)
        if is_about(entry, question, cell)
    )


def _placed(model: Model, index: int, as_of: AsOf) -> Declared:
    entry = model.spec.known_failure[index]
    where = f"{model.spec_file}, {KEY}[{index}]"
    found = _find(model, index)
    if found is None:
        return Declared(entry=entry, as_of=as_of, where=where, text=_written(entry))
    first, lines = found
    place = f"{where}, lines {first} to {first + len(lines) - 1}"
    return Declared(entry=entry, as_of=as_of, where=place, text="\n".join(lines))


def _find(model: Model, index: int) -> tuple[int, list[str]] | None:
    """Return number and text of an entry's lines; None if the file spells entries otherwise.

    A line counts only if what it belongs to reads as the same entry: TOML may hold one that looks
    like a header inside a text, or all entries in one array.
    """
    try:
        lines = model.spec_file.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError):
        return None
    blocks = list(_blocks(lines))
    if len(blocks) != len(model.spec.known_failure):
        return None
    first, block = blocks[index]
    return (first, block) if _reads_as(block, model.spec.known_failure[index]) else None


def _blocks(lines: list[str]) -> Iterator[tuple[int, list[str]]]:
    """Yield the number of the first line, and all lines, of each `[[known_failure]]`."""
    for start, line in enumerate(lines):
        if _HEADER.fullmatch(line):
            rest = range(start + 1, len(lines))
            end = next((at for at in rest if _ANY_HEADER.match(lines[at])), len(lines))
            while _NO_CONTENT.fullmatch(lines[end - 1]):  # comments above the next table are its
                end -= 1
            yield start + 1, lines[start:end]


def _reads_as(block: list[str], entry: KnownFailure) -> bool:
    try:
        (table,) = tomllib.loads("\n".join(block))[KEY]
    except (tomllib.TOMLDecodeError, ValueError, TypeError, KeyError):
        return False
    return {key: str(value) for key, value in table.items() if value} == _keys(entry)


def _written(entry: KnownFailure) -> str:
    """Return an entry as TOML, for a file whose lines could not be told."""
    texts = _keys(entry)
    day = texts.pop("expires")
    keys = (f"{key} = {toml_text.value(text)}" for key, text in texts.items())
    return "\n".join((f"[[{KEY}]]", *keys, f"expires = {day}"))


def _keys(entry: KnownFailure) -> dict[str, str]:
    return {key: str(value) for key, value in asdict(entry).items() if value}
