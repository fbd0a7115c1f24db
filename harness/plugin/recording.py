"""Timed calls as pytest-benchmark's records, so that its table, files and comparisons show them.

The calls were measured in a worker. pytest-benchmark is given a clock that stands still but for
their lengths, through its own documented interface; it neither runs nor times anything, and takes
no part in the verdict. Where it is not installed, or not asked to record, nothing happens.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Any

import numpy as np
import pytest

from harness.domain.cells import Cell
from harness.domain.questions import LATENCY


class _WorkerClock:
    """A clock that starts each round at zero, so that no sum of rounds blurs a length."""

    def __init__(self, calls_ns: np.ndarray) -> None:
        self._lengths_s = iter((calls_ns / 1e9).tolist())
        self._now_s = 0.0

    def time_in_worker(self) -> float:
        """Return the time since the round began, seconds; its name stands in the records."""
        return self._now_s

    def start_round(self) -> None:
        """Begin anew."""
        self._now_s = 0.0

    def pass_call(self) -> None:
        """Let the time of one call pass; none is left if pytest-benchmark profiles once more."""
        self._now_s = next(self._lengths_s, 0.0)


def record(request: pytest.FixtureRequest, calls_ns: np.ndarray, info: Mapping[str, Any]) -> None:
    """Hand the timed calls of one item to pytest-benchmark; at most once in an item.

    An item that fails afterwards keeps its record.

    Args:
        request: The item's own, of the test function.
        calls_ns: Length of each call of the candidate, in the order of measuring.
        info: What else belongs to the record, such as runtime, model hash and the control's p50.
    """
    if not calls_ns.size or not _is_recording(request.config):
        return
    clock = _WorkerClock(calls_ns)
    own = request.node.get_closest_marker("benchmark")
    options = {"group": _group(request.node), **(own.kwargs if own else {})}
    marker = pytest.mark.benchmark(**{**options, "timer": clock.time_in_worker})
    request.node.add_marker(marker, append=False)  # the closest one is the one that counts
    benchmark = request.getfixturevalue("benchmark")
    if not type(benchmark).__module__.startswith("pytest_benchmark."):
        return  # the project's own fixture of that name hides pytest-benchmark's
    benchmark.extra_info.update({name: _plain(value) for name, value in info.items()})
    benchmark.pedantic(clock.pass_call, setup=clock.start_round, rounds=calls_ns.size)


class OnlyBenchmarks:
    """With `--benchmark-only`, counts items that measure among the benchmarks."""

    @pytest.hookimpl(wrapper=True)
    def pytest_collection_modifyitems(
        self, config: pytest.Config, items: list[pytest.Item]
    ) -> Generator[None]:
        """Show them to pytest-benchmark as what they are: it looks for its fixture's name.

        The fixture itself is asked for when there is something to record; pytest-benchmark warns
        of one that is not used.
        """
        if not config.getoption("benchmark_only", default=False):
            return (yield)
        measuring = [item for item in items if item.get_closest_marker(LATENCY.name)]
        names = [item.fixturenames for item in measuring if isinstance(item, pytest.Function)]
        for each in names:
            each.append("benchmark")
        try:
            return (yield)
        finally:
            for each in names:
                each.remove("benchmark")


def _is_recording(config: pytest.Config) -> bool:
    """Return whether pytest-benchmark is there; its `--benchmark-skip` would skip the item."""
    if not config.pluginmanager.hasplugin("pytest-benchmark"):
        return False
    return config.getoption("benchmark_only") or not config.getoption("benchmark_skip")


def _group(item: pytest.Item) -> str:
    """Return model and case: one table then holds its variants and providers side by side."""
    cell = item.callspec.params.get("cell") if hasattr(item, "callspec") else None
    return f"{cell.model} {cell.case}" if isinstance(cell, Cell) else item.name


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value
