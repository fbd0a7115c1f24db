"""One pass over the blocks of a graph: what each of them introduces, batch after batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from harness.domain.values import Values
from harness.errors import HarnessError
from harness.localise.deviations import Introduced, deviation, has_nan, worst
from harness.localise.graph import Block, batches, bytes_of, suffix
from harness.localise.truth import Truth
from harness.localise.workbench import Measured, OutOfTime, Setup, Trusted, Workbench


@dataclass(slots=True, kw_only=True)
class Scan:
    """What a pass gathered; it never leaves the search."""

    introduced: list[Introduced] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    """Blocks that could not be judged, with the reason."""
    batches: int = 0
    largest_bytes: int = 0
    """Of all batches, the bytes of tapped values."""
    complete: bool = True
    """False if the budget ended it."""

    def plus(self, other: Scan) -> Scan:
        """Return both passes as one."""
        return Scan(
            introduced=[*self.introduced, *other.introduced],
            refused=[*self.refused, *other.refused],
            batches=self.batches + other.batches,
            largest_bytes=max(self.largest_bytes, other.largest_bytes),
            complete=self.complete and other.complete,
        )


class Scanner:
    """Judges blocks on trusted values.

    Args:
        bench: Of the model.
        trusted: Trusted arithmetic.
        runner: How blocks are run; None means by trusted arithmetic.
        measured: Sizes and shapes of the graph's values.
        batch_bytes: Bytes of tapped values that are held at once.
    """

    def __init__(
        self,
        bench: Workbench,
        trusted: Trusted,
        *,
        runner: Setup | None,
        measured: Measured,
        batch_bytes: int,
    ) -> None:
        self._bench = bench
        self._trusted = trusted
        self._runner = runner
        self._measured = measured
        self._batch_bytes = batch_bytes

    def scan(self, found: Sequence[Block], truth: Truth, feeds: Values) -> Scan:
        """Return what each block introduces, until the budget is spent."""
        sizes = {**self._measured.sizes, **{name: _bytes(value) for name, value in feeds.items()}}
        scan = Scan()
        for batch in batches(found, sizes, limit_bytes=self._batch_bytes):
            names = tuple(dict.fromkeys(n for b in batch for n in (*b.inputs, *b.outputs)))
            try:
                self._judge(scan, batch, truth.values(names))
            except OutOfTime:
                scan.complete = False
                break
            scan.batches += 1
            scan.largest_bytes = max(scan.largest_bytes, bytes_of(names, sizes))
        return scan

    def _judge(self, scan: Scan, batch: Sequence[Block], values: Values) -> None:
        """Run the blocks side by side; where that is refused, one by one."""
        usable = [block for block in batch if _is_fed(block, values)]
        scan.refused += [_refusal(b, "a value is no tensor") for b in batch if b not in usable]
        if not usable:
            return
        try:
            given = self._alone(usable, values)
        except HarnessError as error:
            if len(usable) == 1:
                scan.refused.append(_refusal(usable[0], error.what))
                return
            middle = len(usable) // 2
            self._judge(scan, usable[:middle], values)
            self._judge(scan, usable[middle:], values)
            return
        for number, block in enumerate(usable):
            scan.introduced.append(_judged(block, values, given, suffix(number)))

    def _alone(self, found: Sequence[Block], values: Values) -> Values:
        fed = {name: values[name] for block in found for name in block.inputs}
        path = self._bench.cut(found, fed, self._measured.shapes)
        try:
            if self._runner is None:
                return self._trusted.run(path, fed)
            return self._bench.run(self._runner, path, fed)
        finally:
            path.unlink(missing_ok=True)  # it holds the blocks' weights


def _judged(block: Block, values: Values, given: Values, ending: str) -> Introduced:
    parts = [
        deviation(reference=values[name], candidate=given[name + ending]) for name in block.outputs
    ]
    clean = not any(has_nan(values[name]) for name in block.inputs)
    made = any(has_nan(given[name + ending]) for name in block.outputs)
    return Introduced(block=block, error=worst(parts), makes_nan=clean and made)


def _is_fed(block: Block, values: Mapping[str, object]) -> bool:
    names = (*block.inputs, *block.outputs)
    return all(isinstance(values.get(name), np.ndarray) for name in names)


def _refusal(block: Block, why: str) -> str:
    return f"{block.last.op} {block.last.label} does not run alone: {why}"


def _bytes(value: object) -> int:
    return value.nbytes if isinstance(value, np.ndarray) else 0
