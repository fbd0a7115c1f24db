"""The models of a folder: `model.toml` read into specs, and model-zoo folders as they are."""

from __future__ import annotations

import fnmatch
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.domain import relations
from harness.domain.cells import Cell, expand, short_name
from harness.domain.known_failures import entry_faults
from harness.domain.providers import did_you_mean
from harness.domain.spec import (
    FIRST_VARIANT,
    PLAIN_NAME,
    Candidate,
    CaseSpec,
    ModelSpec,
    PropertiesSpec,
    ProviderUse,
    Reference,
    rules_of_outputs,
)
from harness.errors import HarnessError, SpecError, UsageProblem
from harness.files import toml, toml_text, zoo

SPEC_FILE = "model.toml"


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A model whose spec could be read."""

    name: str
    folder: Path
    spec: ModelSpec

    @property
    def spec_file(self) -> Path:
        """Return the path of the spec; a model-zoo folder may lack one."""
        return self.folder / SPEC_FILE

    @property
    def recorded(self) -> Path | None:
        """Return the folder of recorded data, if the reference is recorded."""
        recorded = self.spec.reference.recorded
        return None if recorded is None else self.folder / recorded

    def case(self, name: str) -> CaseSpec:
        """Return the case of this name; recorded data sets are cases by their folder's name."""
        return next((case for case in self.spec.case if case.name == name), CaseSpec(name=name))

    def case_names(self) -> tuple[str, ...]:
        """Return the cases: declared ones, else the recorded data sets, the first of each run."""
        if self.spec.case or self.recorded is None:
            return tuple(case.name for case in self.spec.case)
        return zoo.data_sets(self.recorded)[:: self.steps]

    @property
    def steps(self) -> int:
        """Return the number of steps of every case."""
        return 1 if self.spec.state is None else self.spec.state.steps

    def points(self) -> dict[str, CaseSpec]:
        """Return the sizes that are timed, by the name that stands for the case in an item's id."""
        latency = self.spec.latency
        case = self.case(latency.case or self.case_names()[0])
        sized = (
            CaseSpec(name=f"{latency.dim}{size}", dims={**case.dims, latency.dim: size})
            for size in latency.batch
        )
        return {point.name: point for point in sized} or {case.name: case}

    def cells(self, providers: tuple[str, ...] | None = None) -> tuple[Cell, ...]:
        """Return this model's cells, on `providers` or on those of its spec."""
        return self._expanded(self.case_names(), providers)

    def timed_cells(self, providers: tuple[str, ...] | None = None) -> tuple[Cell, ...]:
        """Return the cells of the latency suite, whose cases are the points that are timed."""
        return self._expanded(self.points(), providers)

    def _expanded(
        self, cases: Iterable[str], providers: tuple[str, ...] | None
    ) -> tuple[Cell, ...]:
        return tuple(expand(self.name, self.spec, cases=cases, providers=providers))


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokenModel:
    """A folder whose model could not be read; one item of the run says why."""

    name: str
    folder: Path
    problem: HarnessError

    def cells(self, _: tuple[str, ...] | None = None) -> tuple[Cell, ...]:
        """Return the one cell that carries the problem."""
        return (Cell(self.name, FIRST_VARIANT),)

    timed_cells = cells


def load_models(folder: Path) -> dict[str, Model | BrokenModel]:
    """Return all models of a folder by name; a broken one does not keep the others away.

    Raises:
        UsageProblem: If the folder does not exist or holds no model.
    """
    if not folder.is_dir():
        msg = f"Models folder '{folder}' does not exist"
        raise UsageProblem(
            msg, where=str(folder), expected="a folder with one folder per model",
            next_step="give --models DIR, or make a model with `onnx-harness model add FILE`",
        )  # fmt: skip
    found = {
        model.name: model
        for entry in sorted(folder.iterdir())
        if entry.is_dir() and not entry.name.startswith((".", "_"))
        for model in (load_model(entry),)
    }
    if not found:
        msg = f"Models folder '{folder}' holds no model: nothing would be checked"
        raise UsageProblem(
            msg, where=str(folder), expected="folders with a model.toml, or in model-zoo layout",
            got="no folder", next_step="make one with `onnx-harness model add FILE`",
        )  # fmt: skip
    return found


def named_models(
    models: Mapping[str, Model | BrokenModel], globs: Sequence[str]
) -> dict[str, Model | BrokenModel]:
    """Return the models that `--model` names, all of them without a glob.

    Raises:
        UsageProblem: If a glob names none, with the nearest name.
    """
    for glob in globs:
        if not any(fnmatch.fnmatchcase(name, glob) for name in models):
            msg = f"Unknown model '{glob}'"
            raise UsageProblem(
                msg,
                where="--model",
                expected=f"one of {', '.join(models)}",
                next_step=did_you_mean(glob, models),
            )
    return {
        name: model
        for name, model in models.items()
        if not globs or any(fnmatch.fnmatchcase(name, glob) for glob in globs)
    }


def with_known_providers(
    models: Mapping[str, Model | BrokenModel], known: Collection[str]
) -> dict[str, Model | BrokenModel]:
    """Return `models`, broken where a spec names a provider that is not `known`.

    The names come from the project's settings too, so a spec alone cannot tell.
    """
    return {name: _with_known_providers(model, known) for name, model in models.items()}


def _with_known_providers(
    model: Model | BrokenModel, known: Collection[str]
) -> Model | BrokenModel:
    faults = [] if isinstance(model, BrokenModel) else _provider_faults(model.spec, known)
    if not faults:
        return model
    problem = toml.faulty(f"Model spec '{model.name}'", model.folder / SPEC_FILE, faults)
    return BrokenModel(name=model.name, folder=model.folder, problem=problem)


def _provider_faults(spec: ModelSpec, known: Collection[str]) -> list[str]:
    named = [(f"{table}.{name}", name) for table in ("providers", "placement")
             for name in getattr(spec, table)]  # fmt: skip
    named += [
        (f"{key}.tolerance.{name}", name)
        for key, rule in rules_of_outputs(spec)
        for name in rule.tolerance
        if name != "default"
    ]
    return [
        f"'{key}' names no provider; {did_you_mean(name, known, 'see `onnx-harness doctor`')}"
        for key, name in named
        if short_name(name) not in known
    ]


def load_model(folder: Path) -> Model | BrokenModel:
    """Return the model in `folder`, or what is wrong with it."""
    try:
        _check_name(folder)
        spec = _read_spec(folder)
    except HarnessError as problem:
        shown = folder.name.encode(errors="backslashreplace").decode()
        return BrokenModel(name=shown, folder=folder, problem=problem)
    return Model(name=folder.name, folder=folder, spec=spec)


def _check_name(folder: Path) -> None:
    if PLAIN_NAME.fullmatch(folder.name):
        return
    shown = folder.name.encode(errors="backslashreplace").decode()
    msg = f"Model name '{shown}' is not a plain name"
    raise SpecError(
        msg,
        code="spec.invalid",
        where=str(folder).encode(errors="backslashreplace").decode(),
        expected=f"a folder name that matches {PLAIN_NAME.pattern}",
        next_step="rename the folder",
    )


def _read_spec(folder: Path) -> ModelSpec:
    path = folder / SPEC_FILE
    if not path.exists():
        return _zoo_spec(folder)
    title = f"Model spec '{folder.name}'"
    spec = toml.validate(ModelSpec, toml.read(path), path=path, title=title)
    faults = [*spec_faults(spec)]
    if spec.reference.recorded is not None and not spec.case:
        recorded = spec.reference.recorded
        if not zoo.data_sets(folder / recorded):
            faults.append(f"'reference.recorded' names '{recorded}', which has no test_data_set_N")
    model = Model(name=folder.name, folder=folder, spec=spec)
    cases = model.case_names()
    if spec.latency.case not in {None, *cases}:
        near = did_you_mean(str(spec.latency.case), cases, f"one of {', '.join(cases)}")
        faults.append(f"'latency.case' names '{spec.latency.case}', which is no case; {near}")
    points = model.points() if cases and not faults else {}
    faults += entry_faults(folder.name, spec, cases, points)
    if faults:
        raise toml.faulty(title, path, faults)
    return spec


def _zoo_spec(folder: Path) -> ModelSpec:
    """Return the spec of a folder without one: candidate, recorded reference, cpu."""
    if not zoo.is_zoo_folder(folder):
        msg = f"Folder '{folder.name}' is no model"
        raise SpecError(
            msg,
            code="spec.invalid",
            where=str(folder),
            expected=f"'{SPEC_FILE}', or '{zoo.MODEL_FILE}' with test_data_set_N folders",
            got=", ".join(sorted(entry.name for entry in folder.iterdir())[:8]) or "nothing",
            next_step="add a spec with `onnx-harness model add FILE`, or remove the folder",
        )
    return _ZOO_SPEC


_ZOO_SPEC = ModelSpec(
    schema_version=1,
    candidate=Candidate(file=zoo.MODEL_FILE),
    reference=Reference(recorded="."),
    providers={"cpu": ProviderUse()},
)


def spec_faults(spec: ModelSpec) -> list[str]:
    """Return contradictions between tables, each with its dotted key."""
    return [
        *_name_faults(spec),
        *_dim_faults(spec),
        *_state_faults(spec),
        *_reference_faults(spec),
        *_use_faults(spec),
        *_case_faults(spec),
        *_scores_faults(spec),
        *_quantized_faults(spec),
        *relations.faults(spec),
        *_property_faults(spec, "properties", spec.properties),
        *(
            fault
            for name, variant in spec.variants.items()
            if variant.properties
            for fault in _property_faults(spec, f"variants.{name}.properties", variant.properties)
        ),
        *_latency_faults(spec),
    ]


def _name_faults(spec: ModelSpec) -> list[str]:
    named = [("variants", name) for name in spec.variants]
    named += [("case", case.name) for case in spec.case]
    named += [("aliases", name) for name in spec.aliases]
    faults = [
        f"'{table}' has the name '{name}', which does not match {PLAIN_NAME.pattern}"
        for table, name in named
        if not PLAIN_NAME.fullmatch(name)
    ]
    names = [case.name for case in spec.case]
    faults += [f"'case' has two entries named '{name}'" for name in _repeated(names)]
    if FIRST_VARIANT in spec.variants:
        faults.append(f"'variants.{FIRST_VARIANT}' is the candidate itself; choose another name")
    return faults


def _latency_faults(spec: ModelSpec) -> list[str]:
    latency = spec.latency
    if latency.batch and latency.dim not in spec.dims:
        near = did_you_mean(latency.dim, spec.dims, "'dims' has none")
        return [f"'latency.dim' names '{latency.dim}', which is no dimension; {near}"]
    faults = []
    for size in latency.batch:
        allowed = spec.dims[latency.dim]
        if not allowed.min <= size <= allowed.max:
            faults.append(
                f"'latency.batch' has {size}, but 'dims.{latency.dim}' is from {allowed.min} to "
                f"{allowed.max}"
            )
    faults += [
        f"'latency.budget' is for batch {budget.batch}, which is not timed"
        for budget in latency.budget
        if budget.batch not in {None, *latency.batch}
    ]
    declared = {short_name(name) for name in spec.providers}
    faults += [
        f"'latency.budget' is for the provider '{budget.provider}', which 'providers' lacks; "
        + did_you_mean(budget.provider, declared, f"it has {', '.join(sorted(declared))}")
        for budget in latency.budget
        if budget.provider not in declared
    ]
    return faults


def _quantized_faults(spec: ModelSpec) -> list[str]:
    """Return the outputs of quantised builds that nothing would judge."""
    faults = [
        f"'variants.{name}.{key}' is for quantised builds; this one computes in "
        f"{variant.computes_in} and keeps to the model's '{key}'"
        for name, variant in spec.variants.items()
        if not spec.is_quantized(name)
        for key in ("outputs", "properties")
        if getattr(variant, key)
    ]
    for name in filter(spec.is_quantized, spec.variant_names()):
        first = name == FIRST_VARIANT
        here, outputs = ("candidate", "") if first else (f"variants.{name}", f"variants.{name}.")
        rules = spec.of(name).outputs
        if not rules:
            faults.append(f"'{here}' is quantised, and 'outputs' declares none to judge")
        faults += [
            f"'{outputs}outputs.{output}.measures' is missing: element by element a build "
            f"in {spec.source(name).dtype} has no bound; give snr_db, cosine or top_k"
            for output, rule in rules.items()
            if rule.compare == "close" and rule.measures is None
        ]
    return faults


def _repeated(names: list[str]) -> list[str]:
    return sorted({name for name in names if names.count(name) > 1})


def _dim_faults(spec: ModelSpec) -> list[str]:
    used = {size for port in spec.inputs.values() for size in port.shape if isinstance(size, str)}
    faults = [f"'dims.{name}' is used by no input" for name in spec.dims if name not in used]
    faults += [f"'inputs' use the dimension '{name}', which 'dims' lacks" for name in sorted(
        used - set(spec.dims))]  # fmt: skip
    for case in spec.case:
        for name, size in case.dims.items():
            known = spec.dims.get(name)
            if known is None:
                faults.append(f"'case.{case.name}.dims.{name}' is no dimension of 'dims'")
            elif not known.min <= size <= known.max:
                faults.append(
                    f"'case.{case.name}.dims.{name}' = {size} is outside "
                    f"[{known.min}, {known.max}] (dims.{name})"
                )
    return faults


def _state_faults(spec: ModelSpec) -> list[str]:
    if spec.state is None:
        return []
    return [
        f"'state.feedback.{output}' names the input '{name}', which 'inputs' lacks"
        for output, name in spec.state.feedback.items()
        if name not in spec.inputs
    ]


def _reference_faults(spec: ModelSpec) -> list[str]:
    own_file = spec.candidate.file is not None and spec.candidate.package is None
    if spec.reference.onnx is not True or own_file:
        return []
    return ["'reference.onnx' = true needs candidate.file in the model's folder; give a path"]


def _use_faults(spec: ModelSpec) -> list[str]:
    faults = [
        f"'providers.{provider}.variants' names '{variant}', which 'variants' lacks"
        for provider, use in spec.providers.items()
        for variant in use.variants
        if variant not in spec.variant_names()
    ]
    if not spec.providers:
        faults.append("'providers' is empty: no cell could run")
    return faults


def _case_faults(spec: ModelSpec) -> list[str]:
    if spec.reference.recorded is not None:
        return [
            f"'case.{case.name}.data_set' is '{case.data_set}', which is no plain folder name"
            for case in spec.case
            if case.data_set is not None and not PLAIN_NAME.fullmatch(case.data_set)
        ]
    if not spec.case:
        return ["'case' is missing: a model without a case has no parity cell"]
    return [
        f"'case.{case.name}.data_set' is read for 'recorded' references only"
        for case in spec.case
        if case.data_set is not None
    ]


def _scores_faults(spec: ModelSpec) -> list[str]:
    """Return labels whose scores are no output that `outputs` declares, or the labels themselves.

    Without this a misspelled name shows only on the day on which a label differs.
    """
    faults = []
    for where, rule in rules_of_outputs(spec):
        output = where.rpartition(".outputs.")[2].removeprefix("outputs.")
        key, others = (
            f"'{where}.scores'",
            [name for name in spec.outputs if name != output],
        )
        if rule.scores == output:
            faults.append(f"{key} names the labels themselves; name the output with their scores")
        elif rule.scores is not None and rule.scores not in others:
            advice = did_you_mean(
                rule.scores, others, f"add [outputs.{toml_text.key(rule.scores)}]"
            )
            faults.append(f"{key} names '{rule.scores}', which 'outputs' lacks; {advice}")
    return faults


def _property_faults(spec: ModelSpec, where: str, declared: PropertiesSpec) -> list[str]:
    """Return what a table of properties names that is not there."""
    named = [("batch", declared.batch), ("permutation", declared.permutation)]
    padding = declared.padding
    named += [("padding.dim", padding.dim)] if padding else []
    faults = [
        f"'{where}.{key}' names the dimension '{name}', which 'dims' lacks"
        for key, name in named
        if name is not None and name not in spec.dims
    ]
    inputs = [("padding.mask", padding.mask), *(("padding.inputs", name) for name in padding.inputs)
              ] if padding else []  # fmt: skip
    faults += [
        f"'{where}.{key}' names the input '{name}', which 'inputs' lacks"
        for key, name in inputs
        if name not in spec.inputs
    ]
    if (
        padding
        and padding.mask in spec.inputs
        and padding.dim not in (spec.inputs[padding.mask].shape)
    ):
        faults.append(f"'{where}.padding.mask' has no dimension '{padding.dim}'")
    return faults
