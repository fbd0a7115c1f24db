"""Examples: sizes and fillings drawn from a spec."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from harness.domain.dtypes import DType
from harness.domain.examples import Example, Space, favoured_sizes
from harness.domain.fillings import Filling
from harness.domain.spec import (
    Candidate,
    DimSpec,
    InputSpec,
    LeaveOut,
    ModelSpec,
    OutputSpec,
    PropertiesSpec,
    Reference,
    Relation,
    StateSpec,
)

X = InputSpec(dtype=DType.FLOAT32, shape=("batch", 3), range=(-1, 1))


def model(**fields: Any) -> ModelSpec:
    """Return a spec with the input `x` and a batch of up to 64."""
    known: dict[str, Any] = {"inputs": {"x": X}, "dims": {"batch": DimSpec(max=64)}}
    return ModelSpec(
        schema_version=1,
        candidate=Candidate(file="model.onnx"),
        reference=Reference(onnx=True),
        **{**known, **fields},
    )


def some(space: Space, count: int = 300) -> list[Example]:
    """Return drawn examples."""
    numbers = random.Random(1)  # noqa: S311 - any numbers do
    return [space.draw(numbers.randrange) for _ in range(count)]


def test_the_plainest_example_is_all_zeros_of_the_drawing() -> None:
    """Shrinking ends at the smallest size, the first kind, seed 0, and no special value."""
    assert Space(spec=model()).draw(lambda _: 0) == Example(
        dims={"batch": 1}, inputs={"x": Filling()}
    )


def test_sizes_never_fall_while_their_number_grows() -> None:
    """A smaller number is never a larger size, so that shrinking finds the smallest one."""
    space = Space(spec=model())

    def size(number: int) -> int:
        """Return the size that a number stands for; the other choices are 0."""
        return space.draw(lambda below: min(number, below - 1) if 64 < below < 200 else 0).dims[
            "batch"
        ]

    sizes = [size(number) for number in range(120)]
    assert sizes == sorted(sizes)
    assert set(sizes) == set(range(1, 65))


def test_sizes_where_faults_sit_are_favoured() -> None:
    """Both ends, 1, odd neighbours of powers of two; half of all examples have one."""
    assert favoured_sizes(DimSpec(max=64)) == (1, 2, 3, 5, 7, 8, 9, 31, 32, 33, 63, 64)
    assert favoured_sizes(DimSpec(min=0, max=2)) == (0, 1, 2)
    assert favoured_sizes(DimSpec(min=4, max=4)) == (4,)
    sizes = [example.dims["batch"] for example in some(Space(spec=model()))]
    assert sum(size in favoured_sizes(DimSpec(max=64)) for size in sizes) > 150
    assert {1, 2, 63, 64} <= set(sizes)


def test_large_sizes_are_cut_down() -> None:
    """All inputs together hold no more elements than allowed, unless the least sizes do."""
    space = Space(spec=model(properties=PropertiesSpec(max_elements=30)))
    assert {8, 10} <= {example.dims["batch"] for example in some(space)} <= set(range(1, 11))
    assert space.fitting({"batch": 64}) == {"batch": 8}
    stuck = model(properties=PropertiesSpec(max_elements=1), dims={"batch": DimSpec(min=5, max=9)})
    assert Space(spec=stuck).fitting({"batch": 9}) == {"batch": 5}


def test_kinds_can_be_left_out() -> None:
    """What the spec leaves out is not drawn."""
    left_out = LeaveOut(kinds=("constant", "uniform"), reason="not meant for it")
    space = Space(spec=model(properties=PropertiesSpec(leave_out=left_out)))
    drawn = {example.inputs["x"].kind for example in some(space)}
    assert drawn == {"zeros", "ones", "ramp", "extremes", "sparse", "bell"}


@pytest.mark.parametrize("finite", ["required", "allowed"])
def test_nan_is_drawn_where_every_output_allows_it(finite: Any) -> None:
    """And nowhere else."""
    space = Space(spec=model(outputs={"y": OutputSpec(finite=finite)}))
    drawn = {mark.mark for each in some(space) for mark in each.inputs["x"].specials}
    assert ("nan" in drawn) == (finite == "allowed")
    assert {"low", "high", "+0", "-0", "denormal"} <= drawn


def test_real_rows_are_cut_to_the_drawn_sizes() -> None:
    """Inputs of one case keep their rows together, and relations are mended."""
    mask = InputSpec(dtype=DType.INT64, shape=("batch", "n"), relation=Relation(kind="prefix-mask"))
    ids = InputSpec(dtype=DType.INT64, shape=("batch", "n"), range=(0, 100))
    spec = model(inputs={"ids": ids, "mask": mask},
                 dims={"batch": DimSpec(max=4), "n": DimSpec(max=9)})  # fmt: skip
    real = {"ids": np.arange(6).reshape(2, 3), "mask": np.array([[1, 1, 0], [1, 1, 1]])}
    space = Space(spec=spec, real={"real": real})
    (step,) = space.fill(Example(dims={"batch": 3, "n": 4}, real="real", pick=1))
    assert np.asarray(step["ids"]).tolist() == [[3, 4, 5, 3], [0, 1, 2, 0], [3, 4, 5, 3]]
    assert np.asarray(step["mask"]).tolist() == [[1, 1, 1, 1], [1, 1, 0, 0], [1, 1, 1, 1]]
    drawn = some(space)
    assert 30 < sum(example.real == "real" for example in drawn) < 140
    assert all(space.fill(example) for example in drawn[:50])


def test_nearby_rows_differ_a_little() -> None:
    """They stay within the extremes of the real ones."""
    real = {"x": np.linspace(-0.5, 0.5, 6, dtype=np.float32).reshape(2, 3)}
    space = Space(spec=model(), real={"real": real})
    (near,) = space.fill(Example(dims={"batch": 2}, real="real", nearby=True))
    difference = np.abs(np.asarray(near["x"]) - real["x"])
    assert 0 < difference.max() <= 0.02
    assert np.abs(np.asarray(near["x"])).max() <= 0.5


def test_a_recurrent_model_gets_few_steps() -> None:
    """States are drawn if they have a range, and start at zero otherwise; later steps have none."""
    state = InputSpec(dtype=DType.FLOAT32, shape=("batch", 2))
    feedback = StateSpec(feedback={"yN": "state"}, steps=20)
    ranged = InputSpec(dtype=DType.FLOAT32, shape=("batch", 2), range=(-1, 1))
    for port, is_zero in ((state, True), (ranged, False)):
        space = Space(spec=model(inputs={"x": X, "state": port}, state=feedback))
        drawn = some(space, 60)
        assert {example.steps for example in drawn} == {1, 2, 3, 4}
        first, second = space.fill(Example(dims={"batch": 1}, steps=2, inputs={
            "x": Filling(), "state": Filling()}))  # fmt: skip
        assert (set(first), set(second)) == ({"x", "state"}, {"x"})
        assert (np.asarray(first["state"]) == 0).all() == is_zero
        assert np.asarray(first["x"]).tolist() != np.asarray(second["x"]).tolist()


def test_an_example_tells_itself_in_a_line() -> None:
    """Sizes, rows, then each input."""
    example = Example(dims={"batch": 2}, inputs={"x": Filling(kind="bell", seed=3)}, steps=2)
    assert str(example) == "batch = 2, 2 steps; x: bell, seed 3"
    rows = Example(dims={"batch": 2}, real="real", nearby=True, pick=4)
    assert str(rows) == "batch = 2; rows near case 'real', pick 4"
