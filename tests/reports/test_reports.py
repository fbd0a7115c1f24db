"""What a user reads: the message of one item, and the closing table."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import pytest

from harness.domain.findings import Finding
from harness.domain.known_failures import AsOf
from harness.domain.receipts import Receipt
from harness.domain.spec import KnownFailure
from harness.domain.verdict import Judgement, Verdict
from harness.reports.known_failures import expiring_lines
from harness.reports.lines import judgement_lines
from harness.reports.summary import blocked_lines, expected_lines, summary_lines, unjudged_lines
from harness.results.record import ItemRecord


def test_a_failure_ends_with_how_to_see_it_again() -> None:
    """All known parts are shown once, in order, with code, saved inputs and command."""
    finding = Finding(
        code="parity.shape",
        what="Output 'y' has shape [1] instead of [2]",
        where="output 'y'",
        expected="[2]",
        got="[1]\nsecond line",
    )
    judgement = Judgement(
        verdict=Verdict.FAIL,
        findings=(finding,),
        receipt=Receipt(facts={"saved_inputs": "inputs.npz"}),
    )
    assert list(judgement_lines(judgement, reproduce="pytest x")) == [
        "Output 'y' has shape [1] instead of [2]",
        "  where:    output 'y'",
        "  expected: [2]",
        "  got:      [1]",
        "            second line",
        "  code:     parity.shape",
        "  inputs:   inputs.npz",
        "  again:    pytest x",
    ]


def item(question: str, cell: str, verdict: Verdict, **receipt: object) -> ItemRecord:
    """Return a record; numbers become counters, texts become facts."""
    named = {name.replace("__", " "): value for name, value in receipt.items()}
    return ItemRecord(
        question=question,
        cell=cell,
        verdict=verdict,
        counts={name: value for name, value in named.items() if isinstance(value, int)},
        facts={name: value for name, value in named.items() if isinstance(value, str)},
    )


def test_the_closing_table_adds_up() -> None:
    """One row per model and provider, the worst contract verdict, and the receipts' totals."""
    records = [
        item("parity", "b/fp32/cpu/one", Verdict.PASS, worst="0.5", elements_compared=4),
        item("parity", "b/fp32/cpu/two", Verdict.FAIL, worst="7", elements_compared=6),
        item("contract", "b/fp32", Verdict.PASS, nodes_checked=3),
        item("contract", "b/fp16", Verdict.FAIL, nodes_checked=3),
        item("placement", "b/fp32/cpu", Verdict.PASS, nodes_placed=2, nodes__on__x="2"),
        item("latency", "b/fp32/cpu/one", Verdict.PASS, unchanged_by_hash=1),
        item("latency", "b/fp32/cpu/two", Verdict.PASS, change="-0.0042", calls_timed=9),
        item("contract", "a/fp32", Verdict.ERROR),
    ]
    title, *rows, totals = summary_lines(records, width=80)
    assert title == " onnx-harness ".center(80, "=")
    assert [row.split() for row in rows[1:]] == [
        ["a", "error", "-", "-", "-", "-", "-", "-", "-", "-", "-"],
        ["b", "fail", "cpu", "4", "1", "-", "-", "7", "table", "2/2", "-0.4%"],
    ]
    assert totals == (
        "8 items: 5 PASS, 2 FAIL, 1 ERROR; 6 nodes checked, 2 nodes placed, "
        "0 outputs compared, 10 elements compared, 9 calls timed, 1 unchanged by hash"
    )


ENTRY = KnownFailure(
    cell="b/*/cpu", code="session.refused", issue="https://example.com/7", expires=date(2027, 3, 1)
)
REMARK = {"code": "known-failure", "what": "Known failure 'session.refused'", "next_step": ""}
REFUSED = {"code": "session.refused", "what": "Refused", "next_step": ""}
BLOCKED = {"code": "blocked", "what": "Blocked", "next_step": "", "cause": "session.refused"}
EXPECTED = [
    ItemRecord(question=question, cell=cell, verdict=Verdict.SKIP, findings=(REMARK, shown))
    for question, cell, shown in (
        ("placement", "b/fp32/cpu", REFUSED),
        ("parity", "b/fp32/cpu/one", BLOCKED),
    )
]


def test_expected_failures_are_counted_by_themselves() -> None:
    """They are not among what was not judged, nor among what was blocked."""
    lacking = ItemRecord(
        question="parity",
        cell="a/fp32/cpu/one",
        verdict=Verdict.SKIP,
        findings=({"code": "package.missing", "what": "No package", "next_step": "install it"},),
    )
    blocked = ItemRecord(
        question="parity", cell="c/fp32/cpu/one", verdict=Verdict.ERROR, findings=(BLOCKED,)
    )
    records = [*EXPECTED, lacking, blocked]
    *_, totals = summary_lines(records, width=80)
    assert totals.startswith("4 items: 3 SKIP (2 expected to fail), 1 ERROR; ")
    assert list(unjudged_lines(records)) == ["not judged: 1 item: No package; install it"]
    assert list(blocked_lines(records)) == ["1 item: Blocked"]
    assert list(expected_lines(records)) == [
        "expected to fail: 2 items: Known failure 'session.refused'"
    ]


def test_what_the_spec_declares_not_applicable_is_no_gap() -> None:
    """It is told by another word than what nobody meant to leave out."""
    declared = {
        "code": "provider.not-applicable",
        "what": "'a' does not run there",
        "next_step": "",
    }
    record = ItemRecord(
        question="parity", cell="a/fp32/cpu/one", verdict=Verdict.SKIP, findings=(declared,)
    )
    assert list(unjudged_lines([record])) == ["not applicable: 1 item: 'a' does not run there"]


@pytest.mark.parametrize(
    ("day", "ends"),
    [
        (date(2027, 2, 14), ""),
        (date(2027, 2, 15), "in 14 days"),
        (date(2027, 2, 28), "tomorrow"),
        (date(2027, 3, 1), "today"),
        (date(2027, 3, 2), ""),
    ],
)
def test_the_end_of_an_entry_is_announced(day: date, ends: str) -> None:
    """Once, whether an item shows the failure or is blocked by it."""
    as_of = AsOf(date=day, source="given by --as-of")
    warning = (
        f"warning: known_failure[0] of 'b' ('session.refused', 'b/*/cpu') ends {ends}, on "
        "2027-03-01: https://example.com/7"
    )
    for records in (EXPECTED, EXPECTED[:1], EXPECTED[1:]):
        lines = list(expiring_lines({"b": [ENTRY]}, records, as_of))
        assert lines == ([warning] if ends else [])


def test_an_entry_that_excused_nothing_is_not_announced() -> None:
    """Other cells, other codes, and no item at all."""
    as_of = AsOf(date=date(2027, 3, 1), source="given by --as-of")
    for other in (replace(ENTRY, cell="b/fp16"), replace(ENTRY, code="run.failed")):
        assert list(expiring_lines({"b": [other]}, EXPECTED, as_of)) == []
    assert list(expiring_lines({"b": [ENTRY]}, [], as_of)) == []
