"""`--harness-seed`: which examples the properties suite draws."""

from __future__ import annotations

from harness.testing import MiniProject, file_spec, linear_model

KEY = "properties tiny/fp32/cpu"


def worst(project: MiniProject, *options: str) -> tuple[str, str]:
    """Return the seed of a run's receipt, and its worst difference, which tells examples apart."""
    facts = project.run("-m", "properties", *options).items[KEY].facts
    return facts["seed"], facts["worst"]


def test_the_seed_is_told_and_repeats_the_examples(tiny: MiniProject) -> None:
    """The same one gives the same, another one another."""
    first = worst(tiny, "--harness-seed", "7")
    assert first[0] == "7"
    assert worst(tiny, "--harness-seed", "7") == first
    assert worst(tiny, "--harness-seed", "8")[0] == "8"


def test_a_failure_names_the_command_with_its_seed(tiny: MiniProject) -> None:
    """A fresh example can be drawn again."""
    files = {
        "model.onnx": linear_model().SerializeToString(),
        "reference.onnx": linear_model(scale=2).SerializeToString(),
    }
    tiny.add_model("tiny", file_spec(reference='onnx = "reference.onnx"'), files)
    outcome = tiny.run("-m", "properties", "--harness-profile", "nightly")
    seed = outcome.items[KEY].facts["seed"]
    (line,) = [line for line in outcome.text.splitlines() if line.startswith("  again:")]
    assert line.endswith(f" --harness-profile nightly --harness-seed {seed}")
