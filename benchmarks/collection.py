"""What collecting costs, and what an installed plugin costs those who do not use it.

First: 100 models with 100 cases each are collected (`--collect-only -q`), parity alone and then all
suites, in turn with 10,000 trivially parametrised tests. Second: a pytest run of one empty test
in a foreign project, with the plugin installed and unused, in turn with `-p no:harness.plugin`.
All are whole processes from start to end. The plugin must be installed, so that pytest finds it
by its entry point as it does for a user.
"""

from __future__ import annotations

import importlib.metadata
import operator
import statistics
import sys
import tempfile
from pathlib import Path

import side_by_side as bench

from harness.testing import file_spec, linear_model

MOST_TIMES = 2.5
MOST_LATER_MS = 30
GOAL = (
    f"collecting 100 x 100 cells takes at most {MOST_TIMES} x 10,000 trivial tests; the unused "
    f"plugin starts a run at most {MOST_LATER_MS} ms later"
)
OFF = ("-p", "no:harness.plugin")
TRIVIAL_TESTS = """
import pytest

@pytest.mark.parametrize("number", range({count}))
def test_trivial(number):
    pass
"""


def main() -> None:
    """Run the benchmark."""
    parser = bench.parser(__doc__, rounds=5)
    parser.add_argument("--starts", type=int, default=40, help="pairs of starts; default: 40")
    options = parser.parse_args()
    side, rounds, starts = (10, 1, 2) if options.quick else (100, options.rounds, options.starts)
    if not importlib.metadata.entry_points(group="pytest11", name="harness.plugin"):
        sys.exit("the plugin is not installed here: pip install -e '.[cpu]'")
    with tempfile.TemporaryDirectory() as folder:
        collecting = time_collecting(Path(folder), side, rounds)
        starting = time_starting(Path(folder), starts)
    parity, suites = (
        bench.median_of_pairs(collecting, arm, "pytest", operator.truediv)
        for arm in ("parity", "all_suites")
    )
    later = 1e3 * bench.median_of_pairs(starting, "plugin", "no_plugin", operator.sub)
    figures = {
        "cells": side * side,
        "rounds": rounds,
        **{f"collect_{name}": value for name, value in bench.medians(collecting).items()},
        "parity_times_pytest": round(parity, 2),
        "all_suites_times_pytest": round(suites, 2),
        "starts": starts,
        **{f"start_{name}": value for name, value in bench.medians(starting, 4).items()},
        "start_later_ms": round(later, 1),
        "start_later_quartiles_ms": quartiles(starting),
    }
    met = max(parity, suites) <= MOST_TIMES and later <= MOST_LATER_MS
    bench.report("collection", figures=figures, goal=GOAL, met=met)


def time_collecting(folder: Path, side: int, rounds: int) -> dict[str, list[float]]:
    """Return the times of collecting `side` models with `side` cases, and as many tests."""
    project = bench.foreign_project(folder / "gate")
    write_models(project / "models", side)
    plain = bench.foreign_project(folder / "plain")
    tests = TRIVIAL_TESTS.format(count=side * side)
    (plain / "test_trivial.py").write_text(tests, encoding="utf-8")

    def gate(*chosen: str) -> None:
        command = bench.gate_command(project / "models", "--collect-only", *chosen)
        bench.run(command, cwd=project, env=bench.gate_environment(project / "cache"))

    arms = {
        "pytest": lambda: bench.run(
            bench.pytest_command("--collect-only", *OFF, "test_trivial.py"), cwd=plain
        ),
        "parity": lambda: gate("-m", "parity"),
        "all_suites": gate,
    }
    bench.alternate(arms, 1)  # the first run of each compiles bytecode
    return bench.alternate(arms, rounds)


def time_starting(folder: Path, starts: int) -> dict[str, list[float]]:
    """Return the times of a run in a foreign project with the plugin and without."""
    project = bench.foreign_project(folder / "foreign")
    (project / "test_nothing.py").write_text("def test_nothing(): pass\n", encoding="utf-8")
    arms = {
        "plugin": lambda: bench.run(bench.pytest_command("test_nothing.py"), cwd=project),
        "no_plugin": lambda: bench.run(bench.pytest_command(*OFF, "test_nothing.py"), cwd=project),
    }
    bench.alternate(arms, 1)
    return bench.alternate(arms, starts)


def write_models(folder: Path, side: int) -> None:
    """Write models with a spec of many cases each."""
    model = linear_model().SerializeToString()
    cases = "\n".join(
        f'[[case]]\nname = "case{number}"\ndims = {{ batch = {number % 8 + 1} }}'
        for number in range(side)
    )
    for number in range(side):
        target = folder / f"model{number}"
        target.mkdir(parents=True)
        (target / "model.onnx").write_bytes(model)
        (target / "model.toml").write_text(file_spec(case=cases), encoding="utf-8")


def quartiles(times: dict[str, list[float]]) -> list[float]:
    """Return the first and the third quartile of how much later each pair's start was, in ms."""
    later = [1e3 * (one - other) for one, other in zip(*times.values(), strict=True)]
    first, _, third = statistics.quantiles(later, n=4)
    return [round(first, 1), round(third, 1)]


if __name__ == "__main__":
    main()
