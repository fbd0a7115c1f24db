"""What the gate would trip over in the baselines, found without measuring; and what can go."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from harness.domain.baseline import LocalBaseline, entry_key
from harness.domain.baseline_changes import Stored
from harness.domain.cells import PROVIDER_DEPTH, parts, short_name
from harness.domain.findings import Finding, from_error
from harness.domain.providers import BUILTIN
from harness.errors import HarnessError, SpecError, UsageProblem
from harness.files.artefacts import Artefacts
from harness.files.baselines import SUFFIX, Baselines
from harness.files.models import BrokenModel, Model
from harness.latency.orphans import Models, Orphan, find_orphans, finding, names_of, owners

#: What `Artefacts.fetch` finds wrong with a control; other errors are the machine's.
_OF_CONTROLS = frozenset({"baseline.incomparable", "baseline.control"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """What is wrong with the baselines of a project."""

    findings: tuple[Finding, ...]
    """What keeps an item from being judged, or makes it an ERROR."""
    notes: tuple[str, ...]
    """What is of no use any more, and harms nobody."""


def audit(
    stored: Stored, models: Models, artefacts: Artefacts, *, providers: tuple[str, ...] = ()
) -> Audit:
    """Return what the gate would trip over, and what is of no use.

    Args:
        stored: All baselines.
        models: All models of the project, also the broken ones.
        artefacts: Where the controls are.
        providers: Those whose cells need a baseline; none: the ones that each spec declares.

    Raises:
        EnvironmentProblem: If the cache of controls cannot be used, or a package is missing.
    """
    orphans = list(find_orphans(stored, models, providers=providers))
    broken = [model.problem for model in models.values() if isinstance(model, BrokenModel)]
    return Audit(
        findings=(
            *map(from_error, (*broken, *stored.broken.values())),
            *_missing(stored, models, providers),
            *_of_other_recipes(stored, models),
            *(finding(orphan) for orphan in orphans if not orphan.environment),
            *_bad_controls(stored, artefacts),
        ),
        notes=(
            *(f"figures {each} have no cell: {each.why}" for each in orphans if each.environment),
            *_lone_figures(stored, models, orphans),
            *(
                f"artefact {sha256} is named by no baseline"
                for sha256 in _unused(stored, artefacts)
            ),
        ),
    )


def _missing(stored: Stored, models: Models, providers: tuple[str, ...]) -> Iterator[Finding]:
    """Yield the declared cells without a baseline; what a broken file holds cannot be known."""
    for model in models.values():
        if isinstance(model, BrokenModel) or model.spec.latency.not_applicable is not None:
            continue
        name = next((each for each in names_of(model) if each in stored.files()), model.name)
        if ("", name) in stored.broken:
            continue
        for part in parts(model.timed_cells(_timed_on(model, providers)), PROVIDER_DEPTH):
            if stored.entry(name, entry_key(part)) is None:
                yield Finding(
                    code="baseline.missing",
                    what=f"'{part}' has no baseline",
                    expected=f"an entry '{entry_key(part)}' in '{name}{SUFFIX}'",
                    next_step=f"onnx-harness baseline refresh --model {model.name} "
                    f"--provider {part.provider} --reason '...'",
                )


def _of_other_recipes(stored: Stored, models: Models) -> Iterator[Finding]:
    """Yield entries that no candidate of their cell is ever held against."""
    for model in models.values():
        if isinstance(model, BrokenModel) or model.spec.latency.not_applicable is not None:
            continue
        name = next((each for each in names_of(model) if each in stored.files()), model.name)
        for part in parts(model.timed_cells(), PROVIDER_DEPTH):
            key, short = entry_key(part), short_name(part.provider)
            entry, provider = stored.entry(name, key), BUILTIN.get(short)
            if entry is None or provider is None:
                continue
            mode = model.spec.latency.io_mode if provider.device else "host"
            wanted = {"provider": provider.ep, "io_mode": mode}
            for field, value in wanted.items():
                if getattr(entry.recipe, field) != value:
                    yield Finding(
                        code="baseline.incomparable",
                        what=f"The recipe of '{part}' is never held against its cell: another "
                        f"'{field}'",
                        where=f"'{name}{SUFFIX}', entries.{key}.recipe.{field}",
                        expected=f"'{value}'",
                        got=f"'{getattr(entry.recipe, field)}'",
                        next_step=f"onnx-harness baseline refresh --model {model.name} "
                        f"--provider {short} --reason '...'",
                    )


def _timed_on(model: Model, providers: tuple[str, ...]) -> tuple[str, ...]:
    uses = model.spec.providers
    out = {name for name, use in uses.items() if use.not_applicable}
    return tuple(name for name in providers or uses if short_name(name) not in out)


def _bad_controls(stored: Stored, artefacts: Artefacts) -> Iterator[Finding]:
    """Yield what is wrong with the files of controls, each file once."""
    named: dict[str, str] = {}
    for name, baseline in stored.portable.items():
        for key, entry in baseline.entries.items():
            named.setdefault(entry.artefact, f"{name}/{key}")
    for sha256, cell in named.items():
        try:
            if sha256:
                artefacts.fetch(sha256)
        except HarnessError as error:
            if error.code not in _OF_CONTROLS:
                raise
            yield replace(from_error(error), what=f"{error.what}, and '{cell}' names it")


def _lone_figures(stored: Stored, models: Models, orphans: Iterable[Orphan]) -> Iterator[str]:
    """Yield figures whose cell is there, and whose entry is not."""
    told = {(each.environment, each.name, each.key) for each in orphans}
    for (place, name), local in stored.local.items():
        names = {name}.union(*(names_of(model) for model in owners(name, models)))
        if any(("", each) in stored.broken for each in names):
            continue
        for key in local.entries:
            has_entry = any(stored.entry(each, key) for each in names)
            if not has_entry and (place, name, key) not in told:
                yield f"figures '{name}/{key}' in '{place}' have no entry in '{name}{SUFFIX}'"


def _unused(stored: Stored, artefacts: Artefacts) -> list[str]:
    """Return the artefacts that nothing names; none where that cannot be known from here."""
    if any(not place for place, _ in stored.broken):
        return []
    baselines = stored.portable.values()
    named = {entry.artefact for each in baselines for entry in each.entries.values()}
    try:
        return artefacts.unused(named)
    except UsageProblem:  # others use a remote store
        return []


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruning:
    """What can go, and what stays."""

    orphans: tuple[Orphan, ...]
    artefacts: tuple[str, ...]
    """Their hashes."""
    before: Stored
    after: Stored
    """Files that hold nothing are not in it."""

    @property
    def files(self) -> list[tuple[str, str]]:
        """Return the files that go, by environment (empty for portable ones) and name."""
        portable = [("", name) for name in self.before.portable if name not in self.after.portable]
        return portable + [each for each in self.before.local if each not in self.after.local]


def plan_pruning(stored: Stored, models: Models, artefacts: Artefacts) -> Pruning:
    """Return what can go.

    Raises:
        HarnessError: If a spec or a baseline is broken: what it needs cannot be known.
    """
    _refuse_broken(stored, models)
    orphans = tuple(find_orphans(stored, models))
    after = _without(stored, orphans)
    return Pruning(
        orphans=orphans,
        artefacts=tuple(_unused(after, artefacts)),
        before=stored,
        after=after,
    )


def prune(pruning: Pruning, *, baselines: Baselines, artefacts: Artefacts) -> None:
    """Remove what can go, under the lock of the baselines; artefacts after what names them."""
    before, after = pruning.before, pruning.after
    for name, baseline in after.portable.items():
        if baseline != before.portable[name]:
            baselines.write(baseline)
    for place, local in after.local.items():
        if local != before.local[place]:
            baselines.write_local(local)
    for environment, name in pruning.files:
        baselines.remove(name, environment)
    for sha256 in pruning.artefacts:
        artefacts.remove(sha256)


def _refuse_broken(stored: Stored, models: Models) -> None:
    broken = [model for model in models.values() if isinstance(model, BrokenModel)]
    if broken:
        names = ", ".join(f"'{model.name}'" for model in broken)
        msg = f"Nothing is pruned: what these models need cannot be known: {names}"
        raise SpecError(
            msg,
            code=broken[0].problem.code,
            where=broken[0].problem.where or str(broken[0].folder),
            expected="specs that can be read, of all models",
            got=broken[0].problem.what,
            next_step="see `onnx-harness model check`; mend or remove the models",
        )
    for error in stored.broken.values():
        raise error


def _without(stored: Stored, orphans: Iterable[Orphan]) -> Stored:
    """Return the baselines without these, and without files that hold nothing."""
    gone = {(each.environment, each.name, each.key, each.point) for each in orphans}
    portable = {
        name: replace(baseline, entries={
            key: entry
            for key, entry in baseline.entries.items()
            if ("", name, key, "") not in gone
        })
        for name, baseline in stored.portable.items()
    }  # fmt: skip
    local = {
        (place, name): _local_without(each, place, name, gone)
        for (place, name), each in stored.local.items()
    }
    return Stored(
        portable={name: each for name, each in portable.items() if each.entries},
        local={place: each for place, each in local.items() if each.entries},
    )


def _local_without(
    local: LocalBaseline, place: str, name: str, gone: set[tuple[str, str, str, str]]
) -> LocalBaseline:
    entries = {}
    for key, figures in local.entries.items():
        points = {
            point: timing
            for point, timing in figures.points.items()
            if (place, name, key, point) not in gone
        }
        if points and (place, name, key, "") not in gone:
            entries[key] = replace(figures, points=points)
    return replace(local, entries=entries)
