"""Labels that differ because the scores behind them tie.

Where the candidate ranks another class first, its scores moved by at least the gap between both. If
the scores keep their own limit, the reference itself could not tell the classes apart by more than
that limit, and either class is right. Scores that are beyond their limit fail by themselves. The
label must still be that of the class: the reference alone tells which label a class has.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from harness.domain.findings import Finding
from harness.domain.values import Array, Value, Values

FloatArray = npt.NDArray[np.float64]
#: Classes by column: keys of maps, or columns.
Names = tuple[int | str, ...]
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
    names: Names
    """What each class is called: the key of its score in a map, else its column."""

    def explains(
        self, unequal: npt.NDArray[np.bool_], *, reference: Array, candidate: Array
    ) -> bool:
        """Return whether every label that differs is the right one of another class that ties.

        Args:
            unequal: Where labels differ, one for each row.
            reference: Labels of the reference.
            candidate: Labels of the candidate.
        """
        tied = self._ranks_differently(unequal)
        return tied and self._unproven(unequal, reference=reference, candidate=candidate) is None

    def advice(self, unequal: npt.NDArray[np.bool_], *, reference: Array, candidate: Array) -> str:
        """Return why labels at ties are not excused; empty if they do not differ at ties alone."""
        if not self._ranks_differently(unequal):
            return ""
        row = self._unproven(unequal, reference=reference, candidate=candidate)
        if row is None:
            return ""
        column = int(self.candidate[row].argmax())
        return (
            f"scores tie in row {row}, but nothing that the reference gives shows that "
            f"{candidate.reshape(-1).tolist()[row]!r} is the label of column {column}; if it is, "
            "give the case a row of that class, or let the scores be maps from label to score"
        )

    def _ranks_differently(self, unequal: npt.NDArray[np.bool_]) -> bool:
        """Return whether every label that differs belongs to a row that is ranked differently."""
        flat = unequal.reshape(-1)
        if flat.size != len(self.reference):
            return False
        return bool((self.reference.argmax(axis=1) != self.candidate.argmax(axis=1))[flat].all())

    def _unproven(
        self, unequal: npt.NDArray[np.bool_], *, reference: Array, candidate: Array
    ) -> int | None:
        """Return the first row whose label is not known to be that of the candidate's class."""
        known = self._labels_of_classes(reference.reshape(-1).tolist())
        given, first = candidate.reshape(-1).tolist(), self.candidate.argmax(axis=1)
        rows = map(int, np.flatnonzero(unequal))
        return next((row for row in rows if given[row] not in known.get(int(first[row]), ())), None)

    def _labels_of_classes(self, labels: Sequence[object]) -> dict[int, set[object]]:
        """Return the labels of each column, as far as the reference's own rows show them.

        Where the label of every row names a class that no other beats, labels are the names of the
        classes, and those of classes that win no row are known too. Else a class has the labels
        of the rows in which it beats all others: a row in which classes tie exactly teaches none.
        """
        best = self.reference == self.reference.max(axis=1, keepdims=True)
        columns: dict[object, int] = {name: column for column, name in enumerate(self.names)}
        if all(label in columns and best[row, columns[label]] for row, label in enumerate(labels)):
            return {column: {name} for name, column in columns.items()}
        known: dict[int, set[object]] = {}
        for row in map(int, np.flatnonzero(best.sum(axis=1) == 1)):
            known.setdefault(int(best[row].argmax()), set()).add(labels[row])
        return known

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
    trusted, ours = _rows(reference.get(output)), _rows(candidate.get(output))
    if trusted is None or ours is None or trusted[0] != ours[0]:
        return None
    if trusted[1].shape != ours[1].shape:
        return None
    return Ranking(output=output, reference=trusted[1], candidate=ours[1], names=trusted[0])


def _rows(value: Value) -> tuple[Names, FloatArray] | None:
    """Return classes and scores of shape [rows, classes]: of a matrix, or of a sequence of maps."""
    if isinstance(value, tuple) and value and all(isinstance(each, dict) for each in value):
        return _from_maps([each for each in value if isinstance(each, dict)])
    if not isinstance(value, np.ndarray) or value.ndim != MATRIX or value.dtype.kind != "f":
        return None
    return tuple(range(value.shape[1])), value.astype(np.float64)


def _from_maps(maps: list[dict[int | str, Value]]) -> tuple[Names, FloatArray] | None:
    classes = sorted(maps[0], key=str)  # both sides may list them in their own order
    if any(set(each) != set(classes) for each in maps):
        return None
    rows = [[_score(each[name]) for name in classes] for each in maps]
    return tuple(classes), np.array(rows, dtype=np.float64)


def _score(value: Value) -> float:
    array: Array = np.asarray(value)
    return float(array.item()) if array.size == 1 else np.nan
