"""The files of a recorded model beside its data sets: candidate, spec, and where they come from."""

from __future__ import annotations

import fnmatch
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import harness
from harness.builds.candidates import EXPORTERS
from harness.domain.inputs import hash_values
from harness.domain.spec import FIRST_VARIANT, KnownFailure, ModelSpec, Reference
from harness.errors import ModelFileError
from harness.evidence import numbered
from harness.files import packages
from harness.files.cache import hash_file
from harness.files.commits import last_commit
from harness.files.models import Model
from harness.files.zoo import MODEL_FILE
from harness.references.recordings import WrittenCase
from harness.references.store import FRAMEWORKS

#: Says from what the recording was made.
PROVENANCE_FILE = "recorded.json"


def place(variant: str) -> str:
    """Return where a variant's file lies; each has a folder, because weights may share a name."""
    return MODEL_FILE if variant == FIRST_VARIANT else f"variants/{variant}/{MODEL_FILE}"


def recorded_spec(model: Model, cases: Mapping[str, WrittenCase], *, name: str) -> ModelSpec:
    """Return the spec of the model `name`, without what only reference and export needed."""
    spec = model.spec
    libraries = tuple(_library_place(model, name) for name in spec.session.custom_ops)
    return replace(
        spec,
        candidate=replace(
            spec.candidate, file=MODEL_FILE, package=None, url=None, sha256=None, export=None
        ),
        reference=Reference(recorded="."),
        requires=tuple(each for each in spec.requires if _is_custom_ops(each, spec)),
        variants={
            name: replace(
                variant,
                file=place(name),
                package=None,
                url=None,
                sha256=None,
                build=(),
                dtype=variant.computes_in,
            )
            for name, variant in spec.variants.items()
        },
        session=replace(spec.session, custom_ops=libraries),
        case=tuple(
            replace(case, inputs=None, data_set=cases[case.name].data_sets[0]) for case in spec.case
        ),
        known_failure=tuple(dict.fromkeys(_known(each, name) for each in spec.known_failure)),
    )


def _known(entry: KnownFailure, name: str) -> KnownFailure:
    """Return a known failure for the recorded model, whose name the glob need not match."""
    glob, *rest = entry.cell.split("/")
    if fnmatch.fnmatchcase(name, glob):
        return entry
    return replace(entry, cell="/".join([name, *rest]))


def _is_custom_ops(distribution: str, spec: ModelSpec) -> bool:
    """Return whether the sessions need a distribution: the rest was for reference and export."""
    modules = set(spec.session.custom_ops)
    if distribution.replace("-", "_").lower() in {name.lower() for name in modules}:
        return True
    provided = metadata.packages_distributions() if modules else {}
    return any(distribution in provided.get(name, ()) for name in modules)


def _library_place(model: Model, name: str) -> str:
    """Return a custom operator library's path in the recorded folder, or its package's name."""
    path = model.folder / name
    if not path.exists():
        return name
    inside = path.resolve().is_relative_to(model.folder.resolve())
    return os.path.normpath(name) if inside else path.name


def copy_libraries(home: Path, model: Model) -> None:
    """Copy libraries of custom operators that are files of the model's."""
    for name in model.spec.session.custom_ops:
        if (model.folder / name).exists():
            _copy(model.folder / name, home / _library_place(model, name))


def copy_model(path: Path, external: Sequence[str], target: Path) -> None:
    """Copy a model with its weights to where they lie from the model's own folder."""
    _copy(path, target)
    for location in dict.fromkeys(map(os.path.normpath, external)):
        _copy(path.parent / location, target.parent / location)


def _copy(source: Path, target: Path) -> None:
    if target.exists():
        msg = f"Two files of the recording would be called '{target.name}'"
        raise ModelFileError(
            msg, where=str(source), next_step="save the model with other names for its files"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


# where it comes from


def provenance(
    model: Model,
    cases: Mapping[str, WrittenCase],
    files: Mapping[str, Path],
    hashes: Mapping[str, str],
) -> str:
    """Return what the recording was made from, as JSON; no clock, path or machine enters.

    Args:
        model: The model that was recorded.
        cases: What was recorded.
        files: Variant to its file.
        hashes: Variant to its model hash.
    """
    told = {
        "schema_version": 1,
        "harness_version": harness.__version__,
        "model": {"name": model.name, **last_commit(model.folder)},
        "reference": _reference(model),
        "variants": {
            variant: {
                "file": place(variant),
                "model_hash": hashes[variant],
                "sha256": hash_file(path),
            }
            for variant, path in files.items()
        },
        "cases": {name: _case(written) for name, written in cases.items()},
    }
    return json.dumps(told, indent=1, sort_keys=True) + "\n"


def _reference(model: Model) -> dict[str, Any]:
    reference = model.spec.reference
    entry = getattr(reference, reference.kind)
    own = model.spec.candidate.file if entry is True else str(entry).partition(":")[0]
    needed, _ = FRAMEWORKS[reference.kind]
    read = [str(own), *reference.depends]
    return {
        "kind": reference.kind,
        "entry": entry,
        "files": {name: hash_file(model.folder / name) for name in read},
        "versions": packages.versions([*needed, *_exporters(model), *model.spec.requires]),
    }


def _exporters(model: Model) -> tuple[str, ...]:
    """Return the distributions that made the candidate, if it was exported."""
    exported = model.spec.candidate.export is not None
    return EXPORTERS.get(model.spec.reference.kind, ()) if exported else ()


def _case(written: WrittenCase) -> dict[str, Any]:
    return {
        "data_sets": list(written.data_sets),
        "inputs": hash_values(numbered(written.inputs)),
        "reference_values": hash_values(numbered(written.outputs)),
    }
