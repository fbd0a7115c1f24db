"""The direction of imports."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import harness

PACKAGE = Path(harness.__file__).parent
#: Package or module -> what of the harness it may import beside `errors` and itself.
MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "domain": set(),
    "files": {"domain"},
    "runtimes": {"domain", "files"},
    "references": {"domain", "files", "runtimes"},
    "builds": {"domain", "files", "references", "runtimes"},
    "results": {"domain", "files"},
    "reports": {"domain", "results"},
    "search": {"domain"},
    "evidence": {"domain", "files", "runtimes", "references", "builds"},
    "testing": {"domain", "files", "results", "runtimes"},
}
CORE = {"domain", "files", "runtimes", "references", "builds", "results"}
#: The search of an error's origin sees what a cell is made of, and nothing of how it is judged.
MAY_IMPORT["localise"] = CORE | {"evidence"}
MAY_IMPORT["bounds"] = CORE | {"evidence"}
MAY_IMPORT["measuring"] = {"domain", "runtimes"}
MAY_IMPORT["duets"] = {"domain", "runtimes", "measuring"}
MAY_IMPORT["latency"] = CORE | {"evidence", "measuring", "duets", "regressions", "serving"}
#: It profiles the sides that a duet measured.
MAY_IMPORT["regressions"] = MAY_IMPORT["serving"] = {"domain", "runtimes", "measuring"}
MAY_IMPORT["properties"] = CORE | {"evidence", "search"}
MAY_IMPORT["pipeline"] = CORE | {"evidence", "bounds", "latency", "localise", "properties"}
MAY_IMPORT["refresh"] = {"domain", "files", "results"}
#: It judges mutants with the very gate that it puts to the test, so it stands above the pipeline.
MAY_IMPORT["proving"] = CORE | {"evidence", "bounds", "pipeline"}
MAY_IMPORT["plugin"] = CORE | {"evidence", "latency", "localise", "pipeline", "reports"}
MAY_IMPORT["cli"] = MAY_IMPORT["plugin"] | {
    *("duets", "measuring", "proving", "refresh", "regressions")
}

#: Frameworks run in workers; their adapters import them, inside functions.
FRAMEWORKS = {"onnxruntime", "torch", "sklearn", "skl2onnx", "safetensors"}
ADAPTERS = {
    "builds/steps.py",
    "references/frameworks.py",
    "references/precision.py",
    "references/tracing.py",
    "runtimes/worker/session.py",
}


def imports(path: Path) -> Iterator[str]:
    """Yield the dotted names that a module imports, wherever in the file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def modules() -> list[str]:
    """Return all modules by their path in the package."""
    found = (path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))
    return sorted(name for name in found if not name.startswith("suites/"))


@pytest.mark.parametrize("module", modules())
def test_imports_point_inwards(module: str) -> None:
    """What a module imports of the harness is allowed for its package."""
    part = module.partition("/")[0].removesuffix(".py")
    allowed = MAY_IMPORT.get(part, set()) | {part, "errors", "__version__"}
    used = {name.split(".")[1] for name in imports(PACKAGE / module) if name.startswith("harness.")}
    assert used <= allowed


@pytest.mark.parametrize("module", [name for name in modules() if name not in ADAPTERS])
def test_frameworks_are_imported_by_their_adapters_only(module: str) -> None:
    """Whatever needs a framework runs in a worker."""
    assert {name.split(".")[0] for name in imports(PACKAGE / module)} & FRAMEWORKS == set()


def test_the_worker_stands_alone() -> None:
    """It runs in interpreters that have no harness."""
    for path in (PACKAGE / "runtimes" / "worker").glob("*.py"):
        assert [name for name in imports(path) if name.startswith("harness")] == []
