"""Recorded steps: written as data sets that can be run alone, read as one run."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from harness.domain.dtypes import DType
from harness.domain.inputs import hash_values
from harness.domain.model_facts import ModelFacts
from harness.domain.samples import LARGEST_WHOLE
from harness.domain.session import Port
from harness.domain.spec import (
    Candidate,
    CaseSpec,
    InputSpec,
    ModelSpec,
    OutputSpec,
    Reference,
    StateSpec,
)
from harness.domain.values import SampledTensor, Value, Values
from harness.errors import HarnessError, ModelFileError
from harness.files.models import Model
from harness.files.zoo import data_sets, write_value
from harness.references import recordings
from harness.references.recordings import read_inputs, read_outputs, write_case
from tests.strategies import array, same

FACTS = ModelFacts(
    hash="0",
    size_bytes=0,
    ir_version=8,
    opsets={"": 17},
    producer="",
    nodes=1,
    parameters=0,
    inputs=(
        Port(name="state", type="tensor(float)", shape=(1,)),
        Port(name="x", type="tensor(float)", shape=(1,)),
    ),
    outputs=(
        Port(name="y", type="tensor(float)", shape=(1,)),
        Port(name="next", type="tensor(float)", shape=(1,)),
    ),
    faults=(),
)
VECTOR = InputSpec(dtype=DType.FLOAT32, shape=(1,))
SPEC = ModelSpec(
    schema_version=1,
    candidate=Candidate(file="model.onnx"),
    reference=Reference(recorded="."),
    inputs={"x": VECTOR, "state": VECTOR},
    case=(
        CaseSpec(name="first", data_set="test_data_set_0"),
        CaseSpec(name="second", data_set="test_data_set_3"),
    ),
    state=StateSpec(feedback={"next": "state"}, steps=3),
)


def vector(number: float, dtype: type = np.float32) -> np.ndarray[tuple[int], np.dtype[np.generic]]:
    """Return one number as a tensor."""
    return np.array([number], dtype=dtype)


def steps(start: float) -> tuple[tuple[Values, ...], tuple[Values, ...]]:
    """Return inputs and outputs of three steps; each state is one more than the one before."""
    later = [{"x": vector(start + 10 + step)} for step in (1, 2)]
    inputs = ({"x": vector(start + 10), "state": vector(start)}, *later)
    outputs = [
        {"y": vector(100 * start + step), "next": vector(start + 1 + step, np.float64)}
        for step in range(3)
    ]
    return inputs, tuple(outputs)


def model_in(folder: Path, spec: ModelSpec = SPEC) -> Model:
    """Return a model in this folder."""
    return Model(name="m", folder=folder, spec=spec)


def record(folder: Path) -> Model:
    """Record two cases of three steps."""
    model = model_in(folder)
    for number, case in enumerate(("first", "second")):
        inputs, outputs = steps(number)
        write_case(folder, model, case, FACTS, first=3 * number, inputs=inputs, outputs=outputs)
    return model


def plain(read: tuple[Values, ...]) -> list[dict[str, list[float]]]:
    """Return values that can be compared by `==`."""
    return [{name: np.asarray(value).tolist() for name, value in each.items()} for each in read]


def test_what_was_written_is_read(tmp_path: Path) -> None:
    """Each case from its own data sets, with the state of the first step only."""
    model = record(tmp_path)
    assert len(data_sets(tmp_path)) == 6
    for number, case in enumerate(("first", "second")):
        inputs, outputs = steps(number)
        assert plain(read_inputs(model, case, FACTS)) == plain(inputs)
        assert plain(read_outputs(model, case, FACTS)) == plain(outputs)


def test_every_step_is_a_data_set_that_can_be_run_alone(tmp_path: Path) -> None:
    """Its inputs hold the state that the reference had reached, in the input's own type."""
    record(tmp_path)
    alone = replace(SPEC, state=None, case=(CaseSpec(name="test_data_set_5"),))
    (inputs,) = read_inputs(model_in(tmp_path, alone), "test_data_set_5", FACTS)
    assert plain((inputs,)) == [{"state": [3.0], "x": [13.0]}]
    assert np.asarray(inputs["state"]).dtype == np.float32


def test_without_cases_each_run_is_one(tmp_path: Path) -> None:
    """Every third data set begins a run of three steps."""
    record(tmp_path)
    model = model_in(tmp_path, replace(SPEC, case=()))
    assert model.case_names() == ("test_data_set_0", "test_data_set_3")
    _, outputs = steps(1)
    assert plain(read_outputs(model, "test_data_set_3", FACTS)) == plain(outputs)


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (array(DType.STRING, (2, 2)), "tensor(string)"),
        (array(DType.BFLOAT16, (5,)), "tensor(bfloat16)"),
        (array(DType.FLOAT8E4M3FN, (5,)), "tensor(float8e4m3fn)"),
        (array(DType.INT4, (5,)), "tensor(int4)"),
        (np.zeros((0, 3), np.float32), "tensor(float)"),
        (np.array([np.nan, -0.0, np.inf]), "tensor(double)"),
        ((vector(1), vector(2)), "seq(tensor(float))"),
        ((), "seq(tensor(float))"),
        (({"a": vector(1), "ü": vector(2)},), "seq(map(string,tensor(float)))"),
        ({1: np.array(0.5, np.float32)}, "map(int64,tensor(float))"),
        (None, "optional(tensor(float))"),
        (vector(1), "optional(tensor(float))"),
    ],
    ids=repr,
)
def test_every_kind_of_value(tmp_path: Path, value: Value, kind: str) -> None:
    """What the reference gave is what is read, to the last bit."""
    port = Port(name="y", type=kind, shape=None)
    facts, model = replace(FACTS, outputs=(port,)), model_in(tmp_path, replace(SPEC, state=None))
    inputs, _ = steps(0)
    written = write_case(
        tmp_path, model, "first", facts, first=0, inputs=inputs[:1], outputs=[{"y": value}]
    )
    (read,) = read_outputs(model, "first", facts)
    assert same(read["y"], value)
    assert hash_values(read) == hash_values(written.outputs[0])


def refused(model: Model, case: str) -> HarnessError:
    """Return the error that reading a case ends with."""
    with pytest.raises(ModelFileError) as caught:
        read_inputs(model, case, FACTS)
    assert caught.value.code == "reference.recorded"
    return caught.value


def test_a_step_that_is_missing(tmp_path: Path) -> None:
    """Told with all data sets that the case should have."""
    model = record(tmp_path)
    shutil.rmtree(tmp_path / "test_data_set_4")
    error = refused(model, "second")
    assert error.what == "Recorded data set 'test_data_set_4' does not exist"
    expected = "one data set for each of 3 steps, test_data_set_3 to test_data_set_5"
    assert error.expected == expected


def test_steps_of_another_run(tmp_path: Path) -> None:
    """More steps than were recorded would read the next case's: their states do not follow."""
    record(tmp_path)
    longer = replace(SPEC, state=StateSpec(feedback={"next": "state"}, steps=4))
    error = refused(model_in(tmp_path, longer), "first")
    assert error.what == "Recorded data set 'test_data_set_3' does not follow the one before it"
    assert error.expected == "as input 'state' the output 'next' of the step before"


def test_data_sets_that_were_exchanged(tmp_path: Path) -> None:
    """Two steps in the wrong order are noticed before anything is run."""
    model = record(tmp_path)
    for source, target in (("1", "x"), ("2", "1"), ("x", "2")):
        (tmp_path / f"test_data_set_{source}").rename(tmp_path / f"test_data_set_{target}")
    assert refused(model, "first").what.startswith("Recorded data set 'test_data_set_1' does not")


@pytest.mark.parametrize(
    ("given", "reached", "same"),
    [
        (vector(1), vector(1), True),
        (vector(1), vector(1, np.float64), True),
        (vector(1), vector(2), False),
        (vector(np.nan), vector(np.nan), True),
        (vector(1), np.ones((1, 1), np.float32), False),
        (vector(1), None, False),
        (None, vector(1), False),
    ],
)
def test_states_that_follow(given: Value, reached: Value, same: bool) -> None:  # noqa: FBT001
    """Type aside, every bit counts; NaN follows NaN."""
    assert recordings._same_state(given, reached) is same


def large(count: int) -> Value:
    """Return a tensor of many elements."""
    return np.zeros(count, np.float32)


@pytest.mark.parametrize(
    ("value", "compared", "sampled"),
    [
        (large(LARGEST_WHOLE // 4), "close", False),
        (large(LARGEST_WHOLE // 4 + 1), "close", True),
        (large(LARGEST_WHOLE // 4 + 1), "labels", True),
        (large(LARGEST_WHOLE // 4 + 1), "set", False),
        ((large(LARGEST_WHOLE // 4 + 1),), "close", False),
        (np.array(["x" * LARGEST_WHOLE] * 2, dtype=object), "exact", False),
    ],
    ids=["10 MB", "above", "labels", "set", "sequence", "few large texts"],
)
def test_which_outputs_are_sampled(value: Value, compared: str, sampled: bool) -> None:  # noqa: FBT001
    """Tensors above 10 MB, unless their order may change or a sample would be all of it."""
    rule = OutputSpec(compare=compared)  # type: ignore[arg-type]  # one of the literals
    model = model_in(Path(), replace(SPEC, outputs={"y": rule}))
    kept = recordings._kept(model, "first", "y", 0, value)
    assert isinstance(kept, SampledTensor) is sampled
    assert sampled or kept is value


def test_large_states_are_held_to_their_sample(tmp_path: Path) -> None:
    """A state above 10 MB is sampled as output and whole as input: both still have to agree."""
    count = LARGEST_WHOLE // 4 + 1
    state = np.arange(count, dtype=np.float32)
    wide = InputSpec(dtype=DType.FLOAT32, shape=(count,))
    spec = replace(SPEC, inputs={"x": VECTOR, "state": wide})
    model = model_in(tmp_path, replace(spec, state=StateSpec(feedback={"next": "state"}, steps=2)))
    inputs: tuple[Values, ...] = ({"x": vector(1), "state": state}, {"x": vector(1)})
    outputs: list[Values] = [{"y": vector(1), "next": state + step} for step in (1, 2)]
    write_case(tmp_path, model, "first", FACTS, first=0, inputs=inputs, outputs=outputs)
    assert isinstance(read_outputs(model, "first", FACTS)[0]["next"], SampledTensor)
    assert len(read_inputs(model, "first", FACTS)) == 2
    write_value(tmp_path / "test_data_set_1" / "input_0.pb", state)
    assert refused(model, "first").what.startswith("Recorded data set 'test_data_set_1' does not")


def test_a_value_that_no_file_can_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused with its size before protobuf raises."""
    monkeypatch.setattr(recordings, "LARGEST_FILE", 3)
    inputs, outputs = steps(0)
    with pytest.raises(ModelFileError) as caught:
        write_case(
            tmp_path, model_in(tmp_path), "first", FACTS, first=0, inputs=inputs, outputs=outputs
        )
    assert caught.value.what == (
        "The input 'state' holds 4 bytes, which no file of this layout can hold"
    )


@pytest.mark.parametrize("side", ["input", "output"])
def test_values_that_are_not_the_models(tmp_path: Path, side: str) -> None:
    """A value that the model does not name has no file, and a missing one would leave a gap."""
    inputs, outputs = steps(0)
    odd: Values = {"z": vector(1)}
    given = {"inputs": (odd,) if side == "input" else inputs[:1]}
    given["outputs"] = (odd,) if side == "output" else outputs[:1]
    with pytest.raises(HarnessError) as caught:
        write_case(tmp_path, model_in(tmp_path), "first", FACTS, first=0, **given)
    assert caught.value.what == f"The {side}s to record are not the model's {side}s"
