"""`--harness-profile`: how far the properties suite searches."""

from __future__ import annotations

import pytest

from harness.testing import MiniProject

KEY = "properties tiny/fp32/cpu"


@pytest.mark.parametrize(("profile", "examples"), [("dev", 10), ("ci", 25), ("nightly", 200)])
def test_the_profile_chooses_the_number_of_examples(
    tiny: MiniProject, profile: str, examples: int
) -> None:
    """The receipt tells both."""
    outcome = tiny.run("-m", "properties", "--harness-profile", profile)
    item = outcome.items[KEY]
    assert item.facts["profile"] == f"{profile}, {examples} examples asked for"
    assert examples // 2 < item.counts["examples_judged"] <= examples
    assert (item.facts["seed"] == "by model") == (profile != "nightly")


def test_an_unknown_profile_is_refused(tiny: MiniProject) -> None:
    """A misspelled one would search less than was asked for."""
    outcome = tiny.run("--harness-profile", "nightli")
    assert outcome.exit_code == pytest.ExitCode.USAGE_ERROR
    assert "invalid choice: 'nightli'" in outcome.text
