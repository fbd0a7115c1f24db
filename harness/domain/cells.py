"""Cells: what a run is made of, their ids, and the matrix of all of them.

A cell is model x variant x provider x case. A suite asks about cells or about the part of them
that matters to its question: the contract of a file does not depend on provider and case, the
placement of nodes does not depend on the case. Such a part has `*` in the places left open.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.domain.spec import ModelSpec

ANY = "*"
#: How many places of a cell a part keeps: the file, the session, or all of it.
VARIANT_DEPTH, PROVIDER_DEPTH, CASE_DEPTH = 2, 3, 4


@dataclass(frozen=True, slots=True, order=True)
class Cell:
    """One cell, or a part of cells where trailing places are `*`."""

    model: str
    variant: str
    provider: str = ANY
    case: str = ANY

    def __str__(self) -> str:
        """Return the id, such as `mnist/fp32/cpu/batch3`, without open places."""
        parts = (self.model, self.variant, self.provider, self.case)
        return "/".join(part for part in parts if part != ANY)

    def part(self, depth: int) -> Cell:
        """Return the part with the first `depth` places."""
        if depth == VARIANT_DEPTH:
            return replace(self, provider=ANY, case=ANY)
        return replace(self, case=ANY) if depth == PROVIDER_DEPTH else self


def expand(
    name: str, spec: ModelSpec, *, cases: Iterable[str], providers: Iterable[str] | None = None
) -> Iterator[Cell]:
    """Yield the cells of one model, for `providers` or else for those of its spec.

    A provider that the spec does not name takes every variant: asking for it on the command line
    is a question about all of them.
    """
    case_names = tuple(cases)
    for provider in spec.providers if providers is None else providers:
        use = spec.providers.get(short_name(provider))
        wanted = use.variants if use and use.variants else spec.variant_names()
        for variant in wanted:
            for case in case_names:
                yield Cell(name, variant, provider, case)


def short_name(provider: str) -> str:
    """Return the provider's name without its runtime: `cpu` for `cpu@ort-1.31`."""
    return provider.partition("@")[0]


def parts(cells: Iterable[Cell], depth: int) -> tuple[Cell, ...]:
    """Return the distinct parts of `cells` of this depth, in order."""
    return tuple(dict.fromkeys(cell.part(depth) for cell in cells))
