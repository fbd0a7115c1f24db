"""Where known failures stand in a spec: the lines to delete are those of the file."""

from __future__ import annotations

import datetime

from harness.domain.cells import Cell
from harness.domain.known_failures import AsOf, Declared
from harness.domain.questions import PARITY, PLACEMENT
from harness.files.known_failures import declared
from harness.files.models import Model, load_model
from harness.testing import MiniProject, file_spec

DAY = AsOf(date=datetime.date(2026, 11, 23), source="given by --as-of")
CELL = Cell("m", "fp32", "cpu", "one")
FIRST = """[[known_failure]] # ours
cell = "*"   # everywhere
code = "parity.tolerance"
# since March
issue = "https://example.com/7"
expires = 2027-03-01"""
SECOND = """[[ "known_failure" ]]
issue = "https://example.com/8"
code = "parity.shape"
cell = 'm/*'

expires = "2027-04-01"
reason = '''
two lines'''"""
NORMAL = """[[known_failure]]
cell = "m"
code = "parity.shape"
issue = "https://example.com/8"
reason = "an \\"o\\"\\nand more"
expires = 2027-04-01"""


def found(project: MiniProject, text: str, **changes: str) -> tuple[Model, tuple[Declared, ...]]:
    """Return a model with this text behind its spec, and the entries of its parity item."""
    head = file_spec(**changes)
    model = load_model(project.add_model("m", head + text))
    assert isinstance(model, Model)
    return model, declared(model, PARITY, CELL, DAY)


def first_line(text: str) -> int:
    """Return the number of the line behind the usual spec and `text`."""
    return (file_spec() + text).count("\n") + 1


def test_the_lines_of_each_entry(project: MiniProject) -> None:
    """Comments inside belong to an entry; blank lines and comments above the next table do not."""
    between = "\n\n# limits\n[limits]\nrun_s = 1\n\n"
    model, (one, two) = found(project, FIRST + between + SECOND + "\n\n# the end\n")
    assert (one.text, two.text) == (FIRST, SECOND)
    start = first_line("")
    assert one.where == f"{model.spec_file}, known_failure[0], lines {start} to {start + 5}"
    start = first_line(FIRST + between)
    assert two.where == f"{model.spec_file}, known_failure[1], lines {start} to {start + 7}"


def test_lines_of_another_system(project: MiniProject) -> None:
    """A file with carriage returns has the same lines."""
    text = (file_spec() + FIRST + "\n").replace("\n", "\r\n")
    model = load_model(project.add_model("m", text))
    assert isinstance(model, Model)
    assert [each.text for each in declared(model, PARITY, CELL, DAY)] == [FIRST]


def test_entries_in_one_array(project: MiniProject) -> None:
    """They are told as a table that says the same."""
    reason = 'reason = "an \\"o\\"\\nand more"'
    text = 'cell = "m", code = "parity.shape", issue = "https://example.com/8"'
    line = f"known_failure = [{{ {text}, expires = 2027-04-01, {reason} }}]\n"
    model = load_model(project.add_model("m", line + file_spec()))
    assert isinstance(model, Model)
    (entry,) = declared(model, PARITY, CELL, DAY)
    assert entry.text == NORMAL
    assert entry.where == f"{model.spec_file}, known_failure[0]"


def test_a_header_inside_a_text_is_none(project: MiniProject) -> None:
    """What only looks like an entry is not shown as one to delete."""
    fake = "reason = '''\n[[known_failure]]\ncell = 1'''\n"
    model, (entry,) = found(project, f"{FIRST}\n{fake}")
    assert entry.where == f"{model.spec_file}, known_failure[0]"
    assert entry.text.endswith('reason = "[[known_failure]]\\ncell = 1"\nexpires = 2027-03-01')


def test_a_file_that_was_changed_meanwhile(project: MiniProject) -> None:
    """Lines that say something else, or are gone, are not shown as the entry."""
    model, (before,) = found(project, FIRST)
    for text in (file_spec() + FIRST.replace("/7", "/9"), file_spec(), "[[known_failure]]\n="):
        model.spec_file.write_text(text, encoding="utf-8")
        (entry,) = declared(model, PARITY, CELL, DAY)
        assert entry.where == f"{model.spec_file}, known_failure[0]"
        assert entry.text.splitlines()[1] == 'cell = "*"'
    model.spec_file.unlink()
    assert declared(model, PARITY, CELL, DAY)[0].entry == before.entry


def test_only_entries_about_the_item(project: MiniProject) -> None:
    """Others are not looked at."""
    narrow = FIRST.replace('"*"', '"*/*/*/one"')
    model, entries = found(project, narrow)
    assert len(entries) == 1
    assert declared(model, PLACEMENT, Cell("m", "fp32", "cpu"), DAY) == ()
