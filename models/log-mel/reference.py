"""Log-mel features of 16 kHz audio in PyTorch: what `model.onnx` must agree with.

The sizes are those of common speech recognisers: windows of 25 ms every 10 ms. PyTorch computes
the spectrum with its own FFT; the ONNX file uses the operator `StftNorm` of onnxruntime-extensions.
"""

from __future__ import annotations

import numpy as np
import torch

SAMPLE_HZ = 16000
FFT = 400
HOP = 160
MELS = 40
#: Least power before the logarithm; below the spectrum of 16-bit silence with its noise.
FLOOR = 1e-10


class LogMel(torch.nn.Module):
    """Audio to the logarithm of the power in mel bands."""

    window: torch.Tensor
    bands: torch.Tensor

    def __init__(self) -> None:
        """Prepare the window and the bands."""
        super().__init__()
        self.register_buffer("window", torch.hann_window(FFT))
        self.register_buffer("bands", torch.from_numpy(mel_bands().astype(np.float32)))

    def forward(self, audio: torch.Tensor) -> torch.Tensor:
        """Return natural-log powers, [1, MELS, 1 + samples // HOP].

        Args:
            audio: One channel in [-1, 1], [1, samples]; zeros stand before and after it.
        """
        spectrum = torch.stft(
            audio, FFT, HOP, window=self.window, pad_mode="constant", return_complex=True
        )
        power = spectrum.real.square() + spectrum.imag.square()
        return torch.log(torch.clamp(self.bands @ power, min=FLOOR))


def mel_bands() -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Return triangular bands of equal width in mel, [MELS, FFT // 2 + 1], peak 1.

    Source:
        mel = 2595 log10(1 + f / 700), f in Hz (O'Shaughnessy 1987).
    """
    top = 2595 * np.log10(1 + SAMPLE_HZ / 2 / 700)
    corners = 700 * (10 ** (np.linspace(0, top, MELS + 2) / 2595) - 1)
    hz = np.linspace(0, SAMPLE_HZ / 2, FFT // 2 + 1)
    low, centre, high = (corners[i : i + MELS, None] for i in range(3))
    return np.maximum(0, np.minimum((hz - low) / (centre - low), (high - hz) / (high - centre)))


def build() -> LogMel:
    """Return the module; it has no trained weights."""
    return LogMel().eval()
