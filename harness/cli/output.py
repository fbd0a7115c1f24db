"""What all commands print with: JSON, tables, and a line for work that takes long.

Off a terminal the text is plain: no colour, no line broken at a width that nobody has. `NO_COLOR`
is honoured by rich.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from harness.errors import HarnessBug, HarnessError

#: Wide enough that no table is ever broken where nobody looks at columns.
_PLAIN_WIDTH = 1000

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


def print_json(value: Any) -> None:
    """Print a value as JSON that can be read in a diff."""
    print(json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False))


def problem(error: HarnessError) -> dict[str, str | None]:
    """Return an error as JSON values: every command prints one in this form.

    `code` is null where docs/findings.md has no code for it: the command line was wrong, say.
    """
    has_code = error.code != "harness.bug" or isinstance(error, HarnessBug)
    parts = ("what", "where", "expected", "got", "next_step")
    return {
        "code": error.code if has_code else None,
        **{part: getattr(error, part) for part in parts},
    }


def print_table(
    headers: Sequence[str], rows: Iterable[Sequence[str]], *, styles: dict[str, str] | None = None
) -> None:
    """Print rows under headers; `styles` colours cells by their text."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False, width=None if sys.stdout.isatty() else _PLAIN_WIDTH)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for header in headers:
        table.add_column(header, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell, style=(styles or {}).get(cell, "")) for cell in row))
    with console.capture() as captured:
        console.print(table)
    for line in captured.get().splitlines():
        print(line.rstrip())


@contextmanager
def saying(text: str) -> Iterator[Callable[[str], None]]:
    """Show what is being done while it is done, on a terminal only.

    What is yielded shows another text instead; an empty one brings the first back.
    """
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console

    with Console(stderr=True).status(text) as status:
        yield lambda other: status.update(other or text)


def plural(count: int, noun: str) -> str:
    """Return a count with its noun: `1 item`, `12 items`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
