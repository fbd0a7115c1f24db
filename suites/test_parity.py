"""Parity: the candidate computes what its reference computes."""

from __future__ import annotations

import pytest

from harness.domain.cells import Cell
from harness.domain.questions import PARITY
from harness.plugin.state import ItemGate

pytestmark = pytest.mark.parity


def test_parity(cell: Cell, gate: ItemGate) -> None:
    """Names, kinds, counts, types, shapes and values of all outputs agree in every step."""
    gate.require(PARITY, cell)
