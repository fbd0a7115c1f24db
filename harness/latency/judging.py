"""The latency suite's judge: a candidate beside its baseline's control, or beside what is left.

Whatever differs between candidate and approved recipe (model, options, ONNX Runtime) is measured as
a duet, because a stored number does not survive the machine. Where the control cannot be run, a
stored number of this very environment gates within its wide scatter. A recipe that did not change
cannot have become slower, and is not measured.
"""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, replace

import numpy as np

from harness.domain import duet as rules
from harness.domain import latency, power
from harness.domain.baseline import Figures, Timing, entry_key
from harness.domain.cells import Cell, short_name
from harness.domain.duet import Outcome, Rule
from harness.domain.environment import Environment
from harness.domain.findings import Finding, from_error
from harness.domain.receipts import Receipt, Timed
from harness.domain.spec import Budget
from harness.duets import CANDIDATE, CONTROL, Duet, Quantity
from harness.errors import HarnessError
from harness.evidence import Evidence, TimingOptions
from harness.latency.docket import Docket, Trial
from harness.latency.plans import Approved, Plan, Planner, other_sizes
from harness.measuring import Arm, Bench
from harness.regressions import explain_regression
from harness.runtimes.machine import load, this_environment
from harness.runtimes.registry import Resolved
from harness.serving import measure_serving

Found = tuple[Iterable[Finding], Receipt]

#: Decisions of one item: p50 and start-up.
DECISIONS = 2
#: Fresh workers of a figure by itself.
LONE_WORKERS = 8
#: Percentiles of the sketch that a baseline keeps of all calls.
SKETCH = (1, 10, 25, 50, 75, 90, 99)


class LatencyJudge:
    """Judges latency items.

    Args:
        evidence: Finds model, file, provider.
        approved: Baselines and controls.
        options: What the run was asked for.
        alone: Gives the machine to one measurement at a time.
    """

    def __init__(
        self,
        evidence: Evidence,
        *,
        approved: Approved,
        options: TimingOptions,
        alone: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self._evidence = evidence
        self._approved = approved
        self._options = options
        self._alone = alone
        planner = Planner(evidence, approved, against_runtime=options.against_runtime)
        self._docket = Docket(
            evidence.tools().launcher,
            plan=planner.plan,
            ahead=[*filter(self.is_timed, options.cells)] if options.screens_ahead else (),
            decisions=DECISIONS * len(options.cells),
            is_measured=self._is_measured,
            alone=alone,
            seed=options.seed,
            rule=self._rule,
        )
        self._environments: dict[bool, Environment] = {}

    def is_timed(self, cell: Cell) -> bool:
        """Return whether a cell's item gets as far as a plan; any other is not screened ahead."""
        try:
            spec = self._evidence.model(cell).spec
        except HarnessError:
            return False
        use = spec.providers.get(short_name(cell.provider))
        return spec.latency.not_applicable is None and not (use and use.not_applicable)

    def judge(self, cell: Cell) -> Found:
        """Return findings and receipt of one item.

        Raises:
            HarnessError: If candidate or control cannot be had or run.
        """
        why = self._evidence.model(cell).spec.latency.not_applicable
        if why is not None:
            return (_not_applicable(cell, why),), Receipt()
        plan = self._docket.plan(cell)
        if plan.control is not None and self._is_measured(plan):
            findings, receipt = self._by_duet(self._docket.settled(cell))
        elif plan.is_unchanged and not self._budgets(plan):
            receipt = _unchanged(plan).plus(facts=self._budget_facts(plan))
            return _same_runtime(plan), self._with_serving(plan, receipt)
        else:
            findings, receipt = self._by_itself(plan)
        return (*findings, *_size_findings(plan)), self._with_serving(plan, receipt)

    def _is_measured(self, plan: Plan) -> bool:
        return not plan.is_unchanged or self._is_wanted(plan)

    def _is_wanted(self, plan: Plan) -> bool:
        """Return whether figures are asked for, whatever the recipe says."""
        options = self._options
        return options.measures_all or (options.completes and self._stored(plan) is None)

    def _rule(self, cell: Cell) -> Rule:
        """Return what is asked of a cell's p50, with the scatter that was calibrated here."""
        slowdown = self._evidence.model(cell).spec.latency.slowdown
        here = self._environment_of(self._evidence.provider(cell))
        scatter = self._approved.noise.scatter(here.id, cell)
        return power.with_scatter(replace(rules.LATENCY, bound=math.log1p(slowdown)), scatter)

    def _with_serving(self, plan: Plan, receipt: Receipt) -> Receipt:
        """Return the receipt with how the candidate serves, if that is asked for.

        It is judged by nothing, so what keeps it from being measured is recorded too.
        """
        if not self._options.records_serving:
            return receipt
        launcher = self._evidence.tools().launcher
        try:
            others = other_sizes(self._evidence, plan)
            with self._alone(), self._evidence.saying(f"recording how {plan.cell} serves"):
                found = measure_serving(launcher, plan.side, plan.sets, others)
        except HarnessError as error:
            return receipt.plus(facts={"serving": f"not recorded: {error.code}: {error.what}"})
        return replace(receipt, serving=asdict(found)).plus(facts={"serving": found.line})

    # beside the control

    def _by_duet(self, trial: Trial) -> Found:
        plan, duet = trial.plan, trial.duet
        ours, theirs = duet.arms[CANDIDATE], duet.arms[CONTROL]
        told = plan.told
        lasting, starting = _settled(duet.latency), _settled(duet.startup)
        why = self._why_slower(plan) if lasting is Outcome.SLOWER else ()
        findings = [
            *latency.judge_p50(lasting, duet.latency.estimate, duet.latency.rule, told,
                               got="\n".join((_p50_line(duet), *why))),
            *latency.judge_startup(starting, duet.startup.estimate, duet.startup.rule, told,
                                   got=_startup_line(duet)),
            *latency.judge_memory(ours.memory_bytes, theirs.memory_bytes, told),
            *latency.judge_memory(ours.gpu_bytes, theirs.gpu_bytes, told, where=latency.OF_THE_GPU),
            *_node_findings(plan, ours, theirs),
            *self._budget_findings(plan, ours),
        ]  # fmt: skip
        facts = {
            "judged": f"duet against {told.against}",
            "changed": _differences(plan.differences),
            "change": f"{math.expm1(duet.latency.estimate.effect):.6f}",
            "p50": _p50_line(duet),
            "start-up": _startup_line(duet),
            "memory": f"{_mib(ours.memory_bytes)}, control {_mib(theirs.memory_bytes)}",
            "control": plan.entry.recipe.model if plan.entry else "itself",
            **duet.gpu_facts(),
        }
        calls = sum(arm.calls for arm in duet.arms.values())
        receipt = self._receipt(plan, ours, calls=calls, facts=facts)
        return findings, replace(receipt, timed=duet.timed())

    def _why_slower(self, plan: Plan) -> list[str]:
        """Return what the profiles of candidate and control tell; told even if it is nothing."""
        if plan.control is None:
            return []
        launcher = self._evidence.tools().launcher
        with self._alone(), self._evidence.saying(f"looking why {plan.cell} is slower"):
            found = explain_regression(
                launcher, candidate=plan.side, control=plan.control, sets=plan.sets
            )
        return found.lines()

    # without a control

    def _by_itself(self, plan: Plan) -> Found:
        """Judge a cell without a control: by a stored number, its budgets, or not at all."""
        budgets, stored = self._budgets(plan), self._stored(plan)
        wanted = self._is_wanted(plan)
        if plan.entry is None and not (wanted or budgets):
            return (_no_baseline(plan),), Receipt(facts=_identity(plan))
        if plan.obstacle is not None and not (stored or budgets or wanted):
            return (self._incomparable(plan),), Receipt(facts=_identity(plan))
        if budgets:
            rules.check_scipy()  # before anything is measured for them
        bench = self._measured_alone(plan)
        arm = bench.arms[CANDIDATE]
        findings: list[Finding] = list(self._budget_findings(plan, arm))
        facts = {"p50": f"{arm.p50_ms:.4g} ms", "judged": "by itself", **bench.gpu_facts()}
        facts |= {"control": plan.entry.recipe.model} if plan.entry else {}
        if plan.entry is None:
            findings.append(_no_baseline(plan))
        elif stored is not None and plan.obstacle is not None:
            findings += latency.judge_stored(timing(plan, arm), stored, plan.told)
            facts["judged"] = _stored_line(stored)
        elif plan.obstacle is not None:
            findings.append(self._incomparable(plan))
        receipt = self._receipt(plan, arm, calls=arm.calls, facts=facts)
        timed = Timed(candidate_ns=arm.kept_ns(), control_ns=np.empty(0, dtype=np.int64))
        return findings, replace(receipt, timed=timed)

    def _measured_alone(self, plan: Plan) -> Bench:
        launcher = self._evidence.tools().launcher
        sides = {CANDIDATE: plan.side}
        bench = Bench(launcher, sides, sets=plan.sets, seed=self._options.seed)
        with self._alone():
            for _ in range(LONE_WORKERS):
                bench.round((CANDIDATE,))
        return bench

    def _figures(self, plan: Plan, environment: Environment) -> Figures | None:
        aliases = self._evidence.model(plan.cell).spec.aliases
        local = self._approved.baselines.local(plan.cell.model, environment.id, aliases)
        return local.entries.get(entry_key(plan.cell)) if local else None

    def _stored(self, plan: Plan) -> Timing | None:
        """Return the stored number of the approved recipe in this environment, if there is one."""
        figures = self._figures(plan, self._environment(plan)) if plan.entry else None
        if figures is None or plan.entry is None or figures.recipe != plan.entry.recipe:
            return None
        if figures.recipe.io_mode != plan.recipe.io_mode:
            return None
        stored = figures.points.get(plan.cell.case)
        return stored if stored is not None and stored.inputs == plan.inputs else None

    def _incomparable(self, plan: Plan) -> Finding:
        """Return why neither control nor stored number can judge, with the fields that differ."""
        obstacle = plan.obstacle
        if obstacle is None:
            msg = f"'{plan.cell}' has a control"
            raise TypeError(msg)
        here = self._environment(plan)
        return replace(
            from_error(obstacle),
            what=f"No comparable baseline of '{plan.cell}': {obstacle.what}",
            expected=f"{obstacle.expected}; or a stored number of this environment, {here.id}",
            got=f"{obstacle.got}\n{self._environments_line(plan, here)}".strip(),
        )

    def _environments_line(self, plan: Plan, here: Environment) -> str:
        """Return in what the nearest environment with stored numbers differs from this one."""
        baselines = self._approved.baselines
        aliases = self._evidence.model(plan.cell).spec.aliases
        known = [baselines.local(plan.cell.model, name, aliases)
                 for name in baselines.environments()]  # fmt: skip
        gaps = [local.environment.differences(here) for local in known if local]
        if not gaps:
            return "no environment has stored numbers"
        nearest = min(gaps, key=len)
        return f"stored numbers: {_differences(nearest) or 'of another recipe or other inputs'}"

    # budgets

    def _budgets(self, plan: Plan) -> list[Budget]:
        """Return the budgets that are declared for this environment, provider and point."""
        spec = self._evidence.model(plan.cell).spec.latency
        if not spec.budget:
            return []
        here, short = self._environment(plan).id, short_name(plan.cell.provider)
        points: dict[int | None, str] = {size: f"{spec.dim}{size}" for size in spec.batch}
        points[None] = plan.cell.case
        return [
            budget
            for budget in spec.budget
            if fnmatch.fnmatchcase(here, budget.environment)
            and budget.provider == short
            and points.get(budget.batch) == plan.cell.case
        ]

    def _budget_facts(self, plan: Plan) -> dict[str, str]:
        """Return in words that budgets are declared, and none is for this cell here."""
        declared = self._evidence.model(plan.cell).spec.latency.budget
        if not declared or self._budgets(plan):
            return {}
        where = f"{short_name(plan.cell.provider)} in environment {self._environment(plan).id}"
        return {"budgets": f"none of {len(declared)} is for {plan.cell.case} on {where}"}

    def _budget_findings(self, plan: Plan, arm: Arm) -> Iterator[Finding]:
        for budget in self._budgets(plan):
            calls_ms = (np.concatenate(arm.calls_ns) / 1e6).tolist()
            yield from latency.judge_budget(budget, calls_ms, plan.told)

    # receipts

    def _environment(self, plan: Plan) -> Environment:
        return self._environment_of(plan.side.resolved)

    def _environment_of(self, resolved: Resolved) -> Environment:
        gpu = not resolved.provider.forks
        if gpu not in self._environments:
            self._environments[gpu] = this_environment(gpu=gpu)
        return self._environments[gpu]

    def _receipt(self, plan: Plan, arm: Arm, *, calls: int, facts: Mapping[str, str]) -> Receipt:
        environment = self._environment(plan)
        measured = {
            "recipe": asdict(plan.recipe),
            "file_bytes": plan.file_bytes,
            "environment": asdict(environment),
            "nodes": {name: len(nodes) for name, nodes in (arm.placement or {}).items()},
            "point": plan.cell.case,
            "timing": asdict(timing(plan, arm)),
        }
        return Receipt(
            counts={"calls_timed": calls},
            facts={**_identity(plan), "environment": environment.id, **facts,
                   **self._budget_facts(plan),
                   "workers": str(len(arm.medians_ns)), "beside_busy": f"{arm.waited:,} calls",
                   **load(), "seed": str(self._options.seed)},
            measured=measured,
        )  # fmt: skip


def timing(plan: Plan, arm: Arm) -> Timing:
    """Return what a baseline keeps of an arm's workers."""
    calls_ms = arm.kept_ns() / 1e6
    return Timing(
        inputs=plan.inputs,
        p50_ms=arm.p50_ms,
        spread=_log_spread(arm.medians_ns),
        workers=len(arm.medians_ns),
        calls=arm.calls,
        quantiles_ms={f"p{each}": float(np.percentile(calls_ms, each)) for each in SKETCH},
        startup_ms=arm.startup_ms,
        startup_spread=_log_spread(arm.startup_ns),
        memory_bytes=max(arm.memory_bytes),
        gpu_bytes=max(arm.gpu_bytes, default=0),
    )


def _log_spread(values: list[float]) -> float:
    return float(np.std(np.log(values), ddof=1)) if len(values) > 1 else 0.0


def _settled(quantity: Quantity) -> Outcome:
    outcome = quantity.outcome
    if outcome is None:
        msg = "a duet was judged before it was settled"
        raise ValueError(msg)
    return outcome


def _unchanged(plan: Plan) -> Receipt:
    approved = plan.control_recipe or plan.recipe
    facts = {"judged": "unchanged by hash", "control": approved.model, **_identity(plan)}
    return Receipt(counts={"unchanged_by_hash": 1}, facts=facts)


def _same_runtime(plan: Plan) -> tuple[Finding, ...]:
    """Return that nothing was compared where a runtime was to be held against itself."""
    if plan.told.is_baseline:
        return ()
    finding = Finding(
        code="baseline.incomparable",
        what=f"'{plan.cell}' was held against its own runtime: there is nothing to compare",
        where="--against-runtime",
        expected="a runtime with another build of ONNX Runtime",
        got=str(plan.recipe.build),
        next_step="see `onnx-harness runtime list`; --measure-all measures it all the same",
    )
    return (finding,)


def _identity(plan: Plan) -> dict[str, str]:
    return {
        "model": plan.recipe.model,
        "runtime": f"{plan.side.resolved.runtime.name}: {plan.recipe.build}",
        "threads": str(plan.recipe.threads),
        "inputs": plan.inputs,
    }


def _not_applicable(cell: Cell, why: str) -> Finding:
    return Finding(
        code="latency.not-applicable",
        what=f"'{cell.model}' is not timed: {why}",
        where="spec, latency.not_applicable",
    )


def _no_baseline(plan: Plan) -> Finding:
    return Finding(
        code="baseline.missing",
        what="There is no baseline to hold latency, memory, start-up and size against",
        where=str(plan.cell),
        expected=f"an entry '{entry_key(plan.cell)}' in the baseline of '{plan.cell.model}'",
        next_step="onnx-harness baseline refresh --reason '...'",
    )


def _size_findings(plan: Plan) -> Iterator[Finding]:
    if plan.entry is not None and plan.recipe.model != plan.entry.recipe.model:
        yield from latency.judge_size(plan.file_bytes, plan.entry.file_bytes, plan.told)


def _node_findings(plan: Plan, ours: Arm, theirs: Arm) -> Iterator[Finding]:
    """Yield what the graphs tell, where one build of ONNX Runtime told both."""
    if ours.placement is None or theirs.placement is None or "build" in plan.differences:
        return
    yield from latency.judge_nodes(
        ours.placement, theirs.placement, provider=plan.recipe.provider, told=plan.told
    )


def _stored_line(stored: Timing) -> str:
    factor = latency.stored_factor(stored)
    limit = f"within {factor - 1:.0%}" if math.isfinite(factor) else "which scatters too much"
    return f"stored number {stored.p50_ms:.4g} ms, {limit}"


def _p50_line(duet: Duet) -> str:
    ours, theirs, found = duet.arms[CANDIDATE], duet.arms[CONTROL], duet.latency
    stages = f"{len(found.stages)} stage{'s' if len(found.stages) > 1 else ''}"
    low, high = (found.estimate.bound(1 - found.rule.alarm, upper=side) for side in (False, True))
    return (
        f"p50 {ours.p50_ms:.4g} ms, control {theirs.p50_ms:.4g} ms: "
        f"{math.expm1(found.estimate.effect):+.2%}, between {math.expm1(low):+.2%} and "
        f"{math.expm1(high):+.2%} ({1 - found.rule.alarm:.3%} one-sided); "
        f"{found.estimate.pairs} pairs in {stages}"
    )


def _startup_line(duet: Duet) -> str:
    ours, theirs, found = duet.arms[CANDIDATE], duet.arms[CONTROL], duet.startup
    return (
        f"{ours.startup_ms:.4g} ms, control {theirs.startup_ms:.4g} ms: "
        f"{math.expm1(found.estimate.effect):+.1%}, {found.estimate.pairs} pairs"
    )


def _differences(pairs: Mapping[str, tuple[str, str]]) -> str:
    return "; ".join(f"{name} {ours} instead of {theirs}" for name, (ours, theirs) in pairs.items())


def _mib(sizes: list[int]) -> str:
    return f"{float(np.median(sizes)) / 2**20:.1f} MiB"
