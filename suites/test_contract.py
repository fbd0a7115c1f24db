"""Contract: the file is a valid ONNX model with the interface that its spec promises."""

from __future__ import annotations

import pytest

from harness.domain.cells import Cell
from harness.domain.questions import CONTRACT
from harness.plugin.state import ItemGate

pytestmark = pytest.mark.contract


def test_contract(cell: Cell, gate: ItemGate) -> None:
    """The file, its external data, its graph and its interface are what the spec says."""
    gate.require(CONTRACT, cell)
