"""What `onnx-harness model add` does: a model file becomes a folder with a spec that runs.

The folder is filled under a temporary name and renamed at the end, so that an attempt that fails
leaves nothing behind. A file that lies in its model's folder already stays where it is.
"""

from __future__ import annotations

import ast
import itertools
import shutil
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from harness.cli.trials import Tester, Trial, try_reference
from harness.domain.model_facts import ModelFacts
from harness.domain.spec import PLAIN_NAME, Limits, ModelSpec
from harness.errors import (
    EnvironmentProblem,
    HarnessBug,
    HarnessError,
    ModelFileError,
    UsageProblem,
)
from harness.evidence import BLOCKING
from harness.files import drafts, sources, toml
from harness.files.cache import hash_file, write_atomically
from harness.files.draft_text import spec_text
from harness.files.drafts import Draft, ReferenceDraft
from harness.files.models import SPEC_FILE, BrokenModel, load_model, spec_faults
from harness.files.zoo import MODEL_FILE
from harness.runtimes.inspectors import Inspector
from harness.runtimes.launchers import Launcher
from harness.runtimes.registry import Runtimes

#: How long sizes are looked for that run: drafts tried, and seconds after which no further one.
ATTEMPTS = 300
PATIENCE_S = 60.0
#: Modules that a reference file imports -> kind of reference, packages that it needs.
_KINDS = (
    ({"sklearn", "skl2onnx", "joblib"}, "sklearn", ("scikit-learn",)),
    ({"torch"}, "torch", ("torch",)),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What was asked for."""

    file: Path
    reference: str | None
    """`file.py:function`."""
    name: str | None
    models: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Added:
    """What was made."""

    name: str
    folder: Path
    trial: Trial
    reference: str
    """Kind of the reference that was tried; empty if none was given or no case ran."""
    reference_problem: HarnessError | None
    """Why it did not run."""
    notes: tuple[str, ...]

    @property
    def failed(self) -> bool:
        """Return whether draft or reference, not the machine, is what did not work."""
        problem = self.reference_problem
        broken = problem is not None and not isinstance(problem, EnvironmentProblem)
        return self.trial.failed or broken


def add_model(request: Request, *, launcher: Launcher, runtimes: Runtimes) -> Added:
    """Inspect a model file, draft its spec, try it, and keep both in a folder of their own.

    Raises:
        UsageProblem: If the name is taken or not plain, or the reference is not there.
        ModelFileError: If the file is no model that could be run.
    """
    name = _name(request)
    folder = request.models / name
    in_place = request.file.resolve().is_relative_to(folder.resolve())
    _refuse_overwriting(folder, in_place=in_place)
    with closing(Inspector(launcher, sys.executable)) as inspector:
        facts = _sound(inspector.inspect(request.file, limit_s=Limits().load_s), request.file)
        hints = inspector.hints(request.file, limit_s=Limits().load_s)
    entry, code = _entry(request, folder)
    draft = drafts.draft(
        facts,
        hints,
        source=request.file.name,
        sha256=hash_file(request.file),
        reference=_reference(entry, code),
    )
    external = [str(location) for location in hints["external"]]
    with _filled(folder, in_place=in_place) as home:
        candidate = _bring(request.file, external, home, in_place=in_place)
        if code is not None and not code.resolve().is_relative_to(folder.resolve()):
            shutil.copyfile(code, home / code.name)
        with closing(Tester(name, home, launcher=launcher, runtimes=runtimes)) as tester:
            trial = _write(draft, home, candidate, tester)
    given = code is not None and trial.problem is None
    return Added(
        name=name,
        folder=folder,
        trial=trial,
        reference=draft.reference.kind if given else "",
        reference_problem=_try_reference(folder, facts, launcher) if given else None,
        notes=tuple(_notes(draft)),
    )


def _try_reference(folder: Path, facts: ModelFacts, launcher: Launcher) -> HarnessError | None:
    model = load_model(folder)
    if isinstance(model, BrokenModel):
        return model.problem
    return try_reference(model, facts, launcher=launcher)


# what is asked for


def _name(request: Request) -> str:
    if request.name is not None:
        name = request.name if PLAIN_NAME.fullmatch(request.name) else ""
    else:
        stem = request.file.stem
        parent = request.file.absolute().parent.name
        name = drafts.plain_name(parent if stem == "model" else stem)
    if name:
        return name
    msg = f"Model name '{request.name or request.file.stem}' is not a plain name"
    raise UsageProblem(
        msg,
        where="--name",
        expected=f"a name that matches {PLAIN_NAME.pattern}",
        next_step="give --name NAME",
    )


def _refuse_overwriting(folder: Path, *, in_place: bool) -> None:
    if (folder / SPEC_FILE).exists() or (folder.exists() and not in_place):
        msg = f"Model '{folder.name}' exists already: nothing is overwritten"
        raise UsageProblem(
            msg, where=str(folder), next_step="give another --name, or remove the folder first"
        )


def _sound(facts: ModelFacts, file: Path) -> ModelFacts:
    for code, message in facts.faults:
        if code in BLOCKING:
            msg = f"'{file.name}' is no model that could be run: {message.splitlines()[0]}"
            raise ModelFileError(
                msg, code=code, where=str(file), next_step="export or fetch the model again"
            )
    return facts


def check_file(file: Path) -> None:
    """Refuse a path that is no file, or that ONNX Runtime cannot open."""
    sources.check_path(file)
    if not file.is_file():
        msg = f"Model file '{file}' {'is a folder' if file.is_dir() else 'does not exist'}"
        raise UsageProblem(msg, where="FILE", expected="an ONNX file")


# the reference


def _entry(request: Request, folder: Path) -> tuple[str, Path | None]:
    """Return how the spec names the reference, and its file."""
    if request.reference is None:
        return "", None
    file, colon, function = request.reference.rpartition(":")
    if not (colon and file and function.isidentifier()):
        msg = f"Reference '{request.reference}' is not of the form FILE.py:FUNCTION"
        raise UsageProblem(msg, where="--reference", expected="for example reference.py:build")
    code = next((path for path in (Path(file), folder / file) if path.is_file()), None)
    if code is None:
        msg = f"Reference file '{file}' does not exist"
        raise UsageProblem(msg, where="--reference", expected="a Python file")
    if function not in _defined(code):
        msg = f"Reference file '{file}' defines no '{function}'"
        defined = ", ".join(sorted(_defined(code)))
        raise UsageProblem(msg, where="--reference", expected=f"one of {defined or 'none'}")
    inside = code.resolve().is_relative_to(folder.resolve())
    shown = code.resolve().relative_to(folder.resolve()) if inside else Path(code.name)
    return f"{shown.as_posix()}:{function}", code


def _tree(code: Path) -> ast.Module:
    try:
        return ast.parse(code.read_bytes(), filename=str(code))
    except (SyntaxError, ValueError) as error:
        msg = f"Reference file '{code}' is not Python: {error}"
        raise UsageProblem(msg, where="--reference") from None


def _defined(code: Path) -> set[str]:
    return {
        node.name
        for node in _tree(code).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    }


def _reference(entry: str, code: Path | None) -> ReferenceDraft:
    if code is None:
        return ReferenceDraft()
    tree = _tree(code)
    imported = {name.partition(".")[0] for name in _imports(tree)}
    for modules, kind, requires in _KINDS:
        if modules & imported:
            scripted = kind == "torch" and "jit.load" in ast.unparse(tree)
            return ReferenceDraft(
                kind="torchscript" if scripted else kind, entry=entry, requires=requires
            )
    return ReferenceDraft(kind="torch", entry=entry, requires=("torch",))


def _imports(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


# the folder


@contextmanager
def _filled(folder: Path, *, in_place: bool) -> Iterator[Path]:
    """Yield the folder to fill; a new one gets its name at the end, or is gone."""
    if in_place:
        yield folder
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    home = Path(tempfile.mkdtemp(prefix=f".adding-{folder.name}-", dir=folder.parent))
    try:
        yield home
        home.chmod(0o755)  # temporary folders are private, models are not
        home.rename(folder)
    except BaseException:  # Ctrl-C too must not leave half a model
        shutil.rmtree(home, ignore_errors=True)
        raise


def _bring(file: Path, external: list[str], home: Path, *, in_place: bool) -> str:
    """Copy the model with its weights; return its path in the folder."""
    if in_place:
        return file.resolve().relative_to(home.resolve()).as_posix()
    for location in external:
        target = home / location
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file.parent / location, target)
    if (home / MODEL_FILE).exists():
        msg = f"Weights of '{file.name}' lie in a file named '{MODEL_FILE}'"
        raise ModelFileError(msg, where=str(file), next_step="save the model with another name")
    shutil.copyfile(file, home / MODEL_FILE)
    return MODEL_FILE


def _write(first: Draft, home: Path, candidate: str, tester: Tester) -> Trial:
    """Write the first draft whose cases run; if none does, the first of all."""
    told: Trial | None = None
    until = time.monotonic() + PATIENCE_S
    for draft in itertools.islice(drafts.alternatives(first), ATTEMPTS):
        text = spec_text(draft, candidate=candidate)
        trial = tester.try_spec(_read(text, home))
        if trial.problem is None or trial.hopeless:
            _save(text, home)
            return trial
        told = told or trial
        if time.monotonic() > until:
            break
    _save(spec_text(first, candidate=candidate), home)
    return told or Trial()


def _read(text: str, home: Path) -> ModelSpec:
    """Return the spec that a draft stands for; one that is not valid is our mistake."""
    try:
        spec = toml.validate(
            ModelSpec, tomllib.loads(text), path=home / SPEC_FILE, title="Drafted spec"
        )
        faults = spec_faults(spec)
    except (HarnessError, tomllib.TOMLDecodeError) as error:
        msg = f"The drafted spec is not valid: {error}"
        raise HarnessBug(msg, got=text) from None
    if faults:
        msg = f"The drafted spec has faults: {'; '.join(faults)}"
        raise HarnessBug(msg, got=text)
    return spec


def _save(text: str, home: Path) -> None:
    write_atomically(home / SPEC_FILE, lambda path: path.write_text(text, encoding="utf-8"))
    (home / SPEC_FILE).chmod(0o644)


def _notes(draft: Draft) -> Iterator[str]:
    for _, message in draft.facts.faults:
        yield f"its contract fails: {message.splitlines()[0]}"
    if draft.unsupported and draft.reference.kind == "onnx":
        yield f"the ONNX reference evaluator cannot run it, give --reference: {draft.unsupported}"
