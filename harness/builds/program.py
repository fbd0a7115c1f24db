"""The program of the worker that makes builds: tools that crash or hang take nobody with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx

from harness.builds import steps
from harness.errors import ModelFileError

#: Above this a build keeps its weights beside it: protobuf ends at 2 GiB.
EMBEDDED_BYTES = 1_500_000_000
#: Key of the metadata that says how a build was made.
PROVENANCE = "onnx-harness.build"


def _build(request: dict[str, Any], _: list[memoryview]) -> tuple[dict[str, Any], list[Any]]:
    """Write the build to `target`; the reply has the graph of before and after."""
    target = Path(request["target"])
    try:
        model = onnx.load(request["source"])
    except Exception as error:  # noqa: BLE001 - protobuf, files, onnx's own checks
        return {"refused": {**_parts(_unreadable(error)), "where": request["source"]}}, []
    before = _graph(model)
    for number, keys in enumerate(request["steps"], start=1):
        try:
            model = steps.apply(model, keys)
        except ModelFileError as error:
            where = f"step {number} of {len(request['steps'])}"
            return {"refused": {**_parts(error), "where": where}}, []
    entry = model.metadata_props.add()
    entry.key, entry.value = PROVENANCE, request["provenance"]
    external = model.ByteSize() > EMBEDDED_BYTES
    onnx.save(model, target, save_as_external_data=external, location="weights.bin")
    return {"before": before, "after": _graph(model)}, []


def _graph(model: onnx.ModelProto) -> dict[str, Any]:
    return {
        "operators": steps.counted(model),
        "parameters": steps.parameters(model),
        "size_bytes": model.ByteSize(),
    }


def _unreadable(error: Exception) -> ModelFileError:
    why = (str(error).strip().splitlines() or [type(error).__name__])[0]
    msg = f"Its candidate cannot be read: {why}"
    return ModelFileError(
        msg, code="model.unreadable", next_step="export or fetch the candidate again"
    )


def _parts(error: ModelFileError) -> dict[str, str]:
    names = ("what", "code", "expected", "got", "next_step")
    return {name: getattr(error, name) for name in names}


HANDLERS = {"build": _build}
