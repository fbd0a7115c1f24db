"""What ONNX Runtime's profiler wrote, summed up by node.

The file holds one event for each call of a node, in the order in which the calls ended, and an
event `model_run` at the end of each run. A node with a body (`If`, `Loop`) contains the events of
the nodes inside it, so its own time is what they leave. Times are whole microseconds: a short node
that begins in the same one as a node with a body ran inside it, or just before.
"""

from __future__ import annotations

import json
from collections.abc import Set as AbstractSet
from typing import Any

import numpy as np

from .serve import Refused

#: How the name of the event ends that holds a node's time; releases before 1.21 have others too.
KERNEL = "_kernel_time"
#: From the median absolute deviation to a standard deviation, for normal errors.
MAD_TO_SD = 1.4826
#: Standard deviation of what is cut to whole microseconds, where runs show no other scatter.
ROUNDING_US = 0.3

#: Operators whose nodes run other nodes, those of ONNX Runtime's own domain included.
WITH_BODIES = frozenset({
    "If",
    "Loop",
    "Scan",
    "BeamSearch",
    "GreedySearch",
    "Sampling",
    "WhisperBeamSearch",
})
#: This many nodes before one with a body are remembered: more cannot share its microsecond.
NEIGHBOURS = 8

#: Provider, name, operator, index in its graph, and the same of the node around it.
Key = tuple[Any, ...]
#: Provider, name, operator, index in its graph.
Identity = tuple[str, str, str, str]
#: A node, and one with a body that begins after it.
Pair = tuple[Identity, Identity]
#: For each node of one run: time of its own (us), calls.
Run = dict[Key, tuple[int, int]]


def read(path: str) -> list[dict[str, Any]]:
    """Return the events of a profile; ONNX Runtime 1.20 does not escape the names in it."""
    with open(path, encoding="utf-8", errors="replace") as file:
        text = file.read()
    try:
        events = json.loads(text, strict=False)
    except ValueError as error:
        message = (
            f"ONNX Runtime wrote a profile that is no JSON, quotes in names may do that: {error}"
        )
        raise Refused("run.failed", message) from None
    return [event for event in events if isinstance(event, dict)]


def runs(events: list[dict[str, Any]], *, whole: bool = True) -> list[Run]:
    """Return what each run did; one that the profiler had no space for is left out if asked for."""
    found: list[list[dict[str, Any]]] = [[]]
    for event in events:
        name = event.get("name", "")
        if event.get("cat") == "Node" and name.endswith(KERNEL):
            found[-1].append(event)
        elif name == "model_run":
            found.append([])
    cut_off = found.pop()
    if cut_off and not whole:
        found.append(cut_off)
    outside = {pair for run in found for pair in _nesting(run, frozenset())[2]}
    return [_by_node(run, outside) for run in found]


def summary(counted: list[Run]) -> list[list[Any]]:
    """Return for each node: provider, name, operator, us per run, its error, calls, is named.

    The time is the mean of the middle half of the runs that called the node, weighted with how
    many did: a median would be stuck at whole microseconds.
    """
    nodes: dict[Key, list[tuple[int, int]]] = {}
    for run in counted:
        for key, found in run.items():
            nodes.setdefault(key, []).append(found)
    return [_row(key, found, len(counted)) for key, found in nodes.items()]


def _row(key: Key, found: list[tuple[int, int]], total: int) -> list[Any]:
    provider, name, op, index, _ = key
    times = np.sort(np.array([own_us for own_us, _ in found], dtype=np.float64))
    quarter, share = times.size // 4, times.size / total
    deviation = MAD_TO_SD * float(np.median(np.abs(times - np.median(times))))
    error_us = share * max(deviation, ROUNDING_US) / times.size**0.5
    time_us = share * float(times[quarter : times.size - quarter].mean())
    calls = sum(each for _, each in found)
    return [provider, name, op, time_us, error_us, calls, name != f"{op}_{index}"]


def _by_node(events: list[dict[str, Any]], outside: AbstractSet[Pair]) -> Run:
    own, around, _ = _nesting(events, outside)
    keys: list[Key] = [()] * len(events)
    found: Run = {}
    for place in reversed(range(len(events))):  # what is around a node ended after it
        outer = keys[around[place]] if around[place] >= 0 else ()
        keys[place] = (*_identity(events[place]), outer)
        own_us, calls = found.get(keys[place], (0, 0))
        found[keys[place]] = (own_us + own[place], calls + 1)
    return dict(reversed(found.items()))  # nearly the order of execution


def _nesting(
    events: list[dict[str, Any]], outside: AbstractSet[Pair]
) -> tuple[list[int], list[int], set[Pair]]:
    """Return each event's own time, the place of the event around it, else -1, and what is apart.

    Args:
        events: Those of one run.
        outside: Nodes that are known to run before a node with a body, each with that node. All
            others that begin in its microsecond are taken as part of the body.
    """
    own, around = [int(event["dur"]) for event in events], [-1] * len(events)
    ended: list[int] = []
    apart: set[Pair] = set()
    for place, event in enumerate(events):
        identity = _identity(event)
        has_body = identity[2] in WITH_BODIES
        while ended:
            inner = events[ended[-1]]
            later = inner["ts"] - event["ts"]
            if later or inner["dur"]:
                is_inside = later >= 0  # what took a microsecond did not end in the one it began in
            else:
                is_inside = has_body and (_identity(inner), identity) not in outside
            if not is_inside:
                break
            around[ended.pop()] = place
            own[place] = max(0, own[place] - int(inner["dur"]))
        if has_body:
            apart |= {(_identity(events[each]), identity) for each in ended[-NEIGHBOURS:]}
        ended.append(place)
    return own, around, apart


def _identity(event: dict[str, Any]) -> Identity:
    facts, name = event.get("args", {}), event["name"][: -len(KERNEL)]
    return facts.get("provider", ""), name, facts.get("op_name", ""), facts.get("node_index", "")
