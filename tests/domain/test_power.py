"""What the rule sees at a known scatter, on simulated decisions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from harness.domain import power
from harness.domain.duet import LATENCY, Outcome

pytest.importorskip("scipy")

#: Of a stage.
SIDES = ("candidate", "sentinel")


def test_large_effects_are_seen_small_ones_are_not() -> None:
    """Far from the bound the rule is sure of itself."""
    rule = LATENCY.among(400)
    assert power.chance(Outcome.SLOWER, 0.02, 0.008, rule) == 1.0
    assert power.chance(Outcome.FASTER, -0.02, 0.008, rule) == 1.0
    assert power.chance(Outcome.SLOWER, 0.005, 0.008, rule) == 0.0


@pytest.mark.parametrize("effect", [0.0, 0.003, 0.006, 0.01, 0.02])
def test_hardly_anything_is_left_open(effect: float) -> None:
    """Neither half of the bound nor the bound itself, at the scatter of a shared machine."""
    chances = {each: power.chance(each, effect, 0.01, LATENCY.among(400)) for each in Outcome}
    assert sum(chances.values()) == pytest.approx(1.0)
    judged = (Outcome.SAME, Outcome.NOT_SLOWER, Outcome.SLOWER, Outcome.FASTER)
    assert sum(chances[each] for each in judged) >= 0.98


def test_all_stages_of_a_simulated_decision_are_of_the_size_that_the_gate_measures() -> None:
    """A sentinel beside every stage but the screen, sharing its control with the candidate."""
    stages = power._stages(np.random.default_rng(1), 0.5, 0.01)
    assert [len(each.candidate) for each in stages] == [16, 16, 16, 24]
    assert [len(each.sentinel) for each in stages] == [0, 16, 16, 24]
    for each in stages:
        assert np.mean(each.candidate) == pytest.approx(0.5, abs=0.02)
    together = [np.concatenate([getattr(each, side) for each in stages[1:]]) for side in SIDES]
    assert np.corrcoef(together)[0, 1] == pytest.approx(0.5, abs=0.25)


@pytest.mark.parametrize("scatter", [0.003, 0.008, 0.016])
def test_what_is_visible_is_seen_in_nineteen_of_twenty_runs(scatter: float) -> None:
    """And a little less is not."""
    found = power.visible(scatter)
    assert found is not None
    assert power.chance(Outcome.SLOWER, found, scatter, LATENCY) >= power.SEEN
    assert power.chance(Outcome.SLOWER, 0.97 * found, scatter, LATENCY) < power.SEEN


def test_more_scatter_hides_more() -> None:
    """The smallest slowdown that is seen grows with the scatter, and never is below the bound."""
    found = [power.visible(scatter) for scatter in (0.003, 0.008, 0.016, 0.03)]
    sizes = [each for each in found if each is not None]
    assert len(sizes) == len(found)
    assert sizes == sorted(sizes)
    assert sizes[0] >= LATENCY.bound


def test_a_machine_can_be_too_busy_for_anything() -> None:
    """Beyond the limit of the rule nothing is judged, so nothing is seen."""
    assert power.visible(1.0) is None
    assert power.chance(Outcome.UNSTABLE, 0.02, 1.0, LATENCY) > 0.95


def test_nothing_is_no_slowdown() -> None:
    """Where nothing changed, no decision of 2,000 is an alarm, not even on a restless machine."""
    for scatter in (0.008, 0.03):
        rule = power.with_scatter(LATENCY.among(400), scatter)
        assert power.chance(Outcome.SLOWER, 0.0, scatter, rule, 2_000) == 0.0


@pytest.mark.parametrize(
    ("scatter", "assumed"),
    [(None, LATENCY.prior_sd), (0.0, 0.003), (0.003, 0.003), (0.012, 0.012), (0.5, 0.02)],
)
def test_a_measured_scatter_is_believed_within_limits(
    scatter: float | None, assumed: float
) -> None:
    """Luck does not make a rule blind to scatter, nor a busy hour make it see nothing."""
    assert power.with_scatter(LATENCY, scatter) == replace(LATENCY, prior_sd=assumed)
