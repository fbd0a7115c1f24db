"""`--no-skips`: what was not judged fails, what a spec declares not applicable does not."""

from __future__ import annotations

import pytest

from harness.testing import MiniProject

MODELS = ("--model", "lacking", "--model", "elsewhere", "--model", "tiny")
SELECTION = (*MODELS, "-m", "parity", "--provider", "cpu")


@pytest.mark.parametrize(
    ("options", "code", "verdict", "last_line"),
    [
        ((), pytest.ExitCode.OK, "SKIP", "1 passed, 2 skipped"),
        (("--no-skips",), pytest.ExitCode.TESTS_FAILED, "FAIL", "1 failed, 1 passed, 1 skipped"),
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
        "parity tiny/fp32/cpu/one": "PASS",
    }
    assert last_line in outcome.text.splitlines()[-1]


def test_a_run_that_judged_nothing_is_not_green(mixed: MiniProject) -> None:
    """All items skipped: the run fails, and says why each of them was not judged."""
    outcome = mixed.run("--model", "lacking", "-m", "parity", "--provider", "cpu")
    lines = outcome.text.splitlines()
    assert outcome.exit_code == pytest.ExitCode.TESTS_FAILED
    assert (
        "not judged: 1 item: Package 'no-such-distribution' is not installed; "
        "pip install no-such-distribution"
    ) in lines
    assert "ERROR: Nothing was judged: every item was skipped, so this run proves nothing" in lines
