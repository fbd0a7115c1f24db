"""All baselines of a project at one time, and what changed between two times."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from harness.domain.baseline import Baseline, Change, Entry, Figures, LocalBaseline, Timing
from harness.errors import HarnessError

#: Fields of a recipe that change what a timed call is; figures across them are not compared.
_OF_CALLS = frozenset({"threads", "io_mode"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """All baselines of a folder at one time."""

    portable: Mapping[str, Baseline] = field(default_factory=dict)
    """By the file's name, which is that of the model or a former one."""
    local: Mapping[tuple[str, str], LocalBaseline] = field(default_factory=dict)
    """By environment and the file's name."""
    broken: Mapping[tuple[str, str], HarnessError] = field(default_factory=dict)
    """What is wrong with a file, by environment (empty for a portable one) and name."""

    def names(self) -> list[str]:
        """Return the names of all files that could be read, each once, in order."""
        return sorted({*self.portable, *(name for _, name in self.local)})

    def files(self, environment: str = "") -> set[str]:
        """Return the names of all files of an environment, or of the portable ones."""
        known = {name for place, name in (*self.local, *self.broken) if place == environment}
        return known if environment else known | set(self.portable)

    def entry(self, name: str, key: str) -> Entry | None:
        """Return an entry, None if there is none."""
        known = self.portable.get(name)
        return known.entries.get(key) if known else None

    def figures(self, name: str) -> dict[str, Mapping[str, Figures]]:
        """Return the figures of a file's name: environment -> entry -> figures."""
        return {place: each.entries for (place, own), each in self.local.items() if own == name}

    def keys(self, name: str) -> set[str]:
        """Return the entries of a file's name, those that have figures alone included."""
        found = set(self.portable[name].entries) if name in self.portable else set()
        return found.union(*self.figures(name).values())


class Kind(StrEnum):
    """What became of an entry."""

    NEW = "new"
    CHANGED = "changed"
    REMOVED = "removed"


@dataclass(frozen=True, slots=True, kw_only=True)
class FiguresChange:
    """Old and new figures of an entry in one environment."""

    environment: str
    before: Figures | None
    after: Figures | None


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryChange:
    """An entry that is not as it was."""

    name: str
    """The file's."""
    key: str
    """Variant and provider."""
    before: Entry | None
    after: Entry | None
    figures: tuple[FiguresChange, ...]
    """In the environments in which they changed."""

    @property
    def kind(self) -> Kind:
        """Return what became of it; figures decide where there is no entry at all."""
        pairs = [(each.before, each.after) for each in self.figures]
        told = [(self.before, self.after)] if self.before or self.after else pairs
        if all(before is None for before, _ in told):
            return Kind.NEW
        return Kind.REMOVED if all(after is None for _, after in told) else Kind.CHANGED

    @property
    def approvals(self) -> tuple[Change, ...]:
        """Return who approved what is new, and why; none for what was removed."""
        new = [self.after] if self.after and self.after != self.before else []
        found = [each.change for each in new]
        found += [each.after.change for each in self.figures if each.after]
        return tuple(dict.fromkeys(found))

    def are_comparable(self, before: Timing, after: Timing) -> bool:
        """Return whether a ratio of two timings says anything: the same inputs, run alike."""
        recipes = [each.recipe for each in (self.before, self.after) if each]
        changed = recipes[0].differences(recipes[-1]) if recipes else {}
        return before.inputs == after.inputs and not _OF_CALLS & set(changed)


def changes(before: Stored, after: Stored) -> list[EntryChange]:
    """Return the entries that differ, in order."""
    names = sorted({*before.names(), *after.names()})
    return [
        change
        for name in names
        for key in sorted(before.keys(name) | after.keys(name))
        for change in _changed(name, key, before, after)
    ]


def _changed(name: str, key: str, before: Stored, after: Stored) -> Iterator[EntryChange]:
    """Yield the change of one entry, if it did change."""
    old, new = before.figures(name), after.figures(name)
    figures = tuple(
        FiguresChange(environment=place, before=was, after=now)
        for place in sorted({*old, *new})
        for was, now in [(old.get(place, {}).get(key), new.get(place, {}).get(key))]
        if was != now
    )
    entries = before.entry(name, key), after.entry(name, key)
    if figures or entries[0] != entries[1]:
        yield EntryChange(name=name, key=key, before=entries[0], after=entries[1], figures=figures)
