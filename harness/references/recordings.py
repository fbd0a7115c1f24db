"""Recorded references, read and written: the inputs and outputs of every step of a case.

Each step is a data set of the model-zoo layout that can be run alone, with the state that the
reference had reached among its inputs. The harness feeds the state of the first step only: later
ones come from the candidate itself, so that drift shows. The recorded states serve to prove that
the data sets belong together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harness.domain import samples
from harness.domain.model_facts import ModelFacts
from harness.domain.session import Port
from harness.domain.values import SampledTensor, Value, Values
from harness.errors import ModelFileError, RunFailed
from harness.files import zoo
from harness.files.models import Model

#: Protobuf ends at 2 GiB; a little is left for names and shapes.
LARGEST_FILE = 2**31 - 2**16


def read_inputs(model: Model, case: str, facts: ModelFacts) -> tuple[Values, ...]:
    """Return the recorded inputs of every step; only the first holds the states.

    Raises:
        ModelFileError: If a data set is missing, broken, or does not follow the one before it.
    """
    steps = _read(model, case, "input", facts.inputs)
    if len(steps) > 1:
        _refuse_other_run(model, case, steps, read_outputs(model, case, facts))
    states = set(_feedback(model).values())
    later = [
        {name: value for name, value in step.items() if name not in states} for step in steps[1:]
    ]
    return steps[0], *later


def read_outputs(model: Model, case: str, facts: ModelFacts) -> tuple[Values, ...]:
    """Return the recorded outputs of every step.

    Raises:
        ModelFileError: If a data set is missing or broken.
    """
    return _read(model, case, "output", facts.outputs)


def _read(model: Model, case: str, side: str, ports: Sequence[Port]) -> tuple[Values, ...]:
    names, types = [port.name for port in ports], [port.type for port in ports]
    folders = _folders(model, case)
    return tuple(zoo.read_set(folder, side, names=names, types=types) for folder in folders)


def _folders(model: Model, case: str) -> tuple[Path, ...]:
    """Return the data sets of a case, one for each step."""
    if model.recorded is None:
        msg = f"'{model.name}' has no recorded reference"
        raise ValueError(msg)
    first = model.case(case).data_set or case
    names = zoo.following_sets(first, model.steps)
    for name in names:
        if not (model.recorded / name).is_dir():
            raise _missing(model, model.recorded / name, names)
    return tuple(model.recorded / name for name in names)


def _missing(model: Model, folder: Path, names: Sequence[str]) -> ModelFileError:
    known = ", ".join(zoo.data_sets(folder.parent)) or "test_data_set_N"
    steps = f"one data set for each of {model.steps} steps, {names[0]} to {names[-1]}"
    msg = f"Recorded data set '{folder.name}' does not exist"
    return ModelFileError(
        msg,
        code="reference.recorded",
        where=str(folder),
        expected=f"one of {known}" if len(names) == 1 else steps,
        next_step="a case of a recorded reference has the name of its folder, or gives it as "
        "data_set",
    )


def _refuse_other_run(
    model: Model, case: str, inputs: Sequence[Values], outputs: Sequence[Values]
) -> None:
    """Refuse data sets that are not consecutive steps: each starts where the last one ended."""
    for step in range(1, len(inputs)):
        for output, name in _feedback(model).items():
            given, reached = inputs[step].get(name), outputs[step - 1].get(output)
            if not _same_state(given, reached):
                folder = _folders(model, case)[step]
                msg = f"Recorded data set '{folder.name}' does not follow the one before it"
                raise ModelFileError(
                    msg,
                    code="reference.recorded",
                    where=f"{folder}, step {step} of case '{case}'",
                    expected=f"as input '{name}' the output '{output}' of the step before",
                    got="another state",
                    next_step="record the model again; see that state.steps is what was recorded",
                )


def _same_state(given: Value, reached: Value) -> bool:
    """Return whether an input holds the state that was reached, in the input's own type."""
    if not isinstance(given, np.ndarray):
        return False
    if isinstance(reached, SampledTensor):
        fits = given.shape == reached.shape
        return fits and _same_state(given.reshape(-1)[reached.positions], reached.elements)
    if not isinstance(reached, np.ndarray) or given.shape != reached.shape:
        return False
    wanted = reached.astype(given.dtype)
    return bool(given.tolist() == wanted.tolist() or given.tobytes() == wanted.tobytes())


def _feedback(model: Model) -> dict[str, str]:
    return {} if model.spec.state is None else model.spec.state.feedback


# writing


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenCase:
    """What was recorded of one case."""

    data_sets: tuple[str, ...]
    """One for each step."""
    inputs: tuple[Values, ...]
    """Of every step, as they are read back."""
    outputs: tuple[Values, ...]
    """Of every step, large ones as samples."""


def write_case(
    folder: Path,
    model: Model,
    case: str,
    facts: ModelFacts,
    *,
    first: int,
    inputs: Sequence[Values],
    outputs: Sequence[Values],
) -> WrittenCase:
    """Write one data set for each step of a case.

    Args:
        folder: Where the data sets go.
        model: The model whose live reference gave the outputs.
        case: Name of the case.
        facts: Of the candidate's file: names, order and types of inputs and outputs.
        first: Number of the first data set.
        inputs: Of every step, as `harness.files.cases` builds them.
        outputs: The reference's, of every step.

    Raises:
        HarnessError: If a value is missing or cannot be written.
    """
    kept = tuple(
        {name: _kept(model, case, name, step, value) for name, value in values.items()}
        for step, values in enumerate(outputs)
    )
    names = zoo.following_sets(f"test_data_set_{first}", len(inputs))
    for step, name in enumerate(names):
        home = folder / name
        home.mkdir()
        known = {**inputs[step], **_reached(model, outputs[step - 1] if step else {})}
        _write_side(home, "input", known, facts.inputs)
        _write_side(home, "output", kept[step], facts.outputs)
    return WrittenCase(data_sets=names, inputs=tuple(inputs), outputs=kept)


def _reached(model: Model, outputs: Values) -> Values:
    """Return the states that a step starts with, in the types of its inputs."""
    return {
        name: value.astype(model.spec.inputs[name].dtype.numpy)
        for output, name in _feedback(model).items()
        if isinstance(value := outputs.get(output), np.ndarray)
    }


def _kept(model: Model, case: str, output: str, step: int, value: Value) -> Value:
    """Return a value, or its sample if it is a large tensor whose elements have places."""
    if not isinstance(value, np.ndarray) or samples.needs_whole(output, model.spec.outputs):
        return value
    if value.size <= samples.COUNT or samples.size_bytes(value) <= samples.LARGEST_WHOLE:
        return value
    return samples.sample(value, (model.name, case, output, str(step)))


def _write_side(folder: Path, side: str, values: Values, ports: Sequence[Port]) -> None:
    names = [port.name for port in ports]
    if set(names) != set(values):
        msg = f"The {side}s to record are not the model's {side}s"
        raise RunFailed(
            msg,
            code=f"contract.{side}" if side == "input" else "parity.outputs",
            where=str(folder.name),
            expected=str(names),
            got=str(list(values)),
            next_step="see what the contract and parity suites say of the model",
        )
    for index, port in enumerate(ports):
        value = values[port.name]
        _refuse_too_large(f"{side} '{port.name}'", value)
        optional = port.type.startswith("optional(")
        path = folder / f"{side}_{index}.pb"
        zoo.write_value(path, value, optional=optional, name=port.name)


def _refuse_too_large(what: str, value: Value) -> None:
    size = samples.size_bytes(value)
    if size > LARGEST_FILE:
        msg = f"The {what} holds {size} bytes, which no file of this layout can hold"
        raise ModelFileError(
            msg,
            code="reference.recorded",
            expected=f"at most {LARGEST_FILE} bytes; outputs above {samples.LARGEST_WHOLE} are "
            "sampled, unless they are no tensors or compared as sets",
            next_step="choose a smaller case",
        )
