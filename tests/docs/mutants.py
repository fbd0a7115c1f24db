"""The tables of docs/mutants.md, made from what `onnx-harness prove --json` printed.

    onnx-harness prove --json > prove.json
    python -m tests.docs.mutants prove.json

Several files are joined: models can be proved one by one. A refused model stops it.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[2] / "docs" / "mutants.md"
PASSAGE = re.compile(r"(<!-- mutants -->\n).*?(<!-- end of mutants -->)", re.DOTALL)
FATES = ("killed", "equivalent", "survived", "undecided")


def tables(models: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Yield scores, kinds, curve and survivors of the models."""
    yield from _scores(models)
    yield ""
    yield from _kinds(models)
    yield ""
    yield from _curve(models)
    yield ""
    yield from _survivors(models)


def _scores(models: Sequence[dict[str, Any]]) -> Iterator[str]:
    yield _row("model", "made of possible", *FATES, "score", "moves with inputs, weights")
    yield "|---|---:|---:|---:|---:|---:|---:|---:|"
    for model in models:
        counts = _counts(model["trials"])
        moves = model["dependence"]
        shares = ", ".join("-" if moves[key] is None else f"{moves[key]:.2g}"
                           for key in ("inputs", "weights"))  # fmt: skip
        made = f"{len(model['trials'])} of {model['listed']}"
        yield _row(model["model"], made, *counts, f"{model['score']:.1%}", shares)
    every = [trial for model in models for trial in model["trials"]]
    possible = sum(model["listed"] for model in models)
    counts = _counts(every)
    score = counts[0] / (len(every) - counts[1])
    yield _row("**all**", f"{len(every)} of {possible}", *counts, f"**{score:.1%}**", "")


def _kinds(models: Sequence[dict[str, Any]]) -> Iterator[str]:
    every = [trial for model in models for trial in model["trials"]]
    yield _row("kind", "made", *FATES, "killed by")
    yield "|---|---:|---:|---:|---:|---:|---|"
    for kind in sorted({trial["kind"] for trial in every}):
        own = [trial for trial in every if trial["kind"] == kind]
        by = sorted({trial["killed_by"] for trial in own if trial["killed_by"]})
        told = ", ".join(f"{name} {sum(t['killed_by'] == name for t in own)}" for name in by)
        yield _row(kind, len(own), *_counts(own), told)


def _curve(models: Sequence[dict[str, Any]]) -> Iterator[str]:
    amounts = sorted({amount for model in models for amount in model["curve"]}, key=float)
    yield _row("single weight changed by", *amounts)
    yield f"|---|{'---:|' * len(amounts)}"
    totals = []
    for amount in amounts:
        points = [model["curve"][amount] for model in models if amount in model["curve"]]
        dead, made = (sum(point[key] for point in points) for key in ("killed", "made"))
        totals.append(f"{dead} of {made} ({dead / made:.0%})")
    yield _row("killed", *totals)


def _survivors(models: Sequence[dict[str, Any]]) -> Iterator[str]:
    yield "| survivor | reason | what was measured | what would kill it |"
    yield "|---|---|---|---|"
    for model in models:
        for trial in model["trials"]:
            if trial["fate"] in {"survived", "undecided"}:
                name = f"`{model['model']}`: `{trial['id']}`"
                remedy = " ".join(trial["remedy"].splitlines()).replace("[[case]]", "a case with")
                yield _row(name, trial["reason"], trial["told"], remedy)


def _counts(trials: Sequence[dict[str, Any]]) -> tuple[int, ...]:
    return tuple(sum(trial["fate"] == fate for trial in trials) for fate in FATES)


def _row(*cells: object) -> str:
    return f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in cells)} |"


def main(arguments: Sequence[str] | None = None, page: Path = PAGE) -> None:
    """Write the tables into the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", nargs="+", type=Path)
    files = parser.parse_args(arguments).file
    models = [model for file in files for model in json.loads(file.read_text())["models"]]
    refused = [model["model"] for model in models if "refused" in model]
    if refused:
        parser.error(f"refused: {', '.join(refused)}")
    lines = "\n".join(tables(sorted(models, key=lambda model: str(model["model"]))))
    old = page.read_text(encoding="utf-8")
    page.write_text(PASSAGE.sub(lambda m: f"{m[1]}{lines}\n\n{m[2]}", old), encoding="utf-8")


if __name__ == "__main__":
    main()
