"""The trusted row reader: a GRU that sees a digit one row at a time, with this folder's weights."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn

HERE = Path(__file__).parent
HIDDEN = 64


class RowReader(nn.Module):
    """One step of a GRU and a dense layer: ten logits after every row."""

    def __init__(self) -> None:
        """Make the layers, untrained."""
        super().__init__()
        self.gru = nn.GRU(input_size=28, hidden_size=HIDDEN)
        self.head = nn.Linear(HIDDEN, 10)

    def forward(self, row: torch.Tensor, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return logits [batch, 10] and the next state.

        Args:
            row: The next row of each image, [batch, 28], values from 0 to 1.
            state: What the rows before left behind, [batch, 64]; zeros before the first.
        """
        _, new_state = self.gru(row.unsqueeze(0), state.unsqueeze(0))
        new_state = new_state.squeeze(0)
        return self.head(new_state), new_state


def build() -> nn.Module:
    """Return the trained net in evaluation mode."""
    net = RowReader()
    net.load_state_dict(load_file(HERE / "weights.safetensors"))
    return net.eval()
