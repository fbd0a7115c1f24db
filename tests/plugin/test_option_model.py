"""`--model`: which models are judged."""

from __future__ import annotations

import pytest

from harness.testing import MiniProject


def test_names_and_globs(mixed: MiniProject) -> None:
    """Each names at least one model, and only these are judged."""
    outcome = mixed.run("--model", "tin*", "--model", "elsewhere", "--collect-only", "-q")
    assert outcome.exit_code == pytest.ExitCode.OK
    listed = {line for line in outcome.text.splitlines() if "::" in line}
    assert listed == {
        "test_contract.py::test_contract[elsewhere/fp32]",
        "test_contract.py::test_contract[tiny/fp32]",
        "test_placement.py::test_placement[elsewhere/fp32/cpu]",
        "test_placement.py::test_placement[tiny/fp32/cpu]",
        "test_parity.py::test_parity[elsewhere/fp32/cpu/one]",
        "test_parity.py::test_parity[tiny/fp32/cpu/one]",
        "test_properties.py::test_properties[elsewhere/fp32/cpu]",
        "test_properties.py::test_properties[tiny/fp32/cpu]",
    }


@pytest.mark.parametrize(
    ("name", "advice"), [("tinny", "\n  next:     did you mean 'tiny'?"), ("gpt*", "")]
)
def test_a_name_that_no_model_has(tiny: MiniProject, name: str, advice: str) -> None:
    """Nothing runs, and the nearest name is offered."""
    outcome = tiny.run("--model", "tiny", "--model", name)
    assert outcome.exit_code == pytest.ExitCode.USAGE_ERROR
    assert outcome.text.strip() == (
        f"ERROR: Unknown model '{name}'\n  where:    --model\n  expected: one of tiny{advice}"
    )


def test_a_broken_model_is_told(mixed: MiniProject) -> None:
    """A spec that cannot be read is the answer, not an empty selection."""
    outcome = mixed.run("--model", "bad")
    assert outcome.exit_code == pytest.ExitCode.TESTS_FAILED
    assert {item.verdict.value for item in outcome.items.values()} == {"ERROR"}
    assert "Model spec 'bad' has 2 faults: 'candidate' is missing\n" in outcome.text


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["plain", "xdist"])
@pytest.mark.parametrize("selection", [("-m", "parity"), ("-k", "parity")], ids=["-m", "-k"])
def test_a_broken_model_beside_a_sound_one_is_told(
    mixed: MiniProject, selection: tuple[str, str], workers: tuple[str, ...]
) -> None:
    """Its one item is the contract's; a selection of others tells the spec's own fault."""
    outcome = mixed.run("--model", "bad", "--model", "tiny", *selection, *workers)
    assert outcome.exit_code == pytest.ExitCode.USAGE_ERROR
    assert "ERROR: Model spec 'bad' has 2 faults: 'candidate' is missing\n" in outcome.text
    assert f"  where:    {mixed.models / 'bad' / 'model.toml'}\n" in outcome.text
    assert "The selection leaves no item" not in outcome.text
    assert outcome.items == {}


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["plain", "xdist"])
def test_a_selection_that_leaves_a_named_model_out(
    mixed: MiniProject, workers: tuple[str, ...]
) -> None:
    """A `-k` that drops a named model would be green without it."""
    outcome = mixed.run("--model", "tiny", "--model", "wrong", "-k", "tiny", *workers)
    assert outcome.exit_code == pytest.ExitCode.USAGE_ERROR
    assert (
        "ERROR: The selection leaves no item of model 'wrong', which --model names\n"
        "  next:     change -k or -m, or drop it from --model\n"
    ) in outcome.text
    assert outcome.items == {}


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["plain", "xdist"])
def test_a_selection_that_leaves_nothing(tiny: MiniProject, workers: tuple[str, ...]) -> None:
    """Nothing selected is no green run."""
    outcome = tiny.run("-k", "nothing", *workers)
    assert outcome.exit_code == pytest.ExitCode.USAGE_ERROR
    assert (
        "ERROR: Nothing would be checked: the selection leaves no item of any model on any "
        f"provider in '{tiny.models}'\n"
        "  next:     change -k, -m or --model\n"
    ) in outcome.text
