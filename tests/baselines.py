"""Baselines that tests start from."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from harness.domain.baseline import (
    Baseline,
    Build,
    Change,
    Entry,
    Figures,
    LocalBaseline,
    Recipe,
    Timing,
)
from harness.domain.environment import Environment

MODEL = "1" * 64
CONTROL = "2" * 64
BUILD = Build(version="1.32.0", providers=("CPUExecutionProvider",))
ENVIRONMENT = Environment(
    system="Linux x86_64",
    cpu="AMD EPYC",
    isa="0123456789ab",
    cores=2,
    memory_gib=8,
)
CHANGE = Change(
    who="Zoë",
    when="2026-11-23T10:00:00+00:00",
    commit="3" * 40,
    reason="first release",
    harness="0.1.0",
)


def recipe(**changes: Any) -> Recipe:
    """Return a recipe on the CPU with these fields changed."""
    return replace(Recipe(model=MODEL, build=BUILD, provider="CPUExecutionProvider"), **changes)


def timing(**changes: Any) -> Timing:
    """Return what was measured of one point, with these fields changed."""
    usual = Timing(
        inputs="4" * 64,
        p50_ms=1.25,
        spread=0.008,
        workers=8,
        calls=400,
        quantiles_ms={"p1": 1.125, "p50": 1.25, "p99": 2.5},
        startup_ms=40.0,
        startup_spread=0.03,
        memory_bytes=50_000_000,
    )
    return replace(usual, **changes)


def baseline(name: str = "mnist", **changes: Any) -> Baseline:
    """Return the portable baseline of a model with one entry, with fields of its recipe changed."""
    entry = Entry(recipe=recipe(**changes), artefact=CONTROL, file_bytes=1000, change=CHANGE)
    return Baseline(model=name, entries={"fp32/cpu": entry})


def local(
    model: str = "mnist", environment: Environment = ENVIRONMENT, **changes: Any
) -> LocalBaseline:
    """Return the figures of a model with one point, with fields of its timing changed."""
    figures = Figures(
        recipe=recipe(),
        nodes={"CPUExecutionProvider": 7},
        points={"batch1": timing(**changes)},
        change=CHANGE,
    )
    return LocalBaseline(model=model, environment=environment, entries={"fp32/cpu": figures})
