"""Placement: the nodes really run on the provider that was asked for."""

from __future__ import annotations

import pytest

from harness.domain.cells import Cell
from harness.domain.questions import PLACEMENT
from harness.plugin.state import ItemGate

pytestmark = pytest.mark.placement


def test_placement(cell: Cell, gate: ItemGate) -> None:
    """The session got the provider, and no more nodes left it than the spec allows."""
    gate.require(PLACEMENT, cell)
