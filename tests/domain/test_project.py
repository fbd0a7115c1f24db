"""Project settings: what one table alone can contradict."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from harness.domain.project import ProviderSettings, RuntimeSettings


@pytest.mark.parametrize(
    ("make", "keys", "message"),
    [
        (RuntimeSettings, {}, "needs either 'requirements' or 'python'"),
        (
            RuntimeSettings,
            {"requirements": ("onnxruntime",), "python": "p"},
            "needs either 'requirements' or 'python'",
        ),
        (ProviderSettings, {"ep": "X"}, "a plugin provider needs both 'ep' and 'library'"),
        (ProviderSettings, {"library": "x"}, "a plugin provider needs both 'ep' and 'library'"),
    ],
)
def test_contradictions(make: Callable[..., Any], keys: dict[str, Any], message: str) -> None:
    """Each contradiction has its message."""
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the whole message is compared
        make(**keys)
    assert str(caught.value) == message
