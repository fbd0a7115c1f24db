"""What the benchmarks share: arms timed in turn on one machine, and the one JSON line.

A shared machine's noise hits whatever runs at the moment, so the arms of a comparison take turns,
in the opposite order every second round, and what counts is the median over the rounds and the
ratio of medians. No script asserts a time; each says whether its goal was met.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import harness
from harness.testing import suites_folder

_NOT_PASSED_ON = ("PYTHONDONTWRITEBYTECODE", "PYTEST_ADDOPTS", "PYTEST_PLUGINS")
PYTEST_INI = "[pytest]\naddopts = --import-mode=importlib -p no:cacheprovider\n"


def parser(description: str | None, *, rounds: int) -> argparse.ArgumentParser:
    """Return a parser with the options that all benchmarks have."""
    made = argparse.ArgumentParser(description=(description or "").partition("\n")[0])
    made.add_argument("--quick", action="store_true", help="a few seconds, to see that it works")
    made.add_argument("--rounds", type=int, default=rounds, help=f"default: {rounds}")
    return made


def alternate(arms: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Return each arm's wall times in seconds; the arms take turns, `rounds` times."""
    times: dict[str, list[float]] = {name: [] for name in arms}
    for number in range(rounds):
        names = list(arms)[:: -1 if number % 2 else 1]
        for name in names:
            started = time.perf_counter()
            arms[name]()
            times[name].append(time.perf_counter() - started)
    return times


def medians(times: Mapping[str, Sequence[float]], digits: int = 3) -> dict[str, float]:
    """Return the median of each arm in seconds, under `ARM_s`."""
    return {f"{name}_s": round(statistics.median(each), digits) for name, each in times.items()}


def median_of_pairs(
    times: Mapping[str, Sequence[float]], one: str, other: str, combine: Callable[..., float]
) -> float:
    """Return the median over rounds of `combine(one, other)`: both met the same noise."""
    return statistics.median(map(combine, times[one], times[other]))


def run(
    command: Sequence[str | Path],
    *,
    cwd: Path,
    env: Mapping[str, str] | None = None,
    failing: bool = False,
) -> None:
    """Run a command whose output is kept in `cwd/output.txt`.

    Args:
        command: Program and arguments.
        cwd: Folder to run in.
        env: Variables on top of this process's.
        failing: Whether tests may fail.

    Raises:
        SystemExit: If it fails: a benchmark of failing runs measures nothing.
    """
    output = cwd / "output.txt"
    with output.open("wb") as file:
        done = subprocess.run(
            [str(part) for part in command],
            cwd=cwd,
            env={**_environment(), **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            check=False,
        )
    if done.returncode > (1 if failing else 0):
        tail = output.read_text(encoding="utf-8", errors="replace")[-3000:]
        sys.exit(f"exit code {done.returncode} of {' '.join(map(str, command))}\n{tail}")


def _environment() -> dict[str, str]:
    """Return this process's environment, with bytecode kept as by default: users have it."""
    kept = {name: text for name, text in os.environ.items() if name not in _NOT_PASSED_ON}
    return {**kept, "ORT_DISABLE_TELEMETRY": "1"}


def foreign_project(folder: Path) -> Path:
    """Make a folder that is a project of its own, so that pytest looks for no other one."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pytest.ini").write_text(PYTEST_INI, encoding="utf-8")
    return folder


def pytest_command(*arguments: str | Path) -> list[str | Path]:
    """Return a pytest run of this interpreter."""
    return [sys.executable, "-m", "pytest", "-q", *arguments]


def gate_command(models: Path, *arguments: str | Path) -> list[str | Path]:
    """Return a run of the suites over a models folder on the CPU provider."""
    project = models.parent
    here = ("--rootdir", project, "-c", project / "pytest.ini", "-p", "harness.plugin")
    asked = ("--models", models, "--provider", "cpu")
    return pytest_command(suites_folder(), *here, *asked, *arguments)


def gate_environment(cache: Path) -> dict[str, str]:
    """Return what a gate run needs: its own cache, and the package that this script uses."""
    return {
        "ONNX_HARNESS_CACHE": str(cache),
        "PYTHONPATH": str(Path(harness.__file__).parent.parent),
    }


def report(benchmark: str, *, figures: Mapping[str, Any], goal: str, met: bool) -> None:
    """Print the result as one JSON line, the last of the script."""
    line = {"benchmark": benchmark, "figures": dict(figures), "goal": goal, "met": met}
    print(json.dumps(line), flush=True)
