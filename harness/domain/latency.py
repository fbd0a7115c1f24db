"""What the figures of a latency item amount to: findings on size, memory, start-up and p50.

Nothing here measures. What two workers measured side by side is judged by the duet's outcome;
what was measured alone, against a stored number, only within what such numbers scatter by.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from harness.domain.baseline import Timing
from harness.domain.duet import Estimate, Outcome, Rule
from harness.domain.findings import Finding
from harness.domain.session import NodeInfo
from harness.domain.spec import Budget

#: Growth of a file, or of memory, that fails, as a share; and the least of memory, bytes: what the
#: allocator rounds by.
GROWTH, LEAST_MEMORY = 0.01, 2**20
#: A stored number gates at this factor, or at so many of its own standard deviations: medians of
#: one model differed by tens of per cent between runs on one shared machine.
STORED_FACTOR, STORED_DEVIATIONS = 1.25, 4.0
#: Confidence that a percentile keeps, or breaks, its budget.
BUDGET_CONFIDENCE = 0.95
REFRESH = "onnx-harness baseline refresh --model {model} --reason '...'"


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What findings say of the item that they belong to."""

    cell: str
    model: str
    """For the command that approves a change."""
    against: str
    """What the candidate was held against, in words."""

    @property
    def refresh(self) -> str:
        """Return the command that approves a change."""
        return REFRESH.format(model=self.model)


def judge_p50(
    outcome: Outcome, estimate: Estimate, rule: Rule, told: Told, *, got: str
) -> Iterator[Finding]:
    """Yield what a duet found of the median call; nothing if both are as fast."""
    change = f"{math.expm1(estimate.effect):+.1%}"
    limit = f"p50 at most {math.expm1(rule.bound):.1%} above that of {told.against}"
    match outcome:
        case Outcome.SAME | Outcome.NOT_SLOWER:
            return
        case Outcome.SLOWER:
            yield Finding(
                code="latency.slower",
                what=f"'{told.cell}' is slower than its baseline: p50 {change}",
                where="latency.slowdown of the spec",
                expected=limit,
                got=got,
                next_step=_advice(told, fails=True),
            )
        case Outcome.FASTER:
            yield Finding(
                code="latency.faster",
                what=f"'{told.cell}' is faster than its baseline: p50 {change}",
                got=got,
                next_step=_advice(told, fails=False),
            )
        case Outcome.UNDECIDED | Outcome.CONTAMINATED | Outcome.UNSTABLE:
            yield Finding(
                code=f"latency.{outcome.value}",
                what=f"Latency of '{told.cell}' was not judged: {_WHY[outcome]}",
                expected=limit,
                got=got,
                next_step="run it again, on a quieter machine if it stays so",
            )


_WHY = {
    Outcome.UNDECIDED: "a difference was seen, and did not come back in full",
    Outcome.CONTAMINATED: "two copies of the control differed as much",
    Outcome.UNSTABLE: "pairs of workers scatter too much to see a difference, or to exclude one",
}


def judge_startup(
    outcome: Outcome, estimate: Estimate, rule: Rule, told: Told, *, got: str
) -> Iterator[Finding]:
    """Yield what a duet found of creating the session with its first run."""
    change = f"{math.expm1(estimate.effect):+.0%}"
    limit = f"at most {math.expm1(rule.bound):.0%} longer than {told.against}"
    match outcome:
        case Outcome.SAME | Outcome.NOT_SLOWER:
            return
        case Outcome.SLOWER:
            yield Finding(
                code="startup.slower",
                what=f"'{told.cell}' starts slower than its baseline: {change}",
                where="creating the session, and its first run",
                expected=limit,
                got=got,
                next_step=_advice(told, fails=True),
            )
        case Outcome.FASTER:
            yield Finding(
                code="startup.faster",
                what=f"'{told.cell}' starts faster than its baseline: {change}",
                got=got,
                next_step=_advice(told, fails=False),
            )
        case Outcome.UNDECIDED | Outcome.CONTAMINATED | Outcome.UNSTABLE:
            yield Finding(
                code="startup.unsettled",
                what=f"Start-up of '{told.cell}' was not judged: {_WHY[outcome]}",
                expected=limit,
                got=got,
                next_step="run it again, on a quieter machine if it stays so",
            )


def judge_memory(candidate: Sequence[int], control: Sequence[int], told: Told) -> Iterator[Finding]:
    """Yield what pairs of workers tell of peak memory: the median of their differences counts.

    Args:
        candidate: Greatest resident memory above that before the session, bytes, of each pair.
        control: The same of the control.
        told: What the finding says of its item.
    """
    grown = float(np.median(np.asarray(candidate) - np.asarray(control)))
    usual = float(np.median(control))
    limit = max(GROWTH * usual, LEAST_MEMORY)
    if abs(grown) <= limit:
        return
    larger = grown > 0
    yield Finding(
        code="memory.larger" if larger else "memory.smaller",
        what=f"'{told.cell}' needs {'more' if larger else 'less'} memory than its baseline: "
        f"{_mib(grown, sign=True)}",
        where="peak memory of the worker, above that before the session",
        expected=f"at most {_mib(limit)} above {told.against}, which needs {_mib(usual)}",
        got=f"{_mib(float(np.median(candidate)))}, median over {len(candidate)} pairs",
        next_step=_advice(told, fails=larger),
    )


def judge_size(found: int, approved: int, told: Told) -> Iterator[Finding]:
    """Yield what the size of the model file, external data included, tells; bytes."""
    change = found / approved - 1
    if abs(change) <= GROWTH:
        return
    larger = change > 0
    yield Finding(
        code="size.larger" if larger else "size.smaller",
        what=f"The file of '{told.cell}' is {'larger' if larger else 'smaller'} than its "
        f"baseline: {change:+.1%}",
        expected=f"at most {GROWTH:.0%} above {approved:,} bytes",
        got=f"{found:,} bytes",
        next_step=_advice(told, fails=larger),
    )


def judge_nodes(
    candidate: Mapping[str, Sequence[NodeInfo]],
    control: Mapping[str, Sequence[NodeInfo]],
    *,
    provider: str,
    told: Told,
) -> Iterator[Finding]:
    """Yield what the counts of nodes tell; exact, for sessions of one build of ONNX Runtime.

    Args:
        candidate: Provider to nodes, as its session got them.
        control: The same of the control.
        provider: The one that was asked for.
        told: What the finding says of its item.
    """
    ours, theirs = ({name: len(nodes) for name, nodes in each.items()}
                    for each in (candidate, control))  # fmt: skip
    if ours == theirs:
        return
    away, away_before = (
        sum(count for name, count in counts.items() if name != provider)
        for counts in (ours, theirs)
    )
    more = sum(ours.values()) - sum(theirs.values())
    if away > away_before:
        code, what = "nodes.moved", f"{away - away_before} more of its nodes left {provider}"
    elif more > 0:
        code, what = "nodes.more", f"{more} more nodes are left after optimisation"
    else:
        code, what = "nodes.fewer", "fewer nodes are left after optimisation"
    yield Finding(
        code=code,
        what=f"Graph of '{told.cell}' differs from its baseline: {what}",
        expected=f"{_counts(theirs)} ({told.against})",
        got=_counts(ours),
        next_step=_advice(told, fails=code != "nodes.fewer"),
    )


def judge_stored(found: Timing, stored: Timing, told: Told) -> Iterator[Finding]:
    """Yield what a stored number tells, far beyond what such numbers scatter by."""
    factor = stored_factor(stored)
    ratio = found.p50_ms / stored.p50_ms
    if 1 / factor <= ratio <= factor:
        return
    slower = ratio > 1
    yield Finding(
        code="latency.slower" if slower else "latency.faster",
        what=f"'{told.cell}' is {'slower' if slower else 'faster'} than its stored number: "
        f"p50 {ratio - 1:+.0%}",
        where="judged by a stored number: the control could not be run beside it",
        expected=f"at most {factor - 1:.0%} above {stored.p50_ms:.4g} ms ({told.against})",
        got=f"{found.p50_ms:.4g} ms, median of {found.workers} workers",
        next_step=_advice(told, fails=slower),
    )


def stored_factor(stored: Timing) -> float:
    """Return beyond which factor a stored number gates."""
    return max(STORED_FACTOR, math.exp(STORED_DEVIATIONS * stored.spread))


def judge_budget(budget: Budget, calls_ms: Sequence[float], told: Told) -> Iterator[Finding]:
    """Yield what calls tell of a budget: broken, or too few to tell; nothing if it is kept.

    The share of calls beyond the budget has a Clopper-Pearson interval; the percentile keeps the
    budget where even its upper end allows it, and breaks it where even the lower one does not.

    Args:
        budget: What was declared.
        calls_ms: Timed calls of all workers, ms.
        told: What the finding says of its item.
    """
    from scipy import stats  # noqa: PLC0415 - takes a second to import

    beyond = int(np.count_nonzero(np.asarray(calls_ms) > budget.max_ms))
    allowed = 1 - budget.percentile / 100
    found = stats.binomtest(beyond, len(calls_ms)).proportion_ci(2 * BUDGET_CONFIDENCE - 1)
    if found.high <= allowed:
        return
    broken = found.low > allowed
    reached = float(np.percentile(np.asarray(calls_ms), budget.percentile))
    needed = math.ceil(math.log(1 - BUDGET_CONFIDENCE) / math.log(1 - allowed))
    yield Finding(
        code="latency.budget" if broken else "latency.undecided",
        what=f"'{told.cell}' breaks its budget: p{budget.percentile:g} is {reached:.4g} ms"
        if broken
        else f"Budget of '{told.cell}' was not judged: {len(calls_ms):,} calls cannot tell",
        where=f"latency.budget of the spec, environment '{budget.environment}'",
        expected=f"p{budget.percentile:g} at most {budget.max_ms:g} ms, with "
        f"{BUDGET_CONFIDENCE:.0%} confidence",
        got=f"p{budget.percentile:g} {reached:.4g} ms; {beyond:,} of {len(calls_ms):,} calls "
        f"beyond, at least {needed:,} calls are needed if none is",
        next_step="make it faster, or change the budget"
        if broken
        else "run it again, or leave more room between budget and latency",
    )


def _advice(told: Told, *, fails: bool) -> str:
    if fails:
        return f"find what changed, or approve it: {told.refresh} --accept-regression {told.model}"
    return f"{told.refresh}: till then the gate would not notice its loss"


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items())) or "no node"


def _mib(size: float, *, sign: bool = False) -> str:
    return f"{size / 2**20:{'+' if sign else ''}.1f} MiB"
