"""Findings: the facts behind a verdict, each with a stable code.

Codes are the same in terminal, JSON, JUnit, known failures and docs/findings.md, and are never
renamed. `Severity` says what a finding does to the verdict.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from harness.errors import HarnessError


class Severity(StrEnum):
    """What a finding makes of the item."""

    FAIL = "fail"
    ERROR = "error"
    NOT_JUDGED = "not judged"
    NOT_APPLICABLE = "not applicable"
    NOTE = "note"
    """Nothing: it explains a verdict."""
    EXPECTED = "expected failure"


#: Every code, with what it does to the verdict.
CODES: dict[str, Severity] = {
    # the file
    "model.missing": Severity.FAIL,
    "model.unreadable": Severity.FAIL,
    "model.invalid": Severity.FAIL,
    "model.external-data": Severity.FAIL,
    "model.no-outputs": Severity.FAIL,
    "model.hash": Severity.FAIL,
    "model.download": Severity.ERROR,
    "contract.input": Severity.FAIL,
    "contract.output": Severity.FAIL,
    "contract.dtype": Severity.FAIL,
    "contract.shape": Severity.FAIL,
    # specs and environment
    "spec.invalid": Severity.ERROR,
    "spec.inputs": Severity.ERROR,
    "package.missing": Severity.NOT_JUDGED,
    "provider.not-applicable": Severity.NOT_APPLICABLE,
    "provider.unavailable": Severity.FAIL,
    "blocked": Severity.ERROR,
    "provider.no-device": Severity.FAIL,
    "runtime.broken": Severity.ERROR,
    "cache.unusable": Severity.ERROR,
    "lock.unusable": Severity.ERROR,
    # sessions and workers
    "session.refused": Severity.FAIL,
    "session.option": Severity.ERROR,
    "session.fallback": Severity.FAIL,
    "run.failed": Severity.FAIL,
    "value.unsupported": Severity.ERROR,
    "worker.signal": Severity.FAIL,
    "worker.timeout": Severity.FAIL,
    "worker.exit": Severity.FAIL,
    "worker.protocol": Severity.ERROR,
    # references and exports
    "reference.failed": Severity.ERROR,
    "reference.timeout": Severity.ERROR,
    "reference.signal": Severity.ERROR,
    "reference.undeclared-file": Severity.ERROR,
    "reference.recorded": Severity.ERROR,
    "reference.unstable": Severity.ERROR,
    "reference.not-float64": Severity.NOTE,
    "export.failed": Severity.FAIL,
    "build.failed": Severity.FAIL,
    # placement
    "placement.fallback": Severity.FAIL,
    "placement.none": Severity.FAIL,
    "placement.unknown": Severity.ERROR,
    # parity
    "parity.outputs": Severity.FAIL,
    "parity.kind": Severity.FAIL,
    "parity.count": Severity.FAIL,
    "parity.dtype": Severity.FAIL,
    "parity.shape": Severity.FAIL,
    "parity.finite": Severity.FAIL,
    "parity.tolerance": Severity.FAIL,
    "parity.mismatch": Severity.FAIL,
    "parity.origin": Severity.NOTE,
    "parity.measure": Severity.FAIL,
    "parity.near-tie": Severity.NOTE,
    "parity.unstable": Severity.NOTE,
    # known failures
    "known-failure": Severity.EXPECTED,
    "known-failure.passed": Severity.FAIL,
    "known-failure.expired": Severity.FAIL,
    # properties
    "property.parity": Severity.FAIL,
    "property.batch": Severity.FAIL,
    "property.padding": Severity.FAIL,
    "property.permutation": Severity.FAIL,
    "property.repeat": Severity.FAIL,
    "property.threads": Severity.FAIL,
    "property.run": Severity.FAIL,
    "property.refused": Severity.FAIL,
    "property.not-applicable": Severity.NOT_APPLICABLE,
    # latency, memory, start-up, size
    "latency.slower": Severity.FAIL,
    "latency.faster": Severity.NOTE,
    "latency.undecided": Severity.NOT_JUDGED,
    "latency.contaminated": Severity.NOT_JUDGED,
    "latency.throttled": Severity.NOT_JUDGED,
    "latency.unstable": Severity.NOT_JUDGED,
    "latency.unsupported": Severity.NOT_JUDGED,
    "latency.budget": Severity.FAIL,
    "latency.not-applicable": Severity.NOT_APPLICABLE,
    "startup.slower": Severity.FAIL,
    "startup.faster": Severity.NOTE,
    "startup.unsettled": Severity.NOT_JUDGED,
    "memory.larger": Severity.FAIL,
    "memory.smaller": Severity.NOTE,
    "size.larger": Severity.FAIL,
    "size.smaller": Severity.NOTE,
    "nodes.moved": Severity.FAIL,
    "nodes.more": Severity.FAIL,
    "nodes.fewer": Severity.NOTE,
    # baselines
    "baseline.missing": Severity.NOT_JUDGED,
    "baseline.incomparable": Severity.NOT_JUDGED,
    "baseline.orphan": Severity.NOT_JUDGED,
    "baseline.unreadable": Severity.ERROR,
    "baseline.version": Severity.ERROR,
    "baseline.unwritable": Severity.ERROR,
    "baseline.control": Severity.ERROR,
    # the harness itself
    "receipt.empty": Severity.ERROR,
    "harness.bug": Severity.ERROR,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One fact behind a verdict."""

    code: str
    """Stable code, a key of `CODES`."""
    what: str
    """First line, complete in itself."""
    where: str = ""
    """File, dotted key, output or provider."""
    expected: str = ""
    """What the rule asked for, and where it comes from."""
    got: str = ""
    """What was found."""
    next_step: str = ""
    """What to do."""
    cause: str = ""
    """For `blocked`: the code of the failure that stands in the way."""

    def __post_init__(self) -> None:
        """Refuse a code that the docs do not know."""
        if self.code not in CODES:
            msg = f"'{self.code}' is not a finding code"
            raise ValueError(msg)

    @property
    def severity(self) -> Severity:
        """Return what this finding does to the verdict."""
        return CODES[self.code]

    @property
    def root_code(self) -> str:
        """Return the code of what really failed: that of the cause, if another item tells it."""
        return self.cause or self.code


def from_error(error: HarnessError, code: str = "") -> Finding:
    """Return the finding that tells what `error` tells; `code` replaces the error's own."""
    return Finding(
        code=code or error.code,
        what=error.what,
        where=error.where,
        expected=error.expected,
        got=error.got,
        next_step=error.next_step,
        cause=error.cause,
    )
