"""Timed calls as pytest-benchmark's records."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from harness.testing import MiniProject, Outcome

needs_benchmark = pytest.mark.skipif(
    importlib.util.find_spec("pytest_benchmark") is None, reason="needs pytest-benchmark"
)
needs_xdist = pytest.mark.skipif(
    importlib.util.find_spec("xdist") is None, reason="needs pytest-xdist"
)
INI = "[pytest]\nstrict = true\nfilterwarnings = error\naddopts = -p no:cacheprovider\n"
MARKERS = "markers = latency: measures\n"
#: What cells a and b are told to have taken, ns; no sum of these is exact in binary.
CALLS = {"a": [1_000_001, 3, 700_000_003, 123_456_789], "b": [11, 17]}
MODULE = f"""
import numpy as np
import pytest

from harness.domain.cells import Cell
from harness.plugin.recording import record

CALLS = {CALLS}
CELLS = [Cell("tiny", variant, "cpu", "one") for variant in CALLS]
INFO = {{"runtime": "own", "control_p50_ms": np.float64(1.5)}}


@pytest.mark.latency
@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_stand_in(cell, request):
    record(request, np.array(CALLS[cell.variant], np.int64), INFO)
    if cell.variant == "b":
        pytest.fail("b is slower", pytrace=False)
"""
NAMES = {each: f"test_stand_in[tiny/{each}/cpu/one]" for each in CALLS}


@pytest.fixture
def standing(tiny: MiniProject) -> MiniProject:
    """Return a strict project with a stand-in for the suite, whose item `b` fails; scope function.

    A warning would be an error there.
    """
    tiny.write("pytest.ini", INI + MARKERS)
    tiny.write("test_stand_in.py", MODULE)
    return tiny


def run(project: MiniProject, *args: str) -> Outcome:
    """Run the stand-in."""
    return project.run("test_stand_in.py", *args, suites=False)


def records(path: Path) -> dict[str, dict[str, Any]]:
    """Return the records of a file of pytest-benchmark by name."""
    told = json.loads(path.read_text(encoding="utf-8"))
    return {each["name"]: each for each in told["benchmarks"]}


@needs_benchmark
def test_records_hold_exactly_what_was_measured(standing: MiniProject) -> None:
    """In order, to the last bit, with what belongs to them; also of an item that fails."""
    outcome = run(standing, "--benchmark-json", "told.json")
    assert outcome.text.splitlines()[-1].strip("= ").startswith("1 failed, 1 passed")
    told = records(standing.root / "told.json")
    assert {name: each["stats"]["data"] for name, each in told.items()} == {
        NAMES[variant]: [call / 1e9 for call in calls] for variant, calls in CALLS.items()
    }
    for each in told.values():
        assert each["group"] == "tiny one"
        assert each["extra_info"] == {"runtime": "own", "control_p50_ms": 1.5}
        assert each["options"]["timer"] == "time_in_worker"
        assert each["stats"]["iterations"] == 1


@needs_benchmark
def test_variants_stand_side_by_side_in_one_table(standing: MiniProject) -> None:
    """One table per model and case."""
    text = run(standing).text
    assert text.count(" benchmark 'tiny one': 2 tests ") == 1
    rows = [line.split()[0] for line in text.splitlines() if line.startswith("test_stand_in[")]
    assert sorted(rows) == sorted(NAMES.values())


@needs_benchmark
def test_two_runs_can_be_compared(standing: MiniProject) -> None:
    """A run beside a saved one; and pytest-benchmark's own limits hold for what was measured."""
    run(standing, "--benchmark-save", "first", "--benchmark-storage", "saved")
    slower = MODULE.replace("1000001, 3,", "1000001000, 3000,")
    assert slower != MODULE
    standing.write("test_stand_in.py", slower)
    text = run(standing, "--benchmark-compare", "0001", "--benchmark-storage", "saved").text
    for name in NAMES.values():
        assert f"{name} (0001_first)" in text
        assert f"{name} (NOW)" in text
    limits = ("--benchmark-compare=0001", "--benchmark-compare-fail=max:5%")
    text = run(standing, *limits, "--benchmark-storage", "saved").text
    told = text.partition("Performance has regressed:\n")[2].splitlines()[0]
    assert told.strip().startswith(NAMES["a"])
    assert "Field 'max' has failed PercentageRegressionCheck" in told


@needs_benchmark
@pytest.mark.parametrize(
    "options",
    [
        ["-p", "no:benchmark"],
        ["--benchmark-disable"],
        ["--benchmark-skip"],
        pytest.param(["-n", "2"], marks=needs_xdist),
    ],
    ids=str,
)
def test_where_nothing_is_recorded_items_end_as_ever(
    standing: MiniProject, options: list[str]
) -> None:
    """Not skipped, not warned of, and no table."""
    outcome = run(standing, *options)
    assert outcome.text.splitlines()[-1].strip("= ").startswith("1 failed, 1 passed")
    assert " benchmark 'tiny one'" not in outcome.text
    assert "Benchmark" not in outcome.text


def test_without_pytest_benchmark_items_end_as_ever(standing: MiniProject) -> None:
    """It need not be there; pytest loads no plugin here but those that are named."""
    env = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    outcome = standing.run("test_stand_in.py", suites=False, env=env)
    assert outcome.text.splitlines()[-1].strip("= ").startswith("1 failed, 1 passed")
    assert "(defaults: timer" not in outcome.text
    assert " benchmark 'tiny one'" not in outcome.text


@needs_benchmark
def test_only_benchmarks_are_items_that_measure(standing: MiniProject) -> None:
    """`--benchmark-only` leaves the other suites' items out, and judges those."""
    outcome = standing.run("test_stand_in.py", "--benchmark-only", "-k", "contract or stand_in")
    assert "1 failed, 1 passed" in outcome.text
    assert "contract tiny/fp32" not in outcome.items
    assert " benchmark 'tiny one': 2 tests " in outcome.text


@needs_benchmark
def test_an_own_marker_keeps_its_group(standing: MiniProject) -> None:
    """What the test module asks for counts, except the clock."""
    own = '@pytest.mark.benchmark(group="ours", timer=len)\n@pytest.mark.latency'
    standing.write("test_stand_in.py", MODULE.replace("@pytest.mark.latency", own))
    run(standing, "--benchmark-json", "told.json")
    told = records(standing.root / "told.json")
    assert {each["group"] for each in told.values()} == {"ours"}
    assert told[NAMES["b"]]["stats"]["data"] == [11 / 1e9, 17 / 1e9]


@needs_benchmark
def test_profiling_runs_nothing_again(standing: MiniProject) -> None:
    """pytest-benchmark profiles what it is given, which is nothing but a clock."""
    outcome = run(standing, "--benchmark-cprofile", "tottime", "--benchmark-json", "told.json")
    assert "1 failed, 1 passed" in outcome.text
    assert records(standing.root / "told.json")[NAMES["b"]]["stats"]["rounds"] == 2


@needs_benchmark
def test_a_fixture_of_the_same_name_is_left_alone(standing: MiniProject) -> None:
    """A project may have a `benchmark` of its own, which is not ours to call."""
    fixture = '\n\n@pytest.fixture\ndef benchmark():\n    return "ours"\n'
    standing.write("test_stand_in.py", MODULE + fixture)
    outcome = run(standing)
    assert "1 failed, 1 passed" in outcome.text
    assert " benchmark 'tiny one'" not in outcome.text
