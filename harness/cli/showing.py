"""What `onnx-harness model show` tells: the spec with its defaults, and the files as they are."""

from __future__ import annotations

import datetime
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

from harness.domain.model_facts import ModelFacts
from harness.domain.session import Port
from harness.errors import HarnessError
from harness.files import packages, sources
from harness.files.models import Model
from harness.results.record import declared_items
from harness.runtimes.inspectors import Inspector
from harness.runtimes.launchers import Launcher


def describe(model: Model, *, launcher: Launcher, cache: Path) -> dict[str, Any]:
    """Return everything as JSON values; a variant that is exported or remote is not fetched."""
    with closing(Inspector(launcher, sys.executable)) as inspector:
        variants = {
            variant: _variant(model, variant, inspector, cache)
            for variant in model.spec.variant_names()
        }
    return {
        "name": model.name,
        "folder": str(model.folder),
        "spec": asdict(model.spec, dict_factory=_with_days_as_text),
        "cases": list(model.case_names()),
        "items": [item.key for item in declared_items(model)],
        "variants": variants,
    }


def _with_days_as_text(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    return {key: str(value) if isinstance(value, datetime.date) else value for key, value in pairs}


def _variant(model: Model, variant: str, inspector: Inspector, cache: Path) -> dict[str, Any]:
    if steps := model.spec.steps(variant):
        names = ", ".join(each.step for each in steps)
        return {"note": f"built from the candidate when it is run: {names}"}
    source = model.spec.source(variant)
    if source.export is not None:
        return {"note": f"exported from the {model.spec.reference.kind} reference when it is run"}
    if source.url is not None:
        return {"note": f"fetched from {source.url} when it is run"}
    try:
        packages.versions(model.spec.requires)
        path = sources.locate(source, model.folder, downloads=cache / "downloads")
        facts = inspector.inspect(path, limit_s=model.spec.limits.load_s)
    except HarnessError as error:
        return {"note": error.what}
    return {"file": str(path), **_plain(facts)}


def _plain(facts: ModelFacts) -> dict[str, Any]:
    return {**asdict(facts), "opsets": dict(facts.opsets)}


def lines(described: dict[str, Any]) -> Iterator[str]:
    """Yield the description as text."""
    spec = described["spec"]
    yield f"{described['name']}: {spec['summary'] or spec['task'] or 'no summary'}"
    yield from _labelled({
        "folder": described["folder"],
        "task": spec["task"],
        "reference": _given(spec["reference"]),
        "requires": ", ".join(spec["requires"]),
        "session": _given(spec["session"]),
        "limits": _given(spec["limits"]),
        "providers": ", ".join(map(_provider, spec["providers"].items())),
        "cases": ", ".join(described["cases"]),
        "items": str(len(described["items"])),
    })
    for name, port in spec["inputs"].items():
        yield f"  input '{name}': {_given(port)}"
    for name, size in spec["dims"].items():
        yield f"  dimension '{name}': {size['min']} to {size['max']}"
    for name, rule in spec["outputs"].items():
        yield f"  output '{name}': {_given(rule)}"
    if spec["state"]:
        yield f"  state: {_given(spec['state'])}"
    for name, rule in spec["placement"].items():
        yield f"  placement on {name}: {_given(rule)}"
    for entry in spec["known_failure"]:
        yield f"  known failure: {_given(entry)}"
    for name, facts in described["variants"].items():
        yield from _variant_lines(name, facts)


def _labelled(parts: dict[str, str]) -> Iterator[str]:
    yield from (f"  {label + ':':<11}{text}" for label, text in parts.items() if text)


def _provider(entry: tuple[str, dict[str, Any]]) -> str:
    name, use = entry
    return f"{name} ({_given(use)})" if _given(use) else name


def _given(table: dict[str, Any]) -> str:
    """Return a table of the spec in one line, without what is empty."""
    return ", ".join(
        f"{key} {_short(value)}" for key, value in table.items() if value not in (None, (), {}, "")
    )


def _short(value: Any) -> str:
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(_short, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key} {_short(each)}' for key, each in value.items())}}}"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _variant_lines(name: str, facts: dict[str, Any]) -> Iterator[str]:
    if "note" in facts:
        yield f"  variant {name}: {facts['note']}"
        return
    opsets = ", ".join(f"{domain or 'ai.onnx'} {n}" for domain, n in facts["opsets"].items())
    yield f"  variant {name}: {facts['file']}"
    size = f"{facts['parameters']:,} parameters, {facts['size_bytes']:,} bytes"
    yield f"    {facts['nodes']} nodes, {size}, IR {facts['ir_version']}, opset {opsets}"
    yield f"    model hash {facts['hash']}"
    for side in ("inputs", "outputs"):
        for port in facts[side]:
            yield f"    {side[:-1]} '{port['name']}': {_port(port)}"
    for code, message in facts["faults"]:
        yield f"    {code}: {message.splitlines()[0]}"


def _port(port: dict[str, Any]) -> str:
    known = Port(**port)
    sizes = ", ".join("?" if size is None else str(size) for size in known.shape or ())
    return f"{known.type} [{sizes}]" if known.shape is not None else known.type
