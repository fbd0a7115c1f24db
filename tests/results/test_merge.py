"""Merging run records: nothing that was declared may go unjudged in silence."""

from __future__ import annotations

from dataclasses import replace

from harness.domain.verdict import Verdict
from harness.results.merge import Merged, merge
from harness.results.record import DeclaredItem, ItemRecord, RunRecord

CPU, CUDA = "tiny/fp32/cpu/one", "tiny/fp32/cuda/one"
DECLARED = (
    DeclaredItem(question="parity", cell=CPU),
    DeclaredItem(question="parity", cell=CUDA),
    DeclaredItem(question="parity", cell="tiny/fp32/qnn/one", not_applicable=True),
)


EXPECTED = ({"code": "known-failure", "what": "Known failure"},)


def expected(cell: str) -> RunRecord:
    """Return a record in which this cell is an expected failure."""
    item = ItemRecord(question="parity", cell=cell, verdict=Verdict.SKIP, findings=EXPECTED)
    return replace(record(), items=(item,))


def record(*verdicts: tuple[str, Verdict], created: str = "2026-01-01T00:00:00+00:00") -> RunRecord:
    """Return a record with these parity verdicts."""
    items = tuple(
        ItemRecord(question="parity", cell=cell, verdict=verdict) for cell, verdict in verdicts
    )
    return RunRecord(harness_version="0", created=created, declared=DECLARED, items=items)


def unjudged(merged: Merged) -> list[str]:
    """Return the cells that no record judged."""
    return [item.cell for item in merged.unjudged]


def test_records_of_two_runners_complete_each_other() -> None:
    """Each runner judges its own provider; together nothing is missing."""
    merged = merge([record((CPU, Verdict.PASS)), record((CUDA, Verdict.PASS))])
    assert unjudged(merged) == []
    assert merged.failed == ()


def test_a_declared_cell_that_no_record_judged_is_named() -> None:
    """A record that lacks a declared cell does not hide it."""
    assert unjudged(merge([record((CPU, Verdict.PASS))])) == [CUDA]


def test_a_skip_is_not_a_judgement() -> None:
    """A cell that was only skipped stays unjudged, unless another runner judged it."""
    skipped = record((CPU, Verdict.PASS), (CUDA, Verdict.SKIP))
    assert unjudged(merge([skipped])) == [CUDA]
    assert unjudged(merge([skipped, record((CUDA, Verdict.PASS))])) == []


def test_the_worst_verdict_counts_in_any_order() -> None:
    """A failure on one runner is not outvoted by a pass on another."""
    good, bad = record((CPU, Verdict.PASS)), record((CPU, Verdict.FAIL))
    for order in ([good, bad], [bad, good]):
        assert [item.verdict for item in merge(order).failed] == [Verdict.FAIL]


def test_an_expected_failure_was_judged() -> None:
    """Nobody needs to judge it again."""
    merged = merge([record((CPU, Verdict.PASS)), expected(CUDA)])
    assert (unjudged(merged), merged.failed) == ([], ())


def test_an_expected_failure_beats_a_skip_and_a_pass() -> None:
    """It stands between PASS and FAIL, in any order of the records."""
    for other, wins in (
        (Verdict.SKIP, Verdict.SKIP),
        (Verdict.PASS, Verdict.SKIP),
        (Verdict.FAIL, Verdict.FAIL),
        (Verdict.ERROR, Verdict.ERROR),
    ):
        for order in ([expected(CPU), record((CPU, other))], [record((CPU, other)), expected(CPU)]):
            (item,) = merge(order).record.items
            assert item.verdict is wins
            assert item.is_expected_failure is (wins is Verdict.SKIP)
