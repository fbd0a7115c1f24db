"""The authors' network for 16 kHz with the parameters of `silero_vad_half.onnx`.

That file holds another training than the archive (README.md), so its own parameters are put
into the authors' network: the graph is judged, the values of the parameters are not.
"""

from __future__ import annotations

from pathlib import Path
from runpy import run_path
from types import SimpleNamespace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

ADAPTER = Path(__file__).resolve().parent.parent / "silero-vad" / "adapter.py"
CANDIDATE = "silero_vad/data/silero_vad_half.onnx"


def build() -> torch.nn.Module:
    """Return the module (input, state) to (output, stateN)."""
    adapter = SimpleNamespace(**run_path(str(ADAPTER)))
    wide, _ = adapter.networks()
    adapter.take_parameters(wide, CANDIDATE)
    module: torch.nn.Module = adapter.Network(wide)
    return module
