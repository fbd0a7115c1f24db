"""`--harness-json`: the record of a run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from harness.results.record import read_record
from harness.testing import MiniProject, file_spec, suites_folder


def test_the_record_holds_what_was_declared_asked_and_judged(mixed: MiniProject) -> None:
    """Items that were not selected are declared all the same."""
    outcome = mixed.run("--harness-json", "out/run.json", "--model", "tiny", "-m", "contract")
    record = read_record(mixed.root / "out" / "run.json")
    assert outcome.text.splitlines()[-2] == f"run record: {mixed.root}/out/run.json"
    assert record.asked == {"models": ["tiny"], "providers": [], "no_skips": False}
    assert [item.key for item in record.items] == ["contract tiny/fp32"]
    declared = {item.key for item in record.declared}
    assert {"contract tiny/fp32", "parity tiny/fp32/cpu/one", "contract bad/fp32"} <= declared
    (item,) = record.items
    assert item.counts == {"nodes_checked": 2, "outputs_declared": 1}
    assert len(item.facts["model"]) == 64


def test_no_record_of_a_run_that_judged_nothing(tiny: MiniProject) -> None:
    """An old record is not taken for the new one's."""
    outcome = tiny.run("--harness-json", "run.json", "-k", "nothing")
    assert outcome.exit_code == pytest.ExitCode.USAGE_ERROR
    assert not (tiny.root / "run.json").exists()


def test_where_the_record_goes_does_not_move_the_project(tiny: MiniProject, tmp_path: Path) -> None:
    """An existing path after an option is a test path for pytest, which moves its rootdir."""
    other = MiniProject(tmp_path / "other")
    other.add_model("stranger", file_spec())
    existing = other.write("run.json", "{}")
    command = [sys.executable, "-m", "pytest", "-p", "harness.plugin", str(suites_folder())]
    arguments = ["--collect-only", "-q", "-m", "contract", "--harness-json", str(existing)]
    done = subprocess.run(
        [*command, *arguments], cwd=tiny.root, capture_output=True, text=True, check=False
    )
    assert "test_contract[tiny/fp32]" in done.stdout
    assert "stranger" not in done.stdout
