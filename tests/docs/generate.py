"""Passages of the docs that are made from the code, between two comments of a Markdown file.

`python -m tests.docs.generate` writes them anew; a test fails when one is out of date.
"""

from __future__ import annotations

import argparse
import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from harness.domain import builds, project, spec
from harness.domain.bounds import ARITHMETIC, FACTORS, rule_for
from harness.domain.providers import BUILTIN
from harness.domain.questions import LATENCY, QUESTIONS, SHOWN_BY
from harness.domain.tolerance import PROVIDER_FACTORS, TABLE
from harness.files.toml import schema
from harness.plugin import pytest_addoption
from harness.results import record

ROOT = Path(__file__).parents[2]
PASSAGE = re.compile(
    r"(?P<open><!-- generated: (?P<name>[a-z-]+) -->\n).*?(?P<close><!-- end -->)", re.DOTALL
)

#: Heading -> the dataclass whose fields are the keys of that table.
SPEC_TABLES: dict[str, type] = {
    "top level": spec.ModelSpec,
    "[candidate]": spec.Candidate,
    "candidate.export": spec.Export,
    "[reference]": spec.Reference,
    "[variants.NAME]": spec.Variant,
    "[[variants.NAME.build]]": builds.BuildStep,
    "[providers.NAME]": spec.ProviderUse,
    "[session]": spec.SessionSettings,
    "[inputs.NAME]": spec.InputSpec,
    "inputs.NAME.relation": spec.Relation,
    "[dims.NAME]": spec.DimSpec,
    "[[case]]": spec.CaseSpec,
    "[outputs.NAME]": spec.OutputSpec,
    "outputs.NAME.tolerance.PROVIDER": spec.Tolerance,
    "outputs.NAME.measures": spec.Measures,
    "outputs.NAME.measures.top_k": spec.TopK,
    "outputs.NAME.measures.kl": spec.Divergence,
    "[state]": spec.StateSpec,
    "[placement.PROVIDER]": spec.PlacementSpec,
    "placement.PROVIDER.allow_cpu": spec.AllowCpu,
    "[properties]": spec.PropertiesSpec,
    "[latency]": spec.LatencySpec,
    "[[latency.budget]]": spec.Budget,
    "properties.leave_out": spec.LeaveOut,
    "properties.padding": spec.PaddingSpec,
    "[limits]": spec.Limits,
    "[[known_failure]]": spec.KnownFailure,
    "[prove]": spec.ProveSpec,
}
PROJECT_TABLES: dict[str, type] = {
    "[tool.onnx-harness]": project.ProjectSettings,
    "runtimes.NAME": project.RuntimeSettings,
    "providers.NAME": project.ProviderSettings,
}
RECORD_TABLES: dict[str, type] = {
    "the record": record.RunRecord,
    "an entry of `declared`": record.DeclaredItem,
    "an entry of `items`": record.ItemRecord,
}


def key_tables(tables: Mapping[str, type]) -> Iterator[str]:
    """Yield a heading and a table of keys for each dataclass."""
    for heading, kind in tables.items():
        shown = f"`{heading}`" if heading.startswith("[") or "." in heading else heading
        yield f"### {shown}\n"
        yield "| key | value | default | meaning |"
        yield "|---|---|---|---|"
        yield from _rows(kind)
        yield ""


def _rows(kind: type) -> Iterator[str]:
    whole = schema(kind)
    defaults = {field.name: field for field in dataclasses.fields(kind)}
    for name, described in whole["properties"].items():
        meaning = " ".join(described.get("description", "").split()).replace("|", "\\|")
        value = _value(described, whole.get("$defs", {}))
        yield f"| `{name}` | {value} | {_default(defaults[name])} | {meaning} |"


def _default(field: dataclasses.Field[Any]) -> str:
    required = field.default is dataclasses.MISSING
    if field.default_factory is not dataclasses.MISSING:
        return "" if not (made := field.default_factory()) or dataclasses.is_dataclass(made) else (
            ", ".join(f"`{key}`" for key in made)
        )  # fmt: skip
    if required:
        return "required"
    return "" if field.default in (None, "", ()) else f"`{str(field.default).lower()}`"


def _value(described: Mapping[str, Any], defs: Mapping[str, Any]) -> str:
    """Return what a value must be, in words."""
    if "$ref" in described:
        name = described["$ref"].rpartition("/")[2]
        return {"DType": "element type", "Verdict": "verdict"}.get(name, "table")
    if described.get("format") == "date":
        return "date"
    if "const" in described:
        return f"`{described['const']}`"
    if "enum" in described:
        return ", ".join(f"`{choice}`" for choice in described["enum"])
    if "anyOf" in described:
        some = [one for one in described["anyOf"] if one.get("type") != "null"]
        return " or ".join(_value(one, defs) for one in some)
    return _container(described, defs)


def _container(described: Mapping[str, Any], defs: Mapping[str, Any]) -> str:
    match described.get("type"):
        case "array" if "prefixItems" in described:
            return "[" + ", ".join(_value(one, defs) for one in described["prefixItems"]) + "]"
        case "array":
            return f"array of {_value(described['items'], defs)}"
        case "object":
            inner = described.get("additionalProperties")
            return f"table of {_value(inner, defs)}" if isinstance(inner, dict) else "table"
        case kind:
            return {"string": "text", "number": "number", "integer": "integer",
                    "boolean": "true or false"}.get(str(kind), "any")  # fmt: skip


def providers() -> Iterator[str]:
    """Yield the table of short names."""
    yield "| short name | ONNX Runtime's name | started by | options set by default |"
    yield "|---|---|---|---|"
    for name, provider in BUILTIN.items():
        options = ", ".join(f"`{key} = {value}`" for key, value in provider.options.items())
        yield f"| `{name}` | {provider.ep} | {'fork' if provider.forks else 'spawn'} | {options} |"


def tolerances() -> Iterator[str]:
    """Yield the table of tolerances, then the factors."""
    yield "| element type | `atol` | `rtol` |"
    yield "|---|---:|---:|"
    for dtype, (atol, rtol) in TABLE.items():
        yield f"| `{dtype}` | {atol:g} | {rtol:g} |"
    yield ""
    yield "| provider | element type | factor on both |"
    yield "|---|---|---:|"
    for (provider, dtype), factor in PROVIDER_FACTORS.items():
        yield f"| `{provider}` | `{dtype}` | {factor:g} |"


def bounds() -> Iterator[str]:
    """Yield K and floor per type, then the providers with coarser arithmetic."""
    yield "| the build computes in | K | floor | floor for a scikit-learn reference |"
    yield "|---|---:|---:|---:|"
    for dtype in FACTORS:
        rule, lone = (rule_for(dtype, "cpu", lone=lone) for lone in (False, True))
        if rule is not None and lone is not None:
            yield f"| `{dtype}` | {rule.factor:g} | {rule.floor:.2g} | {lone.floor:.2g} |"
    yield ""
    yield "| provider | the build computes in | floor of |"
    yield "|---|---|---|"
    for (provider, dtype), arithmetic in ARITHMETIC.items():
        yield f"| `{provider}` | `{dtype}` | `{arithmetic}` |"


def questions() -> Iterator[str]:
    """Yield the table of suites."""
    yield "| suite | asks | about | must have counted |"
    yield "|---|---|---|---|"
    about = {2: "model x variant", 3: "model x variant x provider", 4: "every cell"}
    for question in QUESTIONS.values():
        counters = ", ".join(f"`{name.replace('|', '` or `')}`" for name in question.counters)
        part = f"{about[3]} x timed point" if question is LATENCY else about[question.depth]
        yield f"| {question.name} | {question.asks} | {part} | {counters} |"


def known_failures() -> Iterator[str]:
    """Yield the table of codes that can be excused, by the suites that are sure to show them."""
    yield "| code | an item of these suites that passes disproves the entry |"
    yield "|---|---|"
    groups: dict[tuple[str, ...], list[str]] = {}
    for code, questions_ in SHOWN_BY.items():
        names = tuple(question.name for question in questions_)
        groups.setdefault(names, []).append(f"`{code}`")
    for names, codes in groups.items():
        yield f"| {', '.join(codes)} | {', '.join(names) or 'the one that `suite` names'} |"


def options() -> Iterator[str]:
    """Yield the table of pytest options."""
    yield "| option | meaning |"
    yield "|---|---|"
    for flags, described in declared_options():
        metavar = described.get("metavar", "")
        yield f"| `{' '.join((*flags, metavar)).strip()}` | {described['help']} |"


def declared_options() -> list[tuple[tuple[str, ...], dict[str, Any]]]:
    """Return the options that the plugin adds, as it declares them."""
    found: list[tuple[tuple[str, ...], dict[str, Any]]] = []

    class Group:
        """Stands for pytest's group of options."""

        def addoption(self, *flags: str, **described: Any) -> None:
            """Keep one option."""
            found.append((flags, described))

    class Parser:
        """Stands for pytest's parser."""

        def getgroup(self, *_: str) -> Group:
            """Return the group that keeps options."""
            return Group()

    pytest_addoption(Parser())  # type: ignore[arg-type]  # duck-typed on purpose
    return found


PASSAGES: dict[str, Callable[[], Iterator[str]]] = {
    "spec-keys": lambda: key_tables(SPEC_TABLES),
    "project-keys": lambda: key_tables(PROJECT_TABLES),
    "record-keys": lambda: key_tables(RECORD_TABLES),
    "providers": providers,
    "bounds": bounds,
    "tolerances": tolerances,
    "suites": questions,
    "known-failures": known_failures,
    "options": options,
}


def renewed(text: str) -> str:
    """Return a Markdown text with all its generated passages made anew."""

    def fill(match: re.Match[str]) -> str:
        lines = "\n".join(PASSAGES[match["name"]]()).strip()
        return f"{match['open']}\n{lines}\n\n{match['close']}"

    return PASSAGE.sub(fill, text)


def pages() -> list[Path]:
    """Return README and all pages of the docs."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def shown(page: Path) -> str:
    """Return a page's path in the repository, for ids of tests."""
    return page.relative_to(ROOT).as_posix()


def main() -> None:
    """Write all generated passages."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    for page in pages():
        page.write_text(renewed(page.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
