"""Labels that differ because the scores behind them tie.

Where the candidate ranks another class first, its scores moved by at least the gap between both. If
the scores keep their own limit, the reference itself could not tell the classes apart by more than
that limit, and either label is right. Scores that are beyond their limit fail by themselves.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from harness.domain.findings import Finding
from harness.domain.values import Array, Value, Values

FloatArray = npt.NDArray[np.float64]
#: Rows that a message shows.
SHOWN_ROWS = 3
MATRIX = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """The scores of both sides, one row per label."""

    output: str
    reference: FloatArray
    """Shape [rows, classes]."""
    candidate: FloatArray
    """Shape [rows, classes]."""

    def explains(self, unequal: npt.NDArray[np.bool_]) -> bool:
        """Return whether every label that differs belongs to a row that is ranked differently."""
        flat = unequal.reshape(-1)
        if flat.size != len(self.reference):
            return False
        return bool((self.reference.argmax(axis=1) != self.candidate.argmax(axis=1))[flat].all())

    def finding(self, path: str, cell: str, unequal: npt.NDArray[np.bool_]) -> Finding:
        """Return the note on labels that differ at ties."""
        rows = np.flatnonzero(unequal)
        shown = "\n".join(self._row(int(row)) for row in rows[:SHOWN_ROWS])
        more = f"\n{rows.size - SHOWN_ROWS} more rows" if rows.size > SHOWN_ROWS else ""
        return Finding(
            code="parity.near-tie",
            what=f"{rows.size} of {unequal.size} labels of output '{path}' differ where the scores "
            f"tie for cell '{cell}'",
            where=f"output '{path}'",
            expected=f"equal labels, except where '{self.output}' ranks two classes alike within "
            "its own limit",
            got=f"{shown}{more}",
        )

    def _row(self, row: int) -> str:
        first, other = (int(side[row].argmax()) for side in (self.reference, self.candidate))
        trusted, ours = self.reference[row], self.candidate[row]
        return (
            f"row {row}: reference {trusted[first]:.9g} and {trusted[other]:.9g}, "
            f"candidate {ours[first]:.9g} and {ours[other]:.9g} in columns {first} and {other}"
        )


def ranking(output: str, *, reference: Values, candidate: Values) -> Ranking | None:
    """Return the scores of an output as rows; None if they are no rows of scores on both sides."""
    rows = _rows(reference.get(output)), _rows(candidate.get(output))
    if rows[0] is None or rows[1] is None or rows[0].shape != rows[1].shape:
        return None
    return Ranking(output=output, reference=rows[0], candidate=rows[1])


def _rows(value: Value) -> FloatArray | None:
    """Return scores as [rows, classes]: a matrix, or a sequence of maps from class to score."""
    if isinstance(value, tuple) and value and all(isinstance(each, dict) for each in value):
        return _from_maps([each for each in value if isinstance(each, dict)])
    if isinstance(value, np.ndarray) and value.ndim == MATRIX and value.dtype.kind == "f":
        return value.astype(np.float64)
    return None


def _from_maps(maps: list[dict[int | str, Value]]) -> FloatArray | None:
    classes = sorted(maps[0], key=str)  # both sides may list them in their own order
    if any(set(each) != set(classes) for each in maps):
        return None
    return np.array([[_score(each[name]) for name in classes] for each in maps], dtype=np.float64)


def _score(value: Value) -> float:
    array: Array = np.asarray(value)
    return float(array.item()) if array.size == 1 else np.nan
