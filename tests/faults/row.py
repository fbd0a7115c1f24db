"""One row of the table of bad input: how it is made, and what the gate must say of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from harness.domain.verdict import Verdict
from harness.testing import MiniProject

#: Makes the broken model of this name in a project.
Maker = Callable[[MiniProject, str], object]

#: Part of the cell that each question is about.
_PARTS = {"contract": "{0}/fp32", "placement": "{0}/fp32/cpu", "parity": "{0}/fp32/cpu/{1}"}
#: Ends the first lines that go on in a library's own words, which change with its version.
OPEN_END = "..."


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One kind of bad input."""

    id: str
    """Test id, and name of the model unless `model` says otherwise."""
    wrong: str
    """What is wrong, for the table."""
    make: Maker
    """Makes the model."""
    asks: str
    """Question of the item that must tell it."""
    verdict: Verdict
    """Verdict of that item."""
    code: str
    """Code of its first finding."""
    says: str
    """First line of that finding, whole, unless it ends with `...`."""
    model: str = ""
    """Name of the model as items show it."""
    case: str = "one"
    """Name of the case, if the item has one."""

    @property
    def item(self) -> str:
        """Return the key of the item that must tell it."""
        return f"{self.asks} {_PARTS[self.asks].format(self.model or self.id, self.case)}"

    def fits(self, line: str) -> bool:
        """Return whether a finding's first line is the one that this row expects."""
        if self.says.endswith(OPEN_END):
            return line.startswith(self.says.removesuffix(OPEN_END))
        return line == self.says
