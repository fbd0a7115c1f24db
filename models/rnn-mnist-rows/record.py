"""Write `models/rnn-mnist-rows-recorded`: single steps of this model in the model-zoo layout.

Run `python models/rnn-mnist-rows/record.py` after `train.py`. The three steps lie in the upper,
middle and lower part of the real case's digits; each starts with the state that the rows before
it left.
"""

from __future__ import annotations

import sys

import numpy as np
import torch
from reference import HERE, HIDDEN, build

sys.path.append(str(HERE.parent / "mnist"))
from zoo_layout import write_model, write_test_data

FOLDER = HERE.parent / "rnn-mnist-rows-recorded"
STEPS = (7, 13, 19)


def main() -> None:
    """Write the model, then one data set for each of the steps."""
    real = np.load(HERE / "cases" / "real.npz", allow_pickle=False)
    rows = torch.from_numpy(real["row"])
    state = torch.zeros(rows.shape[1], HIDDEN)
    net = build()
    inputs = {"row": rows[0], "state": state}
    write_model(net, inputs, ["logits", "stateN"], FOLDER / "model.onnx", max_batch=64)
    for step, row in enumerate(rows):
        with torch.inference_mode():
            logits, new_state = net(row, state)
        if step in STEPS:
            write_test_data(
                FOLDER / f"test_data_set_{STEPS.index(step)}",
                inputs={"row": row, "state": state},
                outputs={"logits": logits, "stateN": new_state},
            )
        state = new_state


if __name__ == "__main__":
    main()
