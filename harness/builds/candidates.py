"""The file that a variant is or is built from: located, or exported from the reference and kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from harness.builds.kept import kept
from harness.domain import inputs as drawing
from harness.domain.spec import Export, ModelSpec
from harness.domain.values import Values
from harness.errors import SpecError
from harness.files import packages
from harness.files.cache import key_of
from harness.files.models import Model
from harness.files.sources import locate
from harness.references.store import References, source_key

#: Raised when the way models are exported changes.
REVISION = "1"
#: Kind of reference -> distributions that its exporter needs.
EXPORTERS = {"torch": ("onnx", "onnxscript"), "sklearn": ("onnx", "skl2onnx")}
#: torch specialises on sizes 0 and 1, so a free dimension is shown to it with at least 2.
LEAST_FREE_SIZE = 2
MODEL = "model.onnx"


def candidate_file(model: Model, variant: str, *, references: References, cache: Path) -> Path:
    """Return the file that a variant is, or that its build begins with.

    Raises:
        HarnessError: If the file is missing, or the export fails.
    """
    source = model.spec.source(variant)
    packages.versions(model.spec.requires)
    if source.export is None:
        return locate(source, model.folder, downloads=cache / "downloads")
    return _exported(model, source.export, references=references, folder=cache / "exports")


def _exported(model: Model, export: Export, *, references: References, folder: Path) -> Path:
    kind = model.spec.reference.kind
    if kind not in EXPORTERS:
        msg = f"Candidate of '{model.name}' cannot be exported from a '{kind}' reference"
        raise SpecError(
            msg,
            code="spec.invalid",
            where=str(model.spec_file),
            expected=f"a reference of kind {' or '.join(EXPORTERS)}",
            next_step="give candidate.file",
        )
    home = kept(
        folder / _key(model, export)[:32],
        lambda made: references.live(model).export(
            example(model.spec), export_fields(model, export, made / MODEL)
        ),
    )
    return home / MODEL


def _key(model: Model, export: Export) -> str:
    exporters = packages.versions(EXPORTERS[model.spec.reference.kind])
    return key_of(
        REVISION,
        *source_key(model),
        json.dumps(exporters, sort_keys=True),
        repr(export),
        repr(model.spec.inputs),
        repr(model.spec.dims),
        repr(list(model.spec.outputs)),
    )


def export_fields(model: Model, export: Export, target: Path) -> dict[str, Any]:
    """Return what an exporter is asked for."""
    spec = model.spec
    return {
        "target": str(target),
        "opset": export.opset,
        "ml_opset": export.ml_opset,
        "options": export.options,
        "output_names": list(spec.outputs),
        "shapes": [_free(spec, port.shape) for port in spec.inputs.values()],
        "ports": [[name, str(port.dtype), port.shape] for name, port in spec.inputs.items()],
    }


def _free(spec: ModelSpec, shape: tuple[int | str, ...]) -> list[int | str]:
    """Return the shape with dimensions that can only be 1 (or 0) as numbers."""
    return [
        spec.dims[size].max
        if isinstance(size, str) and spec.dims[size].max < LEAST_FREE_SIZE
        else size
        for size in shape
    ]


def example(spec: ModelSpec) -> Values:
    """Return inputs for the exporter: every free dimension at its least size from 2 up."""
    dims = {
        name: min(max(size.min, LEAST_FREE_SIZE + index), size.max)
        for index, (name, size) in enumerate(spec.dims.items())
    }
    return {
        name: drawing.draw(
            port, drawing.resolve_shape(port, dims, where=f"input '{name}'"), key=("export", name)
        )
        for name, port in spec.inputs.items()
    }
