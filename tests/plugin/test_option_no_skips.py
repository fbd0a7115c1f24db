"""`--no-skips`: what was not judged fails, what a spec declares not applicable does not."""

from __future__ import annotations

import pytest

from harness.testing import MiniProject

SELECTION = ("--model", "lacking", "--model", "elsewhere", "-m", "parity", "--provider", "cpu")


@pytest.mark.parametrize(
    ("options", "code", "verdict", "last_line"),
    [
        ((), pytest.ExitCode.OK, "SKIP", "2 skipped"),
        (("--no-skips",), pytest.ExitCode.TESTS_FAILED, "FAIL", "1 failed, 1 skipped"),
    ],
)
def test_what_is_not_judged(
    mixed: MiniProject,
    options: tuple[str, ...],
    code: pytest.ExitCode,
    verdict: str,
    last_line: str,
) -> None:
    """A missing package is a skip unless skips are refused; the declaration always is one."""
    outcome = mixed.run(*SELECTION, *options)
    assert outcome.exit_code == code
    assert {key: item.verdict.value for key, item in outcome.items.items()} == {
        "parity elsewhere/fp32/cpu/one": "SKIP",
        "parity lacking/fp32/cpu/one": verdict,
    }
    assert last_line in outcome.text.splitlines()[-1]
