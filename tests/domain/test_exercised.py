"""Laws that no example exercised: which, why, and what to change."""

from __future__ import annotations

from typing import Any

import pytest

from harness.domain.dtypes import DType
from harness.domain.examples import Space
from harness.domain.exercised import LAW_COUNTERS, unexercised
from harness.domain.receipts import Receipt
from harness.domain.spec import (
    Candidate,
    DimSpec,
    InputSpec,
    ModelSpec,
    PaddingSpec,
    PropertiesSpec,
    Reference,
)

CUT_DOWN = "'b' was cut down to 1 by properties.max_elements = 4: two rows have 8 elements at least"


def space(size: DimSpec, **properties: Any) -> Space:
    """Return the space of a model with one input of shape [b, 4]."""
    return Space(
        spec=ModelSpec(
            schema_version=1,
            candidate=Candidate(file="model.onnx"),
            reference=Reference(onnx=True),
            inputs={"x": InputSpec(dtype=DType.FLOAT32, shape=("b", 4))},
            dims={"b": size},
            properties=PropertiesSpec(**properties),
        )
    )


@pytest.mark.parametrize("law", ["batch", "permutation"])
@pytest.mark.parametrize(
    ("size", "max_elements", "got", "next_step"),
    [
        (
            DimSpec(max=1000),
            4,
            CUT_DOWN,
            "raise properties.max_elements to 8 or more, or drop the law",
        ),
        (DimSpec(max=1), 4, "'b' is at most 1", "raise dims.b.max, or drop the law"),
        (
            DimSpec(max=9),
            8,
            "'b' was below 2 in every example",
            "set dims.b.min = 2, raise properties.max_elements (now 8) or properties.examples",
        ),
    ],
    ids=["cut-down", "one-row", "by-chance"],
)
def test_a_law_of_rows_without_two_rows(
    law: str, size: DimSpec, max_elements: int, got: str, next_step: str
) -> None:
    """The finding names the law, what keeps the rows away, and what to change."""
    asked = space(size, max_elements=max_elements, **{law: "b"})
    (finding,) = unexercised(asked, Receipt(counts={"examples_judged": 25}))
    counter = LAW_COUNTERS[f"property.{law}"]
    assert finding.code == "receipt.empty"
    assert finding.what == (
        f"Nothing was checked of a declared law: {counter} is zero over 25 examples"
    )
    assert (finding.where, finding.expected) == (f"spec, properties.{law}", f"{counter} above zero")
    assert (finding.got, finding.next_step) == (got, next_step)


@pytest.mark.parametrize(
    ("size", "got"),
    [
        (DimSpec(min=3, max=3), "'b' is always 3"),
        (DimSpec(max=3), "'b' was 3, its max, in every example"),
    ],
)
def test_padding_without_room(size: DimSpec, got: str) -> None:
    """What is as large as it may be cannot be padded."""
    (finding,) = unexercised(space(size, padding=PaddingSpec(dim="b", mask="x")), Receipt())
    assert (finding.where, finding.got) == ("spec, properties.padding", got)


@pytest.mark.parametrize(
    ("properties", "where"),
    [
        ({"repetitions": 2}, "spec, properties.repetitions"),
        ({"threads": (2,)}, "spec, properties.threads"),
    ],
)
def test_further_runs_that_never_were(properties: dict[str, Any], where: str) -> None:
    """They depend on no size: no example ran."""
    (finding,) = unexercised(space(DimSpec(max=3), **properties), Receipt())
    assert (finding.where, finding.got) == (where, "no example ran")


def test_each_law_is_told_unless_it_was_compared_once() -> None:
    """One comparison is enough; a law that is not declared is not missed."""
    laws = {
        "batch": "b",
        "permutation": "b",
        "padding": PaddingSpec(dim="b", mask="x"),
        "repetitions": 2,
        "threads": (2,),
    }
    asked = space(DimSpec(max=3), **laws)
    assert len(list(unexercised(asked, Receipt()))) == len(LAW_COUNTERS)
    for counter in LAW_COUNTERS.values():
        found = unexercised(asked, Receipt(counts={counter: 1}))
        assert not any(counter in finding.what for finding in found)
    assert not list(unexercised(space(DimSpec(max=3)), Receipt()))
