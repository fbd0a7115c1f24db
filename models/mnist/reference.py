"""The trusted digit classifier: a small convolutional net with the weights of this folder."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn

HERE = Path(__file__).parent


class DigitNet(nn.Module):
    """Two convolution blocks and two dense layers: an image becomes ten logits."""

    def __init__(self) -> None:
        """Make the layers, untrained."""
        super().__init__()
        self.features = nn.Sequential(_block(1, 16), _block(16, 32))
        self.classifier = nn.Sequential(
            nn.Flatten(),
            nn.Linear(32 * 7 * 7, 64),
            nn.ReLU(),
            nn.Dropout(0.25),
            nn.Linear(64, 10),
        )

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return logits [batch, 10] of images [batch, 1, 28, 28] with values from 0 to 1."""
        logits: torch.Tensor = self.classifier(self.features(image))
        return logits


def build() -> nn.Module:
    """Return the trained net in evaluation mode."""
    net = DigitNet()
    net.load_state_dict(load_file(HERE / "weights.safetensors"))
    return net.eval()


def _block(channels_in: int, channels_out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, kernel_size=3, padding=1),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(),
        nn.MaxPool2d(2),
    )
