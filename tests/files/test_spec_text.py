"""Specs as text: what is written is read back as the same spec."""

from __future__ import annotations

import datetime
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from harness.domain.spec import (
    Candidate,
    CaseSpec,
    KnownFailure,
    ModelSpec,
    OutputSpec,
    ProviderUse,
    Reference,
    SessionSettings,
    Tolerance,
    Variant,
)
from harness.files import toml
from harness.files.models import Model, load_models
from harness.files.spec_text import spec_text

SHIPPED = {
    name: model.spec
    for name, model in load_models(Path(__file__).parents[2] / "models").items()
    if isinstance(model, Model)
}
SMALL = ModelSpec(
    schema_version=1,
    candidate=Candidate(file="model.onnx"),
    reference=Reference(recorded="."),
    case=(CaseSpec(name="one", data_set="test_data_set_0"),),
)


def read(text: str) -> ModelSpec:
    """Return the spec that a text stands for."""
    path = Path("model.toml")
    return toml.validate(ModelSpec, tomllib.loads(text), path=path, title="Spec")


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_specs_survive(name: str) -> None:
    """Each is the same after it was written and read."""
    assert read(spec_text(SHIPPED[name], head="a comment")) == SHIPPED[name]


def test_odd_names_and_values_survive() -> None:
    """Quotes, points and line ends in names and texts, truth values, tiny numbers."""
    tolerance = Tolerance(atol=1e-30, rtol=0.0, reason='a "quoted"\nreason # with a sign')
    spec = replace(
        SMALL,
        summary="ü \\ \t \x7f",
        variants={"int8": Variant(file="int8.onnx")},
        providers={"cpu": ProviderUse(variants=("int8",), options={"a.b c": "x"})},
        session=SessionSettings(threads=2, config={"session.x": "1"}),
        outputs={"out.put 'y'\n": OutputSpec(compare="exact", tolerance={"default": tolerance})},
    )
    assert read(spec_text(spec, head="a comment")) == spec


def test_days_survive() -> None:
    """A known failure's last day is a date of TOML, as specs have it."""
    entry = KnownFailure(
        cell="*",
        code="parity.tolerance",
        issue="https://example.com/1",
        expires=datetime.date(2027, 3, 1),
    )
    text = spec_text(replace(SMALL, known_failure=(entry,)), head="a comment")
    assert "\nexpires = 2027-03-01\n" in text
    assert read(text).known_failure == (entry,)


def test_the_text() -> None:
    """Defaults are left out, the providers are not."""
    assert spec_text(SMALL, head="Made by a test.") == (
        "# Made by a test.\nschema_version = 1\n\n"
        '[candidate]\nfile = "model.onnx"\n\n'
        '[reference]\nrecorded = "."\n\n'
        '[[case]]\nname = "one"\ndata_set = "test_data_set_0"\n\n'
        "[providers]\ncpu = {}\n"
    )
