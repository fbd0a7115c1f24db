"""The search behind a failing item: on by default, off with --no-localise, never in the way."""

from __future__ import annotations

import os
from pathlib import Path

import harness
from harness.testing import MiniProject, Outcome, file_spec
from tests.localise.graphs import CASE, INPUTS, chain

ITEM = "parity m/fp32/cpu/one"


def add(project: MiniProject, *, off: int | None, more: str = "") -> None:
    """Add a chain of ten nodes whose node `off` has one channel off."""
    files = {
        "model.onnx": chain(10, off=off).SerializeToString(),
        "right.onnx": chain(10).SerializeToString(),
    }
    text = file_spec(reference='onnx = "right.onnx"', inputs=INPUTS, case=CASE, more=more)
    project.add_model("m", text, files)


def importable(project: MiniProject) -> dict[str, str]:
    """Return an environment in which the project's folder and this harness can be imported."""
    folders = (str(project.root), str(Path(harness.__file__).parents[1]))
    return {"PYTHONPATH": os.pathsep.join(folders)}


def codes(outcome: Outcome) -> list[str]:
    """Return the finding codes of the parity item."""
    return [finding["code"] for finding in outcome.items[ITEM].findings]


def test_a_failure_tells_where_it_begins(project: MiniProject) -> None:
    """The note stands behind the finding, and the verdict is the same without it."""
    add(project, off=4)
    outcome, without = project.run(), project.run("--no-localise")
    assert codes(outcome) == ["parity.tolerance", "parity.origin"]
    assert codes(without) == ["parity.tolerance"]
    assert outcome.items[ITEM].verdict == without.items[ITEM].verdict == "FAIL"
    assert "\n'm/fp32/cpu/one' begins to fail at node 'n4' (MatMul): " in outcome.text
    assert "  next:     onnx-harness replay " in outcome.text
    assert "  code:     parity.origin\n" in outcome.text
    assert "begins to fail" not in without.text


def test_a_budget_that_is_too_small_hides_nothing(project: MiniProject) -> None:
    """The note says that the time was up."""
    add(project, off=4, more="[limits]\nlocalise_s = 0.001\n")
    outcome = project.run("-m", "parity")
    assert codes(outcome) == ["parity.tolerance", "parity.origin"]
    assert "the budget of 0.001 s is spent: raise limits.localise_s" in outcome.text


def test_a_fault_of_the_search_changes_no_verdict(project: MiniProject) -> None:
    """It is told in one line, with the command that searches again."""
    add(project, off=4)
    project.write(
        "broken.py",
        "import harness.localise.search\n"
        "def fail(*_, **__):\n"
        "    raise RuntimeError('surprise')\n"
        "harness.localise.search.localise = fail\n",
    )
    outcome = project.run("-p", "broken", "-m", "parity", env=importable(project))
    assert outcome.items[ITEM].verdict == "FAIL"
    assert codes(outcome) == ["parity.tolerance", "parity.origin"]
    assert (
        "Where 'm/fp32/cpu/one' begins to fail was not found: surprise\n"
        "  next:     onnx-harness localise m/fp32/cpu/one\n" in outcome.text
    )


def test_a_run_that_passes_loads_no_search(project: MiniProject) -> None:
    """It costs nothing while parity holds."""
    add(project, off=None)
    project.write(
        "forbidden.py",
        "import sys\n"
        "class Refuse:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.startswith('harness.localise'):\n"
        "            raise AssertionError(name)\n"
        "sys.meta_path.insert(0, Refuse())\n",
    )
    outcome = project.run("-p", "forbidden", env=importable(project))
    assert outcome.exit_code == 0
    assert outcome.items[ITEM].verdict == "PASS"
