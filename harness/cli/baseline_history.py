"""`onnx-harness baseline history`: what became of a model's baselines, commit by commit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.output import AsJson, print_json, print_table
from harness.cli.project import BaselinesFolder, ModelsFolder, open_project

if TYPE_CHECKING:
    from harness.domain.baseline_changes import EntryChange, Stored
    from harness.files.baseline_states import Commit, Past

#: Digits of a hash in the table; JSON has all.
SHORT = 12
HEADERS = ("commit", "date", "who", "entry", "state", "model", "p50", "reason")
UNCOMMITTED = "uncommitted"


def history(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Name of the model.")],
    *,
    models: ModelsFolder = None,
    baselines: BaselinesFolder = None,
    as_json: AsJson = False,
) -> None:
    """Show every commit that changed a model's baselines, the newest first.

    What is not committed comes first of all. Former names of the model are followed.
    """
    from harness.cli.shelf import baselines_folder
    from harness.files.baseline_states import Past

    folder = baselines_folder(baselines)
    past = Past(folder)
    rows = list(_rows(past, folder, _names(model, open_project().models_folder(models))))
    if as_json:
        print_json(rows)
        return
    if rows:
        print_table(HEADERS, map(_columns, rows))
    else:
        print(f"no baseline of '{model}' in '{folder}', now or in a commit")
    if past.is_shallow:
        print("note: the clone is shallow, and its oldest commit is told as if all began there")


def _names(model: str, folder: Path) -> tuple[str, ...]:
    """Return the name and the former ones; a model that is gone has its name alone."""
    from harness.files.models import load_model
    from harness.latency.orphans import names_of

    return names_of(load_model(folder / model)) if (folder / model).is_dir() else (model,)


def _rows(past: Past, folder: Path, names: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """Yield what is not committed, then every commit against its first parent."""
    from harness.domain.baseline_changes import Stored, changes
    from harness.files.baseline_states import read_all
    from harness.files.baselines import Baselines

    commits = past.commits(names)
    states: dict[str, Stored] = {"": Stored()}

    def at(commit: str) -> Stored:
        if commit not in states:
            states[commit] = past.read(commit, names)
        return states[commit]

    now = read_all(Baselines(folder), wanted=names.__contains__)
    head = at(past.commit("HEAD"))
    if not _same(now, head):
        yield from _told(None, changes(head, now), now)
    for commit in commits:
        state = at(commit.hash)
        yield from _told(commit, changes(at(commit.parent), state), state)


def _same(one: Stored, other: Stored) -> bool:
    return (one.portable, one.local, set(one.broken)) == (
        other.portable, other.local, set(other.broken),
    )  # fmt: skip


def _told(
    commit: Commit | None, found: list[EntryChange], state: Stored
) -> Iterator[dict[str, Any]]:
    """Yield a row for each entry that changed, and for each file that cannot be read."""
    said = {
        "commit": commit.hash if commit else "",
        "date": commit.date if commit else "",
        "who": commit.author if commit else "",
        "subject": commit.subject if commit else "",
    }
    for change in found:
        if change.name not in {name for _, name in state.broken}:
            yield {**said, **_change(change, state)}
    for (place, name), error in state.broken.items():
        file = "/".join(filter(None, (place, f"{name}.json")))
        yield {**said, "entry": file, "state": "unreadable", "model": "", "p50_ms": {},
               "reason": error.what}  # fmt: skip


def _change(change: EntryChange, state: Stored) -> dict[str, Any]:
    entry = change.after or change.before
    approved = change.approvals
    told = {"who": approved[0].who} if approved else {}
    return {
        **told,
        "entry": f"{change.name}/{change.key}",
        "state": change.kind.value,
        "model": entry.recipe.model if entry else "",
        "p50_ms": {
            place: {name: point.p50_ms for name, point in entries[change.key].points.items()}
            for place, entries in sorted(state.figures(change.name).items())
            if change.key in entries
        },
        "reason": "; ".join(dict.fromkeys(each.reason for each in approved)),
    }


def _columns(row: Mapping[str, Any]) -> list[str]:
    figures = (
        f"{place}: " + ", ".join(f"{name} {p50:.4g} ms" for name, p50 in points.items())
        for place, points in row["p50_ms"].items()
    )
    texts = {
        "commit": row["commit"][:SHORT] or UNCOMMITTED,
        "date": row["date"][:10],
        "model": row["model"][:SHORT],
        "p50": "; ".join(figures),
        "reason": row["reason"] or row["subject"],
    }
    return [texts.get(header, row.get(header, "")) for header in HEADERS]
