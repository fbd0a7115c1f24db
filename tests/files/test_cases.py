"""The inputs of a case: drawn, read from `.npz`, step by step."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from harness.domain import inputs as drawing
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
from harness.errors import SpecError
from harness.files import cases

X = InputSpec(dtype=DType.FLOAT32, shape=("batch", 2))
STATE = StateSpec(feedback={"hn": "h"}, steps=3)

_buffer = io.BytesIO()
np.save(_buffer, np.ones((2, 2), np.float32))
NPY = _buffer.getvalue()


def spec(state: StateSpec | None = None, **inputs: InputSpec) -> ModelSpec:
    """Return a spec with these inputs."""
    return ModelSpec(
        schema_version=1,
        candidate=Candidate(file="model.onnx"),
        reference=Reference(onnx=True),
        inputs=inputs or {"x": X},
        dims={"batch": DimSpec(max=8), "fixed": DimSpec(min=3, max=3)},
        state=state,
    )


def built(
    folder: Path, model: ModelSpec, arrays: dict[str, Any] | None = None, batch: int = 2
) -> tuple[Values, ...]:
    """Build the inputs of a case `a`, with an `.npz` file if there are arrays."""
    if arrays is not None:
        np.savez(folder / "a.npz", allow_pickle=True, **arrays)
    file = None if arrays is None else "a.npz"
    case = CaseSpec(name="a", dims={"batch": batch}, inputs=file)
    return cases.build("m", model, case, folder)


def refused(folder: Path, model: ModelSpec, arrays: dict[str, Any]) -> SpecError:
    """Return why inputs are refused."""
    with pytest.raises(SpecError) as caught:
        built(folder, model, arrays)
    assert caught.value.code == "spec.inputs"
    return caught.value


def test_drawn_inputs(tmp_path: Path) -> None:
    """Model, case, input and step are the key of a draw."""
    (values,) = built(tmp_path, spec())
    expected = drawing.draw(X, (2, 2), key=("m", "a", "x", "0"))
    assert np.asarray(values["x"]).tolist() == expected.tolist()


def test_dimensions_of_one_size_need_no_mention(tmp_path: Path) -> None:
    """Only open dimensions are the case's business."""
    model = spec(x=InputSpec(dtype=DType.FLOAT32, shape=("fixed",)))
    (values,) = built(tmp_path, model)
    assert np.asarray(values["x"]).shape == (3,)


def test_given_and_drawn_inputs_together(tmp_path: Path) -> None:
    """What the file lacks is drawn."""
    given = np.ones((5, 2), np.float32)
    (values,) = built(tmp_path, spec(x=X, z=X), {"x": given}, batch=5)
    assert np.asarray(values["x"]).tolist() == given.tolist()
    assert np.asarray(values["z"]).shape == (5, 2)


@pytest.mark.parametrize(
    ("dtype", "array"),
    [
        (DType.STRING, np.array(["a", "bc"])),
        (DType.BFLOAT16, np.array([1, 2]).astype(ml_dtypes.bfloat16)),
        (DType.INT4, np.array([1, -8]).astype(ml_dtypes.int4)),
        (DType.BOOL, np.array([True, False])),
    ],
)
def test_types_that_numpy_stores_otherwise(tmp_path: Path, dtype: DType, array: Any) -> None:
    """Texts and the types of ml_dtypes come back as the declared type."""
    (values,) = built(tmp_path, spec(x=InputSpec(dtype=dtype, shape=(2,))), {"x": array})
    got = np.asarray(values["x"])
    assert got.dtype == dtype.numpy
    assert got.tolist() == array.tolist()


@pytest.mark.parametrize(
    "array",
    [
        np.ones((2, 2), np.float64),
        np.ones((2, 2), np.int32),
        np.ones((2, 3), np.float32),
        np.ones((3, 2), np.float32),
        np.ones(2, np.float32),
        np.ones((2, 2, 1), np.float32),
    ],
)
def test_arrays_that_do_not_fit(tmp_path: Path, array: np.ndarray[Any, Any]) -> None:
    """Nothing is cast, nothing is reshaped."""
    problem = refused(tmp_path, spec(), {"x": array})
    assert str(problem) == (
        "Array for input 'x' does not fit the spec\n"
        f"  where:    {tmp_path}/model.toml, case 'a'\n"
        "  expected: float32 [2, 2]\n"
        f"  got:      {array.dtype.name} {list(array.shape)}\n"
        "  next:     write the file again with the declared type and shape"
    )


def test_arrays_without_an_input(tmp_path: Path) -> None:
    """An array that nothing reads is a misspelled name."""
    problem = refused(tmp_path, spec(), {"X": np.ones((2, 2), np.float32)})
    assert problem.what == "Inputs file holds 'X', which is no input of the spec"


@pytest.mark.parametrize("content", [None, b"", b"PK\3\4 not an archive", b"\x93NUMPY", NPY])
def test_files_that_cannot_be_read(tmp_path: Path, content: bytes | None) -> None:
    """A missing or broken archive, or a single array, is the case's fault."""
    if content is not None:
        (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(SpecError) as caught:
        cases.build("m", spec(), CaseSpec(name="a", inputs="a.npz"), tmp_path)
    assert caught.value.what == "Inputs 'a.npz' cannot be read"
    assert caught.value.code == "spec.inputs"


def test_pickles_are_not_loaded(tmp_path: Path) -> None:
    """An object array would run code."""
    problem = refused(tmp_path, spec(), {"x": np.array([{}], dtype=object)})
    assert problem.what == "Inputs 'a.npz' cannot be read"


def test_steps_of_a_recurrent_model(tmp_path: Path) -> None:
    """Every step draws anew; the state is in the first step only, and zero."""
    first, *later = built(tmp_path, spec(STATE, x=X, h=X))
    assert np.asarray(first["h"]).tolist() == [[0, 0], [0, 0]]
    assert [list(step) for step in later] == [["x"], ["x"]]
    draws = {np.asarray(step["x"]).tobytes() for step in (first, *later)}
    assert len(draws) == 3


def test_given_steps(tmp_path: Path) -> None:
    """An array of a recurrent model has one more axis, its state has not."""
    given = np.arange(12, dtype=np.float32).reshape(3, 2, 2)
    state = np.full((2, 2), 7, np.float32)
    steps = built(tmp_path, spec(STATE, x=X, h=X), {"x": given, "h": state})
    assert [np.asarray(step["x"]).tolist() for step in steps] == given.tolist()
    assert np.asarray(steps[0]["h"]).tolist() == state.tolist()


def test_too_few_given_steps(tmp_path: Path) -> None:
    """Steps are not repeated."""
    given = np.ones((2, 2, 2), np.float32)
    problem = refused(tmp_path, spec(STATE, x=X, h=X), {"x": given})
    assert problem.what == "Recorded inputs are shorter than the model's steps"
    assert problem.expected == "a leading axis of at least 3 steps"
