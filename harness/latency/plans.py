"""What a cell is held against: its baseline's recipe, run again, or why that cannot be had."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from harness.domain.baseline import Build, Entry, Recipe, entry_key
from harness.domain.cells import Cell, short_name
from harness.domain.inputs import hash_values
from harness.domain.latency import Told
from harness.domain.spec import CaseSpec
from harness.domain.values import Values, leaves
from harness.errors import EnvironmentProblem, HarnessError, SpecError
from harness.evidence import Evidence
from harness.files import cases
from harness.files.artefacts import Artefacts
from harness.files.baselines import Baselines
from harness.files.cache import hash_file
from harness.files.models import Model
from harness.files.noise import NoiseBook
from harness.measuring import Side
from harness.runtimes.registry import Resolved, Runtimes

#: Sets of inputs that take turns, so that no cache holds a whole run; and their size together.
SETS, MOST_BYTES = 4, 64 * 2**20
#: Sizes that a session has not seen, of which the first call is recorded.
OTHER_SIZES = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Approved:
    """Where baselines and their controls are kept."""

    baselines: Baselines
    artefacts: Artefacts
    noise: NoiseBook

    @classmethod
    def at(cls, folder: Path, *, artefacts: str | Path, cache: Path) -> Approved:
        """Return what a folder of baselines and a store of artefacts hold."""
        return cls(
            baselines=Baselines(folder),
            artefacts=Artefacts(artefacts, cache),
            noise=NoiseBook(folder),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is to be held against what, for one cell."""

    cell: Cell
    recipe: Recipe
    """The candidate's."""
    side: Side
    file_bytes: int
    sets: Sequence[Values]
    told: Told
    entry: Entry | None = None
    """The approved baseline."""
    control: Side | None = None
    """What runs beside the candidate."""
    control_recipe: Recipe | None = None
    obstacle: HarnessError | None = None
    """Why there is a baseline and no control."""

    @property
    def is_unchanged(self) -> bool:
        """Return whether the recipe is the one that it would be held against."""
        return self.control is not None and not self.differences

    @property
    def differences(self) -> dict[str, tuple[str, str]]:
        """Return in what candidate and control differ."""
        other = self.control_recipe or (self.entry.recipe if self.entry else self.recipe)
        return self.recipe.differences(other)

    @property
    def inputs(self) -> str:
        """Return the hash of the input sets."""
        return hash_values({
            f"{name}@{number}": value
            for number, feeds in enumerate(self.sets)
            for name, value in feeds.items()
        })


class Planner:
    """Finds what cells are held against.

    Args:
        evidence: Finds model, file, provider.
        approved: Baselines and controls.
        against_runtime: A runtime in which the candidate itself is the control, whatever the
            baselines say.
    """

    def __init__(
        self, evidence: Evidence, approved: Approved, *, against_runtime: str | None = None
    ) -> None:
        self._evidence = evidence
        self._approved = approved
        self._against = against_runtime

    def plan(self, cell: Cell) -> Plan:
        """Return the plan of a cell.

        Raises:
            HarnessError: If the candidate cannot be had, a baseline cannot be read, or the
                control's file is another one than was approved.
        """
        evidence, model = self._evidence, self._evidence.model(cell)
        path, facts = evidence.sound_file(cell)
        resolved = evidence.provider(cell)
        threads = model.spec.latency.threads or model.spec.session.threads
        config = replace(evidence.config(cell), threads=threads)
        io_mode = model.spec.latency.io_mode if resolved.provider.device else "host"
        plan = Plan(
            cell=cell,
            recipe=Recipe(
                model=facts.hash,
                build=self._build(cell, resolved),
                provider=resolved.provider.ep,
                options=config.options,
                threads=threads,
                optimization=model.spec.session.optimization,
                config=config.config,
                custom_ops=model.spec.session.custom_ops,
                io_mode=io_mode,
            ),
            side=Side(
                path=path,
                resolved=resolved,
                config=config,
                limits_s=(model.spec.limits.load_s, model.spec.limits.run_s),
                io_mode=io_mode,
            ),
            file_bytes=facts.size_bytes,
            sets=input_sets(evidence, model, cell),
            told=Told(cell=str(cell), model=cell.model, against="no baseline"),
        )
        if self._against is not None:
            return self._against_runtime(plan, self._against)
        return self._against_baseline(plan)

    def _build(self, cell: Cell, resolved: Resolved) -> Build:
        """Return the build that a provider's runtime has, with the libraries that a cell needs."""
        names = self._evidence.model(cell).spec.session.custom_ops
        custom_ops = dict(zip(names, self._evidence.config(cell).custom_ops, strict=True))
        return build_of(self._runtimes, resolved, custom_ops)

    @property
    def _runtimes(self) -> Runtimes:
        return self._evidence.tools().runtimes

    def _against_runtime(self, plan: Plan, name: str) -> Plan:
        """Return the plan with the candidate itself, in another runtime, as its control."""
        resolved = self._runtimes.resolve(f"{short_name(plan.cell.provider)}@{name}")
        recipe = replace(plan.recipe, build=self._build(plan.cell, resolved))
        return replace(
            plan,
            control=replace(plan.side, resolved=resolved),
            control_recipe=recipe,
            told=replace(
                plan.told,
                against=f"the same model on onnxruntime {recipe.build.version}",
                is_baseline=False,
            ),
        )

    def _against_baseline(self, plan: Plan) -> Plan:
        aliases = self._evidence.model(plan.cell).spec.aliases
        baseline = self._approved.baselines.portable(plan.cell.model, aliases)
        entry = baseline.entries.get(entry_key(plan.cell)) if baseline else None
        if entry is None:
            return plan
        approved = entry.recipe
        against = f"the baseline {approved.model[:12]} on onnxruntime {approved.build.version}"
        plan = replace(plan, entry=entry, told=replace(plan.told, against=against))
        try:
            control = self._control(plan, entry)
        except HarnessError as error:
            if error.code != "baseline.incomparable":
                raise
            return replace(plan, obstacle=error)
        return replace(plan, control=control, control_recipe=approved)

    def _control(self, plan: Plan, entry: Entry) -> Side:
        """Return the approved recipe as it can be run here.

        Raises:
            HarnessError: If its runtime or its file cannot be had; code `baseline.incomparable`,
                `baseline.control` if the file is another one than was approved, or
                `baseline.unreadable` if it is a recipe for another provider.
        """
        recipe = entry.recipe
        if recipe.provider != plan.recipe.provider:
            raise _other_provider(plan, recipe)
        if recipe.io_mode != plan.recipe.io_mode:
            raise _other_quantity(plan, recipe)
        resolved = self._runtime_of(plan, recipe)
        config = replace(
            plan.side.config,
            provider=recipe.provider,
            options=recipe.options,
            threads=recipe.threads,
            optimization=recipe.optimization,
            config=recipe.config,
        )
        path = plan.side.path
        if recipe.model != plan.recipe.model:
            path = self._approved.artefacts.fetch(entry.artefact)
        return replace(plan.side, path=path, resolved=resolved, config=config)

    def _runtime_of(self, plan: Plan, recipe: Recipe) -> Resolved:
        """Return the candidate's provider in a runtime that has the recipe's build."""
        if recipe.build == plan.recipe.build:
            return plan.side.resolved
        for runtime in self._runtimes.all():
            resolved = replace(plan.side.resolved, runtime=runtime)
            try:
                build = self._build(plan.cell, resolved)
            except HarnessError:
                continue
            if build == recipe.build:
                return resolved
        version = recipe.build.version
        next_step = f'onnx-harness runtime add ort-{version} "onnxruntime=={version}"'
        if recipe.build.libraries != plan.recipe.build.libraries:
            next_step += ", with the approved libraries of custom operators beside it"
        msg = f"Control of '{plan.cell}' cannot be run: no runtime has its build of ONNX Runtime"
        raise EnvironmentProblem(
            msg,
            code="baseline.incomparable",
            expected=str(recipe.build),
            got=f"the candidate's {plan.recipe.build}",
            next_step=next_step,
        )


def _other_provider(plan: Plan, approved: Recipe) -> SpecError:
    """Return what no refresh writes: such a control would fall back, and be held for another."""
    key = entry_key(plan.cell)
    return SpecError(
        f"Baseline of '{plan.cell}' is a recipe for another provider",
        code="baseline.unreadable",
        where=f"baseline of '{plan.cell.model}', entries.{key}.recipe.provider",
        expected=f"'{plan.recipe.provider}', as '{key}' says",
        got=f"'{approved.provider}'",
        next_step="take the file back from version control; or delete the entry, then "
        f"`onnx-harness baseline refresh --model {plan.cell.model} --reason '...'`",
    )


def _other_quantity(plan: Plan, approved: Recipe) -> EnvironmentProblem:
    msg = "timings of values on the host and on the device are different quantities"
    return EnvironmentProblem(
        msg,
        code="baseline.incomparable",
        where=f"latency.io_mode of '{plan.cell.model}'",
        expected=f"inputs and outputs on the {approved.io_mode}, as approved",
        got=f"on the {plan.recipe.io_mode}",
        next_step="onnx-harness baseline refresh --reason '...'",
    )


def build_of(runtimes: Runtimes, resolved: Resolved, custom_ops: Mapping[str, str]) -> Build:
    """Return the build of ONNX Runtime that serves a provider.

    Args:
        runtimes: Those of the project.
        resolved: Which of them, for what provider.
        custom_ops: Libraries of custom operators: the spec's name of each -> a file or a package.

    Raises:
        HarnessError: If the runtime is broken, or lacks a library.
    """
    facts = runtimes.facts(resolved.runtime)
    found = runtimes.libraries(resolved.runtime, tuple(custom_ops.values()))
    return Build(
        version=facts.version,
        providers=facts.available,
        libraries={
            name: each.version or hash_file(each.file)
            for name, each in zip(custom_ops, found, strict=True)
        },
    )


def input_sets(evidence: Evidence, model: Model, cell: Cell) -> tuple[Values, ...]:
    """Return the sets of inputs that take turns; one alone where the case brings its own.

    A recurrent model is timed on its first step.
    """
    point = model.points()[cell.case]
    is_recorded = model.recorded is not None and point.name in model.case_names()
    if is_recorded or point.inputs:
        return (evidence.inputs(cell)[0],)
    return tuple(_drawn(model, point))


def other_sizes(evidence: Evidence, plan: Plan) -> dict[str, Sequence[Values]]:
    """Return inputs of other sizes than those of the plan, at most `OTHER_SIZES`, by their point.

    They come from the points that are timed, then from the cases; a step after the first is none.
    """
    model, found = evidence.model(plan.cell), dict[str, Sequence[Values]]()
    seen = [_shapes(plan.sets[0])]
    for name in dict.fromkeys([*model.points(), *model.case_names()]):
        cell = replace(plan.cell, case=name)
        given = (
            input_sets(evidence, model, cell) if name in model.points() else evidence.inputs(cell)
        )
        if _shapes(given[0]) not in seen and len(found) < OTHER_SIZES:
            seen.append(_shapes(given[0]))
            found[name] = given[:1]
    return found


def _shapes(feeds: Values) -> dict[str, tuple[int, ...]]:
    return {
        place: np.shape(array)
        for name, value in feeds.items()
        for place, array in leaves(value, name)
    }


def _drawn(model: Model, point: CaseSpec) -> Iterator[Values]:
    room = MOST_BYTES
    for number in range(SETS):
        case = replace(point, name=f"{point.name}-{number}")
        feeds = cases.build(model.name, model.spec, case, model.folder)[0]
        room -= _bytes(feeds)
        if number and room < 0:
            return
        yield feeds


def _bytes(feeds: Values) -> int:
    arrays = (array for name, value in feeds.items() for _, array in leaves(value, name))
    return sum(np.asarray(array).nbytes for array in arrays)
