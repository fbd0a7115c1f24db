"""What `onnx-harness reference record` does: a model becomes a folder that gates without torch.

The folder is filled under a temporary name and renamed at the end, after the candidate has passed
against the live reference and against what was recorded of it. Whatever fails leaves nothing
behind. Recording twice gives the same bytes.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from harness.cli.recorded_files import (
    PROVENANCE_FILE,
    copy_libraries,
    copy_model,
    place,
    provenance,
    recorded_spec,
)
from harness.domain import samples
from harness.domain.cells import Cell
from harness.domain.findings import Severity
from harness.domain.inputs import hash_values
from harness.domain.questions import PARITY
from harness.domain.spec import FIRST_VARIANT
from harness.domain.values import SampledTensor
from harness.domain.verdict import Judgement, Verdict
from harness.errors import HarnessBug, HarnessError, RunFailed, UsageProblem
from harness.evidence import Evidence, Selection, numbered
from harness.files.models import SPEC_FILE, Model, load_model
from harness.files.places import writable
from harness.files.spec_text import spec_text
from harness.pipeline import Gate
from harness.references import recordings
from harness.references.recordings import WrittenCase
from harness.runtimes.inspectors import Inspector
from harness.runtimes.launchers import Launcher
from harness.runtimes.registry import Runtimes

SUFFIX = "-recorded"
#: Severities that speak against a candidate.
AGAINST = {Severity.FAIL, Severity.ERROR}


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What was asked for."""

    to: Path
    """Folder in which the recorded models go."""
    provider: str
    """On which the candidate must pass before the recording is kept."""
    replace: bool
    """Whether an existing folder may be replaced."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """What recording runs on."""

    launcher: Launcher
    runtimes: Runtimes
    cache: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """What was made."""

    name: str
    folder: Path
    cases: dict[str, tuple[str, ...]]
    """Case to its data sets."""
    checked: int
    """Items that passed, live and recorded."""
    notes: tuple[str, ...] = ()
    """Outputs that are sampled, and large ones that are not."""


def record_model(model: Model, request: Request, tools: Tools) -> Recorded:
    """Run a model's live reference in every case and keep all that a gate without it needs.

    Raises:
        UsageProblem: If there is nothing to record, or the folder exists.
        HarnessError: If reference or candidate is missing, fails, or they disagree.
    """
    _refuse_recorded(model)
    target = request.to / f"{model.name}{SUFFIX}"
    _refuse_overwriting(target, request)
    with _filled(target) as home:
        cases = _fill(home, model, request, tools)
        recorded = _load(home)
        _refuse_unfaithful(recorded, cases, tools)
        checked = _check(model, recorded, request, tools)
    return Recorded(
        name=target.name,
        folder=target,
        cases={name: written.data_sets for name, written in cases.items()},
        checked=checked,
        notes=tuple(_notes(cases)),
    )


def _refuse_recorded(model: Model) -> None:
    if model.recorded is not None:
        msg = f"Reference of '{model.name}' is recorded already: there is nothing to record"
        raise UsageProblem(
            msg,
            where=str(model.spec_file if model.spec_file.exists() else model.folder),
            expected="a live reference: torch, torchscript, sklearn or onnx",
            next_step="name the model that it was recorded from",
        )


def _refuse_overwriting(target: Path, request: Request) -> None:
    if target.exists() and not request.replace:
        msg = f"Folder '{target.name}' exists already: nothing is overwritten"
        raise UsageProblem(
            msg, where=str(target), next_step="add --replace, or give another folder by --to"
        )


# the folder


@contextmanager
def _filled(target: Path) -> Iterator[Path]:
    """Yield a folder of the target's name; it takes the target's place at the end, or is gone."""
    made = [path for path in (target.parent, *target.parent.parents) if not path.exists()]
    writable(target.parent, "--to")
    temporary = Path(tempfile.mkdtemp(prefix=".recording-", dir=target.parent))
    try:
        home = temporary / target.name
        home.mkdir()
        yield home
        _put(home, target, aside=temporary / "replaced")
    finally:  # Ctrl-C too must not leave half a model
        shutil.rmtree(temporary, ignore_errors=True)
        for path in made:  # stays if it holds what was recorded
            with suppress(OSError):
                path.rmdir()


def _put(home: Path, target: Path, *, aside: Path) -> None:
    """Rename `home` to `target`; what was there comes back if that fails."""
    if not target.exists():
        home.rename(target)
        return
    target.rename(aside)
    try:
        home.rename(target)
    except BaseException:  # Ctrl-C too must bring the older recording back
        aside.rename(target)
        raise


def _fill(home: Path, model: Model, request: Request, tools: Tools) -> dict[str, WrittenCase]:
    with closing(_evidence(model, tools)) as evidence:
        evidence.provider(Cell(model.name, FIRST_VARIANT, request.provider))
        files = {variant: _file(evidence, model, variant) for variant in _variants(model)}
        cases = _write_cases(home, model, evidence, request.provider)
        spec = recorded_spec(model, cases, name=home.name)
        head = f"Recorded from the model '{model.name}'; {PROVENANCE_FILE} says from what."
        _write_text(home / SPEC_FILE, spec_text(spec, head=head))
        hashes = {variant: _facts_hash(evidence, model, variant) for variant in files}
    _write_text(home / PROVENANCE_FILE, provenance(model, cases, files, hashes))
    copy_libraries(home, model)
    with closing(Inspector(tools.launcher, sys.executable)) as inspector:
        for variant, path in files.items():
            hints = inspector.hints(path, limit_s=model.spec.limits.load_s)
            copy_model(path, hints["external"], home / place(variant))
    return cases


def _evidence(model: Model, tools: Tools) -> Evidence:
    return Evidence(
        Selection(models={model.name: model}),
        runtimes=tools.runtimes,
        launcher=tools.launcher,
        cache=tools.cache,
        say=lambda _: None,
    )


def _variants(model: Model) -> tuple[str, ...]:
    return model.spec.variant_names()


def _file(evidence: Evidence, model: Model, variant: str) -> Path:
    return evidence.sound_file(Cell(model.name, variant))[0]


def _facts_hash(evidence: Evidence, model: Model, variant: str) -> str:
    return evidence.sound_file(Cell(model.name, variant))[1].hash


def _write_cases(
    home: Path, model: Model, evidence: Evidence, provider: str
) -> dict[str, WrittenCase]:
    written: dict[str, WrittenCase] = {}
    for number, case in enumerate(model.case_names()):
        cell = Cell(model.name, FIRST_VARIANT, provider, case)
        inputs = evidence.inputs(cell)
        outputs, _ = evidence.reference(cell, inputs)
        facts = evidence.sound_file(cell)[1]
        written[case] = recordings.write_case(
            home, model, case, facts, first=number * model.steps, inputs=inputs, outputs=outputs
        )
    return written


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


# whether it is worth keeping


def _load(home: Path) -> Model:
    recorded = load_model(home)
    if isinstance(recorded, Model):
        return recorded
    msg = f"The recorded spec is not valid: {recorded.problem.what}"
    raise HarnessBug(msg, got=str(recorded.problem))


def _refuse_unfaithful(recorded: Model, cases: Mapping[str, WrittenCase], tools: Tools) -> None:
    """Refuse a recording that is not read back as it was written: a kind that files cannot hold."""
    with closing(_evidence(recorded, tools)) as evidence:
        for case, written in cases.items():
            cell = Cell(recorded.name, FIRST_VARIANT, case=case)
            inputs = evidence.inputs(cell)
            outputs, _ = evidence.reference(cell, inputs)
            for side, read, wrote in (
                ("inputs", inputs, written.inputs),
                ("outputs", outputs, written.outputs),
            ):
                if hash_values(numbered(read)) != hash_values(numbered(wrote)):
                    raise _unfaithful(side, case, recorded)


def _unfaithful(side: str, case: str, recorded: Model) -> HarnessError:
    msg = f"The {side} of case '{case}' are not read back as they were recorded"
    return RunFailed(
        msg,
        code="reference.recorded",
        where=recorded.name,
        expected="values of the kinds that the model declares",
        next_step="see what the parity suite says of the model",
    )


def _check(model: Model, recorded: Model, request: Request, tools: Tools) -> int:
    """Return how many items pass, live and recorded; raise for the first that does not."""
    selection = Selection(models={model.name: model, recorded.name: recorded})
    gate = Gate(selection, runtimes=tools.runtimes, launcher=tools.launcher, cache=tools.cache)
    cells = model.cells((request.provider,))
    with closing(gate):
        live = [(cell, gate.check(PARITY, cell)) for cell in cells]
        _refuse_failed(live, "its live reference")
        again = [(cell, gate.check(PARITY, replace(cell, model=recorded.name))) for cell in cells]
        _refuse_failed(again, "what was recorded, although it passes against the live reference")
    passed = sum(judged.verdict is Verdict.PASS for _, judged in again)
    if not passed:
        raise _unchecked(model, request, again)
    return passed


def _refuse_failed(judged: Sequence[tuple[Cell, Judgement]], against: str) -> None:
    for cell, judgement in judged:
        if judgement.verdict in {Verdict.FAIL, Verdict.ERROR}:
            finding = next(each for each in judgement.findings if each.severity in AGAINST)
            msg = f"Candidate '{cell}' does not pass against {against}: {finding.what}"
            raise RunFailed(
                msg,
                code=finding.code,
                where=f"{finding.code}, {finding.where}" if finding.where else finding.code,
                expected=finding.expected,
                got=finding.got,
                next_step=finding.next_step or "mend the candidate first; nothing was recorded",
            )


def _unchecked(
    model: Model, request: Request, judged: Sequence[tuple[Cell, Judgement]]
) -> HarnessError:
    findings = [finding for _, judgement in judged for finding in judgement.findings]
    msg = f"The recording of '{model.name}' cannot be checked on {request.provider}"
    return UsageProblem(
        msg,
        where="--provider",
        expected="a provider on which the candidate runs",
        got=findings[0].what if findings else "no variant runs there",
        next_step=f"give one of {', '.join(model.spec.providers)} by --provider",
    )


def _notes(cases: Mapping[str, WrittenCase]) -> Iterator[str]:
    for case, written in cases.items():
        for name, value in written.outputs[0].items():
            if isinstance(value, SampledTensor):
                kept, size = value.elements.size, samples.whole_size(value)
                yield f"output '{name}' of case '{case}' is sampled: {kept} of {size} elements"
            elif samples.size_bytes(value) > samples.LARGEST_WHOLE:
                size = samples.size_bytes(value)
                yield (
                    f"output '{name}' of case '{case}' is kept whole, {size} bytes: no sample "
                    "can stand for it"
                )
