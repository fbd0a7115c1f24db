"""What inspecting a model file told, and how its interface is held against the spec."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from harness.domain.findings import Finding
from harness.domain.session import Port
from harness.domain.spec import InputSpec, ModelSpec

#: Faults that leave the file's other facts unknown.
UNREADABLE = frozenset({"model.missing", "model.unreadable"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """What is known of a model file without running it."""

    hash: str
    """Model hash: SHA-256 without metadata, doc strings and producer, plus external data."""
    size_bytes: int
    """File and external data."""
    ir_version: int
    opsets: Mapping[str, int]
    producer: str
    nodes: int
    """Nodes, those in subgraphs included."""
    parameters: int
    """Elements of all initializers."""
    inputs: tuple[Port, ...]
    """Inputs without a default."""
    outputs: tuple[Port, ...]
    faults: tuple[tuple[str, str], ...]
    """Finding code and message."""


def judge_contract(
    facts: ModelFacts, spec: ModelSpec, *, cell: str, path: str
) -> Iterator[Finding]:
    """Yield what is wrong with the file or its interface."""
    for code, message in facts.faults:
        yield Finding(
            code=code,
            what=f"Model file of '{cell}': {message.splitlines()[0]}",
            where=path,
            got=message if "\n" in message else "",
            next_step="export or fetch the model again",
        )
    if any(code in UNREADABLE for code, _ in facts.faults):
        return  # nothing is known of its interface
    if spec.inputs:
        yield from _judge_inputs(facts, spec, cell, path)
    if spec.outputs:
        yield from _judge_names(
            "output", cell, path, declared=list(spec.outputs), real=[p.name for p in facts.outputs]
        )


def _judge_inputs(facts: ModelFacts, spec: ModelSpec, cell: str, path: str) -> Iterator[Finding]:
    real = {port.name: port for port in facts.inputs}
    yield from _judge_names("input", cell, path, declared=list(spec.inputs), real=list(real))
    for name, declared in spec.inputs.items():
        if name in real:
            yield from _judge_input(name, declared, real[name], cell)


def _judge_names(
    side: str, cell: str, path: str, *, declared: list[str], real: list[str]
) -> Iterator[Finding]:
    if set(declared) == set(real):
        return
    unused = [name for name in declared if name not in real]
    missing = [name for name in real if name not in declared]
    said = [f"spec names '{name}', which the model lacks" for name in unused]
    said += [f"model has '{name}', which the spec lacks" for name in missing]
    yield Finding(
        code=f"contract.{side}",
        what=f"{side.capitalize()}s of '{cell}' are not those of its spec: {'; '.join(said)}",
        where=path,
        expected=f"{declared} (spec, {side}s)",
        got=str(real),
        next_step=f"correct the tables [{side}s.NAME] or the export",
    )


def _judge_input(name: str, declared: InputSpec, real: Port, cell: str) -> Iterator[Finding]:
    if real.type != f"tensor({_ort_name(declared)})":
        yield Finding(
            code="contract.dtype",
            what=f"Input '{name}' of '{cell}' is {real.type}, its spec says {declared.dtype}",
            where=f"inputs.{name}.dtype",
            expected=str(declared.dtype),
            got=real.type,
        )
    if not _shapes_agree(declared.shape, real.shape):
        yield Finding(
            code="contract.shape",
            what=f"Input '{name}' of '{cell}' has another shape than its spec",
            where=f"inputs.{name}.shape",
            expected=str(list(declared.shape)),
            got=str(list(real.shape or ())),
            next_step=_shape_advice(name, declared.shape, real.shape or ()),
        )


def _shape_advice(
    name: str, declared: tuple[int | str, ...], real: tuple[int | str | None, ...]
) -> str:
    if len(declared) == len(real):
        for size, got in zip(declared, real, strict=True):
            if isinstance(size, str) and isinstance(got, int):
                return (
                    f"'{size}' is a name in the spec, so it must be free in the model: export it "
                    f"as a dynamic dimension, or write {got}"
                )
    return f"correct inputs.{name}.shape, or the export"


def _ort_name(declared: InputSpec) -> str:
    return {"float32": "float", "float64": "double"}.get(declared.dtype, declared.dtype)


def _shapes_agree(
    declared: tuple[int | str, ...], real: tuple[int | str | None, ...] | None
) -> bool:
    """A fixed size must be that size or free in the model; a named one must be free."""
    if real is None:
        return True
    return len(declared) == len(real) and all(
        not isinstance(got, int) or got == size for size, got in zip(declared, real, strict=False)
    )
