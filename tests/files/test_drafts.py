"""Drafted specs: guesses by type, name, shape and table; text that reads back as it was meant."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.domain.model_facts import ModelFacts
from harness.domain.session import Port
from harness.domain.spec import ModelSpec
from harness.errors import UsageProblem
from harness.files import toml
from harness.files.draft_text import spec_text
from harness.files.drafts import (
    Draft,
    ReferenceDraft,
    alternatives,
    draft,
    plain_name,
)
from harness.files.models import spec_faults

FACTS = ModelFacts(
    hash="0" * 64,
    size_bytes=10,
    ir_version=10,
    opsets={"": 20},
    producer="",
    nodes=1,
    parameters=0,
    inputs=(),
    outputs=(Port(name="y", type="tensor(float)", shape=(None, 2)),),
    faults=(),
)


def drafted(*ports: Port, facts: ModelFacts = FACTS, **hints: object) -> Draft:
    """Return the draft for a model with these inputs."""
    return draft(
        replace(facts, inputs=ports),
        hints,
        source="tiny.onnx",
        sha256="0" * 64,
        reference=ReferenceDraft(),
    )


def read(spec: Draft) -> ModelSpec:
    """Return the spec that a draft's text stands for."""
    tables = tomllib.loads(spec_text(spec))
    read_back = toml.validate(ModelSpec, tables, path=Path("model.toml"), title="draft")
    assert spec_faults(read_back) == []
    return read_back


def tensor(name: str, kind: str = "float", shape: tuple[int | str | None, ...] = (2,)) -> Port:
    """Return a tensor input."""
    return Port(name=name, type=f"tensor({kind})", shape=shape)


@pytest.mark.parametrize(
    ("port", "low_high", "values"),
    [
        (tensor("x"), (-1.0, 1.0), None),
        (tensor("nchw", shape=("n", 3, 8, 8)), (0.0, 1.0), None),
        (tensor("pixel_values"), (0.0, 1.0), None),
        (tensor("image", "uint8", ("n", 8, 8, 3)), (0, 256), None),
        (tensor("attention_mask", "int64"), None, (1,)),
        (tensor("mask", "bool"), None, (1,)),
        (tensor("flag", "bool"), None, None),
        (tensor("ids", "int64"), (0, 7), None),
        (tensor("count", "int32"), (0, 2), None),
        (tensor("sr", "int64", ()), None, (16000,)),
        (tensor("lengths", "int64"), None, (1,)),
        (tensor("text", "string"), None, ("a", "b", "c")),
        (tensor("scale", "float8e8m0"), (1.0, 2.0), None),
    ],
    ids=lambda value: f"{value.name} {value.type}" if isinstance(value, Port) else "",
)
def test_values_follow_type_name_shape_and_table(
    port: Port, low_high: tuple[float, float] | None, values: tuple[int | str, ...] | None
) -> None:
    """Each kind of input gets values that a model of its kind is likely to take."""
    spec = read(drafted(port, tables={"ids": 7})).inputs[port.name]
    assert (spec.range, spec.values) == (low_high, values)


def test_free_dimensions_get_names_sizes_and_two_cases() -> None:
    """The model's names are kept, an unnamed first axis is the batch."""
    spec = read(drafted(tensor("x", shape=(None, "seq len", 3)), tensor("z", shape=("N", None))))
    assert spec.inputs["x"].shape == ("batch", "seq_len", 3)
    assert spec.inputs["z"].shape == ("N", "z_axis1")
    assert [case.name for case in spec.case] == ["batch1", "batch3"]
    assert spec.case[0].dims == {"batch": 1, "seq_len": 8, "N": 1, "z_axis1": 8}


def test_two_symbols_never_become_one_dimension() -> None:
    """Names that differ only in signs that TOML keys lack stay apart."""
    spec = read(drafted(tensor("x", shape=("a b", "a.b"))))
    assert spec.inputs["x"].shape == ("a_b", "a_b_")


@pytest.mark.parametrize(
    ("shape", "name"), [((4, 3), "batch4"), ((), "fixed")], ids=["a first axis", "a scalar"]
)
def test_a_fixed_model_has_one_case(shape: tuple[int, ...], name: str) -> None:
    """Nothing is free, so there is nothing larger to ask."""
    assert [case.name for case in read(drafted(tensor("x", shape=shape))).case] == [name]


def test_outputs_are_compared_by_what_they_hold() -> None:
    """Floats by tolerance, labels as labels, other whole numbers exactly."""
    outputs = (
        Port(name="probabilities", type="seq(map(int64,tensor(float)))", shape=None),
        Port(name="label", type="tensor(int64)", shape=(None,)),
        Port(name="top", type="tensor(int64)", shape=None),
    )
    spec = read(drafted(tensor("x"), facts=replace(FACTS, outputs=outputs)))
    rules = {name: rule.compare for name, rule in spec.outputs.items()}
    assert rules == {"probabilities": "close", "label": "labels", "top": "exact"}


def test_an_input_that_is_no_tensor_is_refused() -> None:
    """A spec cannot draw a sequence; recorded data can hold one."""
    with pytest.raises(UsageProblem, match=r"^Input 'x' is seq\(tensor\(float\)\): a spec can"):
        drafted(Port(name="x", type="seq(tensor(float))", shape=None))


def test_extensions_are_declared() -> None:
    """Operators of onnxruntime-extensions need its library in the session."""
    spec = read(drafted(tensor("x"), domains=["", "ai.onnx.contrib"]))
    assert spec.session.custom_ops == ("onnxruntime_extensions",)


def test_operators_that_often_stay_on_the_cpu_are_proposed() -> None:
    """As a comment: what loosens a check is for the owner to declare."""
    text = spec_text(drafted(tensor("x"), operators={"Shape": 2, "Relu": 1}))
    assert '# allow_cpu = { ops = ["Shape"], reason = "" }' in text
    assert read(drafted(tensor("x"), operators={"Shape": 2})).placement == {}


def test_every_alternative_is_a_valid_spec() -> None:
    """Whatever sizes are tried, the text reads back without a fault, the first guess first."""
    first = drafted(tensor("x", shape=("batch", None)), tensor("h", shape=(1, None, 4)))
    found = list(alternatives(first))
    assert found[0] == first
    assert len({spec_text(each) for each in found}) == len(found)
    for each in found:
        read(each)


@pytest.mark.parametrize(
    ("text", "name"),
    [("SqueezeNet 1.1", "squeezenet-1.1"), ("__x__", "x"), ("été", "t"), ("---", "")],
)
def test_model_names_are_made_from_file_names(text: str, name: str) -> None:
    """Lower case, digits, dots, dashes and underscores are left; maybe nothing."""
    assert plain_name(text) == name


_TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)


@given(names=st.lists(_TEXT, min_size=1, max_size=3, unique=True), symbol=_TEXT, producer=_TEXT)
def test_any_name_survives_the_way_through_toml(
    names: list[str], symbol: str, producer: str
) -> None:
    """Quotes, dots, control characters and other scripts in names come back as they were."""
    ports = tuple(tensor(name, shape=(symbol, 2)) for name in names)
    facts = replace(FACTS, producer=producer)
    assert list(read(drafted(*ports, facts=facts)).inputs) == names
