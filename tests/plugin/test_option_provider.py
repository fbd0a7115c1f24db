"""`--provider`: which execution providers are judged."""

from __future__ import annotations

import pytest

from harness.domain.providers import BUILTIN
from harness.testing import MiniProject, file_spec, linear_model

MODEL = {"model.onnx": linear_model().SerializeToString()}
PROVIDERS = ", ".join(sorted(BUILTIN))


def test_unknown_name(tiny: MiniProject) -> None:
    """Nothing runs, and the nearest name is offered."""
    outcome = tiny.run("--provider", "cqu")
    assert outcome.exit_code == pytest.ExitCode.USAGE_ERROR
    assert outcome.text.strip() == (
        "ERROR: Unknown provider 'cqu'\n"
        "  where:    --provider\n"
        f"  expected: one of {PROVIDERS}\n"
        "  next:     did you mean 'cpu'?"
    )


def test_unknown_runtime(tiny: MiniProject) -> None:
    """A name after `@` must be a runtime of the project."""
    outcome = tiny.run("--provider", "cpu@ort-9")
    assert outcome.exit_code == pytest.ExitCode.USAGE_ERROR
    assert outcome.text.startswith("ERROR: Runtime 'ort-9' is unknown\n")


def test_a_missing_provider_is_told_once_in_full(tiny: MiniProject) -> None:
    """One item fails with the whole cause, the others are blocked in one line each."""
    outcome = tiny.run("--provider", "cpu", "--provider", "cann")
    assert outcome.exit_code == pytest.ExitCode.TESTS_FAILED
    assert {key: item.verdict.value for key, item in outcome.items.items()} == {
        "contract tiny/fp32": "PASS",
        "placement tiny/fp32/cpu": "PASS",
        "parity tiny/fp32/cpu/one": "PASS",
        "properties tiny/fp32/cpu": "PASS",
        "placement tiny/fp32/cann": "FAIL",
        "parity tiny/fp32/cann/one": "ERROR",
        "properties tiny/fp32/cann": "ERROR",
    }
    told, blocked = (
        outcome.items[key].findings[0]
        for key in ("placement tiny/fp32/cann", "parity tiny/fp32/cann/one")
    )
    assert told["code"] == "provider.unavailable"
    assert "CPUExecutionProvider" in told["got"]
    assert (blocked["code"], blocked["got"]) == ("blocked", "")
    assert blocked["what"] == f"Blocked by an earlier failure: {told['what']}"


def test_without_the_option_usable_providers_of_the_specs_are_judged(project: MiniProject) -> None:
    """What is declared and not usable is named at the end."""
    project.add_model("tiny", file_spec(providers="cpu = {}\ncann = {}"), MODEL)
    outcome = project.run()
    assert outcome.exit_code == pytest.ExitCode.OK
    assert {item.cell for item in outcome.items.values()} == {
        "tiny/fp32",
        "tiny/fp32/cpu",
        "tiny/fp32/cpu/one",
    }
    assert (
        "provider cann is declared but left out: Provider 'cann' is not available" in outcome.text
    )


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["plain", "xdist"])
def test_no_usable_provider_is_no_green_run(project: MiniProject, workers: tuple[str, ...]) -> None:
    """A usage error that names what is missing, without a traceback."""
    project.add_model("tiny", file_spec(providers="cann = {}"), MODEL)
    outcome = project.run(*workers)
    assert outcome.exit_code == pytest.ExitCode.USAGE_ERROR
    assert (
        "ERROR: No provider of the specs is usable here: nothing would be checked\n"
        "  next:     `onnx-harness doctor` tells what is missing\n"
        "provider cann is declared but left out: Provider 'cann' is not available: no runtime "
        "has CANNExecutionProvider\n"
    ) in outcome.text
    assert "Traceback" not in outcome.text
    assert "state.py" not in outcome.text
