"""Baselines without a cell: entries and figures that no spec declares any more.

What a broken spec would declare cannot be known, so whatever may be its own is never called so.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from harness.domain.baseline import entry_key
from harness.domain.baseline_changes import Stored
from harness.domain.cells import Cell, short_name
from harness.domain.findings import Finding, from_error
from harness.domain.spec import FIRST_VARIANT
from harness.files.baseline_states import read_all
from harness.files.baselines import SUFFIX, Baselines
from harness.files.models import BrokenModel, Model

Models = Mapping[str, Model | BrokenModel]


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Orphan:
    """A baseline without a cell."""

    name: str
    """The file's."""
    key: str
    """Variant and provider."""
    environment: str = ""
    """Of figures; empty for the entry itself."""
    point: str = ""
    """Of figures of one latency point."""
    why: str

    def __str__(self) -> str:
        """Return what it is, as messages name it."""
        point = f"/{self.point}" if self.point else ""
        place = f" in '{self.environment}'" if self.environment else ""
        return f"'{self.name}/{self.key}{point}'{place}"


def find_orphans(
    stored: Stored, models: Models, *, providers: Iterable[str] = ()
) -> Iterator[Orphan]:
    """Yield the entries without a cell, then the figures, then single points of figures.

    Args:
        stored: The baselines.
        models: All models of the project, also the broken ones.
        providers: Those that a run asks for: such a provider takes every variant of a spec that
            does not name it.
    """
    asked = tuple(providers)
    files = {place: stored.files(place) for place in ("", *(each for each, _ in stored.local))}
    for name, baseline in stored.portable.items():
        readers = _Readers(name, files[""], models, asked)
        for key in baseline.entries:
            if why := readers.why_not(key):
                yield Orphan(name=name, key=key, why=why)
    for (place, name), local in stored.local.items():
        readers = _Readers(name, files[place], models, asked)
        for key, figures in local.entries.items():
            why = readers.why_not(key)
            if why:
                yield Orphan(name=name, key=key, environment=place, why=why)
            for point in () if why else readers.strange(figures.points):
                why = f"latency of the spec does not time '{point}'"
                yield Orphan(name=name, key=key, environment=place, point=point, why=why)


class _Readers:
    """The models that read a file: the one of its name, or those that had that name."""

    def __init__(
        self, name: str, files: set[str], models: Models, asked: tuple[str, ...] = ()
    ) -> None:
        self._asked = asked
        self._owners = owners(name, models)
        self._may_be_of_broken = any(
            isinstance(model, BrokenModel) for model in self._owners or models.values()
        )
        self._first = {
            model.name: next((each for each in names_of(model) if each in files), name)
            for model in self._owners
        }
        readers = [model for model in self._owners if self._first[model.name] == name]
        self.is_read = bool(readers)
        self._readers = [model for model in readers if isinstance(model, Model)]

    def why_not(self, key: str) -> str:
        """Return why an entry has no cell; nothing if it has one, or that cannot be known."""
        if self._may_be_of_broken:
            return ""
        if not self._owners:
            return "no model has this name, or had it"
        if not self._readers:
            return f"'{next(iter(self._first.values()))}{SUFFIX}' of the same model comes first"
        if any(key in _declared(model, self._asked) for model in self._readers):
            return ""
        return _undeclared(self._readers[0], key)

    def strange(self, points: Iterable[str]) -> list[str]:
        """Return the points that none of the models times."""
        if self._may_be_of_broken:
            return []
        timed = {point for model in self._readers for point in model.points()}
        return [point for point in points if point not in timed]


def owners(name: str, models: Models) -> list[Model | BrokenModel]:
    """Return whose baselines a file of this name holds: the model's, else those that had it."""
    if name in models:
        return [models[name]]
    return [model for model in models.values() if name in names_of(model)]


def names_of(model: Model | BrokenModel) -> tuple[str, ...]:
    """Return a model's name and its former ones, in the order in which files are looked for."""
    aliases = model.spec.aliases if isinstance(model, Model) else ()
    return (model.name, *aliases)


def _declared(model: Model, asked: tuple[str, ...]) -> set[str]:
    cells = (*model.timed_cells(), *(model.timed_cells(asked) if asked else ()))
    return {entry_key(cell) for cell in cells}


def _undeclared(model: Model, key: str) -> str:
    variant, _, provider = key.partition("/")
    if variant not in model.spec.variant_names():
        return f"the spec has no variant '{variant}'"
    if provider not in map(short_name, model.spec.providers):
        return f"the spec does not name the provider '{provider}'"
    return f"'providers.{provider}.variants' of the spec leaves '{variant}' out"


def orphan_items(
    baselines: Baselines,
    chosen: Models,
    *,
    loaded: Models,
    providers: tuple[str, ...],
    is_narrowed: bool,
) -> dict[Cell, Finding]:
    """Return one cell, and what is to be said of it, for each entry that a run would pass over.

    A file that cannot be read is told by the items of its model, and here if it has none.

    Args:
        baselines: The folder; it may be missing.
        chosen: The models of the run.
        loaded: All models of the project.
        providers: Those that the run asks for; none: all.
        is_narrowed: Whether the run is about some models only: those that are gone are not asked
            about then.
    """

    def concerns(name: str) -> bool:
        found = owners(name, loaded)
        return any(model.name in chosen for model in found) if found else not is_narrowed

    stored = read_all(baselines, wanted=concerns, with_figures=False)
    asked = set(map(short_name, providers))
    items = {}
    for orphan in find_orphans(stored, loaded, providers=providers):
        if not asked or orphan.key.rpartition("/")[2] in asked:
            items[_cell(orphan)] = finding(orphan)
    for (_, name), error in stored.broken.items():
        if not _Readers(name, stored.files(), loaded).is_read:
            items[Cell(name, FIRST_VARIANT)] = from_error(error)
    return items


def _cell(orphan: Orphan) -> Cell:
    """Return the cell that an entry was for; nothing checks the keys of a file."""
    variant, *rest = orphan.key.split("/")
    is_key = variant and len(rest) == 1 and rest[0]
    return Cell(orphan.name, variant, rest[0]) if is_key else Cell(orphan.name, FIRST_VARIANT)


def finding(orphan: Orphan) -> Finding:
    """Return what an item says of an entry without a cell."""
    return Finding(
        code="baseline.orphan",
        what=f"Baseline {orphan} has no cell: {orphan.why}",
        where=f"{orphan.name}{SUFFIX}, entries.{orphan.key}",
        expected="a model, variant and provider that a spec declares",
        next_step="`onnx-harness baseline prune`, or restore what the spec declared",
    )
