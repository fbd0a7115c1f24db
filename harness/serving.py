"""How a recipe serves: callers at once, sizes never seen before, sessions made again and again.

These figures are recorded and judged by nothing: throughput on a shared machine follows its other
guests, and no pair of workers cancels them here. They are measured on all cores that this process
may use, in fresh workers.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from harness.domain.values import Values
from harness.measuring import Side, usable_cores
from harness.runtimes.launchers import Launcher
from harness.runtimes.sessions import Session, open_session

#: Time of each crowd: so long, and so many calls of the median length at least.
WINDOW_S, LEAST_CALLS = 1.0, 5
#: The most callers are so many for each core.
CALLERS_PER_CORE = 2
#: Twice the callers must bring so much more throughput, or the fewer saturate the machine.
SATURATED = 1.1
#: Sessions that are made and deleted before growth is looked at, and while it is.
FIRST_CYCLES, CYCLES = 3, 10
#: Timed calls of a size, from which its steady call is taken.
STEADY_CALLS = 9
#: Percentiles of calls.
PERCENTILES = (50, 90, 99)


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What so many callers at once got."""

    callers: int
    sessions: int
    """Sessions that they shared: 1, or one for each."""
    calls: int
    per_s: float
    """Calls per second, all together."""
    p50_ms: float
    p90_ms: float
    p99_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class NewSize:
    """First and later calls of a size that the session had not seen."""

    point: str
    """The point whose inputs these were."""
    first_ms: float
    steady_ms: float
    """Median of later calls."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """All that is recorded of one recipe."""

    loads: tuple[Load, ...]
    saturated_by: dict[str, int | None]
    """Fewest callers that saturate the machine, on `one session` and with `a session each`; None
    if the most that were tried do not."""
    new_sizes: tuple[NewSize, ...]
    growth_bytes: float | None
    """Resident memory that each further session leaves behind once deleted (median of the slopes
    between all cycles, Theil and Sen); None where the system does not tell."""

    @property
    def line(self) -> str:
        """Return the figures in short."""
        best = max(self.loads, key=lambda load: load.per_s)
        kind = "one session" if best.sessions == 1 else "a session each"
        parts = [
            f"{self.loads[0].per_s:,.0f} calls per second",
            f"{best.per_s:,.0f} at best ({best.callers} callers, {kind})",
            *(
                f"{each.point} {each.first_ms:.3g} ms at first, then {each.steady_ms:.3g}"
                for each in self.new_sizes
            ),
        ]
        if self.growth_bytes is not None:
            parts.append(f"{self.growth_bytes / 2**10:+,.0f} KiB per further session")
        return "; ".join(parts)


def measure_serving(
    launcher: Launcher, side: Side, sets: Sequence[Values], others: dict[str, Sequence[Values]]
) -> Serving:
    """Measure how one recipe serves.

    Args:
        launcher: Starts the workers.
        side: The recipe.
        sets: Inputs that take turns.
        others: Inputs of other sizes, by the point that they belong to.

    Raises:
        HarnessError: If the session cannot be opened, bound or run.
    """
    loads = tuple(
        load for shared in (True, False) for load in _crowds(launcher, side, sets, shared=shared)
    )
    one, each = (
        [load for load in loads if (load.sessions == 1) is shared] for shared in (True, False)
    )
    return Serving(
        loads=loads,
        saturated_by={"one session": saturation(one), "a session each": saturation(one[:1] + each)},
        new_sizes=tuple(_new_sizes(launcher, side, sets, others)),
        growth_bytes=_growth(launcher, side, sets),
    )


def saturation(loads: Sequence[Load]) -> int | None:
    """Return the fewest callers than which more bring less than `SATURATED`; None if all do.

    Args:
        loads: In the order of their callers.
    """
    for fewer, more in itertools.pairwise(loads):
        if more.per_s < SATURATED * fewer.per_s:
            return fewer.callers
    return None


def growth(resident: Sequence[int]) -> float | None:
    """Return how much resident memory grows from cycle to cycle: the median of all slopes.

    Args:
        resident: Bytes after each cycle; zeros where the system does not tell.
    """
    if not all(resident):
        return None
    twos = itertools.combinations(enumerate(resident), 2)
    return statistics.median((late - early) / (j - i) for (i, early), (j, late) in twos)


def _opened(launcher: Launcher, side: Side) -> Session:
    return open_session(
        launcher,
        side.resolved.runtime,
        side.config,
        side.path,
        fork=side.resolved.provider.forks,
        limit_s=side.limits_s[0],
        cores=usable_cores(),
    )


def _crowds(
    launcher: Launcher, side: Side, sets: Sequence[Values], *, shared: bool
) -> Iterator[Load]:
    """Yield loads of 1, 2, 4, … callers; one caller with a session of its own is the shared one."""
    load_s, run_s = side.limits_s
    most = CALLERS_PER_CORE * len(usable_cores())
    with _opened(launcher, side) as session:
        session.bind(sets, limit_s=load_s + run_s * len(sets))
        call_s = _steady_ms(session, run_s) / 1e3
        window_s = max(WINDOW_S, LEAST_CALLS * call_s)
        callers = 1 if shared else 2
        while callers <= most:
            sessions = 1 if shared else callers
            prepared_s = load_s * sessions + run_s * (len(sets) + 1) * callers
            found = session.crowd(
                sets,
                callers=callers,
                sessions=sessions,
                window_s=window_s,
                limit_s=prepared_s + window_s + run_s * callers,
            )
            yield _load(callers, sessions, found.per_s, found.calls_ns / 1e6)
            callers *= 2


def _load(callers: int, sessions: int, per_s: float, calls_ms: npt.NDArray[np.float64]) -> Load:
    p50, p90, p99 = (float(each) for each in np.percentile(calls_ms, PERCENTILES))
    return Load(
        callers=callers,
        sessions=sessions,
        calls=int(calls_ms.size),
        per_s=per_s,
        p50_ms=p50,
        p90_ms=p90,
        p99_ms=p99,
    )


def _new_sizes(
    launcher: Launcher, side: Side, sets: Sequence[Values], others: dict[str, Sequence[Values]]
) -> Iterator[NewSize]:
    """Yield what each other size costs a session that has run the usual one."""
    load_s, run_s = side.limits_s
    for point, given in others.items():
        with _opened(launcher, side) as session:
            session.bind(sets, limit_s=load_s + run_s * len(sets))
            _steady_ms(session, run_s)
            first_ms = session.bind(given[:1], limit_s=load_s + run_s)
            yield NewSize(point=point, first_ms=first_ms, steady_ms=_steady_ms(session, run_s))


def _steady_ms(session: Session, run_s: float) -> float:
    slot = session.time(STEADY_CALLS, limit_s=run_s * (STEADY_CALLS + 1))
    return float(np.median(slot.own_ns)) / 1e6


def _growth(launcher: Launcher, side: Side, sets: Sequence[Values]) -> float | None:
    load_s, run_s = side.limits_s
    with _opened(launcher, side) as session:
        limit_s = load_s + run_s * len(sets)
        resident = [session.cycle(sets, limit_s=limit_s) for _ in range(FIRST_CYCLES + CYCLES)]
    return growth(resident[FIRST_CYCLES:])
