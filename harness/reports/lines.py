"""One item's judgement as lines of text."""

from __future__ import annotations

from collections.abc import Iterator

from harness.domain.verdict import Judgement
from harness.errors import labelled_lines


def judgement_lines(judgement: Judgement, *, reproduce: str) -> Iterator[str]:
    """Yield what stands behind a verdict other than PASS, ending with how to run it again.

    An item that an earlier failure blocks says so in one line: that failure tells the rest.
    """
    if [finding.code for finding in judgement.findings] == ["blocked"]:
        yield judgement.findings[0].what
        return
    for finding in judgement.findings:
        yield from labelled_lines(finding)
        yield f"  {'code:':<10}{finding.code}"
    saved = judgement.receipt.facts.get("saved_inputs")
    if saved:
        yield f"  {'inputs:':<10}{saved}"
    yield f"  {'again:':<10}{reproduce}"
