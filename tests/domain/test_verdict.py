"""The verdict: what findings and a receipt amount to."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.domain.findings import CODES, Finding, Severity
from harness.domain.questions import CONTRACT, PARITY, QUESTIONS, Question
from harness.domain.receipts import Receipt
from harness.domain.verdict import Judgement, Verdict, judge

FULL = Receipt(counts={"outputs_compared": 1, "elements_compared": 3})
OF_SEVERITY = {
    severity: Finding(code=code, what="w") for code, severity in sorted(CODES.items(), reverse=True)
}
EXPECTED = {
    Severity.ERROR: Verdict.ERROR,
    Severity.FAIL: Verdict.FAIL,
    Severity.NOT_JUDGED: Verdict.SKIP,
    Severity.NOT_APPLICABLE: Verdict.SKIP,
}
#: From best to worst.
ORDER = (Verdict.PASS, Verdict.SKIP, Verdict.FAIL, Verdict.ERROR)
FINDINGS = st.sampled_from(sorted(CODES)).map(lambda code: Finding(code=code, what="w"))


def verdict(*findings: Finding, receipt: Receipt = FULL, skips_allowed: bool = True) -> Verdict:
    """Return the verdict on a parity item."""
    return judge(PARITY, findings=findings, receipt=receipt, skips_allowed=skips_allowed).verdict


def test_nothing_found_and_something_done_is_a_pass() -> None:
    """The only way to pass."""
    assert judge(PARITY, findings=(), receipt=FULL) == Judgement(
        verdict=Verdict.PASS, findings=(), receipt=FULL
    )


@pytest.mark.parametrize("severity", EXPECTED)
def test_each_severity(severity: Severity) -> None:
    """One finding decides."""
    assert verdict(OF_SEVERITY[severity]) is EXPECTED[severity]


@pytest.mark.parametrize(("worse", "better"), list(itertools.combinations(EXPECTED, 2)))
def test_the_worst_finding_decides(worse: Severity, better: Severity) -> None:
    """ERROR beats FAIL beats not judged beats not applicable, in any order."""
    found = (OF_SEVERITY[worse], OF_SEVERITY[better])
    assert verdict(*found) is verdict(*reversed(found)) is EXPECTED[worse]


def test_a_note_changes_nothing() -> None:
    """It stands beside every other verdict, and never in place of a count."""
    note = Finding(code="reference.not-float64", what="why")
    assert verdict(note) is Verdict.PASS
    assert verdict(note, receipt=Receipt()) is Verdict.ERROR
    for severity, expected in EXPECTED.items():
        assert verdict(note, OF_SEVERITY[severity]) is expected


def test_no_skips() -> None:
    """`--no-skips` makes a failure of what was not judged, not of what cannot run."""
    assert verdict(OF_SEVERITY[Severity.NOT_JUDGED], skips_allowed=False) is Verdict.FAIL
    assert verdict(OF_SEVERITY[Severity.NOT_APPLICABLE], skips_allowed=False) is Verdict.SKIP


def test_an_empty_receipt_in_full() -> None:
    """Nothing compared is an ERROR that names the counters."""
    got = judge(PARITY, findings=(), receipt=Receipt(counts={"outputs_compared": 1}))
    assert got.verdict is Verdict.ERROR
    assert got.findings == (
        Finding(
            code="receipt.empty",
            what="Nothing was checked: elements_compared|empty_values_compared is zero",
            expected="above zero for every parity item: outputs_compared, "
            "elements_compared|empty_values_compared",
            got="elements_compared|empty_values_compared = 0",
            next_step="give the model a case or an output that holds something to compare",
        ),
    )


@pytest.mark.parametrize("question", QUESTIONS.values(), ids=QUESTIONS)
def test_every_question_needs_a_receipt(question: Question) -> None:
    """No suite passes on an empty receipt, nor with any one counter at zero."""
    assert question.counters
    assert judge(question, findings=(), receipt=Receipt()).verdict is Verdict.ERROR
    for lacking in question.counters:
        counts = {name.split("|")[0]: 1 for name in question.counters if name != lacking}
        receipt = Receipt(counts=counts)
        assert judge(question, findings=(), receipt=receipt).verdict is Verdict.ERROR


def test_an_empty_receipt_does_not_hide_a_finding() -> None:
    """What was found is told, not that nothing was counted."""
    failed = OF_SEVERITY[Severity.FAIL]
    assert judge(CONTRACT, findings=(failed,), receipt=Receipt()).findings == (failed,)


@given(st.lists(FINDINGS, max_size=4), FINDINGS, st.booleans(), st.sampled_from([FULL, Receipt()]))
def test_another_finding_never_improves_a_verdict(
    found: list[Finding],
    another: Finding,
    skips_allowed: bool,  # noqa: FBT001 - drawn
    receipt: Receipt,
) -> None:
    """Judging is monotone, but for an empty receipt that a finding explains."""
    before = verdict(*found, receipt=receipt, skips_allowed=skips_allowed)
    after = verdict(*found, another, receipt=receipt, skips_allowed=skips_allowed)
    if receipt is FULL or any(each.severity is not Severity.NOTE for each in found):
        assert ORDER.index(after) >= ORDER.index(before)
    else:
        assert after is not Verdict.PASS


@given(st.permutations(sorted(CODES)[:6]))
def test_order_does_not_matter(codes: list[str]) -> None:
    """A verdict is one of a set of findings."""
    found = [Finding(code=code, what="w") for code in codes]
    assert verdict(*found) is verdict(*sorted(found, key=lambda each: each.code))
