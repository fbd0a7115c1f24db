"""`onnx-harness baseline show` and `diff`: what is approved, and what that changes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.output import AsJson, plural, print_json, problem
from harness.cli.project import BaselinesFolder

if TYPE_CHECKING:
    from harness.domain.baseline import Entry, Figures, Timing
    from harness.domain.baseline_changes import EntryChange, FiguresChange, Stored
    from harness.files.artefacts import Artefacts
    from harness.files.baselines import Baselines

#: Digits of a hash in text; JSON has all.
SHORT = 12
WORKING_TREE = "working tree"
SCATTER = "note: stored figures of two times scatter widely; the gate judges by duets"


def show(
    model: Annotated[
        str, typer.Argument(metavar="[MODEL]", help="Model, a name or a glob. Default: all.")
    ] = "*",
    *,
    baselines: BaselinesFolder = None,
    as_json: AsJson = False,
) -> None:
    """Show what is approved: recipes, controls, figures of every environment."""
    from harness.cli.shelf import baselines_folder, open_artefacts
    from harness.files.baseline_states import read_all
    from harness.files.baselines import Baselines

    folder = baselines_folder(baselines)
    stored = read_all(Baselines(folder), wanted=_glob(model))
    rows = _described(stored, open_artefacts(folder))
    if as_json:
        print_json([*rows, *_broken(stored)])
    elif rows or stored.broken:
        print(*(line for row in rows for line in _shown(row)), sep="\n")
    else:
        print(*_nothing(model, Baselines(folder)), sep="\n")
    _end(stored, told=as_json)


def _nothing(model: str, baselines: Baselines) -> Iterator[str]:
    """Yield what to do where there is no baseline.

    Raises:
        UsageProblem: If there are some, and the name is neither theirs nor a model's.
    """
    from harness.cli.names import known_name
    from harness.cli.project import open_project

    known = baselines.models()
    if known and not (open_project().models_folder(None) / model).is_dir():
        known_name(model, known, "baseline", where="MODEL")
    named = "any model" if model == "*" else f"'{model}'"
    yield f"no baseline of {named} in '{baselines.folder}'"
    option = "" if model == "*" else f" --model {model}"
    yield f"  next:     onnx-harness baseline refresh{option} --reason '...'"


def _glob(model: str) -> Callable[[str], bool]:
    from fnmatch import fnmatchcase

    return lambda name: fnmatchcase(name, model)


def _broken(stored: Stored) -> Iterator[dict[str, Any]]:
    for (place, name), error in stored.broken.items():
        yield {"file": _path(place, name), "problem": problem(error)}


def _path(place: str, name: str) -> str:
    return "/".join(filter(None, (place, f"{name}.json")))


def _end(stored: Stored, *, told: bool) -> None:
    """End with what is wrong with files, and its exit code, if anything is."""
    import sys

    from harness.cli import error_lines, exit_code_of

    errors = list(stored.broken.values())
    if not told:
        for error in errors:
            print(*error_lines(error), sep="\n", file=sys.stderr)
    if errors:
        raise typer.Exit(max(map(exit_code_of, errors)))


def _here() -> set[str]:
    """Return the environments of this machine: its processor's, and its GPU's if it has one."""
    from contextlib import suppress

    from harness.errors import EnvironmentProblem
    from harness.runtimes.machine import this_environment

    found = {this_environment().id}
    with suppress(EnvironmentProblem):  # no GPU whose figures could be told
        found.add(this_environment(gpu=True).id)
    return found


def _described(stored: Stored, artefacts: Artefacts) -> list[dict[str, Any]]:
    """Return all entries as JSON values; figures without an entry are told, too."""
    here = _here()
    return [
        {
            "cell": f"{name}/{key}",
            **_entry(stored.entry(name, key), artefacts),
            "figures": {
                place: {**asdict(entries[key]), "is_here": place in here}
                for place, entries in sorted(stored.figures(name).items())
                if key in entries
            },
        }
        for name in stored.names()
        for key in sorted(stored.keys(name))
    ]


def _entry(entry: Entry | None, artefacts: Artefacts) -> dict[str, Any]:
    if entry is None:
        return {"recipe": None, "artefact": "", "control": "", "file_bytes": None, "change": None}
    return {**asdict(entry), "control": _control(entry.artefact, artefacts)}


def _control(sha256: str, artefacts: Artefacts) -> str:
    from harness.errors import HarnessError

    if not sha256:
        return "not kept"
    try:
        return "kept" if artefacts.has(sha256) else "missing"
    except HarnessError as error:
        return f"unknown: {error.what}"


def _shown(row: dict[str, Any]) -> Iterator[str]:
    yield row["cell"]
    recipe = row["recipe"]
    if recipe is None:
        yield "  no entry: these figures are judged by nobody"
    else:
        artefact = f" as {row['artefact'][:SHORT]}" if row["artefact"] else ""
        yield f"  {'recipe:':<10}{', '.join(_recipe(recipe))}"
        yield f"  {'size:':<10}{_size(row['file_bytes'])}"
        yield f"  {'control:':<10}{row['control']}{artefact}"
        yield f"  {'approved:':<10}{_approved(row['change'])}"
    for place, figures in row["figures"].items():
        yield f"  {place}{' (this machine)' if figures['is_here'] else ''}"
        yield from _figure_lines(figures, recipe)


def _recipe(recipe: dict[str, Any]) -> Iterator[str]:
    yield f"model {recipe['model'][:SHORT]}"
    yield f"onnxruntime {recipe['build']['version']}"
    yield recipe["provider"]
    yield plural(recipe["threads"], "thread")
    yield f"optimization {recipe['optimization']}"
    for name in ("options", "config"):
        if recipe[name]:
            yield f"{name} " + " ".join(f"{key}={value}" for key, value in recipe[name].items())
    if recipe["custom_ops"]:
        yield f"custom_ops {' '.join(recipe['custom_ops'])}"


def _size(size: int) -> str:
    return f"{size / 1000:.4g} kB"


def _approved(change: dict[str, Any]) -> str:
    at = f" at {change['commit'][:SHORT]}" if change["commit"] else ""
    return f"{change['when']} by {change['who']}{at}: {change['reason']}"


def _figure_lines(figures: dict[str, Any], recipe: dict[str, Any] | None) -> Iterator[str]:
    for name, point in figures["points"].items():
        yield (
            f"    {name}: p50 {point['p50_ms']:.4g} ms ± {point['spread']:.1%}, "
            f"start-up {point['startup_ms']:.4g} ms ± {point['startup_spread']:.1%}, "
            f"memory {point['memory_bytes'] / 2**20:.4g} MiB; "
            f"{plural(point['workers'], 'worker')}, {point['calls']:,} calls"
        )
    if figures["nodes"]:
        nodes = (f"{count} on {name}" for name, count in figures["nodes"].items())
        yield f"    nodes: {', '.join(nodes)}"
    measured = figures["recipe"]
    if recipe is not None and measured != recipe:
        others = ", ".join(name for name in recipe if recipe[name] != measured[name])
        told = f"{measured['model'][:SHORT]} on onnxruntime {measured['build']['version']}"
        yield f"    of another recipe ({others}): {told}"


def diff(
    revision: Annotated[
        str, typer.Argument(metavar="[REVISION]", help="Commit to compare with. Default: HEAD.")
    ] = "HEAD",
    *,
    baselines: BaselinesFolder = None,
    as_json: AsJson = False,
) -> None:
    """Show what changed in the baselines since a commit, as a reviewer reads it.

    Exit code 0 with and without changes; 2 if a file cannot be read on either side.
    """
    from harness.cli.shelf import baselines_folder
    from harness.domain.baseline_changes import changes
    from harness.files.baseline_states import Past, read_all
    from harness.files.baselines import Baselines

    folder = baselines_folder(baselines)
    past = Past(folder)
    commit = past.commit(revision)
    before, after = past.read(commit), read_all(Baselines(folder))
    unreadable = {name for each in (before, after) for _, name in each.broken}
    found = [each for each in changes(before, after) if each.name not in unreadable]
    told = f"{revision} ({commit[:SHORT]})"
    if as_json:
        rows = [_plain_change(each) for each in found]
        broken = [{**each, "at": at} for at, stored in ((commit, before), (WORKING_TREE, after))
                  for each in _broken(stored)]  # fmt: skip
        print_json({"commit": commit, "changes": rows, "broken": broken})
    else:
        print(*_diff_lines(found, told), sep="\n")
        for place, error in before.broken.items():
            print(f"{_path(*place)} at {told} cannot be read: {error.what}")
    _end(after, told=as_json)
    raise typer.Exit(2 if before.broken else 0)


def _plain_change(change: EntryChange) -> dict[str, Any]:
    return {
        "cell": f"{change.name}/{change.key}",
        "state": change.kind.value,
        "before": asdict(change.before) if change.before else None,
        "after": asdict(change.after) if change.after else None,
        "figures": {
            each.environment: {
                "before": asdict(each.before) if each.before else None,
                "after": asdict(each.after) if each.after else None,
            }
            for each in change.figures
        },
    }


def _diff_lines(found: Sequence[EntryChange], since: str) -> Iterator[str]:
    if not found:
        yield f"no baseline differs from {since}"
        return
    for change in found:
        yield f"{change.name}/{change.key}: {change.kind.value}"
        yield from (f"  {name + ':':<10}{text}" for name, text in _entry_lines(change))
        for figures in change.figures:
            yield f"  {figures.environment}"
            yield from _figures_moved(change, figures)
    kinds = [change.kind.value for change in found]
    counts = ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds))
    yield f"{plural(len(found), 'difference')} from {since}: {counts}"
    if any(" -> " in line for change in found for line in _all_moved(change)):
        yield SCATTER


def _all_moved(change: EntryChange) -> Iterator[str]:
    for figures in change.figures:
        yield from _figures_moved(change, figures)


def _entry_lines(change: EntryChange) -> Iterator[tuple[str, str]]:
    """Yield what is to be known of an entry, and in what it differs."""
    before, after = change.before, change.after
    for each in change.approvals:
        yield "approved", _approved(asdict(each))
    if before is None or after is None:
        entry = before or after
        if entry is not None:
            yield "recipe", ", ".join(_recipe(asdict(entry.recipe)))
            yield "size", _size(entry.file_bytes)
        return
    for name, (new, old) in after.recipe.differences(before.recipe).items():
        yield name, f"{_short(old)} -> {_short(new)}"
    if before.file_bytes != after.file_bytes:
        yield "size", _move(before.file_bytes / 1000, after.file_bytes / 1000, "kB")
    if before.artefact != after.artefact:
        yield "control", f"{_kept(before.artefact)} -> {_kept(after.artefact)}"


def _short(text: str) -> str:
    """Return a value of a recipe; of a hash its first digits."""
    is_hash = len(text) > SHORT and all(each in "0123456789abcdef" for each in text)
    return text[:SHORT] if is_hash else text


def _kept(sha256: str) -> str:
    return sha256[:SHORT] or "not kept"


def _figures_moved(change: EntryChange, figures: FiguresChange) -> Iterator[str]:
    before, after = figures.before, figures.after
    old, new = (each.points if each else {} for each in (before, after))
    for name in dict.fromkeys((*old, *new)):
        yield f"    {name}: {_timing_moved(change, old.get(name), new.get(name))}"
    if before and after and before.nodes != after.nodes:
        yield f"    nodes: {_nodes(before)} -> {_nodes(after)}"


def _nodes(figures: Figures) -> str:
    return ", ".join(f"{count} on {name}" for name, count in figures.nodes.items()) or "not told"


def _timing_moved(change: EntryChange, before: Timing | None, after: Timing | None) -> str:
    """Return old and new figures of a point, with per cent where one thing was measured twice."""
    is_ratio = bool(before and after and change.are_comparable(before, after))
    told = ", ".join(
        f"{name} {_move(old, new, unit, is_ratio=is_ratio)}"
        for name, value, unit in _QUANTITIES
        for old, new in [[value(each) if each else None for each in (before, after)]]
    )
    if before and after and not is_ratio:
        return f"{told}; not comparable: inputs or threads differ"
    return told if after else f"{told}; removed"


_QUANTITIES: tuple[tuple[str, Callable[[Timing], float], str], ...] = (
    ("p50", lambda timing: timing.p50_ms, "ms"),
    ("start-up", lambda timing: timing.startup_ms, "ms"),
    ("memory", lambda timing: timing.memory_bytes / 2**20, "MiB"),
)


def _move(old: float | None, new: float | None, unit: str, *, is_ratio: bool = True) -> str:
    if old is None or new is None:
        known = new if old is None else old
        return "" if known is None else f"{known:.4g} {unit}"
    if old == new:
        return f"{new:.4g} {unit}"
    ratio = f" ({new / old - 1:+.1%})" if is_ratio and old else ""
    return f"{old:.4g} -> {new:.4g} {unit}{ratio}"
