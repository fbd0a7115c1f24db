"""Cells: ids, globs, parts, and the matrix of a spec."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.domain.cells import (
    CASE_DEPTH,
    PROVIDER_DEPTH,
    VARIANT_DEPTH,
    Cell,
    expand,
    parts,
    short_name,
)
from harness.domain.spec import Candidate, ModelSpec, ProviderUse, Reference, Variant

CELL = Cell("mnist", "fp32", "cpu", "batch3")
NAMES = st.from_regex(r"[a-z0-9][a-z0-9_.-]{0,3}", fullmatch=True)


def spec(**providers: ProviderUse) -> ModelSpec:
    """Return a spec with the variants fp32 and fp16."""
    return ModelSpec(
        schema_version=1,
        candidate=Candidate(file="model.onnx"),
        reference=Reference(onnx=True),
        variants={"fp16": Variant(file="half.onnx")},
        providers=providers,
    )


def ids(model: ModelSpec, *cases: str, providers: tuple[str, ...] | None = None) -> list[str]:
    """Return the ids of all cells."""
    return [str(cell) for cell in expand("m", model, cases=cases, providers=providers)]


@pytest.mark.parametrize(
    ("depth", "name"),
    [
        (CASE_DEPTH, "mnist/fp32/cpu/batch3"),
        (PROVIDER_DEPTH, "mnist/fp32/cpu"),
        (VARIANT_DEPTH, "mnist/fp32"),
    ],
)
def test_ids_leave_out_open_places(depth: int, name: str) -> None:
    """A part's id ends where the part does."""
    assert str(CELL.part(depth)) == name


def test_every_variant_on_every_provider_in_every_case() -> None:
    """The matrix is the product, providers first."""
    assert ids(spec(cpu=ProviderUse(), cuda=ProviderUse()), "a", "b") == [
        "m/fp32/cpu/a",
        "m/fp32/cpu/b",
        "m/fp16/cpu/a",
        "m/fp16/cpu/b",
        "m/fp32/cuda/a",
        "m/fp32/cuda/b",
        "m/fp16/cuda/a",
        "m/fp16/cuda/b",
    ]


def test_a_provider_may_take_some_variants() -> None:
    """Declared variants limit the matrix."""
    model = spec(cpu=ProviderUse(variants=("fp16",)), cuda=ProviderUse())
    assert ids(model, "a") == ["m/fp16/cpu/a", "m/fp32/cuda/a", "m/fp16/cuda/a"]


def test_providers_asked_for_replace_the_declared_ones() -> None:
    """A runtime after `@` keeps the declaration of its provider; an undeclared one takes all."""
    model = spec(cpu=ProviderUse(variants=("fp16",)))
    asked = ("cpu@ort-1.31", "openvino")
    assert ids(model, "a", providers=asked) == [
        "m/fp16/cpu@ort-1.31/a",
        "m/fp32/openvino/a",
        "m/fp16/openvino/a",
    ]


def test_no_case_is_no_cell() -> None:
    """Nothing is made up."""
    assert ids(spec(cpu=ProviderUse())) == []


def test_parts_are_distinct_and_in_order() -> None:
    """Cells of one session share one part."""
    cells = [*expand("m", spec(cpu=ProviderUse(), cuda=ProviderUse()), cases=["a", "b"])]
    assert list(map(str, parts(cells, VARIANT_DEPTH))) == ["m/fp32", "m/fp16"]
    assert list(map(str, parts(cells, PROVIDER_DEPTH))) == [
        "m/fp32/cpu",
        "m/fp16/cpu",
        "m/fp32/cuda",
        "m/fp16/cuda",
    ]


def test_short_names() -> None:
    """What stands after `@` is the runtime."""
    assert [short_name(name) for name in ("cpu", "cpu@ort-1.31")] == ["cpu", "cpu"]


@given(
    st.lists(NAMES, unique=True, max_size=3),
    st.lists(NAMES, unique=True, max_size=3),
)
def test_ids_are_unique(cases: list[str], providers: list[str]) -> None:
    """No two cells share an id."""
    cells = [*expand("m", spec(), cases=cases, providers=providers)]
    assert len({str(cell) for cell in cells}) == len(cells) == 2 * len(cases) * len(providers)
