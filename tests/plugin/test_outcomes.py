"""Verdicts as pytest shows them: outcomes, messages, JUnit XML, the closing table."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest

from harness.testing import MiniProject, Outcome

VERDICTS = {
    "contract bad/fp32": "ERROR",
    "contract elsewhere/fp32": "PASS",
    "contract lacking/fp32": "SKIP",
    "contract tiny/fp32": "PASS",
    "contract wrong/fp32": "PASS",
    "parity elsewhere/fp32/cpu/one": "SKIP",
    "parity lacking/fp32/cpu/one": "SKIP",
    "parity tiny/fp32/cpu/one": "PASS",
    "parity wrong/fp32/cpu/test_data_set_0": "PASS",
    "parity wrong/fp32/cpu/test_data_set_1": "FAIL",
    "placement elsewhere/fp32/cpu": "SKIP",
    "placement lacking/fp32/cpu": "SKIP",
    "placement tiny/fp32/cpu": "PASS",
    "placement wrong/fp32/cpu": "PASS",
    "properties elsewhere/fp32/cpu": "SKIP",
    "properties lacking/fp32/cpu": "SKIP",
    "properties tiny/fp32/cpu": "PASS",
    "properties wrong/fp32/cpu": "SKIP",
}


@pytest.fixture
def outcome(mixed: MiniProject) -> Outcome:
    """Return a run over all verdicts, with JUnit XML; scope function."""
    return mixed.run("--junitxml", "junit.xml")


def properties(case: ET.Element) -> set[tuple[str, str]]:
    """Return the properties of a test case."""
    return {(found.attrib["name"], found.attrib["value"]) for found in case.iter("property")}


def test_verdicts_as_outcomes(outcome: Outcome, mixed: MiniProject) -> None:
    """One run, looked at from all sides."""
    assert {key: item.verdict.value for key, item in outcome.items.items()} == VERDICTS
    assert outcome.exit_code == pytest.ExitCode.TESTS_FAILED
    assert "1 failed, 8 passed, 8 skipped, 1 error" in outcome.text.splitlines()[-1]
    assert "ERROR at setup of test_contract[bad/fp32]" in outcome.text

    failure = outcome.text.partition("test_parity[wrong/fp32/cpu/test_data_set_1] _")[2]
    inputs = mixed.root / ".cache/failures/wrong__fp32__cpu__test_data_set_1/inputs.npz"
    assert failure.partition("\n")[2].startswith(
        "Parity failed: 6 of 6 elements (100 %) of output 'y' exceed tolerance for cell "
        "'wrong/fp32/cpu/test_data_set_1'\n"
        "  where:    output 'y', worst at [0, 0]\n"
        "  expected: abs(c - r) <= 1e-05 + 0.0001 * abs(r) (tolerance table, float32 on cpu)\n"
        "  got:      c = 1, r = 2, difference 1 (allowed 0.00021, 4.76e+03 times); greatest "
        "absolute difference 1, relative 0.5\n"
        "  next:     would have passed with atol = 1; only evidence justifies "
        "outputs.y.tolerance, with a reason\n"
        "  code:     parity.tolerance\n"
        "'wrong/fp32/cpu/test_data_set_1': where the failure begins was not found: the graph "
        "itself computes something else than the reference, and a 'recorded' reference has no "
        "values of its own between its inputs and outputs\n"
        "  got:      culprit:    none: it fails on the CPU with every optimisation off\n"
        "  code:     parity.origin\n"
        f"  inputs:   {inputs}\n"
        "  again:    pytest --pyargs harness.suites "
        "-k 'test_parity[wrong/fp32/cpu/test_data_set_1]' --provider cpu\n"
    )
    assert inputs.is_file()

    rows = outcome.text.partition(" onnx-harness =")[2].splitlines()[1:]
    assert rows[0].split()[:3] == ["model", "contract", "provider"]
    assert [row.split()[0] for row in rows[1:6]] == ["bad", "elsewhere", "lacking", "tiny", "wrong"]
    assert rows[6].startswith("18 items: 8 PASS, 1 FAIL, 8 SKIP, 1 ERROR; ")

    tree = ET.parse(mixed.root / "junit.xml")  # noqa: S314 - our own file
    cases = {case.attrib["name"]: case for case in tree.iter("testcase")}
    wrong = cases["test_parity[wrong/fp32/cpu/test_data_set_1]"]
    assert [child.tag for child in wrong] == ["properties", "failure"]
    assert {
        ("harness.verdict", "FAIL"),
        ("harness.finding", "parity.tolerance"),
        ("harness.receipt.elements_compared", "6"),
    } <= properties(wrong)
    bad = cases["test_contract[bad/fp32]"]
    assert [child.tag for child in bad] == ["properties", "error"]
    assert {("harness.verdict", "ERROR"), ("harness.finding", "spec.invalid")} <= properties(bad)
    elsewhere = cases["test_parity[elsewhere/fp32/cpu/one]"]
    assert [child.tag for child in elsewhere] == ["properties", "skipped"]
    assert ("harness.finding", "provider.not-applicable") in properties(elsewhere)


def test_what_is_blocked_is_counted_apart(tiny: MiniProject) -> None:
    """A broken provider is told once; what it blocks is a count with the cause."""
    outcome = tiny.run("--provider", "cuda", "--provider", "cpu")
    assert "1 failed, 4 passed, 2 blocked" in outcome.text.splitlines()[-1]
    assert outcome.exit_code == pytest.ExitCode.TESTS_FAILED
    assert outcome.items["parity tiny/fp32/cuda/one"].verdict.value == "ERROR"
    assert " ERRORS " not in outcome.text
    assert (
        "\n2 items: Blocked by an earlier failure: Provider 'cuda' is not available: no runtime "
        "has CUDAExecutionProvider\n" in outcome.text
    )


def test_a_bug_of_ours_is_an_error_of_ours(tiny: MiniProject) -> None:
    """An exception inside the harness does not look like the model's fault."""
    tiny.write(
        "broken.py",
        "from harness.domain import model_facts\n"
        "import harness.pipeline\n"
        "def fail(*_, **__):\n"
        "    raise RuntimeError('surprise')\n"
        "for module in (harness.pipeline, model_facts):\n"
        "    module.judge_contract = fail\n",
    )
    outcome = tiny.run("-p", "broken", "-m", "contract", env={"PYTHONPATH": str(tiny.root)})
    (item,) = outcome.items.values()
    assert item.verdict.value == "ERROR"
    assert item.findings[0]["code"] == "harness.bug"
    assert item.findings[0]["what"] == "Harness bug at 'tiny/fp32': RuntimeError: surprise"
