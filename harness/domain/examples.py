"""Examples: points of the input space that a spec declares, drawn, filled and told in two lines.

An example is a small value: sizes, and for each input a filling. It is drawn by asking for whole
numbers below a bound, each of which shrinks towards 0, so whoever answers (hypothesis, a test)
needs to know nothing of models.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from harness.domain import relations
from harness.domain.fillings import KINDS, Filling, Special, Unit, ends, fill, marks
from harness.domain.inputs import raw_words, resolve_shape, zeros
from harness.domain.spec import STRICT, DimSpec, InputSpec, Kind, ModelSpec
from harness.domain.values import Array, Values

#: Answers with a whole number from 0 to below its argument.
Choose = Callable[[int], int]
#: What a case's file holds: input name to array.
Real = Mapping[str, Array]

#: Steps of a recurrent model in one example; the declared cases go all the way.
MOST_STEPS = 4
#: Special values in one input.
MOST_SPECIALS = 3
#: Arrays of a kind, and places of a special value, that can be told apart.
SEEDS, POSITIONS = 2**16, 2**20
#: Real rows are used in one example of so many, and moved a little in every second of these.
REAL_SHARE = 4
#: How far real values are moved, as a share of the input's range.
NEARBY = 0.01
#: Kinds by how often they are drawn: most inputs tell little where all elements are alike.
WEIGHTED_KINDS: tuple[Kind, ...] = (*KINDS, *("uniform", "bell") * 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One point of the input space."""

    __pydantic_config__: ClassVar = STRICT

    dims: dict[str, int] = field(default_factory=dict)
    """Sizes of the named dimensions."""
    inputs: dict[str, Filling] = field(default_factory=dict)
    """What each input is filled with."""
    steps: int = 1
    """Steps of a recurrent model."""
    real: str = ""
    """Case whose file gives the inputs that it holds; empty: none."""
    nearby: bool = False
    """Whether floating values of that file are moved a little."""
    pick: int = 0
    """Chooses the row, the padding and the order of the properties beside parity."""

    def __str__(self) -> str:
        """Return it as a message shows it, sizes first."""
        sizes = [f"{name} = {size}" for name, size in self.dims.items()]
        sizes += [f"{self.steps} steps"] if self.steps > 1 else []
        rows = f"rows {'near' if self.nearby else 'of'} case '{self.real}', pick {self.pick}"
        filled = [f"{name}: {filling}" for name, filling in self.inputs.items()]
        return "; ".join(filter(None, [", ".join(sizes), rows if self.real else "", *filled]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """The input space of one model."""

    spec: ModelSpec
    """Tells inputs, dimensions, state and the number of elements."""
    real: Mapping[str, Real] = field(default_factory=dict)
    """Case name to what its file holds, for the cases that have one."""

    @property
    def state_inputs(self) -> frozenset[str]:
        """Return the inputs that are fed by outputs."""
        state = self.spec.state
        return frozenset(state.feedback.values() if state else ())

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """Return the kinds to draw, as often as they deserve."""
        left_out = self.spec.properties.leave_out
        return tuple(kind for kind in WEIGHTED_KINDS if not left_out or kind not in left_out.kinds)

    def draw(self, choose: Choose) -> Example:
        """Return the example that the answers of `choose` describe; zeros give the plainest."""
        spec = self.spec
        dims = {name: _size(size, choose) for name, size in spec.dims.items()}
        steps = 1 + choose(min(spec.state.steps, MOST_STEPS)) if spec.state else 1
        real, nearby = self._draw_real(choose)
        non_finite, kinds = self._allows_non_finite(), self.kinds
        inputs = {
            name: _filling(port, choose, kinds=kinds, non_finite=non_finite)
            for name, port in spec.inputs.items()
            if name not in self.real.get(real, {}) and not self._starts_at_zero(name)
        }
        dims = self.fitting(dims)
        return Example(
            dims=dims, inputs=inputs, steps=steps, real=real, nearby=nearby, pick=choose(SEEDS)
        )

    def fitting(self, dims: Mapping[str, int]) -> dict[str, int]:
        """Return `dims` cut down until all inputs together hold `max_elements` at most."""
        cut = dict(dims)
        least = {name: size.min for name, size in self.spec.dims.items()}
        while self.elements(cut) > self.spec.properties.max_elements:
            movable = [name for name in cut if cut[name] > max(least[name], 1)]
            if not movable:
                break
            name = max(movable, key=cut.__getitem__)
            cut[name] = max(least[name], cut[name] // 2)
        return cut

    def elements(self, dims: Mapping[str, int]) -> int:
        """Return how many elements all inputs hold together at these sizes."""
        return sum(
            math.prod(dims[size] if isinstance(size, str) else size for size in port.shape)
            for port in self.spec.inputs.values()
        )

    def fill(self, example: Example, *, steps: int = 0) -> tuple[Values, ...]:
        """Return the inputs of every step (`steps` of them, or as many as the example has).

        Raises:
            SpecError: If the sizes leave no value that keeps a relation.
        """
        return tuple(
            {
                name: self._array(example, name, step)
                for name in self.spec.inputs
                if step == 0 or name not in self.state_inputs
            }
            for step in range(steps or example.steps)
        )

    def _draw_real(self, choose: Choose) -> tuple[str, bool]:
        if not self.real:
            return "", False
        chosen = choose(REAL_SHARE * len(self.real)) + 1 - (REAL_SHARE - 1) * len(self.real)
        names = ["", *self.real]
        return names[max(0, chosen)], bool(choose(2)) if chosen > 0 else False

    def _allows_non_finite(self) -> bool:
        rules = self.spec.outputs.values()
        return bool(rules) and all(rule.finite != "required" for rule in rules)

    def _starts_at_zero(self, name: str) -> bool:
        """Return whether an input is a state of which the spec says no more than its shape."""
        port = self.spec.inputs[name]
        return name in self.state_inputs and port.range is None and port.values is None

    def _array(self, example: Example, name: str, step: int) -> Array:
        spec, dims = self.spec, example.dims
        where = f"example with {', '.join(f'{dim} = {size}' for dim, size in dims.items())}"
        shapes = {
            each: resolve_shape(port, dims, where=f"{where}, input '{each}'")
            for each, port in spec.inputs.items()
        }
        if self._starts_at_zero(name):
            return np.asarray(zeros(spec.inputs[name].dtype, shapes[name]))
        real = self.real.get(example.real, {})
        if name in real:
            rows = self._rows(example, name, step, real[name], shapes[name])
            return relations.mended(name, spec, rows, shapes=shapes, dims=dims)
        filling = example.inputs[name]

        def make(asked: InputSpec, shape: tuple[int, ...]) -> Array:
            return fill(filling, asked, shape, key=f"{name}.step{step}")

        return relations.drawn(name, spec, make, shapes=shapes, dims=dims, where=where)

    def _rows(
        self, example: Example, name: str, step: int, array: Array, shape: tuple[int, ...]
    ) -> Array:
        """Return a piece of a case's array in another size: rows anywhere, other axes from 0.

        Rows are chosen by dimension, so that inputs that share one stay together. What the array
        lacks is taken from its start again.
        """
        port = self.spec.inputs[name]
        if self.spec.state is not None and name not in self.state_inputs:
            array = array[(example.pick + step) % array.shape[0]]
        for axis, (size, dim) in enumerate(zip(shape, port.shape, strict=True)):
            if isinstance(dim, str):
                start = example.pick if dim == self._row_dim() else 0
                array = np.take(array, np.arange(start, start + size) % array.shape[axis], axis)
        if not example.nearby or not port.dtype.is_floating or array.size == 0:
            return array
        return _moved(array, port, key=(str(example.pick), name, str(step)))

    def _row_dim(self) -> str:
        """Return the dimension whose rows may be taken from anywhere: the first of the inputs."""
        named = (size for port in self.spec.inputs.values() for size in port.shape)
        return next((size for size in named if isinstance(size, str)), "")


def _moved(array: Array, port: InputSpec, *, key: tuple[str, ...]) -> Array:
    """Return `array` with each value moved a little, within the array's own extremes."""
    low, high = map(float, ends(port))
    units: Unit = (raw_words(key, array.size) >> np.uint64(11)).astype(np.float64) * 2.0**-53
    noise = (units - 0.5).reshape(array.shape) * 2 * NEARBY * (high - low)
    values = array.astype(np.float64)
    near: Array = np.clip(values + noise, values.min(), values.max()).astype(array.dtype)
    return near


def _filling(
    port: InputSpec, choose: Choose, *, kinds: Sequence[Kind], non_finite: bool
) -> Filling:
    kind = kinds[choose(len(kinds))]
    seed = choose(SEEDS)
    allowed = marks(port, non_finite=non_finite)
    specials: tuple[Special, ...] = ()
    if allowed:
        number = max(0, choose(2 * MOST_SPECIALS) + 1 - MOST_SPECIALS)
        specials = tuple(
            Special(position=choose(POSITIONS), mark=allowed[choose(len(allowed))])
            for _ in range(number)
        )
    return Filling(kind=kind, seed=seed, specials=specials)


def _size(dim: DimSpec, choose: Choose) -> int:
    """Return a size; every second one is a favoured one.

    Each favoured size takes a stretch of the numbers instead of one, in rising order: a smaller
    number never gives a larger size, so shrinking finds the smallest one.
    """
    favoured = favoured_sizes(dim)
    span = dim.max - dim.min
    stretch = max(1, span // len(favoured))
    size = dim.min + choose(span + stretch * len(favoured) + 1)
    for each in favoured:
        if size <= each:
            break
        if size <= each + stretch:
            return each
        size -= stretch
    return size


def favoured_sizes(dim: DimSpec) -> tuple[int, ...]:
    """Return the sizes where faults sit: the ends, 1, 2, powers of two and their neighbours."""
    near = {dim.min, dim.max, dim.min + 1, dim.max - 1, 1, 2, 3, 5}
    power = 8
    while power <= dim.max:
        near |= {power - 1, power, power + 1}
        power *= 4
    return tuple(sorted(size for size in near if dim.min <= size <= dim.max))
