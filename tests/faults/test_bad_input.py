"""Every row of docs/bad_input.md: a clear error of the right item, all others going on."""

from __future__ import annotations

import pytest

from harness.domain.verdict import Verdict
from tests.faults.conftest import HEALTHY, Faults
from tests.faults.makers import MAKERS, lacking
from tests.faults.table import Row, rows

ROWS = tuple(rows())
#: Rows whose name is what is wrong -> how items show it.
SHOWN = {"name-not-utf8": "caf\\udce9"}
#: Rows whose fault leaves the values right: a wrong name in the spec, an output that is the input.
STILL_RIGHT = {"output-misnamed", "graph-without-nodes"}


def _item(faults: Faults, row: Row, question: str) -> str | None:
    """Return the key of a row's item, if there is one."""
    start = f"{question} {SHOWN.get(row.id, row.id)}/"
    return next((key for key in faults.outcome.items if key.startswith(start)), None)


@pytest.mark.parametrize("row", ROWS, ids=[row.id for row in ROWS])
def test_is_told_by_its_item(faults: Faults, row: Row) -> None:
    """The item that the table names has the verdict, code and first line of the table."""
    if row.id not in faults.made:
        pytest.skip(f"this machine lacks {lacking(row.id)}")
    key = _item(faults, row, row.asks)
    assert key is not None
    item = faults.outcome.items[key]
    first = item.findings[0]
    assert (item.verdict.value, first["code"]) == (row.verdict, row.code)
    assert row.fits(first["what"]), first["what"]


def test_others_go_on(faults: Faults) -> None:
    """A healthy model in the same run passes everything."""
    of_healthy = {
        key.split()[0]: item.verdict
        for key, item in faults.outcome.items.items()
        if f" {HEALTHY}/" in key
    }
    assert of_healthy == dict.fromkeys(
        ("contract", "placement", "parity", "properties"), Verdict.PASS
    )
    assert faults.outcome.exit_code == pytest.ExitCode.TESTS_FAILED


def test_nothing_is_written(faults: Faults) -> None:
    """The models' folders are as they were before the run."""
    assert faults.changed == ()


def test_no_traceback_reaches_the_user(faults: Faults) -> None:
    """Nothing is told as a bug of the harness, and no traceback is printed."""
    codes = {f["code"] for item in faults.outcome.items.values() for f in item.findings}
    assert "harness.bug" not in codes
    assert "Traceback" not in faults.outcome.text
    assert "INTERNALERROR" not in faults.outcome.text


def test_messages_are_cut(faults: Faults) -> None:
    """A library that prints without end does not fill the report."""
    findings = [f for item in faults.outcome.items.values() for f in item.findings]
    assert max(len(finding["what"]) for finding in findings) < 500
    assert max(finding["got"].count("\n") for finding in findings) < 60


def test_no_broken_model_passes_parity(faults: Faults) -> None:
    """Where a row's own item tells the fault, parity of the same model is not green either."""
    passed = {
        row.id
        for row in ROWS
        if (key := _item(faults, row, "parity")) is not None
        and faults.outcome.items[key].verdict is Verdict.PASS
    }
    assert passed == STILL_RIGHT


def test_table_and_makers_agree() -> None:
    """Every row of the table is made, and everything that is made has its row."""
    assert [row.id for row in ROWS if row.id not in MAKERS] == []
    assert sorted(row.id for row in ROWS) == sorted(MAKERS)
