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
    assert re.fullmatch(r"[a-z-]+(\.[a-z-]+)?", code)
    assert Finding(code=code, what="w").severity is CODES[code]


def test_severities_that_let_an_item_pass_are_rare() -> None:
    """Only a missing package is not judged, only a declaration is not applicable."""
    by_severity = {
        severity: {code for code, own in CODES.items() if own is severity} for severity in Severity
    }
    assert by_severity[Severity.NOT_JUDGED] == {"package.missing"}
    assert by_severity[Severity.NOT_APPLICABLE] == {
        "provider.not-applicable",
        "property.not-applicable",
    }


def test_an_error_becomes_a_finding() -> None:
    """All parts are kept, and the code can be replaced."""
    error = errors.RunFailed(
        "what", code="run.failed", where="w", expected="e", got="g", next_step="n"
    )
    told = Finding(code="run.failed", what="what", where="w", expected="e", got="g", next_step="n")
    assert from_error(error) == told
    assert from_error(error, code="blocked").code == "blocked"


def test_an_error_without_a_code_is_our_bug() -> None:
    """What nobody classified is not blamed on the model."""
    assert from_error(errors.HarnessError("what")).code == "harness.bug"


def test_errors_print_their_known_parts() -> None:
    """One labelled line per part, further lines below it, unknown parts left out."""
    error = errors.SpecError("What", where="here", got="one\ntwo")
    assert str(error) == "What\n  where:    here\n  got:      one\n            two"
