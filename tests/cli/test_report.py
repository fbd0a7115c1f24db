"""`onnx-harness report`: merged records fail for what nobody judged."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness.domain.verdict import Verdict
from harness.results.record import DeclaredItem, ItemRecord, RunRecord, read_record, write_record
from harness.testing import MiniProject
from tests.cli.conftest import Command

CPU, CUDA = "tiny/fp32/cpu/one", "tiny/fp32/cuda/one"
FINDING = {"code": "parity.tolerance", "what": "Parity failed", "where": "output 'y'"}


def write(project: MiniProject, name: str, verdicts: dict[str, Verdict]) -> Path:
    """Write a record that declares both cells and judged some."""
    items = tuple(
        ItemRecord(
            question="parity",
            cell=cell,
            verdict=verdict,
            findings=(FINDING,) if verdict is Verdict.FAIL else (),
        )
        for cell, verdict in verdicts.items()
    )
    record = RunRecord(
        harness_version="0",
        created="2026-01-01T00:00:00+00:00",
        machine={"system": "Linux"},
        asked={"providers": ["cpu"], "models": []},
        declared=tuple(DeclaredItem(question="parity", cell=cell) for cell in (CPU, CUDA)),
        items=items,
    )
    path = project.root / name
    write_record(path, record)
    return path


def test_a_complete_merge_passes(command: Command, project: MiniProject) -> None:
    """Each runner judged its part; the merged record holds both."""
    one = write(project, "one.json", {CPU: Verdict.PASS})
    two = write(project, "two.json", {CUDA: Verdict.PASS})
    result = command("report", "merge", one, two, "--output", "all.json")
    assert result.code == 0
    assert result.out.splitlines()[-1] == (
        "2 records merged: 2 declared items, all judged or not applicable, none failed"
    )
    assert len(read_record(project.root / "all.json").items) == 2


def test_what_no_record_judged_fails_the_merge(command: Command, project: MiniProject) -> None:
    """The lost cell is named."""
    one = write(project, "one.json", {CPU: Verdict.PASS, CUDA: Verdict.SKIP})
    result = command("report", "merge", one)
    assert result.code == 1
    assert result.out.splitlines()[0] == f"UNJUDGED parity {CUDA}"
    assert result.out.splitlines()[-1] == (
        "1 record merged: 2 declared items, 1 not judged by any record, 0 items failed"
    )


def test_an_expected_failure_completes_a_merge(command: Command, project: MiniProject) -> None:
    """It was judged, also where it is all that was; the record says what was expected."""
    excused = ({"code": "known-failure", "what": "Known failure 'parity.tolerance'"}, FINDING)
    items = tuple(
        ItemRecord(question="parity", cell=cell, verdict=Verdict.SKIP, findings=excused)
        for cell in (CPU, CUDA)
    )
    empty = read_record(write(project, "one.json", {}))
    write_record(project.root / "one.json", replace(empty, items=items))
    result = command("report", "merge", "one.json")
    assert result.code == 0
    totals, last = result.out.splitlines()[-2:]
    assert totals.startswith("2 items: 2 SKIP (2 expected to fail); ")
    assert last == "1 record merged: 2 declared items, all judged or not applicable, none failed"
    shown = command("report", "show", "one.json").out
    assert f"SKIP     parity {CPU}\n  Known failure 'parity.tolerance'\n" in shown


def test_a_failure_fails_the_merge_and_is_told(command: Command, project: MiniProject) -> None:
    """A pass on another runner does not outvote it; its findings are shown."""
    one = write(project, "one.json", {CPU: Verdict.FAIL, CUDA: Verdict.PASS})
    two = write(project, "two.json", {CPU: Verdict.PASS})
    result = command("report", "merge", one, two)
    assert result.code == 1
    assert result.out.splitlines()[:4] == [
        f"FAIL     parity {CPU}",
        "  Parity failed",
        "    where:    output 'y'",
        "    code:     parity.tolerance",
    ]
    plain = command("report", "merge", one, two, "--json").json
    assert (plain["failed"], plain["unjudged"]) == ([f"parity {CPU}"], [])


def test_records_without_any_item_fail(command: Command, project: MiniProject) -> None:
    """Nothing judged is never a pass, even if nothing was declared."""
    path = project.root / "empty.json"
    write_record(path, RunRecord(harness_version="0", created="2026-01-01T00:00:00+00:00"))
    result = command("report", "merge", path)
    assert result.code == 1
    assert result.out.splitlines()[-1] == "1 record merged: 0 declared items, nothing was judged"


def test_show_tells_the_run_and_its_items(command: Command, project: MiniProject) -> None:
    """Head, items, closing table; `--failures` leaves out what passed."""
    path = write(project, "one.json", {CPU: Verdict.PASS, CUDA: Verdict.FAIL})
    lines = command("report", "show", path).out.splitlines()
    assert lines[:3] == [
        "onnx-harness 0, 2026-01-01T00:00:00+00:00, Linux",
        "asked for: providers cpu",
        f"PASS     parity {CPU}",
    ]
    failures = command("report", "show", path, "--failures")
    assert failures.out.splitlines()[2:] == [
        f"FAIL     parity {CUDA}",
        "  Parity failed",
        "    where:    output 'y'",
        "    code:     parity.tolerance",
    ]
    assert command("report", "show", path, "--json").json["harness_version"] == "0"
    assert [
        item["cell"] for item in command("report", "show", path, "--failures", "--json").json
    ] == [CUDA]


def test_show_says_that_nothing_failed(command: Command, project: MiniProject) -> None:
    """An empty list of failures is told in words."""
    path = write(project, "one.json", {CPU: Verdict.PASS})
    assert command("report", "show", path, "--failures").out.splitlines()[-1] == "no item failed"


@pytest.mark.parametrize(
    ("content", "first"),
    [
        (None, "error: Run record cannot be read: No such file or directory"),
        (
            "{",
            "error: Not a run record: Invalid JSON: EOF while parsing an object at line 1 column 1",
        ),
        ("{}", "error: Not a run record: Field required"),
    ],
    ids=["missing", "not JSON", "not a record"],
)
@pytest.mark.parametrize("verb", ["merge", "show"])
def test_a_file_that_is_no_record(
    command: Command, project: MiniProject, verb: str, content: str | None, first: str
) -> None:
    """Each fault has its own words, and the exit code is that of wrong usage."""
    if content is not None:
        project.write("run.json", content)
    result = command("report", verb, "run.json")
    assert (result.code, result.err.splitlines()[0]) == (2, first)
