"""The table of bad input in docs/bad_input.md, which is also what the fault tests expect."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.testing import MiniProject

#: Makes the broken model of this name in a project.
Maker = Callable[[MiniProject, str], object]

DOCS = Path(__file__).parents[2] / "docs" / "bad_input.md"
#: Ends the first lines that go on in a library's own words, which change with its version.
OPEN_END = "..."
_ROW = re.compile(
    r"\| (?P<wrong>.+) \| (?P<asks>\w+) (?P<verdict>[A-Z]+), `(?P<code>[\w.-]+)`: "
    r"`(?P<says>.+)` \| `(?P<id>[\w-]+)` \|"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One kind of bad input, and what the gate says of it."""

    id: str
    """Test id, and name of the model unless its name is what is wrong."""
    wrong: str
    """What is wrong."""
    asks: str
    """Question of the item that tells it."""
    verdict: str
    """Verdict of that item."""
    code: str
    """Code of its first finding."""
    says: str
    """First line of that finding, whole, unless it ends with `...`."""

    def fits(self, line: str) -> bool:
        """Return whether a finding's first line is the one that this row promises."""
        if self.says.endswith(OPEN_END):
            return line.startswith(self.says.removesuffix(OPEN_END))
        return line == self.says


def rows() -> Iterator[Row]:
    """Yield the rows of the table."""
    for line in DOCS.read_text(encoding="utf-8").splitlines():
        match = _ROW.fullmatch(line)
        if match is not None:
            yield Row(**match.groupdict())
