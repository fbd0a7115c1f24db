"""Labels at ties: either is right, anywhere else neither differs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from harness.domain.compare import Comparison, compare
from harness.domain.findings import Finding
from harness.domain.labels import ranking
from harness.domain.spec import OutputSpec
from harness.domain.values import Value

TIED = np.array([[0.1, 0.9], [0.5, 0.5 - 1e-8], [0.7, 0.3]])
FLIPPED = np.array([[0.1, 0.9], [0.5 - 1e-8, 0.5], [0.7, 0.3]])
MAPS: tuple[Value, ...] = tuple({"a": np.asarray(row[0]), "b": np.asarray(row[1])} for row in TIED)
FLIPPED_MAPS: tuple[Value, ...] = tuple(
    {"b": np.asarray(row[1]), "a": np.asarray(row[0])} for row in FLIPPED
)


def judged(
    labels: list[Any], *, candidate: Value = FLIPPED, reference: Value = TIED, scores: str = "p"
) -> Comparison:
    """Compare labels whose reference is b, a, a."""
    return compare(
        reference={"label": np.array(["b", "a", "a"], dtype=object), "p": reference},
        candidate={"label": np.array(labels, dtype=object), "p": candidate},
        outputs={"label": OutputSpec(compare="labels", scores=scores)},
        provider="cpu",
        cell="m/c",
    )


def codes(found: tuple[Finding, ...]) -> list[str]:
    """Return the codes of findings."""
    return [finding.code for finding in found]


@pytest.mark.parametrize(
    ("reference", "candidate"),
    [(TIED, FLIPPED), (MAPS, FLIPPED_MAPS)],
    ids=["matrix", "maps"],
)
def test_either_label_at_a_tie(reference: Value, candidate: Value) -> None:
    """It is noted with the scores of both sides."""
    found = judged(["b", "b", "a"], reference=reference, candidate=candidate)
    assert found.worst < 1
    (note,) = found.findings
    assert (note.code, note.what) == (
        "parity.near-tie",
        "1 of 3 labels of output 'label' differ where the scores tie for cell 'm/c'",
    )
    assert note.got == (
        "row 1: reference 0.5 and 0.49999999, candidate 0.49999999 and 0.5 in columns 0 and 1"
    )


def test_another_label_where_nothing_ties() -> None:
    """One such row and all of them count."""
    found = judged(["b", "b", "b"])
    assert codes(found.findings) == ["parity.mismatch"]
    assert found.findings[0].what == "2 of 3 labels of output 'label' differ for cell 'm/c'"


def test_a_label_that_its_own_scores_contradict() -> None:
    """The scores rank as before, so the label is wrong."""
    assert codes(judged(["b", "b", "a"], candidate=TIED).findings) == ["parity.mismatch"]


def test_scores_beyond_their_limit_fail_by_themselves() -> None:
    """The label is noted, the item fails all the same."""
    wrong = np.array([[0.1, 0.9], [0.2, 0.8], [0.7, 0.3]])
    found = judged(["b", "b", "a"], candidate=wrong)
    assert codes(found.findings) == ["parity.near-tie", "parity.tolerance"]


@pytest.mark.parametrize(
    ("scores", "candidate", "advice"),
    [
        ("q", FLIPPED, "outputs.label.scores names 'q', which gives no rows of scores"),
        ("p", np.array([1, 2, 3]), "outputs.label.scores names 'p', which gives no rows of scores"),
    ],
)
def test_scores_that_are_none(scores: str, candidate: Value, advice: str) -> None:
    """Every label counts then, and the message tells why."""
    found = judged(["b", "b", "a"], scores=scores, candidate=candidate)
    assert found.findings[0].code == "parity.mismatch"
    assert found.findings[0].next_step == advice


def test_more_scores_than_labels_explain_nothing() -> None:
    """Rows and labels must belong together."""
    rows = ranking("p", reference={"p": TIED}, candidate={"p": FLIPPED})
    assert rows is not None
    labels = {"reference": np.array([1, 0, 0]), "candidate": np.array([1, 1, 0])}
    assert rows.explains(np.array([False, True, False]), **labels)
    assert not rows.explains(np.array([True]), **labels)
    assert not rows.advice(np.array([True]), **labels)


def test_other_classes_are_no_ranking() -> None:
    """Maps with different keys cannot be put side by side."""
    mixed: tuple[Value, ...] = (MAPS[0], {"a": np.asarray(0.5), "c": np.asarray(0.5)}, MAPS[2])
    assert ranking("p", reference={"p": mixed}, candidate={"p": MAPS}) is None


def test_many_rows_are_shortened() -> None:
    """Three are shown, the others counted."""
    tied = np.full((5, 2), 0.5)
    flipped = np.array([[0.4999, 0.5001]] * 5)
    rows = ranking("p", reference={"p": tied}, candidate={"p": flipped})
    assert rows is not None
    assert rows.finding("label", "c", np.ones(5, bool)).got.endswith("\n2 more rows")


def labelled(
    *, reference: list[Any], candidate: list[Any], scores: Value, moved: Value
) -> Comparison:
    """Compare labels of any kind."""
    return compare(
        reference={"label": np.array(reference), "p": scores},
        candidate={"label": np.array(candidate), "p": moved},
        outputs={"label": OutputSpec(compare="labels", scores="p")},
        provider="cpu",
        cell="m/c",
    )


THREE = np.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.5, 0.5, 0.0]])
THREE_MOVED = np.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.5, 0.5 + 1e-8, 0.0]])


@pytest.mark.parametrize(
    ("label", "code"),
    [(20, "parity.near-tie"), (777, "parity.mismatch"), (30, "parity.mismatch")],
)
def test_a_tie_excuses_the_label_of_the_class_that_ties(label: int, code: str) -> None:
    """Rows in which one class wins tell which label it has; any other label is wrong at a tie."""
    found = labelled(
        reference=[10, 20, 10], candidate=[10, 20, label], scores=THREE, moved=THREE_MOVED
    )
    assert codes(found.findings) == [code]


@pytest.mark.parametrize("label", [20, 777])
def test_a_class_that_wins_no_row_has_no_known_label(label: int) -> None:
    """Where all rows tie exactly nothing shows that 20, or 777, belongs to the second class."""
    found = labelled(
        reference=[10, 10],
        candidate=[label, label],
        scores=np.zeros((2, 3)),
        moved=np.array([[0.0, 1e-9, 0.0]] * 2),
    )
    (finding,) = found.findings
    assert finding.code == "parity.mismatch"
    assert finding.next_step == (
        f"scores tie in row 0, but nothing that the reference gives shows that {label} is the "
        "label of column 1; if it is, give the case a row of that class, or let the scores be "
        "maps from label to score"
    )


@pytest.mark.parametrize(
    ("label", "code"), [(1, "parity.near-tie"), (2, "parity.mismatch"), (777, "parity.mismatch")]
)
def test_labels_that_are_columns_are_known_for_all_classes(label: int, code: str) -> None:
    """One row that ties is enough then."""
    found = labelled(reference=[0], candidate=[label], scores=THREE[2:], moved=THREE_MOVED[2:])
    assert codes(found.findings) == [code]


@pytest.mark.parametrize(("label", "code"), [("b", "parity.near-tie"), ("c", "parity.mismatch")])
def test_labels_that_are_keys_are_known_for_all_classes(label: str, code: str) -> None:
    """Maps from label to score say by themselves which label a class has."""
    found = labelled(reference=["a"], candidate=[label], scores=MAPS[1:2], moved=FLIPPED_MAPS[1:2])
    assert codes(found.findings) == [code]


def test_a_label_of_a_row_that_ties_exactly_teaches_nothing() -> None:
    """The reference may have taken either class there."""
    tie, win = [0.5, 0.5], [0.9, 0.1]
    found = labelled(
        reference=["x", "y", "x"],
        candidate=["x", "y", "y"],
        scores=np.array([win, tie, [0.5, 0.5 - 1e-8]]),
        moved=np.array([win, tie, [0.5 - 1e-8, 0.5]]),
    )
    assert codes(found.findings) == ["parity.mismatch"]
