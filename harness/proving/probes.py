"""Inputs on which mutants are compared with their original: the suite's own, then drawn ones.

What is drawn is drawn as a case of the spec would be, so that a case of that name, added to the
spec, has the very inputs that showed a difference.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from harness.domain import dtypes
from harness.domain.spec import CaseSpec, InputSpec, ModelSpec
from harness.domain.values import Values
from harness.evidence import Evidence
from harness.files import cases
from harness.files.models import Model

#: Over so many inputs a mutant must not differ to be called equivalent.
WANTED = 1000
#: Rows of one drawn batch: more would only need more memory.
MOST_ROWS = 64
#: How far ranges are widened to see whether a difference lies outside them.
WIDER = 4.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """Inputs of one run, or of the consecutive runs of a recurrent model."""

    name: str
    steps: tuple[Values, ...]
    declared: bool
    """Whether it is one of the suite's own cases."""
    inputs: int
    """How many inputs it counts for: rows x steps."""
    dims: Mapping[str, int]

    @property
    def as_case(self) -> str:
        """Return the lines of a spec that add this case."""
        sizes = ", ".join(f"{name} = {size}" for name, size in self.dims.items())
        dims = f"\ndims = {{ {sizes} }}" if sizes else ""
        return f'[[case]]\nname = "{self.name}"{dims}'


class Probes:
    """The probes of one model."""

    def __init__(self, model: Model, evidence: Evidence) -> None:
        self._model = model
        self._evidence = evidence
        self._spec = model.spec if model.spec.inputs else _implied(model, evidence)

    def declared(self) -> Iterator[Probe]:
        """Yield the suite's own cases."""
        for cell in self._model.cells(("cpu",)):
            steps = self._evidence.inputs(cell)
            yield Probe(
                name=cell.case,
                steps=steps,
                declared=True,
                inputs=len(steps) * _rows(steps[0]),
                dims={},
            )

    def drawn(self) -> Iterator[Probe]:
        """Yield drawn probes without end."""
        for number in itertools.count(1):
            yield self._draw(f"drawn{number}", self._spec)

    def enough(self) -> Iterator[Probe]:
        """Yield drawn probes until they count for `WANTED` inputs."""
        counted = 0
        for probe in self.drawn():
            yield probe
            counted += probe.inputs
            if counted >= WANTED:
                return

    def outside(self, count: int) -> Iterator[Probe]:
        """Yield probes whose floating inputs come from ranges widened `WIDER` times."""
        inputs = {name: _widened(port) for name, port in self._spec.inputs.items()}
        for number in range(count):
            yield self._draw(f"outside{number + 1}", replace(self._spec, inputs=inputs))

    def _draw(self, name: str, spec: ModelSpec) -> Probe:
        dims, batch = self._dims(spec)
        case = CaseSpec(name=name, dims=dims)
        steps = cases.build(self._model.name, spec, case, self._model.folder)
        rows = dims[batch] if batch else 1
        return Probe(name=name, steps=steps, declared=False, inputs=len(steps) * rows, dims=dims)

    def _dims(self, spec: ModelSpec) -> tuple[dict[str, int], str]:
        """Return the sizes of a drawn probe: large batches, everything else as small as a case."""
        batch = _batch(spec)
        dims = {
            name: min((case.dims[name] for case in spec.case if name in case.dims),
                      default=size.min)
            for name, size in spec.dims.items()
        }  # fmt: skip
        if batch:
            dims[batch] = min(spec.dims[batch].max, MOST_ROWS)
        return dims, batch


def _batch(spec: ModelSpec) -> str:
    """Return the dimension that is first of the first input and in every input with a shape."""
    shaped = [port.shape for port in spec.inputs.values() if port.shape]
    if not shaped or not isinstance(shaped[0][0], str):
        return ""
    return shaped[0][0] if all(shaped[0][0] in shape for shape in shaped) else ""


def _rows(feeds: Values) -> int:
    sizes = [value.shape[0] for value in feeds.values()
             if isinstance(value, np.ndarray) and value.ndim]  # fmt: skip
    return max(sizes[0], 1) if sizes else 1


def _implied(model: Model, evidence: Evidence) -> ModelSpec:
    """Return the spec with inputs as the recorded ones are: their shapes, types and ranges."""
    recorded = [evidence.inputs(cell)[0] for cell in model.cells(("cpu",))]
    inputs = {}
    for name in recorded[0]:
        arrays = [each[name] for each in recorded]
        if not all(isinstance(array, np.ndarray) for array in arrays):
            return model.spec
        inputs[name] = _port([array for array in arrays if isinstance(array, np.ndarray)])
    return replace(model.spec, inputs=inputs)


def _port(arrays: list[np.ndarray]) -> InputSpec:
    dtype, shape = dtypes.of_array(arrays[0]), tuple(arrays[0].shape)
    if not (dtype.is_floating or dtype.is_integer):
        return InputSpec(dtype=dtype, shape=shape)
    low = min(float(array.min()) for array in arrays)
    high = max(float(array.max()) for array in arrays)
    high += 1.0 if dtype.is_integer or high == low else 0.0
    return InputSpec(dtype=dtype, shape=shape, range=(low, high))


def _widened(port: InputSpec) -> InputSpec:
    if not port.dtype.is_floating or port.values is not None:
        return port
    low, high = port.range or (-1.0, 1.0)
    middle, half = (low + high) / 2, (high - low) / 2 * WIDER
    return replace(port, range=(middle - half, middle + half))
