"""Short names of providers, and what is said about unknown ones."""

from __future__ import annotations

import re

import pytest

from harness.domain.providers import BUILTIN, did_you_mean, find
from harness.errors import UsageProblem


@pytest.mark.parametrize("name", ["cuda", "cuda@ort-1.31"])
def test_a_runtime_is_left_aside(name: str) -> None:
    """The short name decides."""
    assert find(name, BUILTIN).ep == "CUDAExecutionProvider"


def test_unknown_provider_in_full() -> None:
    """All names are shown, and the nearest is offered."""
    known = {name: BUILTIN[name] for name in ("cpu", "cuda", "openvino")}
    with pytest.raises(UsageProblem) as caught:
        find("cudda@ort", known)
    assert str(caught.value) == (
        "Unknown provider 'cudda'\n"
        "  where:    --provider\n"
        "  expected: one of cpu, cuda, openvino\n"
        "  next:     did you mean 'cuda'?"
    )


@pytest.mark.parametrize(
    ("name", "text"),
    [("CPU", "did you mean 'cpu'?"), ("opnvino", "did you mean 'openvino'?"), ("zzz", "other")],
)
def test_did_you_mean(name: str, text: str) -> None:
    """Case does not matter; far names get the other advice."""
    assert did_you_mean(name, ["cpu", "cuda", "openvino"], "other") == text


def test_a_name_with_nothing_near_offers_nothing() -> None:
    """No advice is no line."""
    with pytest.raises(UsageProblem) as caught:
        find("zzz", {})
    assert "next:" not in str(caught.value)


def test_names_fit_into_cells() -> None:
    """Every short name is a plain name and stands for one provider of ONNX Runtime."""
    assert all(re.fullmatch("[a-z]+", name) for name in BUILTIN)
    assert all(provider.name == name for name, provider in BUILTIN.items())
    names = [provider.ep for provider in BUILTIN.values()]
    assert len(set(names)) == len(names)
    assert all(name.endswith("ExecutionProvider") for name in names)


@pytest.mark.parametrize("name", ["cuda", "tensorrt", "rocm", "migraphx"])
def test_providers_of_gpus_are_not_forked(name: str) -> None:
    """A GPU's context does not survive a fork."""
    assert not BUILTIN[name].forks
