"""The run record: the declared matrix, every item's verdict, findings and receipt, as JSON."""

from __future__ import annotations

import datetime
import json
import platform
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

import harness
from harness.domain.cells import Cell, parts, short_name
from harness.domain.findings import Finding
from harness.domain.questions import LATENCY, QUESTIONS
from harness.domain.spec import STRICT, ModelSpec
from harness.domain.verdict import Judgement, Verdict, is_expected
from harness.errors import UsageProblem

SCHEMA_VERSION = 1
#: Code of the finding that excuses others.
EXPECTED = "known-failure"


class DeclaredModel(Protocol):
    """A model as far as the declared matrix needs it."""

    @property
    def name(self) -> str:
        """Return the model's name."""

    def cells(self, providers: tuple[str, ...] | None = None) -> tuple[Cell, ...]:
        """Return its cells."""

    def timed_cells(self, providers: tuple[str, ...] | None = None) -> tuple[Cell, ...]:
        """Return its cells as the latency suite sees them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemRecord:
    """What became of one item."""

    __pydantic_config__: ClassVar = STRICT

    question: str
    """Name of the suite."""
    cell: str
    """Id of the cell or its part."""
    verdict: Verdict
    """PASS, FAIL, SKIP or ERROR."""
    findings: tuple[dict[str, str], ...] = ()
    """Code, what, where, expected, got, next_step of each finding; `cause` of what is blocked."""
    counts: dict[str, int] = field(default_factory=dict)
    """Counters of the receipt."""
    facts: dict[str, str] = field(default_factory=dict)
    """Hashes, versions and figures of the receipt."""
    measured: dict[str, Any] = field(default_factory=dict)
    """Latency items: recipe, environment, nodes and timing, as a baseline keeps them."""
    serving: dict[str, Any] = field(default_factory=dict)
    """Latency items: throughput, callers at once, new sizes, growth; see `--record-serving`."""
    duration_s: float = 0.0
    """Wall time of the item, seconds."""

    @property
    def key(self) -> str:
        """Return what identifies the item in a matrix."""
        return item_key(self.question, self.cell)

    @property
    def is_expected_failure(self) -> bool:
        """Return whether the item was judged, and all that fails it is a known failure."""
        codes = [finding.get("code", "") for finding in self.findings]
        return self.verdict is Verdict.SKIP and is_expected(codes)

    @property
    def is_judged(self) -> bool:
        """Return whether something is known of the item: a verdict, or an expected failure."""
        return self.verdict is not Verdict.SKIP or self.is_expected_failure

    @classmethod
    def of(cls, question: str, cell: str, judgement: Judgement, *, duration_s: float) -> ItemRecord:
        """Return the record of a judged item."""
        return cls(
            question=question,
            cell=cell,
            verdict=judgement.verdict,
            findings=tuple(map(_plain, judgement.findings)),
            counts=dict(judgement.receipt.counts),
            facts=dict(judgement.receipt.facts),
            measured=dict(judgement.receipt.measured),
            serving=dict(judgement.receipt.serving),
            duration_s=round(duration_s, 6),
        )

    def as_json(self) -> dict[str, Any]:
        """Return plain JSON values, fit for xdist's serialisation."""
        plain = {each.name: getattr(self, each.name) for each in fields(self)}
        return {**plain, "findings": list(self.findings), "verdict": self.verdict.value}

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> ItemRecord:
        """Return what `as_json` gave."""
        findings = tuple(plain["findings"])
        return cls(**{**plain, "findings": findings, "verdict": Verdict(plain["verdict"])})


@dataclass(frozen=True, slots=True, kw_only=True)
class DeclaredItem:
    """An item that the specs ask for."""

    __pydantic_config__: ClassVar = STRICT

    question: str
    """Name of the suite."""
    cell: str
    """Id of the cell or its part."""
    not_applicable: bool = False
    """Whether the spec says that it cannot run."""

    @property
    def key(self) -> str:
        """Return what identifies the item in a matrix."""
        return item_key(self.question, self.cell)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """One run, or several merged."""

    __pydantic_config__: ClassVar = STRICT

    schema_version: Literal[1] = 1
    """Version of this format."""
    harness_version: str
    """Version of onnx-harness that wrote the record."""
    created: str
    """When, UTC, ISO 8601."""
    machine: dict[str, str] = field(default_factory=dict)
    """System, processor architecture, Python."""
    asked: dict[str, Any] = field(default_factory=dict)
    """The selection: options of the command line."""
    declared: tuple[DeclaredItem, ...] = ()
    """Every item that the specs of all loaded models declare, whatever was selected."""
    items: tuple[ItemRecord, ...] = ()
    """Every item that ran."""

    @classmethod
    def of(
        cls,
        models: Iterable[DeclaredModel],
        items: Sequence[ItemRecord],
        *,
        asked: dict[str, Any],
    ) -> RunRecord:
        """Return the record of a run that ends now."""
        now = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
        return cls(
            harness_version=harness.__version__,
            created=now.isoformat(),
            machine={
                "system": platform.system(),
                "architecture": platform.machine(),
                "python": platform.python_version(),
            },
            asked=asked,
            declared=tuple(item for model in models for item in declared_items(model)),
            items=tuple(items),
        )


def _plain(finding: Finding) -> dict[str, str]:
    plain = asdict(finding)
    return plain if finding.cause else {key: plain[key] for key in plain if key != "cause"}


def item_key(question: str, cell: str) -> str:
    """Return what identifies an item in a matrix."""
    return f"{question} {cell}"


def declared_items(model: DeclaredModel) -> Iterator[DeclaredItem]:
    """Yield the items that a model's spec declares, on its own providers."""
    spec: ModelSpec | None = getattr(model, "spec", None)
    for name, question in QUESTIONS.items():
        if spec is None and name != "contract":
            continue
        cells = model.timed_cells() if question is LATENCY else model.cells()
        for part in parts(cells, question.depth):
            use = spec.providers.get(short_name(part.provider)) if spec else None
            excused = use is not None and use.not_applicable is not None
            yield DeclaredItem(question=name, cell=str(part), not_applicable=excused)


def write_record(path: Path, record: RunRecord) -> None:
    """Write a record as JSON with sorted keys; the file appears whole or not at all."""
    from harness.files.cache import write_atomically  # noqa: PLC0415

    text = json.dumps(asdict(record), indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    write_atomically(path, lambda target: target.write_text(text, encoding="utf-8"))


def read_record(path: Path) -> RunRecord:
    """Return a record.

    Raises:
        UsageProblem: If the file is missing, not JSON, or not a record of a known version.
    """
    from pydantic import TypeAdapter, ValidationError  # noqa: PLC0415 - only merging reads

    try:
        return TypeAdapter(RunRecord).validate_json(path.read_bytes(), strict=True)
    except OSError as error:
        msg = f"Run record cannot be read: {error.strerror}"
        advice = "name a file that `pytest --harness-json FILE` wrote"
        raise UsageProblem(msg, where=str(path), next_step=advice) from None
    except ValidationError as error:
        raise _not_a_record(path, error.errors(include_url=False)) from None


def _not_a_record(path: Path, faults: Sequence[Any]) -> UsageProblem:
    """Return what is wrong first; another version explains all other faults."""
    expected = f"a record of schema version {SCHEMA_VERSION}, as --harness-json writes it"
    for fault in faults:
        if fault["loc"] == ("schema_version",):
            msg = f"Run record has schema version {fault['input']}"
            advice = "read it with the version of onnx-harness that wrote it, or judge again"
            return UsageProblem(msg, where=str(path), expected=expected, next_step=advice)
    key = ".".join(map(str, faults[0]["loc"]))
    return UsageProblem(
        f"Not a run record: {faults[0]['msg']}",
        where=f"{path}, {key}" if key else str(path),
        expected=expected,
    )
