"""Write `models/mnist-recorded`: this model and its PyTorch outputs in the model-zoo layout.

Run `python models/mnist/record.py` after `train.py`. Takes the real case apart into batches of
one, three and eight images.
"""

from __future__ import annotations

import numpy as np
import torch
from reference import HERE, build
from zoo_layout import write_model, write_test_data

FOLDER = HERE.parent / "mnist-recorded"


def main() -> None:
    """Write the model, then one data set for each batch."""
    real = np.load(HERE / "cases" / "real.npz", allow_pickle=False)
    images = torch.from_numpy(real["image"])
    net = build()
    write_model(net, {"image": images[:3]}, ["logits"], FOLDER / "model.onnx", max_batch=64)
    for number, batch in enumerate((images[:1], images[1:4], images[4:12])):
        with torch.inference_mode():
            logits = net(batch)
        write_test_data(
            FOLDER / f"test_data_set_{number}", inputs={"image": batch}, outputs={"logits": logits}
        )


if __name__ == "__main__":
    main()
