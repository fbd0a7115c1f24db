"""Changes of baselines: what is new, changed and removed, and which figures can be compared."""

from __future__ import annotations

from dataclasses import replace

from harness.domain.baseline import Baseline, LocalBaseline
from harness.domain.baseline_changes import Kind, Stored, changes
from tests.baselines import CHANGE, ENVIRONMENT, baseline, local, timing

PLACE = ENVIRONMENT.id


def stored(*found: Baseline | LocalBaseline) -> Stored:
    """Return these baselines, each in the file of its own name."""
    return Stored(
        portable={each.model: each for each in found if isinstance(each, Baseline)},
        local={(PLACE, each.model): each for each in found if isinstance(each, LocalBaseline)},
    )


def test_equal_baselines_differ_in_nothing() -> None:
    """The entries and the figures."""
    state = stored(baseline(), local())
    assert changes(state, stored(baseline(), local())) == []


def test_an_entry_is_new_changed_or_removed() -> None:
    """In the order of names."""
    before = stored(baseline("gone"), baseline("other"), baseline("same"))
    after = stored(baseline("fresh"), baseline("other", threads=2), baseline("same"))
    found = [(each.name, each.key, each.kind) for each in changes(before, after)]
    assert found == [
        ("fresh", "fp32/cpu", Kind.NEW),
        ("gone", "fp32/cpu", Kind.REMOVED),
        ("other", "fp32/cpu", Kind.CHANGED),
    ]


def test_new_figures_alone_change_an_entry() -> None:
    """Another environment's, or others of the same."""
    (first,) = changes(stored(baseline()), stored(baseline(), local()))
    (second,) = changes(stored(baseline(), local()), stored(baseline(), local(p50_ms=2.0)))
    assert [each.kind for each in (first, second)] == [Kind.CHANGED, Kind.CHANGED]
    assert [each.environment for each in first.figures] == [PLACE]
    assert first.figures[0].before is None


def test_figures_without_an_entry_are_told() -> None:
    """They are new, or removed, by themselves."""
    (found,) = changes(stored(), stored(local()))
    (lost,) = changes(stored(local()), stored())
    assert (found.kind, lost.kind) == (Kind.NEW, Kind.REMOVED)


def test_who_approved_is_told_of_what_is_new_only() -> None:
    """An entry that stayed was approved before, and what was removed by nobody."""
    other = replace(CHANGE, reason="figures of another machine")
    measured = local()
    figures = replace(measured.entries["fp32/cpu"], change=other)
    after = stored(baseline(), replace(measured, entries={"fp32/cpu": figures}))
    (found,) = changes(stored(baseline()), after)
    assert found.approvals == (other,)
    (lost,) = changes(stored(baseline()), stored())
    assert lost.approvals == ()


def test_figures_of_other_inputs_or_threads_are_not_compared() -> None:
    """Another model is: that is what a reviewer asks about."""
    (other_model,) = changes(stored(baseline()), stored(baseline(model="5" * 64)))
    (threads,) = changes(stored(baseline()), stored(baseline(threads=2)))
    assert other_model.are_comparable(timing(), timing(p50_ms=2.0))
    assert not other_model.are_comparable(timing(), timing(inputs="5" * 64))
    assert not threads.are_comparable(timing(), timing(p50_ms=2.0))
