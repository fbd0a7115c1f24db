"""Baselines: what no recipe and no clock can have told is refused."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from typing import Any

import pytest

from harness.domain.baseline import Build, Entry, entry_key, plain
from harness.domain.cells import Cell
from tests.baselines import CHANGE, CONTROL, baseline, local, recipe, timing

HASH_RULE = "must be a SHA-256 of 64 lower-case hexadecimal digits, got"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "abc"}, f"'model' {HASH_RULE} 'abc'"),
        ({"model": "A" * 64}, f"'model' {HASH_RULE} '{'A' * 64}'"),
        ({"threads": 0}, "'threads' must be at least 1, got 0"),
    ],
)
def test_an_impossible_recipe(changes: dict[str, Any], message: str) -> None:
    """A recipe without a model or a thread cannot be run."""
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the whole message is compared
        recipe(**changes)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("artefact", "size", "message"),
    [
        ("x", 1, f"'artefact' {HASH_RULE} 'x'"),
        (CONTROL, 0, "'file_bytes' must be above 0, got 0"),
        ("", -1, "'file_bytes' must be above 0, got -1"),
    ],
)
def test_an_impossible_entry(artefact: str, size: int, message: str) -> None:
    """A file has a hash and a size."""
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the whole message is compared
        Entry(recipe=recipe(), artefact=artefact, file_bytes=size, change=CHANGE)
    assert str(caught.value) == message


@pytest.mark.parametrize("when", ["yesterday", "", "2026-13-01T10:00:00+00:00"])
def test_an_impossible_time_of_a_change(when: str) -> None:
    """Who approved it when is read by people and by `history`."""
    with pytest.raises(ValueError, match=rf"'when' must be a time .* got '{re.escape(when)}'"):
        replace(CHANGE, when=when)


def test_a_control_that_is_not_kept() -> None:
    """An entry may lack its artefact: large models are not stored."""
    assert Entry(recipe=recipe(), artefact="", file_bytes=1, change=CHANGE).artefact == ""


RISING = "'quantiles_ms' must be times above 0 that rise, got"
NAMES = "'quantiles_ms' must have names from 'p1' to 'p99', got"
COUNTS = "'workers' and 'calls' must be at least 1, bytes at least 0"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"p50_ms": 0.0}, "'p50_ms' must be a time from 1e-06 ms, got 0.0"),
        ({"p50_ms": 1e-30}, "'p50_ms' must be a time from 1e-06 ms, got 1e-30"),
        ({"p50_ms": math.nan}, "'p50_ms' must be a time from 1e-06 ms, got nan"),
        ({"startup_ms": math.inf}, "'startup_ms' must be a time from 1e-06 ms, got inf"),
        ({"startup_ms": -1.0}, "'startup_ms' must be a time from 1e-06 ms, got -1.0"),
        ({"spread": -0.1}, "'spread' must be from 0 to 10, got -0.1"),
        ({"spread": 1e300}, "'spread' must be from 0 to 10, got 1e+300"),
        ({"spread": math.nan}, "'spread' must be from 0 to 10, got nan"),
        ({"startup_spread": math.inf}, "'startup_spread' must be from 0 to 10, got inf"),
        ({"workers": 0}, COUNTS),
        ({"calls": 0}, COUNTS),
        ({"memory_bytes": -1}, COUNTS),
        ({"quantiles_ms": {}}, f"{RISING} []"),
        ({"quantiles_ms": {"p9": 2.0, "p10": 1.0}}, f"{RISING} [2.0, 1.0]"),
        ({"quantiles_ms": {"p50": 0.0}}, f"{RISING} [0.0]"),
        ({"quantiles_ms": {"p50": math.nan}}, f"{RISING} [nan]"),
        ({"quantiles_ms": {"p50": 1.0, "p99": math.inf}}, f"{RISING} [1.0, inf]"),
        ({"quantiles_ms": {"median": 1.0}}, f"{NAMES} 'median'"),
        ({"quantiles_ms": {"p100": 1.0}}, f"{NAMES} 'p100'"),
        ({"quantiles_ms": {"pnan": 1.0}}, f"{NAMES} 'pnan'"),
    ],
)
def test_impossible_figures(changes: dict[str, Any], message: str) -> None:
    """A time is above 0 and ends, and a sketch rises."""
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the whole message is compared
        timing(**changes)
    assert str(caught.value) == message


def test_the_order_of_quantiles_is_that_of_their_numbers() -> None:
    """As text, `p10` would come before `p9`."""
    assert timing(quantiles_ms={"p10": 2.0, "p9": 1.0}).quantiles_ms["p9"] == 1.0


def test_recipes_differ_by_name() -> None:
    """Each field that differs is told with both values, and no other."""
    other = recipe(threads=2, options={"a": "b"})
    assert recipe().differences(other) == {"threads": ("1", "2"), "options": ("{}", "{'a': 'b'}")}
    assert recipe().differences(recipe()) == {}


def test_builds_of_one_version_differ_by_their_providers() -> None:
    """The version alone does not tell builds apart."""
    lean = Build(version="1.32.0", providers=("CPUExecutionProvider",))
    rich = Build(version="1.32.0", providers=("CUDAExecutionProvider", "CPUExecutionProvider"))
    told = recipe(build=lean).differences(recipe(build=rich))
    assert told == {
        "build": (
            "onnxruntime 1.32.0 (CPUExecutionProvider)",
            "onnxruntime 1.32.0 (CUDAExecutionProvider, CPUExecutionProvider)",
        )
    }


def test_an_entry_is_found_whatever_the_runtime() -> None:
    """The runtime is part of the recipe, not of the key."""
    assert entry_key(Cell("m", "fp16", "cpu@ort-1.31", "one")) == "fp16/cpu"
    assert entry_key(Cell("m", "fp16", "cpu", "two")) == "fp16/cpu"


def test_plain_values() -> None:
    """All fields of the values inside are kept."""
    assert plain(baseline())["entries"]["fp32/cpu"]["recipe"]["build"]["version"] == "1.32.0"
    assert plain(local())["environment"]["cores"] == 2
