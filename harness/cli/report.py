"""`onnx-harness report`: run records, as `--harness-json` writes them, shown and merged."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.output import AsJson, plural, print_json

if TYPE_CHECKING:
    from harness.results.merge import Merged
    from harness.results.record import ItemRecord, RunRecord

app = typer.Typer(
    help="Run records, as `pytest --harness-json FILE` writes them.", no_args_is_help=True
)

#: Width of the closing table where nobody looks at columns.
_PLAIN_WIDTH = 100
#: What a finding tells besides its first line; a later version may add to it.
_PARTS = frozenset({"where", "expected", "got", "next_step"})


@app.command("merge")
def merge_records(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run records to join.")],
    *,
    output: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the merged record to FILE. Default: none."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Join the records of several runners; fail for failures and for what none of them judged.

    Exit code 0 if every declared item was judged and none failed, else 1.
    """
    from harness.results.merge import merge
    from harness.results.record import read_record, write_record

    merged = merge([read_record(path) for path in runs])
    if output is not None:
        write_record(output, merged.record)
    if as_json:
        print_json({
            "record": asdict(merged.record),
            "unjudged": [item.key for item in merged.unjudged],
            "failed": [item.key for item in merged.failed],
        })
    else:
        print(*_merged_lines(merged, len(runs)), sep="\n")
    raise typer.Exit(0 if _is_complete(merged) else 1)


@app.command("show")
def show(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Run record.")],
    *,
    failures: Annotated[
        bool,
        typer.Option("--failures", help="Show failures and errors only. Default: all items."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show a run record: when, where, every item's verdict and findings, the closing table."""
    from harness.results.record import read_record

    record = read_record(run)
    items = [item for item in record.items if _is_failure(item) or not failures]
    if as_json:
        print_json(asdict(record) if not failures else [asdict(item) for item in items])
        return
    print(*_head_lines(record), sep="\n")
    for item in items:
        print(*_item_lines(item), sep="\n")
    if failures and not items:
        print("no item failed")
    if not failures:
        print(*_table_lines(record.items), sep="\n")


def _is_failure(item: ItemRecord) -> bool:
    return item.verdict in {"FAIL", "ERROR"}


def _is_complete(merged: Merged) -> bool:
    """Return whether something was judged, nothing failed and nothing declared is missing."""
    judged = any(item.is_judged for item in merged.record.items)
    return judged and not merged.failed and not merged.unjudged


def _merged_lines(merged: Merged, count: int) -> Iterator[str]:
    for item in merged.failed:
        yield from _item_lines(item)
    for lost in merged.unjudged:
        yield f"{'UNJUDGED':<9}{lost.key}"
    yield from _table_lines(merged.record.items)
    yield _closing(merged, count)


def _closing(merged: Merged, count: int) -> str:
    declared, lost = len(merged.record.declared), len(merged.unjudged)
    said = f"{plural(count, 'record')} merged: {plural(declared, 'declared item')}"
    if _is_complete(merged):
        return f"{said}, all judged or not applicable, none failed"
    if not merged.record.items:
        return f"{said}, nothing was judged"
    return f"{said}, {lost} not judged by any record, {plural(len(merged.failed), 'item')} failed"


def _head_lines(record: RunRecord) -> Iterator[str]:
    machine = " ".join(record.machine.values())
    yield f"onnx-harness {record.harness_version}, {record.created}{machine and ', ' + machine}"
    asked = ", ".join(_asked(name, value) for name, value in record.asked.items() if value)
    yield f"asked for: {asked or 'everything'}"


def _asked(name: str, value: object) -> str:
    """Return an option of the run in words: `providers cpu openvino`, `no skips`."""
    given = value if isinstance(value, list | tuple) else () if value is True else (value,)
    return " ".join((name.replace("_", " "), *map(str, given)))


def _item_lines(item: ItemRecord) -> Iterator[str]:
    from harness.errors import HarnessError, labelled_lines

    yield f"{item.verdict:<9}{item.key}"
    for plain in item.findings:
        told = {key: text for key, text in plain.items() if key in _PARTS}
        for line in labelled_lines(HarnessError(plain.get("what", ""), **told)):
            yield f"  {line}"
        yield f"    {'code:':<10}{plain.get('code', '')}"


def _table_lines(items: Sequence[ItemRecord]) -> Iterator[str]:
    from harness.reports.summary import summary_lines

    terminal = sys.stdout.isatty()
    width = shutil.get_terminal_size().columns if terminal else _PLAIN_WIDTH
    return summary_lines(items, width=width)
