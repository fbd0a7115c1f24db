"""Inputs on which mutants are compared."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import cast

import numpy as np

from harness.domain.cells import Cell
from harness.domain.dtypes import DType
from harness.domain.spec import (
    Candidate,
    CaseSpec,
    DimSpec,
    InputSpec,
    ModelSpec,
    Reference,
    StateSpec,
)
from harness.domain.values import Values
from harness.evidence import Evidence
from harness.files import cases
from harness.files.models import Model
from harness.proving.probes import MOST_ROWS, WANTED, Probe, Probes


class Recorded:
    """Stands for the evidence of a model: it knows the inputs of its cases."""

    def inputs(self, cell: Cell) -> tuple[Values, ...]:
        """Return other inputs for each case."""
        low, high = (-2.0, 0.5) if cell.case == "one" else (0.0, 3.0)
        return ({"x": np.array([[low, high]], dtype=np.float32)},)


def model(inputs: dict[str, InputSpec], dims: dict[str, DimSpec], **more: object) -> Model:
    """Return a model with two cases."""
    first = dict.fromkeys(dims, 2)
    found = (CaseSpec(name="one", dims=first), CaseSpec(name="two", dims=dict.fromkeys(dims, 7)))
    spec = ModelSpec(
        schema_version=1,
        candidate=Candidate(file="model.onnx"),
        reference=Reference(onnx=True),
        inputs=inputs,
        dims=dims,
        case=found,
        **more,  # type: ignore[arg-type] # each test gives what it is about
    )
    return Model(name="tiny", folder=Path("tiny"), spec=spec)


def probes(made: Model) -> Probes:
    """Return the probes of a model."""
    return Probes(made, cast("Evidence", Recorded()))


def first(made: Model) -> Probe:
    """Return the first drawn probe."""
    return next(probes(made).drawn())


ROWS = InputSpec(dtype=DType.FLOAT32, shape=("batch", "tokens"))
FLAG = InputSpec(dtype=DType.FLOAT32, shape=())
BATCH = {"batch": DimSpec(max=1000), "tokens": DimSpec(max=50)}


def test_rows_of_a_batch_are_inputs() -> None:
    """The batch is large, other free dimensions are as small as in the smallest case."""
    probe = first(model({"x": ROWS, "flag": FLAG}, BATCH))
    assert probe.dims == {"batch": MOST_ROWS, "tokens": 2}
    assert probe.inputs == MOST_ROWS


def test_a_dimension_that_not_every_input_has_is_no_batch() -> None:
    """Frames of one voice are no inputs of their own."""
    state = InputSpec(dtype=DType.FLOAT32, shape=(1, 4))
    probe = first(model({"x": ROWS, "h": state}, BATCH))
    assert (probe.dims["batch"], probe.inputs) == (2, 1)


def test_each_step_of_a_recurrent_model_is_an_input() -> None:
    """Steps times rows."""
    state = StateSpec(feedback={"out": "x"}, steps=5)
    probe = first(model({"x": ROWS, "y": ROWS}, BATCH, state=state))
    assert (len(probe.steps), probe.inputs) == (5, 5 * MOST_ROWS)


def test_there_are_enough_and_no_more() -> None:
    """As many probes as reach the number of inputs that is wanted."""
    found = list(probes(model({"x": ROWS}, BATCH)).enough())
    assert len(found) == -(-WANTED // MOST_ROWS)
    assert len(list(islice(probes(model({"x": ROWS}, BATCH)).drawn(), 99))) == 99


def test_a_probe_is_the_case_that_it_prints() -> None:
    """Added to the spec, the case has the same inputs."""
    made = model({"x": ROWS}, BATCH)
    probe = first(made)
    assert probe.as_case == '[[case]]\nname = "drawn1"\ndims = { batch = 64, tokens = 2 }'
    case = CaseSpec(name="drawn1", dims=dict(probe.dims))
    (again,) = cases.build("tiny", made.spec, case, made.folder)
    np.testing.assert_array_equal(np.asarray(again["x"]), np.asarray(probe.steps[0]["x"]))


def test_wider_ranges_are_wider() -> None:
    """Four times as wide, around the same middle."""
    ranged = InputSpec(dtype=DType.FLOAT32, shape=("batch",), range=(0.0, 1.0))
    made = model({"x": ranged}, {"batch": DimSpec(max=1000)})
    values = np.concatenate([np.asarray(p.steps[0]["x"]) for p in probes(made).outside(5)])
    assert (-1.5 <= values.min() < -1.3, 2.3 < values.max() <= 2.5) == (True, True)


def test_recordings_imply_shapes_and_ranges() -> None:
    """Without declared inputs, drawn ones are like those that were recorded."""
    probe = first(model({}, {}))
    values = np.concatenate([np.asarray(p.steps[0]["x"]).ravel()
                             for p in islice(probes(model({}, {})).drawn(), 200)])  # fmt: skip
    assert np.asarray(probe.steps[0]["x"]).shape == (1, 2)
    assert (-2 <= values.min() < -1.9, 2.9 < values.max() < 3) == (True, True)
