"""The network of Silero VAD for 16 kHz, run over several consecutive frames."""

from __future__ import annotations

from pathlib import Path
from runpy import run_path
from types import SimpleNamespace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

ADAPTER = Path(__file__).resolve().parent.parent / "silero-vad" / "adapter.py"


def build() -> torch.nn.Module:
    """Return the module (input, h, c) to (speech_probs, hn, cn)."""
    adapter = SimpleNamespace(**run_path(str(ADAPTER)))
    wide, _ = adapter.networks()
    module: torch.nn.Module = adapter.Sequence(wide)
    return module
