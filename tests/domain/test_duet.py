"""The duet's decision rule on pairs whose truth is known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from harness.domain import duet
from harness.domain.duet import Outcome, Stage

pytest.importorskip("scipy")

SLOWER = Outcome.SLOWER


def pairs(effect: float, count: int = duet.SCREEN_PAIRS, spread: float = 0.004) -> list[float]:
    """Return observations around an effect, the same in every run."""
    return list(effect + spread * np.random.default_rng(count).standard_normal(count))


def stages(*effects: float, sentinel: float = 0.0, spread: float = 0.004) -> list[Stage]:
    """Return a screen and confirmations of these effects."""
    found: list[Stage] = []
    for each in effects:
        count = duet.next_pairs(found)
        beside = pairs(sentinel, count, spread) if found else ()
        found.append(Stage(candidate=pairs(each, count, spread), sentinel=beside))
    return found


def test_an_observation_ignores_a_disturbed_block() -> None:
    """A block in which the machine was busy is one of many."""
    control = [1e6] * 7
    candidate = [1.02e6] * 6 + [9e6]
    assert duet.observation(candidate, control) == pytest.approx(np.log(1.02))
    assert duet.observation(control, candidate) == pytest.approx(-np.log(1.02))


def test_an_estimate_ignores_tails_and_distrusts_few_pairs() -> None:
    """One pair of 50 % moves nothing; four equal pairs do not prove that there is no scatter."""
    found = duet.estimate([*pairs(0.02), 0.5])
    assert found.effect == pytest.approx(0.02, abs=0.003)
    few = duet.estimate([0.0] * 4)
    assert (few.effect, few.spread) == (0.0, 0.0)
    assert few.error > 0.002


@pytest.mark.parametrize("count", [8, 16, 48])
@pytest.mark.parametrize("freedom", [3, 100], ids=["tails", "normal"])
def test_the_error_is_what_estimates_scatter_by(count: int, freedom: int) -> None:
    """Also where tails are heavy, of which the middle half of the pairs tells nothing."""
    random = np.random.default_rng(count + freedom)
    found = [
        duet.estimate(list(duet.LATENCY.prior_sd * random.standard_t(freedom, count)))
        for _ in range(2000)
    ]
    scatter = np.std([each.effect for each in found])
    assert 0.9 < np.median([each.error for each in found]) / scatter < 1.4


def test_a_bound_widens_with_its_confidence() -> None:
    """And lies on the side that was asked for."""
    found = duet.estimate(pairs(0.01))
    assert found.bound(0.999, upper=False) < found.bound(0.95, upper=False) < found.effect
    assert found.effect < found.bound(0.95, upper=True) < found.bound(0.999, upper=True)


@pytest.mark.parametrize(
    ("effect", "count", "same"),
    [(0.0, 16, True), (0.0, 2, False), (0.008, 16, False), (-0.02, 16, False)],
)
def test_a_screen_ends_early_only_where_it_is_sure(
    effect: float, count: int, *, same: bool
) -> None:
    """Few pairs, or an effect near the bound in either direction, are no reason to stop."""
    assert duet.is_same(pairs(effect, count)) is same


@pytest.mark.parametrize(
    ("seen", "outcome"),
    [
        (stages(0.001), Outcome.SAME),
        (stages(0.02), None),
        (stages(0.02, 0.02), None),
        (stages(0.02, 0.02, 0.02), SLOWER),
        (stages(-0.02, -0.02, -0.02), Outcome.FASTER),
        (stages(0.02, 0.0), Outcome.SAME),
        (stages(0.02, -0.02), None),
        (stages(0.02, -0.02, -0.02), None),
        (stages(0.02, -0.02, -0.02, 0.0), Outcome.NOT_SLOWER),
        (stages(0.02, -0.02, 0.02, 0.02), Outcome.UNDECIDED),
        (stages(0.002, -0.003, spread=0.025), None),
        (stages(0.002, -0.003, -0.003, spread=0.025), Outcome.SAME),
        (stages(0.02, 0.02, sentinel=0.015), None),
        (stages(0.02, 0.02, 0.02, sentinel=0.015), None),
        (stages(0.02, 0.02, 0.02, 0.02, sentinel=0.015), Outcome.CONTAMINATED),
        ([*stages(0.02, 0.5, 0.02, sentinel=0.4)[:2], *stages(0.02, 0.02, 0.02, 0.02)[2:]], SLOWER),
        (stages(0.02, 0.02, sentinel=0.007, spread=0.004), None),
        (stages(0.009, 0.009, sentinel=0.004, spread=0.016), None),
        (stages(0.009, 0.009, 0.009), None),
        (stages(0.009, 0.009, 0.009, 0.009), Outcome.NOT_SLOWER),
        (stages(0.008, 0.008, 0.008, 0.008, spread=0.03), Outcome.UNDECIDED),
        (stages(0.012, 0.008, 0.008, 0.016), SLOWER),
        (stages(0.012, 0.016, 0.016, 0.004), Outcome.UNDECIDED),
        (stages(-0.012, -0.005, -0.015, -0.015), Outcome.FASTER),
        (stages(0.0075, 0.0075, 0.0075), Outcome.NOT_SLOWER),
        (stages(-0.009, -0.009, -0.009), Outcome.NOT_SLOWER),
        (stages(0.02, spread=0.2), Outcome.UNSTABLE),
        (stages(0.0, spread=0.03), None),
        (stages(0.0, 0.0, 0.0, spread=0.03), None),
        (stages(-0.002, -0.002, -0.002, 0.006, spread=0.046), Outcome.UNSTABLE),
        (stages(0.0, 0.0, 0.0, 0.0, spread=0.02), Outcome.SAME),
        (stages(0.0, 0.0, 0.0, spread=0.014), Outcome.SAME),
        (stages(0.9, 0.9, 0.9, spread=0.1), SLOWER),
    ],
    ids=[
        *("same", "suspicious", "confirmed once", "slower", "faster", "not seen again"),
        *(
            "opposite once",
            "opposite",
            "opposite, and settled as nothing",
            "opposite, and too uncertain to settle",
            "one stage cannot tell",
            "all together can",
            "sentinel",
            "sentinel twice",
            "sentinel thrice",
            "a contaminated stage does not count",
            "sentinel within half of the effect",
            "sentinel within its own scatter",
            "between",
            "between, settled below the bound",
            "between, and too uncertain to settle",
            "settled beyond the bound",
            "beyond the bound, but not in the settlement",
            "settled as faster",
            "below the bound for sure",
            "faster, but not by the bound",
            "scatter",
            "cannot exclude yet",
            "cannot exclude",
            "settlement cannot either",
            "settlement can",
            "excluded by more pairs",
            "clear in spite of scatter",
        ),
    ],
)
def test_outcomes(seen: Sequence[Stage], outcome: Outcome | None) -> None:
    """Only what all stages saw, or the settlement and all fresh pairs, is a difference."""
    assert duet.decide(seen) is outcome


def test_many_decisions_ask_for_more_confidence() -> None:
    """One red build without cause in a hundred, however many cells there are."""
    alone, among = duet.LATENCY.among(1), duet.LATENCY.among(400)
    assert alone.alarm == duet.CELL_ALARMS
    assert among.alarm == pytest.approx(duet.BUILD_ALARMS / 400)
    seen = stages(0.014, 0.014, 0.014, spread=0.038)
    assert duet.decide(seen, alone) is Outcome.SLOWER
    assert duet.decide(seen, among) is None


def test_recorded_stages_are_used_as_far_as_the_gate_would_have_gone() -> None:
    """A screen that may end early does, whatever comes after; too few stages are no outcome."""
    assert duet.replay(stages(0.0, 0.5, 0.5, 0.5)) is Outcome.SAME
    assert duet.replay(stages(0.02, 0.0, 0.02, 0.02)) is Outcome.SAME
    assert duet.replay(stages(0.02, 0.02, 0.02, 0.0)) is Outcome.SLOWER
    assert duet.replay(stages(0.02, 0.02)) is None


def test_start_up_has_a_bound_of_its_own() -> None:
    """What would be a clear slowdown of p50 is nothing for one sample of each worker."""
    seen = stages(0.03, 0.03, 0.03)
    assert duet.decide(seen) is Outcome.SLOWER
    assert duet.decide(seen[:1], duet.STARTUP) is Outcome.SAME
