"""Why a mutant was not killed: it computes the same, or the suite lacks inputs or strictness.

Found by experiment: mutant and original are both computed in float64 on the suite's own inputs
and on drawn ones. What differs by less than the original's own float32 error is equivalent. Where
float64 cannot be had, their sessions are compared: only outputs that are the same bit for bit on
all inputs are equivalent then, and what differs less than the original and its reference do is
undecided.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from harness.bounds import Bounds, Yardstick
from harness.domain.bounds import SINGLE_CASE, Standing, allowed
from harness.domain.cells import Cell
from harness.domain.compare import compare
from harness.domain.differences import Difference, added, all_within, differences
from harness.domain.mutants import Fate, Mutant, Reason, Trial
from harness.domain.values import Value, Values
from harness.errors import HarnessError
from harness.evidence import Evidence
from harness.files.models import Model
from harness.proving.bench import MUTANT, ORIGINAL, Bench, NotInFloat64
from harness.proving.judging import PROVIDER, Suite
from harness.proving.probes import WIDER, Probe, Probes

#: Seconds that one mutant is examined; what was seen until then counts, and is told.
EXAMINE_S = 120.0
#: Probes from widened ranges.
OUTSIDE = 3

Steps = tuple[Values, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A probe, and what the original makes of it."""

    probe: Probe
    wide: Steps
    """In float64; where that is impossible, what its session gives."""
    given: Steps
    """As its session gives it."""


@dataclass(slots=True)
class Seen:
    """What comparing a mutant with its original showed so far."""

    differences: dict[str, Difference]
    inputs: int = 0
    declared: float = 0.0
    """Greatest difference / allowed difference on the suite's own inputs."""
    drawn: float = 0.0
    """The same on drawn inputs."""
    killer: Probe | None = None
    """A drawn probe whose difference is not allowed, nor reached by a case that passes."""


class Examiner:
    """Examines the survivors of one model; the original is computed once.

    Args:
        model: The model.
        cell: Any cell of it on the CPU.
        evidence: Of the original.
        bench: Computes in float64.
        unmutated: What the suite says of the original.
    """

    def __init__(
        self, model: Model, cell: Cell, *, evidence: Evidence, bench: Bench, unmutated: Suite
    ) -> None:
        self._model = model
        self._cell = cell
        self._evidence = evidence
        self._bench = bench
        self._unmutated = unmutated
        self._probes = Probes(model, evidence)
        self._in_float64: list[Known] = []
        self._in_sessions: list[Known] = []
        self._error: dict[str, Difference] = {}
        self._impossible: NotInFloat64 | None = None
        self._yardsticks: dict[str, Yardstick | None] = {}

    @property
    def inputs(self) -> int:
        """Return the inputs that a survivor is compared on."""
        return sum(each.probe.inputs for each in self._in_float64 or self._in_sessions)

    def examine(self, mutant: Mutant, suite: Suite, altered: Evidence) -> Trial:
        """Return the fate of a mutant that the suite has passed.

        Args:
            mutant: The mutant; the bench has made it.
            suite: What the suite said.
            altered: Evidence about the mutant.
        """
        try:
            return self._trial(mutant, suite, self._compare(self._prepared(), self._evaluated))
        except NotInFloat64 as error:
            why = error.what
        if not self._in_sessions:
            self._in_sessions = self._in_float64 or list(self._run(wide=False))
        seen = self._compare(
            [replace(known, wide=known.given) for known in self._in_sessions],
            lambda probe: altered.run(self._cell, probe.steps),
        )
        return self._without_float64(mutant, suite, seen, why)

    def _evaluated(self, probe: Probe) -> Steps:
        return self._bench.evaluate(MUTANT, probe.steps, self._model.spec)

    def _prepared(self) -> list[Known]:
        """Return the original in float64 on all probes, computed once."""
        if self._impossible is not None:
            raise self._impossible
        if not self._in_float64:
            try:
                known = list(self._run(wide=True))
            except NotInFloat64 as error:
                self._impossible = error
                raise
            for each in known:
                self._error = added(self._error, _between(each.wide, each.given))
            self._in_float64 = known
        return self._in_float64

    def _run(self, *, wide: bool) -> Iterator[Known]:
        """Run the original on all probes, or on those that the time allows."""
        end = time.monotonic() + EXAMINE_S
        for probe in self._all_probes():
            given = self._evidence.run(self._cell, probe.steps)
            spec = self._model.spec
            best = self._bench.evaluate(ORIGINAL, probe.steps, spec) if wide else given
            yield Known(probe=probe, wide=best, given=given)
            if time.monotonic() > end:
                return

    def _all_probes(self) -> Iterator[Probe]:
        yield from self._probes.declared()
        yield from self._probes.enough()

    def _compare(self, known_probes: list[Known], compute: Callable[[Probe], Steps]) -> Seen:
        """Compare until a drawn probe would kill, time is up, or all probes are seen."""
        seen, end = Seen(differences={}), time.monotonic() + EXAMINE_S
        for known in known_probes:
            wide = compute(known.probe)
            seen.differences = added(seen.differences, _between(known.wide, wide))
            seen.inputs += known.probe.inputs
            share = self._share(known, wide)
            if known.probe.declared:
                seen.declared = max(seen.declared, share)
            else:
                seen.drawn = max(seen.drawn, share)
                seen.killer = known.probe if share > max(1.0, seen.declared) else None
            if seen.killer is not None or time.monotonic() > end:
                break
        return seen

    def _share(self, known: Known, wide: Steps) -> float:
        """Return the greatest difference / allowed difference; infinite for a wrong label."""
        pairs = zip(wide, known.given, strict=True)
        candidate = tuple(_cast(values, given) for values, given in pairs)
        yardstick = self._yardstick(known.probe)
        bound = () if yardstick is None else yardstick.outputs
        worst = 0.0
        if yardstick is not None:
            worst = max(_alone(yardstick, candidate, name) for name in bound)
        for reference, ours, given in zip(known.wide, candidate, known.given, strict=True):
            comparison = compare(
                reference=_cast(reference, given),
                candidate=ours,
                outputs=self._model.spec.outputs,
                provider=PROVIDER,
                cell=known.probe.name,
                bound=bound,
            )
            wrong = comparison.findings and comparison.worst <= 1
            worst = max(worst, float("inf") if wrong else comparison.worst)
        return worst

    def _yardstick(self, probe: Probe) -> Yardstick | None:
        """Return the float64 run of the reference on a probe, where the suite would have one."""
        if probe.name not in self._yardsticks:
            reference, _ = self._evidence.reference(self._cell, probe.steps)
            found = Bounds(self._evidence).yardstick(self._cell, probe.steps, reference)
            self._yardsticks[probe.name] = found if isinstance(found, Yardstick) else None
        return self._yardsticks[probe.name]

    def _trial(self, mutant: Mutant, suite: Suite, seen: Seen) -> Trial:
        if all_within(seen.differences, self._error):
            told = f"{_told(seen.differences, self._error)}, over {seen.inputs} inputs"
            return Trial(mutant=mutant, fate=Fate.EQUIVALENT, reason=Reason.DEAD, told=told)
        if seen.killer is not None:
            return self._too_few(mutant, seen, seen.killer)
        outside = self._outside()
        if outside > 1:
            told = (
                f"with the ranges of floating inputs {WIDER:g} times as wide, the difference is "
                f"{outside:.3g} times what is allowed; inside them {_most(seen):.2g} times"
            )
            remedy = "a case with values from the whole range that users send, if it is wider"
            return _survivor(mutant, Reason.FEW_INPUTS, told, remedy)
        told = f"{_told(seen.differences, self._error)}, and {_most(seen):.2g} of what is allowed"
        return _survivor(mutant, Reason.TOLERANCE, told, self._stricter(seen, suite))

    def _without_float64(self, mutant: Mutant, suite: Suite, seen: Seen, why: str) -> Trial:
        """Return the fate by what sessions gave."""
        if all_within(seen.differences, {}):
            told = f"outputs are the same bit for bit over {seen.inputs} inputs ({why})"
            return Trial(mutant=mutant, fate=Fate.EQUIVALENT, reason=Reason.DEAD, told=told)
        if seen.killer is not None:
            return self._too_few(mutant, seen, seen.killer)
        remedy = self._stricter(seen, suite)
        told = f"sessions differ by {_most(seen):.2g} of what is allowed"
        own = self._unmutated.most if self._unmutated.worst else math.inf
        if _most(seen) > own:
            told = f"{told}, the original and its reference by {own:.2g} ({why})"
            return _survivor(mutant, Reason.TOLERANCE, told, remedy)
        return Trial(
            mutant=mutant,
            fate=Fate.UNDECIDED,
            reason=Reason.NO_FLOAT64,
            told=f"{told}, no more than the original and its reference ({why})",
            remedy=remedy,
        )

    def _too_few(self, mutant: Mutant, seen: Seen, killer: Probe) -> Trial:
        told = (
            f"drawn inputs show {seen.drawn:.3g} times what is allowed, "
            f"the suite's own cases {seen.declared:.2g} times"
        )
        recorded = self._model.recorded is not None
        remedy = "one more recorded data set, with other inputs" if recorded else killer.as_case
        return _survivor(mutant, Reason.FEW_INPUTS, told, remedy)

    def _outside(self) -> float:
        """Return the greatest share of the allowed difference outside the declared ranges."""
        worst = 0.0
        for probe in self._probes.outside(OUTSIDE):
            try:
                reference = self._bench.evaluate(ORIGINAL, probe.steps, self._model.spec)
                candidate = self._bench.evaluate(MUTANT, probe.steps, self._model.spec)
                given = self._evidence.run(self._cell, probe.steps)
            except HarnessError:  # the model need not work outside its ranges
                return worst
            known = Known(probe=probe, wide=reference, given=given)
            worst = max(worst, self._share(known, candidate))
        return worst

    def _stricter(self, seen: Seen, suite: Suite) -> str:
        """Return the tolerance that would kill, as a share of the present one."""
        share, own = suite.most, self._unmutated.most
        if _most(seen) <= 1:  # what goes beyond it and passes was judged in a pool
            share = max(share, _most(seen))
        if share <= own:
            return f"no tolerance: the unmutated model itself uses {own:.2g} of what is allowed"
        return (
            f"tolerances below {share:.2g} of the present ones; "
            f"the unmutated model uses {own:.2g} of them"
        )


def _alone(yardstick: Yardstick, candidate: Steps, output: str) -> float:
    """Return how an output stands against what any single case may reach: 1 is the limit."""
    measured = yardstick.measure(candidate, output)
    if measured is None:
        return 0.0
    limit = allowed(measured.reference, yardstick.rule, multiple=SINGLE_CASE)
    return Standing(found=measured.candidate, limit=limit, basis="").share


def _survivor(mutant: Mutant, reason: Reason, told: str, remedy: str) -> Trial:
    return Trial(mutant=mutant, fate=Fate.SURVIVED, reason=reason, told=told, remedy=remedy)


def _most(seen: Seen) -> float:
    return max(seen.declared, seen.drawn)


def _between(reference: Steps, candidate: Steps) -> dict[str, Difference]:
    total: dict[str, Difference] = {}
    for expected, got in zip(reference, candidate, strict=True):
        total = added(total, differences(expected, got))
    return total


def _told(found: Mapping[str, Difference], error: Mapping[str, Difference]) -> str:
    """Return the output that differs most, in units of the float32 error, with both."""
    if not any(each.maximum or each.mismatches for each in found.values()):
        return "float64 outputs are the same"
    name = max(found, key=lambda key: _relative(found[key], error.get(key, Difference())))
    one, own = found[name], error.get(name, Difference())
    if one.mismatches:
        return f"output '{name}' differs in {one.mismatches} elements ({own.mismatches} in float32)"
    return (
        f"float64 output '{name}' differs by {one.maximum:.2g} (RMS {one.rms:.2g}), "
        f"its float32 error is {own.maximum:.2g} (RMS {own.rms:.2g})"
    )


def _relative(found: Difference, error: Difference) -> float:
    if found.mismatches > error.mismatches:
        return float("inf")
    pairs = ((found.maximum, error.maximum), (found.rms, error.rms))
    return max((one / own if own else float("inf")) if one else 0.0 for one, own in pairs)


def _cast(values: Values, like: Values) -> Values:
    return {name: _cast_value(value, like.get(name)) for name, value in values.items()}


def _cast_value(value: Value, like: Value) -> Value:
    """Return float64 values in the types that the session gives."""
    if isinstance(value, tuple) and isinstance(like, tuple) and len(value) == len(like):
        return tuple(_cast_value(one, other) for one, other in zip(value, like, strict=True))
    if isinstance(value, dict) and isinstance(like, dict):
        return {key: _cast_value(one, like.get(key)) for key, one in value.items()}
    if isinstance(value, np.ndarray) and isinstance(like, np.ndarray):
        return value.astype(like.dtype)
    return value
