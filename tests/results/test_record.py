"""The run record: written whole, read strictly, the same after a round trip."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.domain.findings import Finding
from harness.domain.receipts import Receipt
from harness.domain.verdict import Judgement, Verdict
from harness.errors import UsageProblem
from harness.results.record import (
    DeclaredItem,
    ItemRecord,
    RunRecord,
    declared_items,
    read_record,
    write_record,
)

FINDING = Finding(code="parity.shape", what="Output 'y' has another shape", got="[1]")
JUDGEMENT = Judgement(
    verdict=Verdict.FAIL,
    findings=(FINDING,),
    receipt=Receipt(counts={"outputs_compared": 1}, facts={"worst": "2"}),
)


def test_a_record_survives_the_file(tmp_path: Path) -> None:
    """What is read is what was written."""
    item = ItemRecord.of("parity", "tiny/fp32/cpu/one", JUDGEMENT, duration_s=0.25)
    record = RunRecord(
        harness_version="1",
        created="2026-01-01T00:00:00+00:00",
        declared=(DeclaredItem(question="parity", cell="tiny/fp32/cpu/one"),),
        items=(item,),
    )
    write_record(tmp_path / "run.json", record)
    assert read_record(tmp_path / "run.json") == record


def test_the_cause_of_what_is_blocked_is_kept() -> None:
    """Other findings have no such key."""
    blocked = Finding(code="blocked", what="Blocked", cause="session.refused")
    judgement = Judgement(verdict=Verdict.ERROR, findings=(blocked, FINDING), receipt=Receipt())
    one, other = ItemRecord.of("parity", "m", judgement, duration_s=0).findings
    assert (one["cause"], "cause" in other) == ("session.refused", False)


@pytest.mark.parametrize(
    ("verdict", "codes", "expected", "judged"),
    [
        (Verdict.PASS, (), False, True),
        (Verdict.FAIL, ("known-failure",), False, True),
        (Verdict.SKIP, ("known-failure", "parity.shape"), True, True),
        (Verdict.SKIP, ("known-failure", "code.of-a-later-version"), True, True),
        (Verdict.SKIP, ("known-failure", "package.missing"), False, False),
        (Verdict.SKIP, ("package.missing",), False, False),
        (Verdict.SKIP, (), False, False),
    ],
)
def test_what_was_judged(
    verdict: Verdict,
    codes: tuple[str, ...],
    expected: bool,  # noqa: FBT001 - drawn
    judged: bool,  # noqa: FBT001 - drawn
) -> None:
    """Everything but a skip, and a skip all of whose failures are excused."""
    findings = tuple({"code": code, "what": "w"} for code in codes)
    item = ItemRecord(question="parity", cell="m", verdict=verdict, findings=findings)
    assert (item.is_expected_failure, item.is_judged) == (expected, judged)


def test_an_item_survives_its_way_from_an_xdist_worker() -> None:
    """The plain form holds nothing that another process could not read."""
    item = ItemRecord.of("parity", "tiny/fp32/cpu/one", JUDGEMENT, duration_s=0.25)
    assert ItemRecord.from_json(json.loads(json.dumps(item.as_json()))) == item


@pytest.mark.parametrize(
    ("content", "first_line"),
    [
        (None, "Run record cannot be read: No such file or directory"),
        ("{", "Not a run record: Invalid JSON: EOF while parsing an object at line 1 column 1"),
        ('{"schema_version": 2}', "Run record has schema version 2"),
        ('{"schema_version": 1}', "Not a run record: Field required"),
    ],
    ids=["missing", "truncated", "future", "incomplete"],
)
def test_what_is_no_record_is_refused(tmp_path: Path, content: str | None, first_line: str) -> None:
    """A broken or foreign file is a usage problem with the place, not a traceback."""
    path = tmp_path / "run.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UsageProblem) as caught:
        read_record(path)
    assert caught.value.what == first_line
    assert str(path) in caught.value.where


def test_a_broken_model_declares_its_contract_only() -> None:
    """A folder that could not be read still has one declared item, which says why."""
    from harness.errors import SpecError
    from harness.files.models import BrokenModel

    broken = BrokenModel(name="bad", folder=Path("bad"), problem=SpecError("no TOML"))
    assert [item.key for item in declared_items(broken)] == ["contract bad/fp32"]
