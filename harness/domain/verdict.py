"""The verdict: the only place that decides what findings and a receipt amount to."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from harness.domain.findings import Finding, Severity
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


def judge(
    question: Question,
    *,
    findings: Iterable[Finding],
    receipt: Receipt,
    skips_allowed: bool = True,
) -> Judgement:
    """Return the verdict on one item.

    ERROR beats FAIL beats SKIP beats PASS. Without a finding that speaks against it, an item
    still ends as ERROR if one of the question's required counters is zero: nothing compared is
    never a pass.

    Args:
        question: What was asked; brings the counters that must be above zero.
        findings: All facts found, in order.
        receipt: What was really done.
        skips_allowed: False (`--no-skips`) turns "not judged" into FAIL; what the spec declares
            not applicable stays a SKIP.
    """
    found = tuple(findings)
    severities = {finding.severity for finding in found}
    if Severity.ERROR in severities:
        verdict = Verdict.ERROR
    elif Severity.FAIL in severities:
        verdict = Verdict.FAIL
    elif Severity.NOT_JUDGED in severities:
        verdict = Verdict.SKIP if skips_allowed else Verdict.FAIL
    elif Severity.NOT_APPLICABLE in severities:
        verdict = Verdict.SKIP
    elif zeros := receipt.zeros(question.counters):
        found = (*found, _empty(question, zeros))
        verdict = Verdict.ERROR
    else:
        verdict = Verdict.PASS
    return Judgement(verdict=verdict, findings=found, receipt=receipt)


def _empty(question: Question, zeros: tuple[str, ...]) -> Finding:
    return Finding(
        code="receipt.empty",
        what=f"Nothing was checked: {', '.join(zeros)} is zero",
        expected=f"above zero for every {question.name} item: {', '.join(question.counters)}",
        got=", ".join(f"{name} = 0" for name in zeros),
        next_step="give the model a case or an output that holds something to compare",
    )
