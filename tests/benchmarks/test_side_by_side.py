"""What the benchmarks share: turns, medians, and runs that must not fail unseen."""

from __future__ import annotations

import operator
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Return the shared module; scope function."""
    return _imported("side_by_side", monkeypatch)


def test_arms_take_turns_in_alternating_order(bench: ModuleType) -> None:
    """Whatever drifts during a benchmark hits both arms alike."""
    order: list[str] = []
    arms = {"one": lambda: order.append("one"), "two": lambda: order.append("two")}
    times = bench.alternate(arms, 3)
    assert order == ["one", "two", "two", "one", "one", "two"]
    assert {name: len(each) for name, each in times.items()} == {"one": 3, "two": 3}


def test_ratio_is_the_median_over_pairs(bench: ModuleType) -> None:
    """One pair hit by noise does not move the ratio."""
    times = {"gate": [1.0, 2.0, 90.0], "peer": [2.0, 4.0, 1.0]}
    assert bench.median_of_pairs(times, "gate", "peer", operator.truediv) == 0.5


def test_failing_run_ends_the_benchmark(bench: ModuleType, tmp_path: Path) -> None:
    """Times of runs that fail are never reported."""
    command = [sys.executable, "-c", "print('cause'); raise SystemExit(3)"]
    with pytest.raises(SystemExit, match=r"exit code 3 of .*\ncause"):
        bench.run(command, cwd=tmp_path)


def test_failing_tests_can_be_allowed(bench: ModuleType, tmp_path: Path) -> None:
    """Exit code 1 of pytest means failed tests, which the choice of cases has to see."""
    bench.run([sys.executable, "-c", "raise SystemExit(1)"], cwd=tmp_path, failing=True)
    with pytest.raises(SystemExit, match="exit code 2"):
        bench.run([sys.executable, "-c", "raise SystemExit(2)"], cwd=tmp_path, failing=True)


@pytest.mark.parametrize("flags", [[], ["-I"]], ids=["plain", "isolated"])
def test_import_of_torch_is_seen(
    flags: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The proof of warm_cache can fail: the hook sees torch in isolated interpreters too."""
    warm_cache = _imported("warm_cache", monkeypatch)
    log = tmp_path / "log.txt"
    python = warm_cache.watching_interpreter(tmp_path / "environment", log)
    looking = "import importlib.util as u; u.find_spec('json'); u.find_spec('torch')"
    subprocess.run([python, *flags, "-c", looking], check=True)
    assert len(log.read_text().splitlines()) == 1


def _imported(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return __import__(name)
