"""`--harness-json`: the record of a run."""

from __future__ import annotations

import pytest

from harness.results.record import read_record
from harness.testing import MiniProject


def test_the_record_holds_what_was_declared_asked_and_judged(mixed: MiniProject) -> None:
    """Items that were not selected are declared all the same."""
    outcome = mixed.run("--harness-json", "out/run.json", "--model", "tiny", "-m", "contract")
    record = read_record(mixed.root / "out" / "run.json")
    assert outcome.text.splitlines()[-2] == f"run record: {mixed.root}/out/run.json"
    assert record.asked == {"models": ["tiny"], "providers": [], "skips_allowed": True}
    assert [item.key for item in record.items] == ["contract tiny/fp32"]
    assert {item.key for item in record.declared} == {
        "contract tiny/fp32",
        "placement tiny/fp32/cpu",
        "parity tiny/fp32/cpu/one",
    }
    (item,) = record.items
    assert item.counts == {"nodes_checked": 2, "outputs_declared": 1}
    assert len(item.facts["model"]) == 64


def test_no_record_of_a_run_that_judged_nothing(tiny: MiniProject) -> None:
    """An old record is not taken for the new one's."""
    outcome = tiny.run("--harness-json", "run.json", "-k", "nothing")
    assert outcome.exit_code == pytest.ExitCode.USAGE_ERROR
    assert not (tiny.root / "run.json").exists()
