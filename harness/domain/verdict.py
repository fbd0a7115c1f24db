"""The verdict: the only place that decides what findings and a receipt amount to."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from enum import StrEnum

from harness.domain.findings import CODES, Finding, Severity
from harness.domain.known_failures import Declared, weigh
from harness.domain.questions import Question
from harness.domain.receipts import Receipt


class Verdict(StrEnum):
    """What became of an item."""

    PASS = "PASS"  # noqa: S105 - a verdict, no password
    FAIL = "FAIL"
    SKIP = "SKIP"
    ERROR = "ERROR"


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """A verdict with all that stands behind it."""

    verdict: Verdict
    findings: tuple[Finding, ...]
    receipt: Receipt

    @property
    def is_expected_failure(self) -> bool:
        """Return whether the item was judged, and all that fails it is a known failure."""
        codes = [finding.code for finding in self.findings]
        return self.verdict is Verdict.SKIP and is_expected(codes)


def is_expected(codes: Iterable[str]) -> bool:
    """Return whether findings of these codes make an expected failure of an item that is a SKIP.

    One that was not judged in part is none, whatever else is excused.
    """
    severities = {CODES.get(code) for code in codes}
    return Severity.EXPECTED in severities and Severity.NOT_JUDGED not in severities


def judge(
    question: Question,
    *,
    findings: Iterable[Finding],
    receipt: Receipt,
    skips_allowed: bool = True,
    known: Iterable[Declared] = (),
) -> Judgement:
    """Return the verdict on one item.

    ERROR beats FAIL beats SKIP beats PASS. Without a finding that speaks against it, an item
    still ends as ERROR if one of the question's required counters is zero: nothing compared is
    never a pass. An item all of whose failures are excused is an expected failure: SKIP, with the
    findings and what excuses them.

    Args:
        question: What was asked; brings the counters that must be above zero.
        findings: All facts found, in order.
        receipt: What was really done.
        skips_allowed: False (`--no-skips`) turns "not judged" into FAIL; what the spec declares
            not applicable, and an expected failure, stay a SKIP.
        known: The known failures that the spec declares for this item. One that does not show
            makes a passing item FAIL.
    """
    told = tuple(findings)
    notes = tuple(finding for finding in told if finding.severity is Severity.NOTE)
    found = tuple(finding for finding in told if finding.severity is not Severity.NOTE)
    if not found and (zeros := receipt.zeros(question.counters)):
        found = (_empty(question, zeros),)
    weighed = weigh(question, found, tuple(known))
    severities = {finding.severity for finding in weighed.decisive}
    return Judgement(
        verdict=_decided(severities, skips_allowed=skips_allowed),
        findings=(*weighed.decisive, *weighed.excused, *notes),
        receipt=receipt,
    )


def _decided(severities: AbstractSet[Severity], *, skips_allowed: bool) -> Verdict:
    if Severity.ERROR in severities:
        return Verdict.ERROR
    if Severity.FAIL in severities:
        return Verdict.FAIL
    if Severity.NOT_JUDGED in severities:
        return Verdict.SKIP if skips_allowed else Verdict.FAIL
    return Verdict.SKIP if severities else Verdict.PASS


def _empty(question: Question, zeros: tuple[str, ...]) -> Finding:
    return Finding(
        code="receipt.empty",
        what=f"Nothing was checked: {', '.join(zeros)} is zero",
        expected=f"above zero for every {question.name} item: {', '.join(question.counters)}",
        got=", ".join(f"{name} = 0" for name in zeros),
        next_step="give the model a case or an output that holds something to compare",
    )
