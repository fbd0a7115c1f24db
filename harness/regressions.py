"""Why a candidate is slower than its control: both are profiled side by side."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack

from harness.domain.regression import (
    Explanation,
    NodeTime,
    at_one_pace,
    changed_settings,
    explain,
    merge,
)
from harness.domain.values import Values
from harness.errors import HarnessError
from harness.measuring import Side
from harness.runtimes.launchers import Launcher
from harness.runtimes.profiling import Profiled, open_profiled

#: Rounds of fresh workers: what does not come back in each is the process's, not the model's.
ROUNDS, LONG_ROUNDS = 6, 3
#: From this length on, calls are so long that fewer rounds and calls must do.
LONG_CALL_NS = 100_000_000
#: Slots of each side, in turn, so that a change of the machine's pace hits both.
SLOTS = 3
#: Counted calls of a slot: as many as fit into this time, within these limits.
SLOT_NS, FEWEST_CALLS, MOST_CALLS = 60_000_000, 1, 10


def explain_regression(
    launcher: Launcher,
    *,
    candidate: Side,
    control: Side,
    sets: Sequence[Values],
    cores: Sequence[int] = (),
    slower: bool = True,
) -> Explanation:
    """Return what differs between the profiles of two sides; a trouble is told in it, not raised.

    Args:
        launcher: Starts the workers, one for each side.
        candidate: What was found to be slower.
        control: What it was measured against.
        sets: Inputs that take turns.
        cores: Processor numbers for both; empty for the first ones that this process may use, one
            for each thread.
        slower: False where the candidate was found to be faster.
    """
    sides = (candidate, control)
    settings = [_settings(side) for side in sides]
    pinned = cores or _first_cores(max(side.config.threads for side in sides))
    profiles: list[list[tuple[NodeTime, ...]]] = [[], []]
    try:
        call_ns, rounds = 0.0, 0
        while rounds < (ROUNDS if call_ns < LONG_CALL_NS else LONG_ROUNDS):
            with ExitStack() as stack:
                pair = [
                    stack.enter_context(_profiled(launcher, side, sets, pinned)) for side in sides
                ]
                call_ns, rounds = _run(pair), rounds + 1
                for each, told, found in zip(pair, settings, profiles, strict=True):
                    told["onnxruntime"] = each.facts.version
                    found.append(each.nodes())
        ours, theirs = (merge(found) for found in at_one_pace(*profiles))
        return explain(ours, theirs, settings=changed_settings(*settings), slower=slower)
    except HarnessError as error:
        problem = error.what
    except Exception as error:  # noqa: BLE001 - what explains a verdict must not replace it
        problem = f"{type(error).__name__}: {error}"
    return Explanation(problem=problem, settings=changed_settings(*settings), slower=slower)


def _profiled(
    launcher: Launcher, side: Side, sets: Sequence[Values], cores: Sequence[int]
) -> AbstractContextManager[Profiled]:
    load_s, run_s = side.limits_s
    return open_profiled(
        launcher,
        side.resolved.runtime,
        side.config,
        side.path,
        sets,
        fork=side.resolved.provider.forks,
        limit_s=load_s + run_s * (MOST_CALLS + 1 + len(sets)),
        cores=cores,
    )


def _run(pair: Sequence[Profiled]) -> float:
    """Run both in turn; return the longer median call, ns."""
    call_ns = max(each.warm() for each in pair)
    calls = min(MOST_CALLS, max(FEWEST_CALLS, round(SLOT_NS / max(call_ns, 1.0))))
    for _ in range(SLOTS if call_ns < LONG_CALL_NS else 1):
        for each in pair:
            each.run(calls)
    return call_ns


def _first_cores(count: int) -> tuple[int, ...]:
    if not hasattr(os, "sched_getaffinity"):
        return ()
    return tuple(sorted(os.sched_getaffinity(0)))[:count]


def _settings(side: Side) -> dict[str, str]:
    """Return what a session is opened with, as text."""
    config = side.config
    return {
        "provider": side.resolved.name,
        "threads": str(config.threads),
        "optimisation": config.optimization,
        "custom operators": " ".join(config.custom_ops),
        **_entries("option", config.options),
        **_entries("config", config.config),
    }


def _entries(kind: str, values: Mapping[str, str]) -> dict[str, str]:
    return {f"{kind} {name}": str(value) for name, value in sorted(values.items())}
