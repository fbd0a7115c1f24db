"""What a user reads: the message of one item, and the closing table."""

from __future__ import annotations

from harness.domain.findings import Finding
from harness.domain.receipts import Receipt
from harness.domain.verdict import Judgement, Verdict
from harness.reports.lines import judgement_lines
from harness.reports.summary import summary_lines
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
        item("contract", "a/fp32", Verdict.ERROR),
    ]
    title, *rows, totals = summary_lines(records, width=80)
    assert title == " onnx-harness ".center(80, "=")
    assert [row.split() for row in rows[1:]] == [
        ["a", "error", "-", "-", "-", "-", "-", "-", "-"],
        ["b", "fail", "cpu", "2", "1", "-", "-", "7", "2/2"],
    ]
    assert totals == (
        "6 items: 3 PASS, 2 FAIL, 1 ERROR; 6 nodes checked, 2 nodes placed, "
        "0 outputs compared, 10 elements compared"
    )
