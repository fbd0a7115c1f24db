"""Laws that a spec declares and no example of a search exercised.

A law says nothing at some sizes: one row has no other row beside it. Where all sizes drawn are such
sizes, nothing was compared, and the law would seem to hold.
"""

from __future__ import annotations

from collections.abc import Iterator

from harness.domain.examples import Space
from harness.domain.findings import Finding
from harness.domain.receipts import Receipt
from harness.domain.spec import PropertiesSpec

#: Law -> counter of its comparisons.
LAW_COUNTERS = {
    "property.repeat": "repetitions_compared",
    "property.threads": "thread_numbers_compared",
    "property.batch": "rows_compared",
    "property.padding": "paddings_compared",
    "property.permutation": "orders_compared",
}
#: Rows below which nothing stands beside a row, and nothing can be put into another order.
LEAST_ROWS = 2


def unexercised(space: Space, receipt: Receipt) -> Iterator[Finding]:
    """Yield a finding for each declared law of which the search compared nothing.

    Args:
        space: What examples were drawn from.
        receipt: What was compared over all examples.
    """
    judged = receipt.counts.get("examples_judged", 0)
    for code, key, dim in _declared(space.spec.properties):
        counter = LAW_COUNTERS[code]
        if receipt.counts.get(counter, 0):
            continue
        why, next_step = _reason(space, code, dim)
        yield Finding(
            code="receipt.empty",
            what=f"Nothing was checked of a declared law: {counter} is zero over "
            f"{judged} {'example' if judged == 1 else 'examples'}",
            where=f"spec, properties.{key}",
            expected=f"{counter} above zero",
            got=why,
            next_step=next_step,
        )


def _declared(properties: PropertiesSpec) -> Iterator[tuple[str, str, str]]:
    """Yield code, key and dimension of each law that the spec declares."""
    if properties.batch is not None:
        yield "property.batch", "batch", properties.batch
    if properties.padding is not None:
        yield "property.padding", "padding", properties.padding.dim
    if properties.permutation is not None:
        yield "property.permutation", "permutation", properties.permutation
    if properties.repetitions > 1:
        yield "property.repeat", "repetitions", ""
    if properties.threads:
        yield "property.threads", "threads", ""


def _reason(space: Space, code: str, dim: str) -> tuple[str, str]:
    """Return why a law met no example that it says something about, and what to change."""
    more = "raise properties.examples, or drop the law"
    if not dim:
        return "no example ran", more
    size = space.spec.dims[dim]
    if code == "property.padding":
        if size.min == size.max:
            return f"'{dim}' is always {size.max}", f"raise dims.{dim}.max, or drop the law"
        return f"'{dim}' was {size.max}, its max, in every example", more
    if size.max < LEAST_ROWS:
        return f"'{dim}' is at most {size.max}", f"raise dims.{dim}.max, or drop the law"
    least = {name: each.min for name, each in space.spec.dims.items()}
    least[dim] = max(size.min, LEAST_ROWS)
    most, needed = space.spec.properties.max_elements, space.elements(least)
    if needed > most:
        cut = f"'{dim}' was cut down to 1 by properties.max_elements = {most}"
        return (
            f"{cut}: two rows have {needed} elements at least",
            f"raise properties.max_elements to {needed} or more, or drop the law",
        )
    change = f"set dims.{dim}.min = {LEAST_ROWS}, raise properties.max_elements (now {most})"
    return f"'{dim}' was below {LEAST_ROWS} in every example", f"{change} or properties.examples"
