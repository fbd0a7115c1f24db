"""Properties: parity holds over the whole input space that the spec declares."""

from __future__ import annotations

import pytest

from harness.domain.cells import Cell
from harness.domain.questions import PROPERTIES
from harness.plugin.state import ItemGate

pytestmark = pytest.mark.properties


def test_properties(cell: Cell, gate: ItemGate) -> None:
    """No drawn input breaks parity, or a law that the spec declares."""
    gate.require(PROPERTIES, cell)
