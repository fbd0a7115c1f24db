"""A file's interface held against its spec."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.domain.dtypes import DType
from harness.domain.findings import Finding
from harness.domain.model_facts import ModelFacts, judge_contract
from harness.domain.session import Port
from harness.domain.spec import Candidate, InputSpec, ModelSpec, OutputSpec, Reference

FACTS = ModelFacts(
    hash="h",
    size_bytes=1,
    ir_version=10,
    opsets={"": 20},
    producer="",
    nodes=1,
    parameters=0,
    inputs=(Port(name="x", type="tensor(float)", shape=("batch", 3)),),
    outputs=(Port(name="y", type="tensor(float)", shape=None),),
    faults=(),
)


def spec(
    inputs: dict[str, InputSpec] | None = None, outputs: dict[str, OutputSpec] | None = None
) -> ModelSpec:
    """Return a spec with an interface."""
    return ModelSpec(
        schema_version=1,
        candidate=Candidate(file="model.onnx"),
        reference=Reference(onnx=True),
        inputs=inputs or {},
        outputs=outputs or {},
    )


def x(dtype: DType = DType.FLOAT32, *shape: int | str) -> dict[str, InputSpec]:
    """Return the declaration of the input `x`."""
    return {"x": InputSpec(dtype=dtype, shape=shape)}


def judged(facts: ModelFacts, declared: ModelSpec) -> list[Finding]:
    """Judge the contract of `m/fp32`."""
    return [*judge_contract(facts, declared, cell="m/fp32", path="m.onnx")]


@pytest.mark.parametrize(
    "declared",
    [
        spec(),
        spec(x(DType.FLOAT32, "batch", 3)),
        spec(x(DType.FLOAT32, 7, 3)),
        spec(outputs={"y": OutputSpec()}),
    ],
)
def test_agreement(declared: ModelSpec) -> None:
    """A fixed size fits a free dimension, and what a spec leaves out is not judged."""
    assert judged(FACTS, declared) == []


def test_names_of_inputs_in_full() -> None:
    """Both directions are told in one finding."""
    (finding,) = judged(FACTS, spec({"image": InputSpec(dtype=DType.FLOAT32)}))
    assert finding == Finding(
        code="contract.input",
        what="Inputs of 'm/fp32' are not those of its spec: spec names 'image', which the model "
        "lacks; model has 'x', which the spec lacks",
        where="m.onnx",
        expected="['image'] (spec, inputs)",
        got="['x']",
        next_step="correct the tables [inputs.NAME] or the export",
    )


@pytest.mark.parametrize("names", [("z",), ("y", "z")])
def test_names_of_outputs(names: tuple[str, ...]) -> None:
    """A declared output must exist."""
    findings = judged(FACTS, spec(outputs={name: OutputSpec() for name in names}))
    assert [finding.code for finding in findings] == ["contract.output"]


def test_an_output_that_the_spec_lacks() -> None:
    """Once a spec names outputs it names all."""
    port = Port(name="extra", type="tensor(float)", shape=None)
    facts = replace(FACTS, outputs=(*FACTS.outputs, port))
    (finding,) = judged(facts, spec(outputs={"y": OutputSpec()}))
    assert finding.code == "contract.output"


@pytest.mark.parametrize("dtype", [DType.FLOAT64, DType.FLOAT16, DType.INT64])
def test_type_of_an_input(dtype: DType) -> None:
    """The declared type must be the model's."""
    (finding,) = judged(FACTS, spec(x(dtype, "batch", 3)))
    assert finding == Finding(
        code="contract.dtype",
        what=f"Input 'x' of 'm/fp32' is tensor(float), its spec says {dtype}",
        where="inputs.x.dtype",
        expected=str(dtype),
        got="tensor(float)",
    )


CORRECT = "correct inputs.x.shape, or the export"
FREE = (
    "'n' is a name in the spec, so it must be free in the model: export it as a dynamic "
    "dimension, or write 3"
)


@pytest.mark.parametrize(
    ("shape", "advice"),
    [
        (("batch", 4), CORRECT),
        (("batch", "n"), FREE),
        (("batch",), CORRECT),
        ((), CORRECT),
        (("batch", "n", 1), CORRECT),
    ],
)
def test_shape_of_an_input(shape: tuple[int | str, ...], advice: str) -> None:
    """Rank and fixed sizes must agree; a named dimension must be free."""
    (finding,) = judged(FACTS, spec(x(DType.FLOAT32, *shape)))
    assert finding == Finding(
        code="contract.shape",
        what="Input 'x' of 'm/fp32' has another shape than its spec",
        where="inputs.x.shape",
        expected=str(list(shape)),
        got="['batch', 3]",
        next_step=advice,
    )


def test_a_model_without_a_declared_rank_fits_every_shape() -> None:
    """What the file leaves open cannot contradict."""
    facts = replace(FACTS, inputs=(replace(FACTS.inputs[0], shape=None),))
    assert judged(facts, spec(x(DType.FLOAT32, 1, 2, 3))) == []


def test_faults_of_the_file_come_first_and_whole() -> None:
    """Each fault is a finding; long messages keep their lines."""
    facts = replace(FACTS, faults=(("model.invalid", "one\ntwo"), ("model.no-outputs", "none")))
    first, second = judged(facts, spec())
    assert (first.what, first.got) == ("Model file of 'm/fp32': one", "one\ntwo")
    assert (second.code, second.got) == ("model.no-outputs", "")


@pytest.mark.parametrize("code", ["model.missing", "model.unreadable"])
def test_the_interface_of_an_unreadable_file_is_not_judged(code: str) -> None:
    """One cause, one finding."""
    facts = replace(FACTS, inputs=(), outputs=(), faults=((code, "gone"),))
    (finding,) = judged(facts, spec(x(), {"y": OutputSpec()}))
    assert finding.code == code
