"""Cases alone and with their pool, against references and candidates of known errors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from harness.bounds import MOST_DRAWS, Bounds, Held, NoYardstick, Yardstick
from harness.domain.bounds import FACTORS, POOL_ELEMENTS, rule_for
from harness.domain.cells import Cell
from harness.domain.dtypes import DType
from harness.domain.spec import (
    Candidate,
    CaseSpec,
    DimSpec,
    InputSpec,
    ModelSpec,
    OutputSpec,
    Reference,
    Tolerance,
)
from harness.domain.values import Values
from harness.errors import RunFailed
from harness.evidence import Evidence
from harness.files.models import Model
from harness.references.store import PreciseOutputs

Steps = tuple[Values, ...]

RULE = rule_for(DType.FLOAT32, "cpu")
assert RULE is not None
K, FLOOR = RULE.factor, RULE.floor
#: The reference's usual error, well above the floor.
USUAL = 100 * FLOOR
CELL = Cell("m", "fp32", "cpu", "small")
SPEC = ModelSpec(
    schema_version=1,
    candidate=Candidate(file="m.onnx"),
    reference=Reference(torch="r.py:build"),
    inputs={"x": InputSpec(dtype=DType.FLOAT64, shape=("n",), range=(1.0, 2.0))},
    dims={"n": DimSpec(min=1, max=100)},
    case=(CaseSpec(name="small", dims={"n": 10}), CaseSpec(name="large", dims={"n": 100})),
)


@dataclass
class KnownErrors:
    """Evidence of a model that returns its input, with errors as the tests want them."""

    reference_errors: Mapping[str, float] = field(default_factory=dict)
    candidate_errors: Mapping[str, float] = field(default_factory=dict)
    spec: ModelSpec = SPEC
    refused: str = ""
    broken: str = ""
    """Case that cannot be run."""
    ran: list[str] = field(default_factory=list)

    def model(self, _: Cell) -> Model:
        """Return the model."""
        return Model(name="m", folder=Path(), spec=self.spec)

    def inputs(self, cell: Cell) -> Steps:
        """Return the inputs of a declared case."""
        size = self.model(cell).case(cell.case).dims["n"]
        return ({"x": np.linspace(1, 2, size)},)

    def reference(self, cell: Cell, steps: Steps) -> tuple[Steps, str]:
        """Return the reference as it was built."""
        return self._with_error(steps, self.reference_errors.get(cell.case, USUAL)), "live"

    def precise(self, cell: Cell, steps: Steps, dtype: str) -> PreciseOutputs:
        """Return the input itself as float64, the reference as float32."""
        if self.refused:
            return PreciseOutputs(refused=self.refused)
        exact = self._with_error(steps, 0.0)
        return PreciseOutputs(
            steps=exact if dtype == DType.FLOAT64 else self.reference(cell, steps)[0]
        )

    def run(self, cell: Cell, steps: Steps) -> Steps:
        """Return the candidate's outputs."""
        if cell.case == self.broken:
            msg = "broken"
            raise RunFailed(msg, code="run.failed")
        self.ran.append(cell.case)
        return self._with_error(steps, self.candidate_errors.get(cell.case, USUAL))

    @staticmethod
    def _with_error(steps: Steps, error: float) -> Steps:
        signs = (np.where(np.arange(len(cast("Any", step["x"]))) % 2, 1, -1) for step in steps)
        return tuple(
            {"y": np.asarray(cast("Any", step["x"]) * (1 + error * sign))}
            for step, sign in zip(steps, signs, strict=True)
        )


def hold(evidence: KnownErrors, cell: Cell = CELL) -> Held:
    """Judge one cell."""
    bounds = Bounds(cast("Evidence", evidence))
    steps = evidence.inputs(cell)
    yardstick = bounds.yardstick(cell, steps, evidence.reference(cell, steps)[0])
    assert isinstance(yardstick, Yardstick)
    error = evidence.candidate_errors.get(cell.case, USUAL)
    return bounds.hold(cell, yardstick, evidence._with_error(steps, error), broken=())


def test_within_the_bound_no_other_case_is_run() -> None:
    """What keeps the bound alone costs nothing more."""
    evidence = KnownErrors(candidate_errors={"small": 0.9 * K * USUAL})
    held = hold(evidence)
    assert held.findings == ()
    assert held.worst == pytest.approx(0.9, abs=0.01)
    assert evidence.ran == []


def test_a_reference_that_is_right_by_chance() -> None:
    """The pool shows its usual error, and the candidate's is no greater."""
    held = hold(KnownErrors(reference_errors={"small": USUAL / 100}))
    assert held.findings == ()
    assert held.facts["error y"].endswith("elements of 11 cases)")
    assert held.worst == pytest.approx(1 / K, abs=0.01)


def test_a_single_case_may_reach_twice_as_much_and_no_more() -> None:
    """Its largest error still has to fit into the pool; beyond, no other case is run."""
    within = KnownErrors(
        candidate_errors={"small": 1.9 * K * USUAL}, reference_errors={"large": 2 * USUAL}
    )
    assert hold(within).findings == ()
    assert within.ran
    evidence = KnownErrors(candidate_errors={"small": 2.1 * K * USUAL})
    beyond = hold(evidence)
    assert [finding.code for finding in beyond.findings] == ["parity.tolerance"]
    assert "2 times that for a single case" in beyond.findings[0].expected
    assert evidence.ran == []


def test_a_pool_beyond_the_bound_fails_its_case() -> None:
    """A little too much in every case is too much."""
    errors = {"small": 1.5 * K * USUAL, "large": 1.5 * K * USUAL}
    draws = {f"draw{number}": 1.5 * K * USUAL for number in range(MOST_DRAWS)}
    held = hold(KnownErrors(candidate_errors={**errors, **draws}))
    assert held.worst == pytest.approx(1.5, abs=0.01)
    assert "elements of 11 cases" in held.findings[0].expected


def test_a_pool_has_a_thousand_elements() -> None:
    """All cases, then draws of the size of the largest."""
    evidence = KnownErrors(reference_errors={"small": USUAL / 100})
    hold(evidence)
    assert evidence.ran[:2] == ["small", "large"]
    sizes = [10, *[100] * (len(evidence.ran) - 1)]
    assert POOL_ELEMENTS <= sum(sizes) < POOL_ELEMENTS + 100


def test_a_pool_of_tiny_outputs_ends() -> None:
    """Fifty draws are enough where each has one element."""
    spec = replace(SPEC, case=(CaseSpec(name="small", dims={"n": 1}),))
    evidence = KnownErrors(spec=spec, reference_errors={"small": 0.0})
    assert hold(evidence).findings == ()
    assert len(evidence.ran) == 1 + MOST_DRAWS


def test_a_case_that_cannot_be_run_is_left_out() -> None:
    """Its own item tells it."""
    evidence = KnownErrors(reference_errors={"small": USUAL / 100}, broken="large")
    assert hold(evidence).findings == ()
    assert "large" not in evidence.ran


@pytest.mark.parametrize(
    ("spec", "refused", "why"),
    [
        (SPEC, "it is not float64 at layer", "it is not float64 at layer"),
        (
            replace(SPEC, outputs={"y": OutputSpec(compare="exact")}),
            "",
            "no output is floating and without a tolerance of its own",
        ),
        (
            replace(
                SPEC,
                outputs={"y": OutputSpec(tolerance={"cpu": Tolerance(atol=1, rtol=0, reason="r")})},
            ),
            "",
            "no output is floating and without a tolerance of its own",
        ),
        (
            replace(SPEC, candidate=Candidate(file="m.onnx", dtype=DType.INT8, reason="r")),
            "",
            "there is no bound for builds that compute in int8",
        ),
    ],
    ids=["refused", "exact", "own-tolerance", "int8"],
)
def test_why_there_is_no_yardstick(spec: ModelSpec, refused: str, why: str) -> None:
    """The table applies, measures to quantised builds, and the receipt tells why."""
    evidence = KnownErrors(spec=spec, refused=refused)
    steps = evidence.inputs(CELL)
    reference = evidence.reference(CELL, steps)[0]
    found = Bounds(cast("Evidence", evidence)).yardstick(CELL, steps, reference)
    instead = "measures" if spec.is_quantized(CELL.variant) else "table"
    assert found == NoYardstick(why=why, refused=bool(refused), instead=instead)


def test_a_tolerance_for_another_provider_leaves_the_bound() -> None:
    """Only the provider's own, or the default, takes its place."""
    rule = OutputSpec(tolerance={"openvino": Tolerance(atol=1, rtol=0, reason="r")})
    evidence = KnownErrors(spec=replace(SPEC, outputs={"y": rule}))
    assert hold(evidence).facts
    assert FACTORS[DType.FLOAT32][0] == K
