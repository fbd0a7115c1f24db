"""Findings: codes are known, and errors keep all they tell."""

from __future__ import annotations

import re

import pytest

from harness import errors
from harness.domain.findings import CODES, Finding, Severity, from_error


def test_an_unknown_code_is_refused() -> None:
    """A code that the docs do not know cannot be used."""
    with pytest.raises(ValueError, match=r"^'parity\.typo' is not a finding code$"):
        Finding(code="parity.typo", what="w")


@pytest.mark.parametrize("code", CODES)
def test_codes_are_stable_names(code: str) -> None:
    """Lower case, at most two parts."""
    assert re.fullmatch(r"[a-z-]+(\.[a-z0-9-]+)?", code)
    assert Finding(code=code, what="w").severity is CODES[code]


def test_severities_that_let_an_item_pass_are_rare() -> None:
    """What is not judged: a missing package, and what cannot be measured or compared."""
    by_severity = {
        severity: {code for code, own in CODES.items() if own is severity} for severity in Severity
    }
    assert by_severity[Severity.NOT_JUDGED] == {
        "package.missing",
        "latency.undecided",
        "latency.contaminated",
        "latency.unstable",
        "latency.throttled",
        "latency.unsupported",
        "startup.unsettled",
        "baseline.missing",
        "baseline.incomparable",
        "baseline.orphan",
    }
    assert by_severity[Severity.NOT_APPLICABLE] == {
        "provider.not-applicable",
        "property.not-applicable",
        "latency.not-applicable",
    }
    assert by_severity[Severity.NOTE] == {
        "reference.not-float64",
        "parity.near-tie",
        "parity.unstable",
        "parity.origin",
        "latency.faster",
        "startup.faster",
        "memory.smaller",
        "size.smaller",
        "nodes.fewer",
    }
    assert by_severity[Severity.EXPECTED] == {"known-failure"}


def test_an_error_becomes_a_finding() -> None:
    """All parts are kept, and the code can be replaced."""
    error = errors.RunFailed(
        "what", code="run.failed", where="w", expected="e", got="g", next_step="n"
    )
    told = Finding(code="run.failed", what="what", where="w", expected="e", got="g", next_step="n")
    assert from_error(error) == told
    assert from_error(error, code="blocked").code == "blocked"


def test_what_is_blocked_keeps_its_cause() -> None:
    """Known failures go by it, also when what is blocked blocks the next item."""
    first = errors.RunFailed("refused", code="session.refused")
    blocked = errors.blocked_by(first)
    told = Finding(code="blocked", what="Blocked by an earlier failure: refused",
                   cause="session.refused")  # fmt: skip
    assert from_error(blocked) == from_error(errors.blocked_by(blocked)) == told
    assert (told.root_code, from_error(first).root_code) == ("session.refused", "session.refused")


def test_an_error_without_a_code_is_our_bug() -> None:
    """What nobody classified is not blamed on the model."""
    assert from_error(errors.HarnessError("what")).code == "harness.bug"


def test_errors_print_their_known_parts() -> None:
    """One labelled line per part, further lines below it, unknown parts left out."""
    error = errors.SpecError("What", where="here", got="one\ntwo")
    assert str(error) == "What\n  where:    here\n  got:      one\n            two"
