"""The published JSON schema of `model.toml`."""

from __future__ import annotations

from typing import Any

from harness.domain.spec import ModelSpec
from harness.files import toml


def model_schema() -> dict[str, Any]:
    """Return the schema, as `docs/model.schema.json` holds it."""
    return {
        **toml.schema(ModelSpec),
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "model.toml of onnx-harness",
    }
