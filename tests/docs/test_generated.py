"""The tables in the docs are those of the code."""

from __future__ import annotations

import dataclasses
import inspect
from pathlib import Path

import pytest

from harness.domain import builds, project, spec
from harness.results import record
from tests.docs.generate import (
    PASSAGE,
    PASSAGES,
    PROJECT_TABLES,
    RECORD_TABLES,
    SPEC_TABLES,
    pages,
    renewed,
    shown,
)


@pytest.mark.parametrize("page", pages(), ids=shown)
def test_generated_passages_are_up_to_date(page: Path) -> None:
    """No generated passage differs from what `python -m tests.docs.generate` would write."""
    text = page.read_text(encoding="utf-8")
    assert text == renewed(text), "run `python -m tests.docs.generate`"


def test_each_passage_stands_on_one_page() -> None:
    """Every passage that can be generated is used exactly once."""
    found = [
        match["name"]
        for page in pages()
        for match in PASSAGE.finditer(page.read_text(encoding="utf-8"))
    ]
    assert sorted(found) == sorted(PASSAGES)


def test_an_old_passage_is_noticed() -> None:
    """A passage with another content than the code's is made anew."""
    old = "<!-- generated: suites -->\nnothing\n<!-- end -->"
    assert renewed(old) != old
    assert renewed(renewed(old)) == renewed(old)


@pytest.mark.parametrize(
    ("modules", "tables"),
    [((spec, builds), SPEC_TABLES), ((project,), PROJECT_TABLES), ((record,), RECORD_TABLES)],
    ids=["spec", "project", "record"],
)
def test_every_table_of_a_format_is_described(
    modules: tuple[object, ...], tables: dict[str, type]
) -> None:
    """Each dataclass of a format has its table of keys."""
    own = {
        kind
        for module in modules
        for _, kind in inspect.getmembers(module, dataclasses.is_dataclass)
        if inspect.getmodule(kind) is module
    }
    assert own == set(tables.values())
