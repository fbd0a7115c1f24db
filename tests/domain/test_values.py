"""Values: kinds and leaves."""

from __future__ import annotations

import numpy as np
import pytest

from harness.domain.values import Value, kind, leaves

ONE = np.ones(1)


@pytest.mark.parametrize(
    ("value", "name"),
    [(ONE, "tensor"), ((), "sequence"), ({}, "map"), (None, "empty optional")],
    ids=["tensor", "sequence", "map", "empty"],
)
def test_kinds(value: Value, name: str) -> None:
    """What ONNX calls a value."""
    assert kind(value) == name


def test_leaves_have_paths() -> None:
    """Every tensor is found, however deep."""
    value: Value = (ONE, None, {1: ONE, "a": (ONE,)})
    assert [path for path, _ in leaves(value, "y")] == ["y[0]", "y[2][1]", "y[2]['a'][0]"]
