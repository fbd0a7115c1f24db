"""What the duet's rule sees on a machine whose scatter is known, computed without measuring.

Decisions are simulated, and judged by the rule itself. The model: workers are independent and
normal, pairs have the given scatter, and a sentinel shares its control with the candidate. What
drifts between stages, and tails, are not in it: `benchmarks/gate_power.py` measures those.
"""

from __future__ import annotations

import functools
import math
from dataclasses import replace

import numpy as np

from harness.domain import duet
from harness.domain.duet import Outcome, Rule, Stage

#: A measured scatter is believed within these limits: below, chance made it small; above, the
#: machine was too busy to be calibrated.
LEAST_SCATTER, MOST_SCATTER = 0.003, 0.02
#: Chance at which a slowdown counts as seen.
SEEN = 0.95
#: Beyond this no effect is looked for (log ratio).
MOST_EFFECT = 1.0
#: Decisions that a chance is counted over: near `SEEN` its standard error is 1 %.
DECISIONS = 400
#: How exactly the smallest visible slowdown is looked for, as a share of itself.
_EXACT = 0.02


def with_scatter(rule: Rule, scatter: float | None) -> Rule:
    """Return the rule with the scatter that was measured here assumed, within its limits.

    Args:
        rule: What is asked.
        scatter: Of single pairs of one unchanged model; None if nobody measured it.
    """
    if scatter is None:
        return rule
    return replace(rule, prior_sd=min(max(scatter, LEAST_SCATTER), MOST_SCATTER))


@functools.cache
def chance(
    outcome: Outcome, effect: float, scatter: float, rule: Rule, decisions: int = DECISIONS
) -> float:
    """Return the share of simulated decisions that end like this; the same ones in every call.

    Args:
        outcome: What is counted.
        effect: True log ratio of candidate to control.
        scatter: Standard deviation of single pairs.
        rule: What is asked, with the scatter that it assumes.
        decisions: How many are simulated.
    """
    random = np.random.default_rng(0)
    found = [duet.replay(_stages(random, effect, scatter), rule) for _ in range(decisions)]
    return found.count(outcome) / decisions


def visible(scatter: float, rule: Rule = duet.LATENCY, *, seen: float = SEEN) -> float | None:
    """Return the smallest slowdown that is seen with this chance, as a log ratio.

    None if there is none below a factor of `e`: the machine scatters too much.
    """
    low, high = rule.bound, MOST_EFFECT
    if chance(Outcome.SLOWER, high, scatter, rule) < seen:
        return None
    while high > (1 + _EXACT) * low:
        middle = math.sqrt(low * high)
        if chance(Outcome.SLOWER, middle, scatter, rule) >= seen:
            high = middle
        else:
            low = middle
    return high


def _stages(random: np.random.Generator, effect: float, scatter: float) -> list[Stage]:
    """Return what all stages of one decision would see."""
    seen: list[Stage] = []
    while len(seen) <= duet.STAGES:
        workers = random.normal(0.0, scatter / math.sqrt(2), (3, duet.next_pairs(seen)))
        candidate, control, sentinel = workers
        beside = (sentinel - control).tolist() if seen else ()
        seen.append(Stage(candidate=(effect + candidate - control).tolist(), sentinel=beside))
    return seen
