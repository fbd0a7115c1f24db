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
from harness.domain.duet import Estimate, Outcome, Rule, check_scipy
from harness.domain.findings import Finding
from harness.domain.session import NodeInfo
from harness.domain.spec import Budget

#: Growth of a file, or of memory, that fails, as a share; and the least of memory, bytes: what the
#: allocator rounds by.
GROWTH, LEAST_MEMORY = 0.01, 2**20
#: A stored number gates at this factor, or at so many of its own standard deviations: medians of
#: one model differed by tens of per cent between runs on one shared machine.
STORED_FACTOR, STORED_DEVIATIONS = 1.25, 4.0
#: A limit beyond this factor would let everything pass, so a number that scatters so much is none.
MOST_STORED_FACTOR = 4.0
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
    is_baseline: bool = True
    """Whether that was a baseline, which a refresh can replace."""

    @property
    def control(self) -> str:
        """Return what first lines call it."""
        return "its baseline" if self.is_baseline else self.against

    @property
    def refresh(self) -> str:
        """Return the command that approves a change."""
        return REFRESH.format(model=self.model)


#: What memory is judged.
OF_THE_WORKER = "peak memory of the worker, above that before the session"
OF_THE_GPU = "memory of the GPU that a worker takes, its context included"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Words:
    """How findings name one quantity of a duet."""

    code: str
    """First half of its finding codes."""
    is_slower: str
    is_faster: str
    name: str
    where: str
    unsettled: Mapping[Outcome, str]
    """Second half of the code for each outcome that settles nothing."""


_WHY = {
    Outcome.UNDECIDED: "a difference was seen, and is too uncertain for a verdict",
    Outcome.CONTAMINATED: "two copies of the control differed as much",
    Outcome.UNSTABLE: "pairs of workers scatter too much to see a difference, or to exclude one",
}
_P50 = _Words(
    code="latency",
    is_slower="is slower than {}: p50",
    is_faster="is faster than {}: p50",
    name="Latency",
    where="latency.slowdown of the spec",
    unsettled={outcome: outcome.value for outcome in _WHY},
)
_STARTUP = _Words(
    code="startup",
    is_slower="starts slower than {}:",
    is_faster="starts faster than {}:",
    name="Start-up",
    where="creating the session, and its first run",
    unsettled=dict.fromkeys(_WHY, "unsettled"),
)


def judge_p50(
    outcome: Outcome, estimate: Estimate, rule: Rule, told: Told, *, got: str
) -> Iterator[Finding]:
    """Yield what a duet found of the median call; nothing if it is not slower."""
    limit = f"p50 at most {math.expm1(rule.bound):.1%} above that of {told.against}"
    change = f"{math.expm1(estimate.effect):+.1%}"
    yield from _judge(outcome, _P50, told, change=change, expected=limit, got=got)


def judge_startup(
    outcome: Outcome, estimate: Estimate, rule: Rule, told: Told, *, got: str
) -> Iterator[Finding]:
    """Yield what a duet found of creating the session with its first run."""
    limit = f"at most {math.expm1(rule.bound):.0%} longer than {told.against}"
    change = f"{math.expm1(estimate.effect):+.0%}"
    yield from _judge(outcome, _STARTUP, told, change=change, expected=limit, got=got)


def _judge(
    outcome: Outcome, words: _Words, told: Told, *, change: str, expected: str, got: str
) -> Iterator[Finding]:
    match outcome:
        case Outcome.SAME | Outcome.NOT_SLOWER:
            return
        case Outcome.SLOWER:
            yield Finding(
                code=f"{words.code}.slower",
                what=f"'{told.cell}' {words.is_slower.format(told.control)} {change}",
                where=words.where,
                expected=expected,
                got=got,
                next_step=_advice(told, fails=True),
            )
        case Outcome.FASTER:
            yield Finding(
                code=f"{words.code}.faster",
                what=f"'{told.cell}' {words.is_faster.format(told.control)} {change}",
                got=got,
                next_step=_advice(told, fails=False),
            )
        case Outcome.UNDECIDED | Outcome.CONTAMINATED | Outcome.UNSTABLE:
            yield Finding(
                code=f"{words.code}.{words.unsettled[outcome]}",
                what=f"{words.name} of '{told.cell}' was not judged: {_WHY[outcome]}",
                expected=expected,
                got=got,
                next_step="run it again, on a quieter machine if it stays so",
            )


def judge_memory(
    candidate: Sequence[int], control: Sequence[int], told: Told, *, where: str = OF_THE_WORKER
) -> Iterator[Finding]:
    """Yield what pairs of workers tell of their memory: the median of the differences counts.

    Args:
        candidate: What each worker took, bytes; empty where there is no such memory.
        control: The same of the control.
        told: What the finding says of its item.
        where: What memory that is.
    """
    if not candidate or not control:
        return
    grown = float(np.median(np.asarray(candidate) - np.asarray(control)))
    usual = float(np.median(control))
    limit = max(GROWTH * usual, LEAST_MEMORY)
    if abs(grown) <= limit:
        return
    larger = grown > 0
    yield Finding(
        code="memory.larger" if larger else "memory.smaller",
        what=f"'{told.cell}' needs {'more' if larger else 'less'} memory than {told.control}: "
        f"{_mib(grown, sign=True)}",
        where=where,
        expected=f"at most {_mib(limit)} above {told.against}, which needs {_mib(usual)}",
        got=f"{_mib(float(np.median(candidate)))}, median over {len(candidate)} pairs",
        next_step=_advice(told, fails=larger),
    )


def judge_size(found: int, approved: int, told: Told) -> Iterator[Finding]:
    """Yield what the size of the model file, external data included, tells; bytes."""
    grown = found - approved
    if abs(grown) <= GROWTH * approved:
        return
    larger = grown > 0
    yield Finding(
        code="size.larger" if larger else "size.smaller",
        what=f"The file of '{told.cell}' is {'larger' if larger else 'smaller'} than its "
        f"baseline: {grown / approved:+.1%}",
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
    ours, theirs = ({name: len(nodes) for name, nodes in each.items() if nodes}
                    for each in (candidate, control))  # fmt: skip
    if ours == theirs:
        return
    code, what = _moved(ours, theirs, provider)
    yield Finding(
        code=code,
        what=f"Graph of '{told.cell}' differs from {told.control}: {what}",
        expected=f"{_counts(theirs)} ({told.against})",
        got=_counts(ours),
        next_step=_advice(told, fails=code != "nodes.fewer"),
    )


def _moved(ours: Mapping[str, int], theirs: Mapping[str, int], provider: str) -> tuple[str, str]:
    """Return the code of counts that differ, and what it says; what left the provider goes first.

    Args:
        ours: Provider to number of nodes, of the candidate.
        theirs: The same of the control.
        provider: The one that was asked for.
    """
    more = sum(ours.values()) - sum(theirs.values())
    gone = more - ours.get(provider, 0) + theirs.get(provider, 0)
    if gone > 0:
        return "nodes.moved", f"{gone} more of its nodes {_are(gone)} not on {provider}"
    if more > 0:
        return "nodes.more", f"{more} more node{_s(more)} {_are(more)} left after optimisation"
    if more < 0:
        what = f"{-more} node{_s(-more)} fewer {_are(-more)} left after optimisation"
    elif gone < 0:
        what = f"{-gone} node{_s(-gone)} fewer {_are(-gone)} not on {provider}"
    else:
        what = "as many nodes, spread otherwise over other providers"
    return "nodes.fewer", what


def judge_stored(found: Timing, stored: Timing, told: Told) -> Iterator[Finding]:
    """Yield what a stored number tells, far beyond what such numbers scatter by."""
    factor = stored_factor(stored)
    ratio = found.p50_ms / stored.p50_ms
    if factor > MOST_STORED_FACTOR:
        yield _scatters(stored, told)
        return
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
    """Return beyond which factor a stored number gates; infinity if it gates nothing."""
    most = math.log(MOST_STORED_FACTOR)
    room = STORED_DEVIATIONS * stored.spread
    return max(STORED_FACTOR, math.exp(room)) if room <= most else math.inf


def _scatters(stored: Timing, told: Told) -> Finding:
    most = math.log(MOST_STORED_FACTOR) / STORED_DEVIATIONS
    return Finding(
        code="latency.unstable",
        what=f"Latency of '{told.cell}' was not judged: its stored number scatters too much",
        where="judged by a stored number: the control could not be run beside it",
        expected=f"a spread of at most {most:.2g} between workers, as the log of their p50",
        got=f"{stored.spread:.3g}, at {stored.p50_ms:.4g} ms ({told.against})",
        next_step="delete the baseline's file of this environment, then on a quieter machine: "
        f"{told.refresh}",
    )


def judge_budget(budget: Budget, calls_ms: Sequence[float], told: Told) -> Iterator[Finding]:
    """Yield what calls tell of a budget: broken, or too few to tell; nothing if it is kept.

    The share of calls beyond the budget has a Clopper-Pearson interval; the percentile keeps the
    budget where even its upper end allows it, and breaks it where even the lower one does not.

    Args:
        budget: What was declared.
        calls_ms: Timed calls of all workers, ms.
        told: What the finding says of its item.
    """
    check_scipy()
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
        next_step=_budget_advice(broken=broken, too_few=len(calls_ms) < needed),
    )


def _budget_advice(*, broken: bool, too_few: bool) -> str:
    if broken:
        return "make it faster, or change the budget"
    if too_few:
        return "declare a lower percentile, which fewer calls tell: another run has as many"
    return "run it again, or leave more room between budget and latency"


def _advice(told: Told, *, fails: bool) -> str:
    if not told.is_baseline:
        return "see what changed between the two releases of ONNX Runtime"
    if fails:
        return f"find what changed, or approve it: {told.refresh} --accept-regression {told.model}"
    return f"{told.refresh}: till then the gate would not notice its loss"


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items())) or "no node"


def _s(count: int) -> str:
    return "" if count == 1 else "s"


def _are(count: int) -> str:
    return "is" if count == 1 else "are"


def _mib(size: float, *, sign: bool = False) -> str:
    return f"{size / 2**20:{'+' if sign else ''}.1f} MiB"
