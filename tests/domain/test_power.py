"""What the rule sees at a known scatter, held against the rule itself on simulated pairs."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from harness.domain import duet, power
from harness.domain.duet import LATENCY, Outcome, Rule, Stage

pytest.importorskip("scipy")

#: Simulated decisions, and how far their share may lie from the computed one: three standard
#: errors of a share of one half, and the computation's own 3 %.
TRIALS, MOST_APART = 150, 0.12 + 0.03


def stage(random: np.random.Generator, effect: float, scatter: float, *, confirms: bool) -> Stage:
    """Return a stage whose pairs have three independent workers each."""
    shape = (3, duet.CONFIRM_PAIRS if confirms else duet.SCREEN_PAIRS)
    candidate, control, sentinel = random.normal(0.0, scatter / math.sqrt(2), shape)
    return Stage(
        candidate=list(effect + candidate - control),
        sentinel=list(sentinel - control) if confirms else (),
    )


def decided(
    random: np.random.Generator, effect: float, scatter: float, rule: Rule
) -> Outcome | None:
    """Return the outcome of one simulated decision, its screen ended as early as the gate does."""
    screen = stage(random, effect, scatter, confirms=False)
    for count in range(duet.EARLY_PAIRS, duet.SCREEN_PAIRS):
        if duet.is_same(screen.candidate[:count], rule):
            screen = Stage(candidate=screen.candidate[:count])
            break
    stages = [screen]
    while (outcome := duet.decide(stages, rule)) is None:
        stages.append(stage(random, effect, scatter, confirms=True))
    return outcome


@pytest.mark.parametrize(
    ("effect", "scatter"), [(0.01, 0.004), (0.015, 0.016), (0.02, 0.025), (0.03, 0.03)]
)
def test_the_computed_chance_is_that_of_the_rule(effect: float, scatter: float) -> None:
    """Simulated decisions agree, where the chance is neither 0 nor 1."""
    rule = LATENCY.among(400)
    random = np.random.default_rng(5)
    seen = [decided(random, effect, scatter, rule) is Outcome.SLOWER for _ in range(TRIALS)]
    assert power.chance(effect, scatter, rule) == pytest.approx(np.mean(seen), abs=MOST_APART)


@pytest.mark.parametrize("scatter", [0.003, 0.008, 0.016])
def test_what_is_visible_is_seen_in_nineteen_of_twenty_runs(scatter: float) -> None:
    """And a little less is not."""
    found = power.visible(scatter)
    assert found is not None
    assert power.chance(found, scatter) >= power.SEEN
    assert power.chance(0.98 * found, scatter) < power.SEEN


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
    assert power.chance(0.02, 1.0) == 0.0


def test_nothing_is_no_slowdown() -> None:
    """Where nothing changed, the computed chance of an alarm is that of the rule or below."""
    assert power.chance(0.0, 0.008, LATENCY.among(400)) < LATENCY.among(400).alarm


@pytest.mark.parametrize(
    ("scatter", "assumed"),
    [(None, LATENCY.prior_sd), (0.0, 0.003), (0.003, 0.003), (0.012, 0.012), (0.5, 0.02)],
)
def test_a_measured_scatter_is_believed_within_limits(
    scatter: float | None, assumed: float
) -> None:
    """Luck does not make a rule blind to scatter, nor a busy hour make it see nothing."""
    assert power.with_scatter(LATENCY, scatter) == replace(LATENCY, prior_sd=assumed)
