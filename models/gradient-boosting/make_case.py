"""Write the held-out wines as `cases/real.npz`; run by hand, the result is committed."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER))

import reference  # noqa: E402 (it lies beside this file)

if __name__ == "__main__":
    _, held_out, _, truth = reference.rows()
    (FOLDER / "cases").mkdir(exist_ok=True)
    np.savez_compressed(FOLDER / "cases" / "real.npz", X=held_out)
    score = reference.build().score(held_out, truth)
    sys.stdout.write(f"{len(held_out)} rows; score of the reference on them: {score:.4f}\n")
