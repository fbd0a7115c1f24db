"""Each benchmark runs with --quick and ends in one JSON line of the documented form."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
#: They run PyTorch references.
SCIPY = {"gate_power"}
TORCH = {"evidence", "localise", "properties", "warm_cache"}
FIGURES = {
    "parity_cell": {
        *("models", "rounds", "cell_gate_ms", "cell_inside_ms", "cell_extra_ms"),
        *("cell_extra_worst_ms", "times_faster"),
    },
    "zoo_2000": {
        *("models", "distinct_cases", "distinct_cases_passing", "rounds", "gate_s", "peer_s"),
        *("gate_passing_s", "peer_passing_s", "ratio", "ratio_passing"),
    },
    "collection": {
        *("cells", "rounds", "collect_pytest_s", "collect_parity_s", "collect_all_suites_s"),
        *("parity_times_pytest", "all_suites_times_pytest", "starts", "start_plugin_s"),
        *("start_no_plugin_s", "start_later_ms", "start_later_quartiles_ms"),
    },
    "evidence": {
        *("models", "rounds", "bound_cold_s", "bound_cached_s", "table_cold_s"),
        *("table_cached_s", "times_cold", "times_cached"),
    },
    "gate_power": {
        *("decisions", "unchanged", "false_alarms", "false_alarm_interval"),
        *("startup_false_alarms", "unchanged_not_judged", "seen_2_percent", "seen_3_percent"),
        "seconds_unchanged",
    },
    "judging": {"cells", "rounds", "judged_s", "proposed_s", "peer_s"},
    "localise": {
        *("nodes", "rounds", "ours_s", "torch_s", "naive_s", "largest_batch_mib", "batches"),
        *("ours_extra_mib", "naive_extra_mib", "extra_per_batch"),
    },
    "properties": {
        *("examples", "rounds", "cached_per_s", "live_per_s", "inside_per_s"),
        *("cached_times_inside", "hypothesis_arrays_per_s"),
    },
    "timing_fidelity": {"10-matmuls", "worst_percent"},
    "warm_cache": {
        *("models", "rounds", "first_imports_torch", "second_imports_torch"),
        *("first_s", "second_s", "ratio"),
    },
}


@pytest.mark.parametrize("name", FIGURES)
def test_quick_run_ends_in_one_json_line(name: str, tmp_path: Path) -> None:
    """The last line holds name, figures, goal and whether it was met."""
    _skip_where_impossible(name)
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / f"{name}.py"), "--quick"],
        cwd=tmp_path,
        env={**os.environ, "ONNX_HARNESS_CACHE": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    line = json.loads(done.stdout.splitlines()[-1])
    assert {key: type(value) for key, value in line.items()} == {
        "benchmark": str,
        "figures": dict,
        "goal": str,
        "met": bool,
    }
    assert (line["benchmark"], set(line["figures"])) == (name, FIGURES[name])
    if name == "warm_cache":  # the one goal that no noise can change
        assert line["met"]


def test_every_benchmark_is_tested() -> None:
    """No script of the folder is left out above."""
    scripts = {path.stem for path in BENCHMARKS.glob("*.py")}
    assert scripts - {"side_by_side"} == set(FIGURES)


def _skip_where_impossible(name: str) -> None:
    if name == "collection" and not importlib.metadata.entry_points(
        group="pytest11", name="harness.plugin"
    ):
        pytest.skip("the plugin is not installed: no entry point to measure")
    if name in SCIPY and not importlib.util.find_spec("scipy"):
        pytest.skip("needs scipy")
    if name in TORCH and not importlib.util.find_spec("torch"):
        pytest.skip("needs torch")
