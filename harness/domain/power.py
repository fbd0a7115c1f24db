"""What the duet's rule sees on a machine whose scatter is known, computed without measuring.

The model: pairs are independent and normal around the true effect with the given scatter, and
a sentinel shares its control with the candidate. What drifts between stages, and tails, are not in
it: `benchmarks/gate_power.py` measures those.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from harness.domain import duet
from harness.domain.duet import Rule

#: A measured scatter is believed within these limits: below, chance made it small; above, the
#: machine was too busy to be calibrated.
LEAST_SCATTER, MOST_SCATTER = 0.003, 0.02
#: Chance at which a slowdown counts as seen.
SEEN = 0.95
#: Beyond this no effect is looked for (log ratio).
MOST_EFFECT = 1.0
#: Steps of the grid per standard error, and standard errors to each side.
_STEPS, _WIDTH = 64, 9.0

Grid = npt.NDArray[np.float64]


def with_scatter(rule: Rule, scatter: float | None) -> Rule:
    """Return the rule with the scatter that was measured here assumed, within its limits.

    Args:
        rule: What is asked.
        scatter: Of single pairs of one unchanged model; None if nobody measured it.
    """
    if scatter is None:
        return rule
    return replace(rule, prior_sd=min(max(scatter, LEAST_SCATTER), MOST_SCATTER))


def chance(effect: float, scatter: float, rule: Rule = duet.LATENCY) -> float:
    """Return the chance that a slowdown ends as slower.

    Every stage must see it, the sentinel must not, and all pairs together must be beyond bound and
    confidence. The screen must not have ended as "same" before.

    Args:
        effect: True log ratio, above 0.
        scatter: Standard deviation of single pairs.
        rule: What is asked, with the scatter that it assumes.
    """
    if _is_unstable(effect, scatter, rule):
        return 0.0
    step = scatter / math.sqrt(duet.EFFICIENCY * duet.CONFIRM_PAIRS) / _STEPS
    count = math.ceil(_WIDTH * _STEPS)
    values: Grid = np.asarray(effect + step * np.arange(-count, count + 1), dtype=np.float64)
    screen = _screen(values, effect, scatter, rule)
    confirmed = _confirmation(values, effect, scatter, rule)
    together = np.convolve(np.convolve(screen, confirmed), confirmed)
    sums = 3 * (effect - step * count) + step * np.arange(together.size)
    pairs = duet.SCREEN_PAIRS + 2 * duet.CONFIRM_PAIRS
    needed = max(rule.bound, _quantile(1 - rule.alarm, pairs) * _error(scatter, pairs, rule))
    return float(together[sums >= duet.STAGES * needed].sum())


def visible(scatter: float, rule: Rule = duet.LATENCY, *, seen: float = SEEN) -> float | None:
    """Return the smallest slowdown that is seen with this chance, as a log ratio.

    None if there is none below a factor of `e`: the machine scatters too much.
    """
    low, high = rule.bound, MOST_EFFECT
    if chance(high, scatter, rule) < seen:
        return None
    while high - low > 1e-4 * high:
        middle = (low + high) / 2
        if chance(middle, scatter, rule) >= seen:
            high = middle
        else:
            low = middle
    return high


def _is_unstable(effect: float, scatter: float, rule: Rule) -> bool:
    """Return whether the screen refuses to judge, taken at the expected scatter."""
    clear = duet.CLEAR_ERRORS * _error(scatter, duet.SCREEN_PAIRS, rule)
    return scatter > duet.UNSTABLE * rule.prior_sd and effect < clear


def _error(scatter: float, pairs: int, rule: Rule) -> float:
    """Return the standard error that an estimate over so many pairs states."""
    prior = duet.PRIOR_PAIRS
    spread = math.sqrt((prior * rule.prior_sd**2 + pairs * scatter**2) / (prior + pairs))
    return spread / math.sqrt(duet.EFFICIENCY * pairs)


def _quantile(confidence: float, pairs: int) -> float:
    from scipy import stats  # noqa: PLC0415 - takes a second to import

    return float(stats.t.ppf(confidence, duet.PRIOR_PAIRS + pairs - 1))


def _normal(values: Grid, centre: float, deviation: float) -> Grid:
    """Return the weights of a normal distribution on a grid; they sum to 1."""
    weights = np.exp(-0.5 * ((values - centre) / deviation) ** 2)
    return np.asarray(weights / weights.sum())


def _screen(values: Grid, effect: float, scatter: float, rule: Rule) -> Grid:
    """Return the weights of what the screen estimates where another stage follows.

    The estimate walks from pair to pair; where it may end as "same", what is there is gone.
    """
    pairs, step = np.arange(1, duet.SCREEN_PAIRS + 1), values[1] - values[0]
    weights = _normal(values, effect, scatter / math.sqrt(duet.EFFICIENCY * duet.EARLY_PAIRS))
    for count in pairs[duet.EARLY_PAIRS - 1 :]:
        weights = np.where(_ends_same(values, int(count), scatter, rule), 0.0, weights)
        if count < duet.SCREEN_PAIRS:
            weights = _one_more(weights, values, effect, int(count), scatter, step)
    return np.where(values >= duet.SUSPICIOUS * rule.bound, weights, 0.0)


def _ends_same(values: Grid, count: int, scatter: float, rule: Rule) -> npt.NDArray[np.bool_]:
    room = rule.bound - _quantile(0.95, count) * _error(scatter, count, rule)
    return np.abs(values) < min(room, duet.SUSPICIOUS * rule.bound)


def _one_more(
    weights: Grid, values: Grid, effect: float, count: int, scatter: float, step: float
) -> Grid:
    """Return the weights of the estimate after one pair more, a mean over `count + 1`."""
    shrunk = np.interp(values, effect + (values - effect) * count / (count + 1), weights, 0.0, 0.0)
    shrunk *= weights.sum() / max(shrunk.sum(), 1e-300)
    deviation = scatter / math.sqrt(duet.EFFICIENCY) / (count + 1)
    half = min(math.ceil(_WIDTH * deviation / step), (values.size - 1) // 2)
    kernel = _normal(
        np.asarray(step * np.arange(-half, half + 1), dtype=np.float64), 0.0, deviation
    )
    return np.convolve(shrunk, kernel, mode="same")


def _confirmation(values: Grid, effect: float, scatter: float, rule: Rule) -> Grid:
    """Return the weights of what a confirmation estimates where it refutes nothing."""
    from scipy.special import ndtr  # noqa: PLC0415 - takes a second to import

    deviation = scatter / math.sqrt(duet.EFFICIENCY * duet.CONFIRM_PAIRS)
    weights = _normal(values, effect, deviation)
    own = duet.SENTINEL_ERRORS * _error(scatter, duet.CONFIRM_PAIRS, rule)
    allowed = np.maximum(np.maximum(rule.bound, np.abs(values)) / 2, own)
    # both ratios have the control's scatter in common: half of their variance
    centre, rest = (values - effect) / 2, deviation * math.sqrt(0.75)
    clean = ndtr((allowed - centre) / rest) - ndtr((-allowed - centre) / rest)
    return np.where(values >= duet.SUSPICIOUS * rule.bound, weights * clean, 0.0)
