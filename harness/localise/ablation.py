"""Which optimisation level, and which optimiser in it, introduces a failure.

Pure: the caller opens sessions. An optimiser that was switched off counts only if the optimised
graph changed, because ONNX Runtime accepts unknown names without a word.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from harness.localise import optimizers

LEVELS = ("disabled", "basic", "extended", "layout", "all")
#: Optimisers that are switched off one by one; more would take minutes.
MOST_CANDIDATES = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One session at a level without some optimisers."""

    fails: bool
    """Whether parity fails with it."""
    graph: str = ""
    """Hash of the optimised graph; empty where it cannot be saved."""
    optimizers: tuple[str, ...] = ()
    """Those that changed the graph, as ONNX Runtime logs them."""
    refused: str = ""
    """Why there was no session."""


#: Takes a level and the optimisers to switch off.
Try = Callable[[str, tuple[str, ...]], Trial]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ablation:
    """What switching optimisations off showed."""

    levels: tuple[tuple[str, str], ...]
    """Level to `passes`, `fails` or why it was refused."""
    level: str = ""
    """The lowest level that fails; empty if none does."""
    culprits: tuple[str, ...] = ()
    """Optimisers without which parity holds."""
    separable: bool = True
    """False if only several of them together do."""
    tried: int = 0
    """Sets of optimisers that were switched off."""

    @property
    def is_optimisation(self) -> bool:
        """Return whether the failure goes away without optimisations."""
        return dict(self.levels).get("disabled") == "passes" and bool(self.level)

    @property
    def switched_off(self) -> tuple[str, ...]:
        """Return the optimisers that it took to mend it: the last that changed the graph, or all.

        ONNX Runtime logs optimisers in the order in which they run. Where several mend it alone,
        the later ones build on what the earlier ones made.
        """
        return self.culprits[-1:] if self.separable else self.culprits

    def text(self) -> str:
        """Return the outcome in one line."""
        if not self.level:
            return "none: no optimisation level fails any more"
        if not self.is_optimisation:
            return "none: it fails with every optimisation off, so it is not an optimisation"
        if not self.culprits:
            return f"level '{self.level}', no single optimiser of {self.tried} sets tried"
        if self.separable:
            *before, last = self.culprits
            also = f"; it builds on {', '.join(before)}" if before else ""
            return f"{last} (level '{self.level}'): without it parity holds{also}"
        return f"not separable: {{{', '.join(self.culprits)}}} (level '{self.level}')"


def ablate(attempt: Try, *, highest: str, version: str) -> Ablation:
    """Return the lowest failing level up to `highest`, and its culprits."""
    levels: list[tuple[str, str]] = []
    for level in LEVELS[: LEVELS.index(highest) + 1]:
        trial = attempt(level, ())
        said = trial.refused or ("fails" if trial.fails else "passes")
        levels.append((level, said))
        if trial.fails:
            break
    else:
        return Ablation(levels=tuple(levels))
    if level == "disabled":
        return Ablation(levels=tuple(levels), level=level)
    search = _Search(attempt, level, trial, version)
    culprits, separable = search.culprits()
    return Ablation(
        levels=tuple(levels),
        level=level,
        culprits=culprits,
        separable=separable,
        tried=search.tried,
    )


class _Search:
    """Looks for culprits at one level."""

    def __init__(self, attempt: Try, level: str, whole: Trial, version: str) -> None:
        self._attempt = attempt
        self._level = level
        self._whole = whole
        self._version = version
        self.tried = 0

    def culprits(self) -> tuple[tuple[str, ...], bool]:
        """Return the optimisers without which parity holds, and whether each alone suffices."""
        candidates = self._candidates()
        alone = [name for name in candidates if self._mends((name,))]
        if alone:
            return (*alone[:-1], self._within(alone[-1])), True
        if candidates and self._mends(tuple(candidates)):
            return self._smallest(list(candidates)), False
        return (), True

    def _candidates(self) -> Sequence[str]:
        """Return what changed the graph; without a log, everything of this version."""
        logged = self._whole.optimizers
        known = (*optimizers.transformers(self._version), *optimizers.rules(self._version))
        return (logged or known)[:MOST_CANDIDATES]

    def _within(self, name: str) -> str:
        """Return the rule of a rule-based transformer that mends it alone, else itself."""
        inside = optimizers.rules(self._version) if optimizers.holds_rules(name) else ()
        return next((rule for rule in inside if self._mends((rule,))), name)

    def _smallest(self, names: list[str]) -> tuple[str, ...]:
        """Return a set none of which can be left out; greedy, from the last to the first."""
        for name in reversed(tuple(names)):
            fewer = [each for each in names if each != name]
            if fewer and self._mends(tuple(fewer)):
                names = fewer
        return tuple(names)

    def _mends(self, names: tuple[str, ...]) -> bool:
        self.tried += 1
        trial = self._attempt(self._level, names)
        changed = not trial.graph or not self._whole.graph or trial.graph != self._whole.graph
        return changed and not trial.fails and not trial.refused
