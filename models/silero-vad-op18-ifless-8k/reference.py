"""The authors' network for 8 kHz with the parameters of `silero_vad_op18_ifless.onnx`.

That half of the file holds another training than the archive (README.md), so its own parameters
are put into the authors' network: the graph is judged, the values of the parameters are not.
"""

from __future__ import annotations

from pathlib import Path
from runpy import run_path
from types import SimpleNamespace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

ADAPTER = Path(__file__).resolve().parent.parent / "silero-vad" / "adapter.py"
CANDIDATE = "silero_vad/data/silero_vad_op18_ifless.onnx"


def build() -> torch.nn.Module:
    """Return the module (input, sr, state) to (output, stateN); `sr` is 8000."""
    adapter = SimpleNamespace(**run_path(str(ADAPTER)))
    _, narrow = adapter.networks()
    adapter.take_parameters(narrow, CANDIDATE, prefix="model_8k.")
    module: torch.nn.Module = adapter.RateFirst(narrow, hz=8000)
    return module
