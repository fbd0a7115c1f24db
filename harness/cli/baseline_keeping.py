"""`onnx-harness baseline check` and `prune`: baselines and specs that do not go together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.output import AsJson, plural, print_json
from harness.cli.project import BaselinesFolder, ModelsFolder

if TYPE_CHECKING:
    from harness.latency.upkeep import Audit, Pruning


def check(
    *,
    provider: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Provider whose cells need a baseline; repeatable. Default: those of each spec.",
        ),
    ] = None,
    models: ModelsFolder = None,
    baselines: BaselinesFolder = None,
    as_json: AsJson = False,
) -> None:
    """Check what latency items would trip over in the baselines; nothing is measured.

    Exit code 1 if an item would not be judged, or would be an ERROR. What is of no use any more
    is a note.
    """
    from harness.cli.names import known_name
    from harness.cli.shelf import open_shelf
    from harness.files.baseline_states import read_all
    from harness.latency.upkeep import audit

    shelf = open_shelf(models, baselines)
    asked = tuple(known_name(each, shelf.providers, "provider", where="--provider")
                  for each in provider or ())  # fmt: skip
    found = audit(read_all(shelf.baselines), shelf.models, shelf.artefacts, providers=asked)
    if as_json:
        plain = [{**asdict(each), "severity": each.severity.value} for each in found.findings]
        print_json({"findings": plain, "notes": list(found.notes)})
    else:
        print(*_audit_lines(found), sep="\n")
    raise typer.Exit(1 if found.findings else 0)


def _audit_lines(found: Audit) -> Iterator[str]:
    from harness.errors import labelled_lines

    for finding in found.findings:
        first, *rest = labelled_lines(finding)
        yield f"{finding.code}: {first}"
        yield from rest
    for note in found.notes:
        yield f"note: {note}"
    if found.notes:
        yield "  next:     onnx-harness baseline prune"
    told = plural(len(found.findings), "finding") if found.findings else "nothing wrong"
    yield f"{told}, {plural(len(found.notes), 'note')}"


def prune(
    *,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Remove nothing; say what would go.")
    ] = False,
    models: ModelsFolder = None,
    baselines: BaselinesFolder = None,
    as_json: AsJson = False,
) -> None:
    """Remove baselines without a cell, and artefacts that nothing names.

    Refuses while a spec or a baseline is broken: what it needs cannot be known.
    """
    from harness.cli.shelf import open_shelf
    from harness.files.baseline_states import read_all
    from harness.latency import upkeep

    shelf = open_shelf(models, baselines)
    with shelf.baselines.lock():
        stored = read_all(shelf.baselines)
        pruning = upkeep.plan_pruning(stored, shelf.models, shelf.artefacts)
        if not dry_run:
            upkeep.prune(pruning, baselines=shelf.baselines, artefacts=shelf.artefacts)
    if as_json:
        print_json(_plain(pruning, is_done=not dry_run))
    else:
        print(*_pruning_lines(pruning, "would remove" if dry_run else "removed"), sep="\n")


def _pruning_lines(pruning: Pruning, done: str) -> Iterator[str]:
    for orphan in pruning.orphans:
        what = "figures" if orphan.environment else "baseline"
        yield f"{done} {what} {orphan}: {orphan.why}"
    for place, name in pruning.files:
        yield f"{done} file {_path(place, name)}: nothing is left in it"
    for sha256 in pruning.artefacts:
        yield f"{done} artefact {sha256}: no baseline names it"
    if not (pruning.orphans or pruning.files or pruning.artefacts):
        yield "nothing to prune: every baseline has a cell, and every artefact a baseline"


def _path(place: str, name: str) -> str:
    return "/".join(filter(None, (place, f"{name}.json")))


def _plain(pruning: Pruning, *, is_done: bool) -> dict[str, Any]:
    return {
        "removed": is_done,
        "baselines": [asdict(orphan) for orphan in pruning.orphans],
        "files": [_path(*each) for each in pruning.files],
        "artefacts": list(pruning.artefacts),
    }
