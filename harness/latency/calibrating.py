"""Calibration: an unchanged cell beside itself, to learn what pairs scatter by on this machine."""

from __future__ import annotations

import datetime
import math
from dataclasses import dataclass, replace

from harness.domain import duet, power
from harness.domain.cells import Cell
from harness.domain.duet import Rule
from harness.domain.noise import Noise
from harness.latency.plans import Plan
from harness.measuring import Bench
from harness.runtimes.launchers import Launcher

#: Two workers of one recipe.
ONE, OTHER = "one", "other"
#: Pairs of a calibration: the scatter is then known within about 20 %.
PAIRS = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibrated:
    """What a cell's calibration found."""

    cell: Cell
    noise: Noise
    effect: float
    """What the pairs differ by on the whole; nothing but noise."""
    visible: float | None
    """Smallest slowdown that the gate will see here in 95 % of runs (log ratio); None if it would
    miss any."""


def calibrated(
    launcher: Launcher, plan: Plan, *, rule: Rule, seed: int, pairs: int = PAIRS
) -> Calibrated:
    """Measure a plan's candidate beside itself.

    Args:
        launcher: Starts the workers.
        plan: Of the cell.
        rule: What the gate asks of it.
        seed: Of every order that is drawn.
        pairs: How many fresh pairs of workers are measured.

    Raises:
        HarnessError: If it cannot be opened, bound or run.
    """
    bench = Bench(launcher, dict.fromkeys((ONE, OTHER), plan.side), sets=plan.sets, seed=seed)
    seen = []
    for _ in range(pairs):
        slots = bench.round((ONE, OTHER))
        seen.append(duet.observation(slots[ONE], slots[OTHER]))
    found = duet.estimate(seen, rule)
    now = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    noise = Noise(
        scatter=found.spread, pairs=pairs, p50_ms=bench.arms[ONE].p50_ms, when=now.isoformat()
    )
    return Calibrated(
        cell=plan.cell,
        noise=noise,
        effect=found.effect,
        visible=power.visible(
            max(found.spread, power.LEAST_SCATTER), power.with_scatter(rule, found.spread)
        ),
    )


def asked(slowdown: float, decisions: int) -> Rule:
    """Return what the gate asks of a cell's p50, as one of so many decisions of a run."""
    return replace(duet.LATENCY, bound=math.log1p(slowdown)).among(decisions)
