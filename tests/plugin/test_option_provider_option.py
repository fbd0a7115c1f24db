"""`--provider-option`: options of execution providers."""

from __future__ import annotations

import pytest

from harness.testing import MiniProject


@pytest.mark.parametrize("text", ["cpu.x", "x=1", ".x=1", "cpu.=1", "cpu"])
def test_form(tiny: MiniProject, text: str) -> None:
    """Anything but PROVIDER.KEY=VALUE is refused."""
    outcome = tiny.run("--provider-option", text)
    assert outcome.exit_code == pytest.ExitCode.USAGE_ERROR
    assert outcome.text.strip() == (
        f"ERROR: Provider option '{text}' is not of the form PROVIDER.KEY=VALUE\n"
        "  where:    --provider-option\n"
        "  expected: for example cuda.use_tf32=0"
    )


def test_unknown_provider(tiny: MiniProject) -> None:
    """An option for nobody would be without effect."""
    outcome = tiny.run("--provider-option", "cudda.use_tf32=0")
    assert outcome.exit_code == pytest.ExitCode.USAGE_ERROR
    assert outcome.text.startswith(
        "ERROR: Unknown provider 'cudda'\n  where:    --provider-option\n"
    )
    assert outcome.text.strip().endswith("next:     did you mean 'cuda'?")


def test_an_option_for_a_provider_that_takes_no_part(tiny: MiniProject) -> None:
    """An option that no session would get is refused."""
    outcome = tiny.run("--provider", "cpu", "--provider-option", "cuda.use_tf32=0")
    assert outcome.exit_code == pytest.ExitCode.USAGE_ERROR
    assert "ERROR: Provider option for 'cuda', which does not take part in this run" in outcome.text


def test_the_cpu_takes_no_options(tiny: MiniProject) -> None:
    """ONNX Runtime ignores options of its CPU provider, so the harness refuses them."""
    outcome = tiny.run("-m", "parity", "--provider-option", "cpu.use_arena=1")
    (item,) = outcome.items.values()
    assert item.findings[0]["what"] == (
        "CPUExecutionProvider takes no options, and would ignore them without a word "
        "for cell 'tiny/fp32/cpu/one'"
    )


def test_an_option_is_part_of_the_command_that_repeats_an_item(tiny: MiniProject) -> None:
    """What was given is given again."""
    options = ("--provider", "azure", "--provider-option", "azure.x=1")
    outcome = tiny.run("-m", "parity", *options)
    (line,) = [line for line in outcome.text.splitlines() if line.startswith("  again:")]
    assert line.endswith(" ".join(options))
