"""Without --provider each model is judged on the providers that its own spec declares."""

from __future__ import annotations

from harness.domain.verdict import Verdict
from harness.testing import MiniProject, file_spec, linear_model

TINY = {"model.onnx": linear_model().SerializeToString()}


def test_each_model_takes_its_own(project: MiniProject) -> None:
    """A provider that one spec declares is no question about the other models."""
    project.add_model("plain", file_spec(), TINY)
    project.add_model("cloud", file_spec(providers="cpu = {}\nazure = {}"), TINY)
    outcome = project.run()
    assert sorted(key for key in outcome.items if key.startswith("placement")) == [
        "placement cloud/fp32/azure",
        "placement cloud/fp32/cpu",
        "placement plain/fp32/cpu",
    ]


def test_model_without_a_usable_provider_fails(project: MiniProject) -> None:
    """Such a model is not left out: its items say what is missing."""
    project.add_model("plain", file_spec(), TINY)
    project.add_model("fast", file_spec(providers="cann = {}"), TINY)
    outcome = project.run()
    placement = outcome.items["placement fast/fp32/cann"]
    told = (placement.verdict, placement.findings[0]["code"])
    assert told == (Verdict.FAIL, "provider.unavailable")
    assert outcome.items["contract fast/fp32"].verdict is Verdict.PASS
    assert outcome.items["parity plain/fp32/cpu/one"].verdict is Verdict.PASS
