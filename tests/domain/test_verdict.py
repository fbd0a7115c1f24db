"""The verdict: what findings and a receipt amount to."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.domain.findings import CODES, Finding, Severity
from harness.domain.known_failures import AsOf, Declared
from harness.domain.questions import CONTRACT, PARITY, QUESTIONS, SHOWN_BY, Question
from harness.domain.receipts import Receipt
from harness.domain.spec import KnownFailure
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
    Severity.EXPECTED: Verdict.SKIP,
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
    """`--no-skips` makes a failure of what was not judged, not of what the spec declares."""
    assert verdict(OF_SEVERITY[Severity.NOT_JUDGED], skips_allowed=False) is Verdict.FAIL
    assert verdict(OF_SEVERITY[Severity.NOT_APPLICABLE], skips_allowed=False) is Verdict.SKIP
    assert verdict(OF_SEVERITY[Severity.EXPECTED], skips_allowed=False) is Verdict.SKIP


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


def known(code: str, *, last: int = 2) -> Declared:
    """Return an entry for all parity items as it counts on the second of January."""
    entry = KnownFailure(
        cell="*",
        code=code,
        issue="https://example.com/7",
        expires=date(2027, 1, last),
        suite="parity",
    )
    return Declared(entry=entry, as_of=AsOf(date=date(2027, 1, 2), source="given by --as-of"))


def judged(*codes: str, entries: Sequence[Declared], skips_allowed: bool = True) -> Judgement:
    """Return the judgement on a parity item with findings of these codes and known failures."""
    found = [Finding(code=code, what="w") for code in codes]
    return judge(PARITY, findings=found, receipt=FULL, skips_allowed=skips_allowed, known=entries)


@pytest.mark.parametrize("skips_allowed", [True, False])
@pytest.mark.parametrize("code", ["parity.tolerance", "reference.failed"])
def test_an_expected_failure(code: str, skips_allowed: bool) -> None:  # noqa: FBT001 - drawn
    """FAIL and ERROR alike are excused, and stay so with `--no-skips`: the item was judged."""
    got = judged(code, entries=[known(code)], skips_allowed=skips_allowed)
    assert [finding.code for finding in got.findings] == ["known-failure", code]
    assert (got.verdict, got.is_expected_failure) == (Verdict.SKIP, True)


def test_one_finding_that_is_not_excused_decides() -> None:
    """As ever, and the excused one does not disappear."""
    got = judged("parity.tolerance", "parity.shape", entries=[known("parity.tolerance")])
    assert (got.verdict, got.is_expected_failure) == (Verdict.FAIL, False)
    assert [finding.code for finding in got.findings] == [
        "parity.shape",
        "known-failure",
        "parity.tolerance",
    ]
    worse = judged("parity.tolerance", "harness.bug", entries=[known("parity.tolerance")])
    assert worse.verdict is Verdict.ERROR


def test_an_unexpected_pass_fails() -> None:
    """The entry is not true any more."""
    got = judged(entries=[known("parity.tolerance")])
    assert (got.verdict, got.is_expected_failure) == (Verdict.FAIL, False)
    assert [finding.code for finding in got.findings] == ["known-failure.passed"]


def test_an_expired_entry_excuses_nothing() -> None:
    """The finding decides as without the entry."""
    late = [known("parity.tolerance", last=1), known("reference.failed", last=1)]
    assert judged("parity.tolerance", entries=late).verdict is Verdict.FAIL
    assert judged("reference.failed", entries=late).verdict is Verdict.ERROR


def test_what_is_not_judged_stays_so() -> None:
    """A missing package is no expected failure and no pass, with or without an entry."""
    entries = [known("parity.tolerance")]
    got = judged("package.missing", entries=entries)
    assert (got.verdict, got.is_expected_failure, len(got.findings)) == (Verdict.SKIP, False, 1)
    assert judged("package.missing", entries=entries, skips_allowed=False).verdict is Verdict.FAIL


def test_what_is_not_judged_in_part_is_no_expected_failure() -> None:
    """What is excused does not make up for what nobody looked at."""
    entries = [known("parity.tolerance")]
    got = judged("package.missing", "parity.tolerance", entries=entries)
    assert (got.verdict, got.is_expected_failure) == (Verdict.SKIP, False)
    got = judged("package.missing", "parity.tolerance", entries=entries, skips_allowed=False)
    assert got.verdict is Verdict.FAIL


def test_an_empty_receipt_is_no_pass_that_disproves() -> None:
    """Nothing was compared, so the entry was not disproved; it can itself be excused."""
    empty = judge(PARITY, findings=(), receipt=Receipt(), known=[known("parity.tolerance")])
    assert [finding.code for finding in empty.findings] == ["receipt.empty"]
    excused = judge(PARITY, findings=(), receipt=Receipt(), known=[known("receipt.empty")])
    assert (excused.verdict, excused.is_expected_failure) == (Verdict.SKIP, True)


@given(st.lists(FINDINGS, max_size=3), st.sets(st.sampled_from(sorted(SHOWN_BY)), max_size=3))
def test_no_entry_makes_a_pass(found: list[Finding], codes: set[str]) -> None:
    """Whatever is declared, PASS needs an item without a finding."""
    entries = [known(code) for code in codes]
    got = judge(PARITY, findings=found, receipt=FULL, known=entries)
    counting = [finding for finding in found if finding.severity is not Severity.NOTE]
    assert (got.verdict is Verdict.PASS) == (not counting and not codes)
