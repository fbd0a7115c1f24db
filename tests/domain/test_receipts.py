"""Receipts: adding up, and noticing what is missing."""

from __future__ import annotations

import pytest

from harness.domain.receipts import Receipt


def test_counts_add_up_and_facts_are_replaced() -> None:
    """A receipt is never changed, a new one is made."""
    first = Receipt(counts={"a": 1}, facts={"model": "x"})
    second = first.plus(counts={"a": 2, "b": 1}, facts={"model": "y", "inputs": "z"})
    assert second == Receipt(counts={"a": 3, "b": 1}, facts={"model": "y", "inputs": "z"})
    assert first == Receipt(counts={"a": 1}, facts={"model": "x"})


@pytest.mark.parametrize(
    ("counts", "zeros"),
    [
        ({}, ("a", "b|c")),
        ({"a": 0, "b": 1}, ("a",)),
        ({"a": 1}, ("b|c",)),
        ({"a": 1, "c": 1}, ()),
        ({"a": -1, "c": 1}, ("a",)),
    ],
)
def test_zeros(counts: dict[str, int], zeros: tuple[str, ...]) -> None:
    """Absent is zero, and one of two alternatives is enough."""
    assert Receipt(counts=counts).zeros(("a", "b|c")) == zeros
