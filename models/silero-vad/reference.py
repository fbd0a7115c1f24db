"""The network of Silero VAD for 16 kHz as the authors' TorchScript archive holds it."""

from __future__ import annotations

from pathlib import Path
from runpy import run_path
from types import SimpleNamespace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

ADAPTER = Path(__file__).resolve().parent.parent / "silero-vad" / "adapter.py"


def build() -> torch.nn.Module:
    """Return the module (input, state, sr) to (output, stateN); `sr` is 16000."""
    adapter = SimpleNamespace(**run_path(str(ADAPTER)))
    wide, _ = adapter.networks()
    module: torch.nn.Module = adapter.Rated(wide, hz=16000)
    return module
