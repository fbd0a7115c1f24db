"""The decision rule of the duet: candidate and control measured alternately, pair after pair.

A *pair* is a fresh worker of each side, both on the same core. Within a pair, *slots* of calls
alternate; two slots, one of each side, make a *block*. The log ratio of the medians of a block's
slots, and the median of it over the pair's blocks, is one observation: what a machine does to both
sides alike cancels, and what differs from process to process (addresses, caches) is left between
pairs, so pairs are the unit of inference.

Three stages keep a shared machine from raising an alarm: a *screen* of `SCREEN_PAIRS`, which may
end early only towards "same"; a later *confirmation* on fresh pairs with a sentinel, a second copy
of the control, that must read zero; and once more the same. Only what every stage saw counts.
Where they leave it open, a *settlement* of `SETTLE_PAIRS` decides over all fresh pairs; the screen,
which chose what is looked at again, has no say in it.
"""

from __future__ import annotations

import enum
import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import ModuleType

import numpy as np
import numpy.typing as npt

from harness.errors import EnvironmentProblem

#: Pairs of the screen, and of each confirmation.
SCREEN_PAIRS, CONFIRM_PAIRS = 16, 16
#: The screen and two confirmations; a settlement comes only after these.
STAGES = 3
#: Pairs of the settlement. With it a decision takes 1.6 times what three stages do, which keeps it
#: within six times the limit of an unchanged cell.
SETTLE_PAIRS = 24
#: Pairs of the longest decision.
MOST_PAIRS = SCREEN_PAIRS + (STAGES - 1) * CONFIRM_PAIRS + SETTLE_PAIRS
#: A settled slowdown is at most so many bounds with 95 % confidence: an effect just below the bound
#: has to end somewhere, and no number of pairs puts its interval below the bound.
SETTLED = 1.25
#: After so many pairs the screen may find "same", and nothing else.
EARLY_PAIRS = 8
#: How many pairs the assumed scatter of a `Rule` is worth.
PRIOR_PAIRS = 8
#: Above this share of the bound a screened cell is looked at again.
SUSPICIOUS = 0.6
#: Scatter of pairs, in multiples of the assumed one, beyond which nothing is judged, unless the
#: effect is so many standard errors.
UNSTABLE, CLEAR_ERRORS = 6.0, 6.0
#: Standard errors of its own that the sentinel may differ by from nothing: at a scatter of 2.5 %
#: half of the bound is less than one, and two of three "contaminated" stages were quite clean.
SENTINEL_ERRORS = 2.0
#: Chance of a red build without cause, over all decisions of a run; and the most that a single
#: decision is given of it.
BUILD_ALARMS, CELL_ALARMS = 0.01, 0.001
#: Efficiency of the pseudomedian for normal errors.
EFFICIENCY = 3 / math.pi
#: Half width, in standard errors, of the signed-rank interval that its error is taken from.
INTERVAL = 1.96


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What a duet asks of one quantity."""

    bound: float
    """Difference that matters, as a log ratio; twice that is to be seen in 95 % of all runs."""
    prior_sd: float
    """Scatter of single pairs of one unchanged model that is assumed before any was seen."""
    alarm: float = CELL_ALARMS
    """Chance, one-sided, of calling a difference that is none."""

    def among(self, decisions: int) -> Rule:
        """Return this rule for one of so many decisions of a run (Bonferroni)."""
        return replace(self, alarm=min(CELL_ALARMS, BUILD_ALARMS / max(decisions, 1)))


#: Median call: 1 %. Single pairs of one model scattered by 0.3 to 1 % on shared machines.
LATENCY = Rule(bound=0.010, prior_sd=0.008)
#: Creating a session and its first run: each worker gives one sample only, hence 10 %.
STARTUP = Rule(bound=math.log(1.1), prior_sd=0.05)


class Outcome(enum.Enum):
    """What a duet found."""

    SAME = "same"
    NOT_SLOWER = "not slower"
    """A slowdown beyond the bound is excluded; whether it is faster was not settled."""
    SLOWER = "slower"
    FASTER = "faster"
    UNDECIDED = "undecided"
    """Seen, and too uncertain to be settled by any stage."""
    CONTAMINATED = "contaminated"
    """The sentinel, which cannot differ, did."""
    UNSTABLE = "unstable"
    """Pairs scatter too much to see a difference of the bound, or to exclude one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """How much slower one side is than the other, over pairs."""

    effect: float
    """Log ratio; 0.01 is about 1 % slower."""
    error: float
    """Standard error of the effect."""
    spread: float
    """Scatter of single pairs (a standard deviation)."""
    pairs: int

    def bound(self, confidence: float, *, upper: bool) -> float:
        """Return a one-sided confidence bound of the effect."""
        quantile = _quantile(confidence, PRIOR_PAIRS + self.pairs - 1)
        return self.effect + (quantile if upper else -quantile) * self.error


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """What one stage saw."""

    candidate: Sequence[float]
    """Observation of each pair: log ratio of candidate to control."""
    sentinel: Sequence[float] = ()
    """The same of the control's second copy; empty in the screen."""


def check_scipy() -> None:
    """Refuse to measure what cannot be judged.

    Raises:
        EnvironmentProblem: If scipy is not installed; code `package.missing`.
    """
    _stats()


@functools.cache
def _quantile(confidence: float, freedom: int) -> float:
    """Return a quantile of Student's t."""
    return float(_stats().t.ppf(confidence, freedom))


def _stats() -> ModuleType:
    try:
        from scipy import stats  # noqa: PLC0415 - takes a second to import
    except ImportError:
        msg = "Package 'scipy' is not installed: no duet can be judged"
        raise EnvironmentProblem(
            msg,
            code="package.missing",
            expected="'scipy' beside the harness",
            next_step="pip install 'onnx-harness[latency]'",
        ) from None
    found: ModuleType = stats
    return found


def observation(candidate_ns: Sequence[float], control_ns: Sequence[float]) -> float:
    """Return one pair's log ratio.

    Args:
        candidate_ns: Median of the candidate's slot in each block, shape [blocks].
        control_ns: The same of the control.
    """
    ratios = np.log(np.asarray(candidate_ns, dtype=np.float64) / np.asarray(control_ns))
    return float(np.median(ratios))


def estimate(observations: Sequence[float], rule: Rule = LATENCY) -> Estimate:
    """Return the effect over pairs: the pseudomedian, which ignores tails and keeps power.

    Its error comes from the width of its signed-rank interval (Lehmann, Annals of Mathematical
    Statistics 34, 1963): the median absolute deviation looks at the middle of the pairs only, and
    told 0.8 to 0.9 of the error that recorded pairs have. It is mixed with the rule's assumption
    as if that were `PRIOR_PAIRS` pairs more: few pairs scatter too little by chance.
    """
    values = np.asarray(observations, dtype=np.float64)
    count = values.size
    first, second = _twos(count)
    means = np.sort((values[first] + values[second]) / 2)
    seen = _interval(means, count) / (2 * INTERVAL) * math.sqrt(EFFICIENCY * count)
    spread = math.sqrt((PRIOR_PAIRS * rule.prior_sd**2 + count * seen**2) / (PRIOR_PAIRS + count))
    error = spread / math.sqrt(EFFICIENCY * count)
    return Estimate(effect=float(np.median(means)), error=error, spread=seen, pairs=count)


@functools.cache
def _twos(count: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Return the places of all twos of pairs, each with itself included."""
    first, second = np.triu_indices(count)
    return first, second


def _interval(means: npt.NDArray[np.float64], count: int) -> float:
    """Return the width of the signed-rank interval, from the sorted means of all twos of pairs."""
    deviation = math.sqrt(count * (count + 1) * (2 * count + 1) / 24)
    cut = max(0, round(means.size / 2 - INTERVAL * deviation - 0.5))
    return float(means[means.size - 1 - cut] - means[cut])


def is_same(observations: Sequence[float], rule: Rule = LATENCY) -> bool:
    """Return whether both are alike: with 95 % confidence both ways, less than the bound apart."""
    found = estimate(observations, rule)
    above, below = (found.bound(0.95, upper=side) for side in (True, False))
    return below > -rule.bound and above < rule.bound and not _is_suspicious(found, rule)


def next_pairs(stages: Sequence[Stage]) -> int:
    """Return how many pairs the next stage takes."""
    if not stages:
        return SCREEN_PAIRS
    return CONFIRM_PAIRS if len(stages) < STAGES else SETTLE_PAIRS


def decide(stages: Sequence[Stage], rule: Rule = LATENCY) -> Outcome | None:
    """Return the outcome after these stages, None if another one is needed."""
    screen = estimate(stages[0].candidate, rule)
    scatters = screen.spread > UNSTABLE * rule.prior_sd
    if scatters and abs(screen.effect) < CLEAR_ERRORS * screen.error:
        return Outcome.UNSTABLE
    suspicious = _is_suspicious(screen, rule)
    if len(stages) > STAGES:
        return _settle(stages, rule, suspicious=suspicious)
    if suspicious:
        return _suspected(stages, math.copysign(1.0, screen.effect), rule)
    if is_same(_together(stages), rule):
        return Outcome.SAME
    return _excluded(stages, rule) if len(stages) == STAGES else None


def replay(stages: Sequence[Stage], rule: Rule = LATENCY) -> Outcome | None:
    """Return the outcome of stages that were all seen, used no further than the gate needs them.

    None if they are too few.
    """
    screen = stages[0].candidate
    for count in range(EARLY_PAIRS, len(screen)):
        if is_same(screen[:count], rule):
            return Outcome.SAME
    found = (decide(stages[:count], rule) for count in range(1, len(stages) + 1))
    return next((outcome for outcome in found if outcome is not None), None)


def _together(stages: Sequence[Stage]) -> list[float]:
    return [each for stage in stages for each in stage.candidate]


def _suspected(stages: Sequence[Stage], sign: float, rule: Rule) -> Outcome | None:
    """Return the outcome where the screen saw a difference, None if that is open."""
    if any(_is_contaminated(stage, rule) for stage in stages[1:]):
        return None
    if not all(_sees(stage, sign, rule) for stage in stages[1:]):
        return _not_again(stages, rule)
    if len(stages) < STAGES:
        return None
    return _beyond(estimate(_together(stages), rule), sign, rule) or _excluded(stages, rule)


def _settle(stages: Sequence[Stage], rule: Rule, *, suspicious: bool) -> Outcome:
    """Return the outcome over all fresh pairs of which the sentinel was clean."""
    if _is_contaminated(stages[-1], rule):
        return Outcome.CONTAMINATED
    clean = [each for each in stages[1:] if not _is_contaminated(each, rule)]
    found = estimate(_together(clean), rule)
    sign = math.copysign(1.0, found.effect)
    difference = _beyond(found, sign, rule)
    agreed = not any(_sees(each, -sign, rule) for each in clean)
    if difference is not None and agreed and _sees(stages[-1], sign, rule):
        return difference
    if is_same(_together(clean), rule):
        return Outcome.SAME
    if difference is not Outcome.SLOWER and found.bound(0.95, upper=True) < SETTLED * rule.bound:
        return Outcome.NOT_SLOWER
    return Outcome.UNDECIDED if suspicious else Outcome.UNSTABLE


def _beyond(found: Estimate, sign: float, rule: Rule) -> Outcome | None:
    """Return on which side of the bound an effect lies with the rule's confidence, if it does."""
    nearest = found.bound(1 - rule.alarm, upper=sign < 0)
    if sign * found.effect < rule.bound or sign * nearest <= 0:
        return None
    return Outcome.SLOWER if sign > 0 else Outcome.FASTER


def _excluded(stages: Sequence[Stage], rule: Rule) -> Outcome | None:
    """Return that a slowdown is excluded, None if that is open.

    All pairs together must say so, and no stage may have seen one: stages that contradict each
    other exclude nothing.
    """
    together = estimate(_together(stages), rule)
    seen = max(estimate(stage.candidate, rule).effect for stage in stages)
    excluded = together.bound(0.95, upper=True) < rule.bound and seen < rule.bound
    return Outcome.NOT_SLOWER if excluded else None


def _is_suspicious(found: Estimate, rule: Rule) -> bool:
    """Return whether an effect is large enough to be looked at again."""
    return abs(found.effect) >= SUSPICIOUS * rule.bound


def _is_contaminated(stage: Stage, rule: Rule) -> bool:
    """Return whether the sentinel differs, beyond what it scatters by itself."""
    sentinel, found = (estimate(each, rule) for each in (stage.sentinel, stage.candidate))
    allowed = max(rule.bound, abs(found.effect)) / 2
    return abs(sentinel.effect) > max(allowed, SENTINEL_ERRORS * sentinel.error)


def _sees(stage: Stage, sign: float, rule: Rule) -> bool:
    return sign * estimate(stage.candidate, rule).effect >= SUSPICIOUS * rule.bound


def _not_again(stages: Sequence[Stage], rule: Rule) -> Outcome | None:
    """Return the outcome where a confirmation did not see what the screen saw.

    Where pairs scatter much, one stage alone seldom shows that both are alike; all together may,
    unless one of them saw a difference beyond the bound.
    """
    together = _together(stages)
    greatest = max(abs(estimate(stage.candidate, rule).effect) for stage in stages)
    if is_same(stages[-1].candidate, rule) or (greatest < rule.bound and is_same(together, rule)):
        return Outcome.SAME
    return _excluded(stages, rule)
