"""Candidates held to the bound that a float64 run of their reference gives."""

from __future__ import annotations

import contextlib
import math
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from harness.domain import bounds, dtypes
from harness.domain.bounds import Measured, Rule, ScaledError, Standing
from harness.domain.cells import PROVIDER_DEPTH, Cell
from harness.domain.dtypes import DType
from harness.domain.excess import excess_finding, what_excuses, worst_element
from harness.domain.findings import Finding
from harness.domain.spec import CaseSpec, ModelSpec, OutputSpec
from harness.domain.tolerance import own_tolerance
from harness.domain.values import Value, Values, leaves
from harness.errors import HarnessError
from harness.evidence import Evidence
from harness.files import cases
from harness.files.models import Model
from harness.references.store import PreciseOutputs

Steps = tuple[Values, ...]
#: A cell with the inputs of every step.
Case = tuple[Cell, Steps]
COMPLEX = frozenset({DType.COMPLEX64, DType.COMPLEX128})

#: Fresh draws that a pool takes at most: outputs of one element never come to a thousand.
MOST_DRAWS = 50
#: Types that may explain the error of a build that should compute in another, nearest first.
COARSER: dict[DType, tuple[DType, ...]] = {
    DType.FLOAT64: (DType.FLOAT32,),
    DType.FLOAT32: (DType.FLOAT16, DType.BFLOAT16),
    DType.FLOAT16: (DType.BFLOAT16,),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Yardstick:
    """A reference's float64 run over one case, and the same run in the candidate's type."""

    rule: Rule
    inputs: Steps
    outputs: tuple[str, ...]
    """Outputs that are held against it; the others have a tolerance."""
    exact: Steps
    """Outputs of every step in float64."""
    own: Steps
    """Outputs of every step in the candidate's type."""
    unfit: Mapping[str, str] = field(default_factory=dict)
    """Outputs that should be held against it and cannot, with the reason."""

    def measure(self, candidate: Steps, output: str) -> Measured | None:
        """Return how far candidate and reference are from float64; None if nothing is finite."""
        exact, reference, found = (
            bounds.flattened(steps, output) for steps in (self.exact, self.own, candidate)
        )
        unit = bounds.units(self.exact, output)
        return bounds.measure(exact=exact, reference=reference, candidate=found, unit=unit)


@dataclass(frozen=True, slots=True, kw_only=True)
class NoYardstick:
    """Why nothing of a case can be held against float64."""

    why: str
    refused: bool = False
    """Whether a live reference was asked and could not."""
    instead: str = "table"
    """What judges the values: the tolerance table, or the measures of the spec."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What holding a candidate against a yardstick gave."""

    findings: tuple[Finding, ...] = ()
    worst: float = 0.0
    """Greatest error / allowed error; 1 is the limit."""
    facts: dict[str, str] = field(default_factory=dict)
    """Figures of each output, for the receipt."""


class Bounds:
    """Holds the outputs of cells against float64 runs of their references."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        self._pool: Pool | None = None

    def yardstick(self, cell: Cell, steps: Steps, reference: Steps) -> Yardstick | NoYardstick:
        """Return the float64 run for one case, or why there is none.

        Args:
            cell: The cell.
            steps: Its inputs.
            reference: What the reference gave as it was built.
        """
        return _yardstick(self._evidence, cell, steps, reference)

    def hold(
        self, cell: Cell, yardstick: Yardstick, candidate: Steps, *, broken: Collection[str]
    ) -> Held:
        """Judge the outputs of one case; those in `broken` were found wrong in another way."""
        judged = [
            self._hold_output(cell, yardstick, candidate, output)
            for output in yardstick.outputs
            if output not in broken
        ]
        return Held(
            findings=tuple(finding for each in judged for finding in each.findings),
            worst=max((each.worst for each in judged), default=0.0),
            facts={name: fact for each in judged for name, fact in each.facts.items()},
        )

    def standing(
        self, cell: Cell, yardstick: Yardstick, candidate: Steps, output: str
    ) -> Standing | None:
        """Return how one output stands; None if nothing in it is finite."""
        measured = yardstick.measure(candidate, output)
        if measured is None:
            return None
        return self._standing(cell, output, measured, yardstick.rule)

    def _hold_output(self, cell: Cell, yardstick: Yardstick, candidate: Steps, output: str) -> Held:
        measured = yardstick.measure(candidate, output)
        if measured is None:
            return Held()
        standing = self._standing(cell, output, measured, yardstick.rule)
        found, limit = standing.found, standing.limit
        facts = {
            f"error {output}": f"rms {found.rms:.3g} of {limit.rms:.3g}, largest "
            f"{found.largest:.3g} of {limit.largest:.3g} ({standing.basis})"
        }
        if standing.share <= 1:
            return Held(worst=standing.share, facts=facts)
        finding = excess_finding(
            cell=str(cell),
            output=output,
            rule=yardstick.rule,
            standing=standing,
            worst=worst_element(candidate, yardstick.exact, output),
            hint=what_excuses(found, measured.reference, self._coarser(cell, yardstick, output)),
        )
        return Held(findings=(finding,), worst=standing.share, facts=facts)

    def _standing(self, cell: Cell, output: str, measured: Measured, rule: Rule) -> Standing:
        """Return how a case stands alone; beyond the bound, how it stands with its pool."""
        alone = Standing(
            found=measured.candidate,
            limit=bounds.allowed(measured.reference, rule),
            basis=f"{measured.candidate.count} elements of this case",
        )
        if alone.share <= 1:
            return alone
        pool = self._pool_of(cell)
        own = pool.reference(output)
        found = measured.candidate.beside(own)
        reference = bounds.larger(measured.reference.beside(own), own)
        single = Standing(
            found=found,
            limit=bounds.allowed(reference, rule, multiple=bounds.SINGLE_CASE),
            basis=f"{bounds.SINGLE_CASE:g} times that for a single case; reference's error over "
            f"{reference.count} elements of {pool.size} cases",
        )
        if single.share > 1:
            return single
        together = pool.candidate(output)
        return Standing(
            found=together,
            limit=bounds.allowed(own, rule),
            basis=f"{together.count} elements of {pool.size} cases",
        )

    def _pool_of(self, cell: Cell) -> Pool:
        part = cell.part(PROVIDER_DEPTH)
        if self._pool is None or self._pool.cell != part:
            self._pool = Pool(self._evidence, part)
        return self._pool

    def _coarser(self, cell: Cell, yardstick: Yardstick, output: str) -> dict[DType, ScaledError]:
        """Return the reference's error in types of fewer bits, where it runs in them."""
        found = {}
        for dtype in COARSER.get(yardstick.rule.dtype, ()):
            run = self._evidence.precise(cell, yardstick.inputs, dtype)
            if run.steps and (measured := yardstick.measure(run.steps, output)) is not None:
                found[dtype] = measured.candidate
        return found


class Pool:
    """All cases of a variant on one provider, and fresh draws, against float64.

    A case that cannot be run is left out: its own item tells it. One case at a time is in memory;
    the candidates' pass reads the references again from the cache.
    """

    def __init__(self, evidence: Evidence, cell: Cell) -> None:
        self.cell = cell
        self._evidence = evidence
        self._cases: list[Case] = []

    @property
    def size(self) -> int:
        """Return how many cases and draws there are."""
        return len(self._references)

    def reference(self, output: str) -> ScaledError:
        """Return the reference's error over all of them."""
        return bounds.pooled(each[output] for each in self._references if output in each)

    def candidate(self, output: str) -> ScaledError:
        """Return the candidate's error over all of them."""
        return bounds.pooled(each[output] for each in self._candidates if output in each)

    @cached_property
    def _references(self) -> tuple[dict[str, ScaledError], ...]:
        """Measure every declared case, then fresh draws until each output has enough elements."""
        found: list[dict[str, ScaledError]] = []
        for case in _declared_inputs(self._evidence, self.cell):
            found += self._add(case)
        for case in _fresh_inputs(self._evidence, self.cell):
            if _is_enough(found):
                break
            found += self._add(case)
        return tuple(found)

    def _add(self, case: Case) -> Iterator[dict[str, ScaledError]]:
        """Yield the reference's error in one case, and keep the case for the candidate."""
        yardstick = _of_case(self._evidence, case)
        if yardstick is not None:
            self._cases.append(case)
            measured = (
                (name, yardstick.measure(yardstick.own, name)) for name in yardstick.outputs
            )
            yield {name: each.reference for name, each in measured if each is not None}

    @cached_property
    def _candidates(self) -> tuple[dict[str, ScaledError], ...]:
        _ = self._references  # finds the cases
        return tuple(self._measured(case) for case in self._cases)

    def _measured(self, case: Case) -> dict[str, ScaledError]:
        cell, steps = case
        try:
            found = self._evidence.run(cell, steps)
        except HarnessError:
            return {}
        yardstick = _of_case(self._evidence, case)
        if yardstick is None:
            return {}
        same = [
            name
            for name in yardstick.outputs
            if _shapes(found, name) == _shapes(yardstick.exact, name)
        ]
        measured = ((name, yardstick.measure(found, name)) for name in same)
        return {name: each.candidate for name, each in measured if each is not None}


def _is_enough(found: list[dict[str, ScaledError]]) -> bool:
    counts = Counter[str]()
    for each in found:
        counts.update({output: error.count for output, error in each.items()})
    return bool(found) and all(count >= bounds.POOL_ELEMENTS for count in counts.values())


def _declared_inputs(evidence: Evidence, cell: Cell) -> Iterator[Case]:
    for name in evidence.model(cell).case_names():
        case = replace(cell, case=name)
        with contextlib.suppress(HarnessError):
            yield case, evidence.inputs(case)


def _fresh_inputs(evidence: Evidence, cell: Cell) -> Iterator[Case]:
    """Yield draws from the spec of the sizes of its largest case."""
    model = evidence.model(cell)
    sizes = [_dims(model.spec, steps[0]) for _, steps in _declared_inputs(evidence, cell)]
    if not sizes:
        return
    dims = max(sizes, key=lambda each: math.prod(each.values()))
    for number in range(MOST_DRAWS):
        case = CaseSpec(name=f"draw{number}", dims=dims)
        drawn = cases.build(model.name, model.spec, case, model.folder)
        yield replace(cell, case=case.name), drawn


def _dims(spec: ModelSpec, feeds: Values) -> dict[str, int]:
    """Return the sizes of named dimensions that inputs have."""
    return {
        size: array.shape[axis]
        for name, port in spec.inputs.items()
        if isinstance(array := feeds.get(name), np.ndarray)
        for axis, size in enumerate(port.shape)
        if isinstance(size, str)
    }


def _of_case(evidence: Evidence, case: Case) -> Yardstick | None:
    """Return the yardstick of a case of the pool, None where it has none."""
    cell, steps = case
    try:
        reference, _ = evidence.reference(cell, steps)
        found = _yardstick(evidence, cell, steps, reference)
    except HarnessError:
        return None
    return found if isinstance(found, Yardstick) else None


def _yardstick(
    evidence: Evidence, cell: Cell, steps: Steps, reference: Steps
) -> Yardstick | NoYardstick:
    model = evidence.model(cell)
    dtype = model.spec.source(cell.variant).dtype
    lone = model.spec.reference.kind == "sklearn"
    rule = bounds.rule_for(dtype, cell.provider, lone=lone)
    if rule is None:
        instead = "measures" if model.spec.is_quantized(cell.variant) else "table"
        why = f"there is no bound for builds that compute in {dtype}"
        return NoYardstick(why=why, instead=instead)
    wanted = [name for name in reference[0] if _is_bound(model, cell, name, reference)]
    if not wanted:
        return NoYardstick(why="no output is floating and without a tolerance of its own")
    exact = evidence.precise(cell, steps, DType.FLOAT64)
    own = _in_own_type(evidence, cell, steps, reference, dtype) if exact.steps else exact
    if own.refused:
        return NoYardstick(why=own.refused, refused=model.recorded is None)
    found = Yardstick(
        rule=rule, inputs=steps, outputs=tuple(wanted), exact=exact.steps, own=own.steps
    )
    unfit = {name: why for name in wanted if (why := _why_unfit(found, name, reference))}
    if len(unfit) == len(wanted):
        return NoYardstick(why="; ".join(dict.fromkeys(unfit.values())), refused=True)
    return replace(found, outputs=tuple(each for each in wanted if each not in unfit), unfit=unfit)


def _why_unfit(yardstick: Yardstick, output: str, reference: Steps) -> str:
    """Return why the runs of the reference are no yardstick for an output; empty if they are."""
    exact, own, dtype = yardstick.exact, yardstick.own, yardstick.rule.dtype
    if len({_shapes(run, output) for run in (reference, exact, own)}) > 1:
        return f"the float64 run gives '{output}' in other shapes"
    kinds = {dtypes.of_array(a) for step in exact for _, a in leaves(step[output], output)}
    if not all(kind.is_floating for kind in kinds):
        return f"the float64 run gives '{output}' as {', '.join(sorted(map(str, kinds)))}"
    plain, wide, narrow = (
        np.isfinite(bounds.flattened(run, output)) for run in (reference, exact, own)
    )
    if not (np.array_equal(plain, wide) and np.array_equal(plain, narrow)):
        return (
            f"'{output}' is not finite in float64 or {dtype} where it is as the reference is built"
        )
    runs = [(own, dtype)]
    if own is not reference:  # the reference as it is built is mostly the run in the type itself
        runs.append((reference, _coarsest(reference, output)))
    for run, kind in runs:
        measured = yardstick.measure(run, output)
        if measured is not None and not bounds.has_digits(measured.candidate, kind):
            return (
                f"'{output}' in {kind} keeps less than half of its digits: it is "
                f"{measured.candidate.rms:.2g} of its scale from float64"
            )
    return ""


def _coarsest(steps: Steps, output: str) -> DType:
    """Return the type of an output with the fewest digits; behind float64 may stand float32."""
    kinds = {dtypes.of_array(array) for step in steps for _, array in leaves(step[output], output)}
    return max({*kinds, DType.FLOAT32}, key=lambda kind: bounds.EPSILON.get(kind, 1.0))


def _is_bound(model: Model, cell: Cell, output: str, reference: Steps) -> bool:
    """Return whether an output is judged by closeness, is real and has no tolerance of its own."""
    rule = model.spec.of(cell.variant).outputs.get(output, OutputSpec())
    if rule.compare != "close" or own_tolerance(rule, cell.provider) is not None:
        return False
    kinds = {dtypes.of_array(array) for step in reference for _, array in leaves(step[output], "")}
    return bool(kinds) and all(kind.is_floating and kind not in COMPLEX for kind in kinds)


def _in_own_type(
    evidence: Evidence, cell: Cell, steps: Steps, reference: Steps, dtype: DType
) -> PreciseOutputs:
    """Return the reference in the candidate's type: as it was built if it computes in it.

    scikit-learn computes in float64 throughout; its results are rounded.
    """
    model = evidence.model(cell)
    if model.spec.reference.kind == "sklearn":
        return PreciseOutputs(steps=tuple(_rounded(step, dtype) for step in reference))
    kinds = {
        dtypes.of_array(array)
        for step in reference
        for name, value in step.items()
        for _, array in leaves(value, name)
    }
    if {kind for kind in kinds if kind.is_floating} == {dtype}:
        return PreciseOutputs(steps=reference)
    return evidence.precise(cell, steps, dtype)


def _rounded(step: Values, dtype: DType) -> Values:
    return {name: _round(value, dtype) for name, value in step.items()}


def _round(value: Value, dtype: DType) -> Value:
    match value:
        case tuple():
            return tuple(_round(item, dtype) for item in value)
        case dict():
            return {key: _round(item, dtype) for key, item in value.items()}
        case np.ndarray() if dtypes.of_array(value).is_floating:
            return value.astype(dtype.numpy)
        case _:
            return value


def _shapes(steps: Steps, output: str) -> tuple[tuple[str, tuple[int, ...]], ...]:
    return tuple(
        (path, array.shape) for step in steps for path, array in leaves(step.get(output), output)
    )
