"""Session configs: entries that ONNX Runtime would swallow silently are refused."""

from __future__ import annotations

import pytest

from harness.domain.session import CPU_PROVIDER, SessionConfig, check_config_keys
from harness.errors import SpecError


def test_known_entries() -> None:
    """What ONNX Runtime reads is taken."""
    check_config_keys(
        ["session.set_denormal_as_zero", "session.intra_op.allow_spinning"], where="w"
    )


def test_unknown_entry_in_full() -> None:
    """A misspelled entry is told with the nearest known one."""
    with pytest.raises(SpecError) as caught:
        check_config_keys(["session.set_denormals_as_zero"], where="model.toml, session.config")
    assert caught.value.code == "session.option"
    assert str(caught.value) == (
        "Unknown session configuration entry 'session.set_denormals_as_zero'\n"
        "  where:    model.toml, session.config\n"
        "  expected: a name that ONNX Runtime reads (it accepts any other one silently)\n"
        "  next:     did you mean 'session.set_denormal_as_zero'?"
    )


def test_unknown_entry_that_resembles_none() -> None:
    """Without a near name the message points to the docs."""
    with pytest.raises(SpecError) as caught:
        check_config_keys(["qqq"], where="w")
    assert caught.value.next_step == "see docs/providers.md"


def test_a_session_asks_for_its_provider_then_for_the_cpu() -> None:
    """As it is deployed; a CPU session asks once."""
    options = {"device_id": "0"}
    cuda = SessionConfig(provider="CUDAExecutionProvider", options=options)
    assert cuda.provider_list() == [("CUDAExecutionProvider", options), (CPU_PROVIDER, {})]
    assert SessionConfig(provider=CPU_PROVIDER).provider_list() == [(CPU_PROVIDER, {})]
