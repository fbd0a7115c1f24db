"""Environments: one id for one environment, another for another."""

from __future__ import annotations

import re
from dataclasses import fields, replace
from typing import Any

import pytest

from harness.domain.environment import Environment
from tests.baselines import ENVIRONMENT

#: Another value for each field.
OTHER = {
    "system": "Linux aarch64",
    "cpu": "Intel",
    "isa": "ba9876543210",
    "cores": 4,
    "memory_gib": 16,
    "limits": "cores 1.5",
    "gpu": "NVIDIA H200",
    "driver": "580.1",
    "cuda": "13.0",
}


def test_an_id_never_changes() -> None:
    """Folders of approved baselines are named by it."""
    assert ENVIRONMENT.id == "amd-epyc-2c-8g-5f129099"


@pytest.mark.parametrize("name", [each.name for each in fields(Environment)])
def test_every_field_makes_another_id(name: str) -> None:
    """Figures of machines that differ in anything are kept apart."""
    changes: dict[str, Any] = {name: OTHER[name]}
    other = replace(ENVIRONMENT, **changes)
    assert other.id != ENVIRONMENT.id
    told = (str(getattr(ENVIRONMENT, name)), str(OTHER[name]))
    assert ENVIRONMENT.differences(other) == {name: told}


@pytest.mark.parametrize(
    ("cpu", "gpu", "start"),
    [
        ("Intel(R) Xeon(R) Platinum 8480+", "", "intel-xeon-platinum-8480-2c-8g-"),
        ("AMD EPYC", "2x NVIDIA H200", "2x-nvidia-h200-2c-8g-"),
        ("../../etc", "", "etc-2c-8g-"),
        ("Прозессор", "", "2c-8g-"),
        ("", "", "2c-8g-"),
    ],
)
def test_an_id_is_the_name_of_a_folder(cpu: str, gpu: str, start: str) -> None:
    """Whatever a processor is called, it is lower case, digits and hyphens."""
    name = replace(ENVIRONMENT, cpu=cpu, gpu=gpu).id
    assert re.fullmatch(re.escape(start) + r"[0-9a-f]{8}", name)


def test_an_environment_does_not_differ_from_itself() -> None:
    """Nothing is told then."""
    assert ENVIRONMENT.differences(replace(ENVIRONMENT)) == {}
