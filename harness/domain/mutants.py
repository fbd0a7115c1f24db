"""Mutants: what became of each, and what all of them say about a model's suite."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

#: A model whose outputs vary by less than this share of their size proves nothing, whether its
#: inputs are other ones or its weights are a tenth larger: a constant would pass as well.
LEAST_DEPENDENCE = 1e-3


class Fate(StrEnum):
    """What became of a mutant."""

    KILLED = "killed"
    EQUIVALENT = "equivalent"
    SURVIVED = "survived"
    UNDECIDED = "undecided"


class Reason(StrEnum):
    """Why a mutant was not killed."""

    DEAD = "dead weights"
    FEW_INPUTS = "input range too narrow"
    TOLERANCE = "tolerance too loose"
    NO_FLOAT64 = "no float64 to compare with"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """One deliberate fault."""

    kind: str
    id: str
    """Kind, place and amount, such as `scale-channel/conv1.weight/3/1e-2`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """A mutant and its fate."""

    mutant: Mutant
    fate: Fate
    killed_by: str = ""
    """`contract`, `session`, `run`, or the suite whose item failed."""
    code: str = ""
    """Code of the finding that killed it."""
    reason: Reason | None = None
    """Why it was not killed."""
    told: str = ""
    """What was measured."""
    remedy: str = ""
    """What would kill it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dependence:
    """How much the outputs move, as a share of their root mean square."""

    inputs: float | None
    """When the inputs are other ones; None if nothing could be drawn."""
    weights: float | None
    """When all weights are a tenth larger; None without weights."""

    @property
    def faults(self) -> tuple[str, ...]:
        """Return why this model proves nothing; empty if it can."""
        said = (
            ("inputs", self.inputs, "are other ones"),
            ("weights", self.weights, "are a tenth larger"),
        )
        return tuple(
            f"its outputs move by {share:.2g} of their size when its {what} {how}, "
            f"less than {LEAST_DEPENDENCE:g}"
            for what, share, how in said
            if share is not None and share < LEAST_DEPENDENCE
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What the mutants of one model showed."""

    model: str
    minimum: float
    """Least score that the spec asks for."""
    listed: int
    """Mutants that the model allows; `trials` is a sample of them."""
    trials: tuple[Trial, ...]
    curve: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """Relative amount -> single weights killed, single weights changed."""
    dependence: Dependence
    inputs: int = 0
    """Inputs over which survivors were compared with the original; 0 if there was none."""

    def count(self, fate: Fate, kind: str | None = None) -> int:
        """Return the mutants of this fate, of one kind or of all."""
        return sum(
            trial.fate is fate and kind in {None, trial.mutant.kind} for trial in self.trials
        )

    def kinds(self) -> tuple[str, ...]:
        """Return the kinds that were made."""
        return tuple(sorted({trial.mutant.kind for trial in self.trials}))

    @property
    def score(self) -> float | None:
        """Return killed / (killed + survived + undecided); None without any of these."""
        killed = self.count(Fate.KILLED)
        judged = killed + self.count(Fate.SURVIVED) + self.count(Fate.UNDECIDED)
        return killed / judged if judged else None

    @property
    def faults(self) -> tuple[str, ...]:
        """Return why the model's suite is not proved; empty if it is."""
        found = list(self.dependence.faults)
        if self.score is None:
            found.append("no mutant of it could be judged")
        elif self.score < self.minimum:
            found.append(f"its suite kills {self.score:.1%} of the mutants, not {self.minimum:.1%}")
        return tuple(found)


def sample(mutants: Iterable[Mutant], limit: int) -> tuple[Mutant, ...]:
    """Return at most `limit` mutants, every kind in turn, the same ones everywhere.

    Inside a kind the order is that of the SHA-256 of their ids, so that a new layer elsewhere
    changes the choice as little as possible.
    """
    kinds: dict[str, list[Mutant]] = {}
    for mutant in sorted(mutants, key=_shuffled):
        kinds.setdefault(mutant.kind, []).append(mutant)
    queues = [kinds[kind] for kind in sorted(kinds)]
    turns = max(map(len, queues), default=0)
    dealt = [queue[turn] for turn in range(turns) for queue in queues if turn < len(queue)]
    return tuple(sorted(dealt[:limit], key=lambda mutant: mutant.id))


def sample_curve(ids: Sequence[str], draws: int) -> dict[str, list[str]]:
    """Return relative amount -> at most `draws` single weights, the same for every amount."""
    chosen: dict[str, list[str]] = {}
    for name in sorted(ids, key=_weight_order):
        amount = name.rpartition("/")[2]
        if len(chosen.setdefault(amount, [])) < draws:
            chosen[amount].append(name)
    return dict(sorted(chosen.items(), key=lambda item: float(item[0])))


def _shuffled(mutant: Mutant) -> str:
    return hashlib.sha256(mutant.id.encode()).hexdigest()


def _weight_order(name: str) -> str:
    return hashlib.sha256(name.rpartition("/")[0].encode()).hexdigest()
