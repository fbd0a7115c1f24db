"""Latency: the candidate is as fast, as small and as quick to start as its baseline."""

from __future__ import annotations

import pytest

from harness.domain.cells import Cell
from harness.domain.questions import LATENCY
from harness.plugin.state import ItemGate

pytestmark = pytest.mark.latency


def test_latency(cell: Cell, gate: ItemGate, request: pytest.FixtureRequest) -> None:
    """No quantity that the gate knows got worse since the baseline was approved."""
    gate.require(LATENCY, cell, request)
