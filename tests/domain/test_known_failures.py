"""Known failures: which items an entry is about, what it excuses, and when it is disproved."""

from __future__ import annotations

import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.domain.cells import CASE_DEPTH, PROVIDER_DEPTH, VARIANT_DEPTH, Cell
from harness.domain.findings import CODES, Finding, Severity
from harness.domain.known_failures import (
    AsOf,
    Declared,
    entry_faults,
    is_about,
    is_expiring,
    weigh,
)
from harness.domain.questions import CONTRACT, PARITY, PLACEMENT, QUESTIONS, SHOWN_BY, Question
from harness.domain.spec import (
    Candidate,
    CaseSpec,
    KnownFailure,
    ModelSpec,
    ProviderUse,
    Reference,
    Variant,
)

ISSUE = "https://example.com/issues/7"
LAST = datetime.date(2027, 3, 1)
CELL = Cell("mnist", "int8-static", "openvino", "batch3")
TOLERANCE = Finding(code="parity.tolerance", what="too far off")
SHAPE = Finding(code="parity.shape", what="other shape")
#: Codes that no spec can excuse, and why: it was not read; the machine is what is wrong; it goes by
#: its cause; it is about one.
NEVER_EXCUSED = {
    *("spec.invalid", "cache.unusable", "lock.unusable"),
    *("baseline.unreadable", "baseline.version", "baseline.unwritable", "baseline.control"),
    *("blocked", "known-failure.passed", "known-failure.expired"),
}


def entry(
    cell: str = "*",
    code: str = "parity.tolerance",
    suite: str | None = None,
    expires: datetime.date = LAST,
) -> KnownFailure:
    """Return an entry."""
    return KnownFailure(cell=cell, code=code, issue=ISSUE, expires=expires, suite=suite)


def declared(known: KnownFailure, *, day: datetime.date = LAST) -> Declared:
    """Return an entry as it counts on a day."""
    as_of = AsOf(date=day, source="given by --as-of")
    return Declared(entry=known, as_of=as_of, where="m.toml, known_failure[0]", text="[[k]]\nx = 1")


def codes(findings: tuple[Finding, ...]) -> list[str]:
    """Return the codes of findings."""
    return [finding.code for finding in findings]


def spec(*entries: KnownFailure, **providers: ProviderUse) -> ModelSpec:
    """Return a spec with two variants and two cases, on cpu unless told otherwise."""
    return ModelSpec(
        schema_version=1,
        candidate=Candidate(file="model.onnx"),
        reference=Reference(onnx=True),
        variants={"fp16": Variant(file="half.onnx")},
        providers=providers or {"cpu": ProviderUse()},
        case=(CaseSpec(name="one"), CaseSpec(name="two")),
        known_failure=entries,
    )


def faults(*entries: KnownFailure, **providers: ProviderUse) -> list[str]:
    """Return what is wrong with entries."""
    return entry_faults("m", spec(*entries, **providers), ["one", "two"], ["batch8"])


def test_the_latency_suite_has_points_instead_of_cases() -> None:
    """An entry of one of its codes must match a point."""
    assert faults(entry("m/fp32/cpu/batch8", "latency.slower")) == []
    (told,) = faults(entry("m/fp32/cpu/one", "latency.slower"))
    assert "matches no latency item" in told
    assert faults(entry("m/fp32/cpu/one", "parity.tolerance")) == []


# which items


@pytest.mark.parametrize(
    ("glob", "expected"),
    [
        ("*", True),
        ("mnist", True),
        ("mnist/int8-static/openvino/batch3", True),
        ("*/int8-static/openvino/*", True),
        ("*/int8-*/openvino", True),
        ("*/*/*/batch[0-9]", True),
        ("*/*/*/batch?", True),
        ("mnis", False),
        ("*/fp32", False),
        ("*/openvino", False),
        ("*batch3", False),
        ("mnist/*/batch3", False),
        ("*/*/*/batch", False),
    ],
)
def test_globs_apply_per_part(glob: str, expected: bool) -> None:  # noqa: FBT001 - drawn
    """A star does not reach over a slash, and parts left out match all."""
    assert is_about(entry(glob), PARITY, CELL) is expected


def test_a_runtime_is_part_of_the_name() -> None:
    """`openvino` is not `openvino@older`; a glob takes both."""
    older = Cell("mnist", "fp32", "openvino@older", "one")
    matched = [glob for glob in ("openvino", "openvino@*", "openvino*")
               if is_about(entry(f"*/*/{glob}"), PARITY, older)]  # fmt: skip
    assert matched == ["openvino@*", "openvino*"]


@pytest.mark.parametrize(
    ("glob", "about"),
    [
        ("m", ["contract", "placement", "parity", "properties", "latency"]),
        ("m/fp32", ["contract", "placement", "parity", "properties", "latency"]),
        ("m/fp32/*/*", ["contract", "placement", "parity", "properties", "latency"]),
        ("m/fp32/cpu", ["placement", "parity", "properties", "latency"]),
        ("m/fp32/?pu", ["placement", "parity", "properties", "latency"]),
        ("m/fp32/?", []),
        ("m/fp32/*/one", ["parity", "latency"]),
    ],
)
def test_what_is_narrower_than_an_item_is_not_about_it(glob: str, about: list[str]) -> None:
    """An entry for one case must not excuse what all cases share."""
    cell = Cell("m", "fp32", "cpu", "one")
    assert [
        question.name
        for question in QUESTIONS.values()
        if is_about(entry(glob), question, cell.part(question.depth))
    ] == about


def test_a_suite_narrows_an_entry() -> None:
    """Items of other suites are none of its business."""
    narrow = entry("m", "run.failed", "placement")
    cell = Cell("m", "fp32", "cpu", "one")
    about = [question for question in QUESTIONS.values()
             if is_about(narrow, question, cell.part(question.depth))]  # fmt: skip
    assert about == [PLACEMENT]


# what is excused


def test_what_is_declared_is_excused() -> None:
    """The finding stays, behind what excuses it."""
    weighed = weigh(PARITY, [TOLERANCE], [declared(entry())])
    assert weighed.excused == (TOLERANCE,)
    assert weighed.decisive == (
        Finding(
            code="known-failure",
            what=f"Known failure 'parity.tolerance', excused until 2027-03-01: {ISSUE}",
            where="m.toml, known_failure[0]",
        ),
    )


def test_the_reason_is_told() -> None:
    """What is known stands with the excuse."""
    known = KnownFailure(
        cell="*", code="parity.tolerance", issue=ISSUE, expires=LAST, reason="saturates"
    )
    (remark,) = weigh(PARITY, [TOLERANCE], [declared(known)]).decisive
    assert remark.what.endswith(f"until 2027-03-01: {ISSUE} (saturates)")


def test_another_code_is_not_excused() -> None:
    """It stands first, because the first line is what summaries show."""
    weighed = weigh(PARITY, [TOLERANCE, SHAPE], [declared(entry())])
    assert codes(weighed.decisive) == ["parity.shape", "known-failure"]
    assert weighed.excused == (TOLERANCE,)


def test_two_entries_excuse_two_codes() -> None:
    """Each is named."""
    both = [declared(entry()), declared(entry(code="parity.shape"))]
    weighed = weigh(PARITY, [TOLERANCE, SHAPE], both)
    assert codes(weighed.decisive) == ["known-failure", "known-failure"]
    assert weighed.excused == (TOLERANCE, SHAPE)


def test_what_is_blocked_goes_by_its_cause() -> None:
    """Which item meets a shared failure first depends on the selection; the answer must not."""
    blocked = Finding(code="blocked", what="Blocked", cause="session.refused")
    weighed = weigh(PARITY, [blocked], [declared(entry(code="session.refused"))])
    assert (codes(weighed.decisive), weighed.excused) == (["known-failure"], (blocked,))
    other = weigh(PARITY, [blocked], [declared(entry(code="session.option"))])
    assert (other.decisive, other.excused) == ((blocked,), ())


def test_without_an_entry_nothing_is_changed() -> None:
    """Findings decide in their order."""
    weighed = weigh(PARITY, [SHAPE, TOLERANCE], [])
    assert (weighed.decisive, weighed.excused) == ((SHAPE, TOLERANCE), ())


# strict


def test_a_pass_disproves_an_entry() -> None:
    """The message has the lines to delete."""
    weighed = weigh(PARITY, [], [declared(entry("*/int8-*"))])
    assert weighed.decisive == (
        Finding(
            code="known-failure.passed",
            what=f"Passed, although 'parity.tolerance' is declared a known failure here: {ISSUE}",
            where="m.toml, known_failure[0]",
            expected="'parity.tolerance' in every item that '*/int8-*' matches",
            got="no finding",
            next_step="if other cells still fail, narrow 'cell' to them, else delete these lines:\n"
            "[[k]]\nx = 1",
        ),
    )


def test_an_expired_entry_is_disproved_as_well() -> None:
    """What is not true any more does not stay in the spec."""
    late = declared(entry(), day=LAST + datetime.timedelta(days=1))
    assert codes(weigh(PARITY, [], [late]).decisive) == ["known-failure.passed"]


@pytest.mark.parametrize("code", ["package.missing", "provider.not-applicable", "parity.shape"])
def test_only_a_pass_disproves(code: str) -> None:
    """What is not judged, cannot run or fails otherwise says nothing about the entry."""
    found = Finding(code=code, what="w")
    assert weigh(PARITY, [found], [declared(entry())]).decisive == (found,)


@pytest.mark.parametrize("code", SHOWN_BY)
@pytest.mark.parametrize("question", QUESTIONS.values(), ids=QUESTIONS)
def test_only_a_suite_that_is_sure_to_show_a_code_disproves_it(
    question: Question, code: str
) -> None:
    """A session that opens says nothing about a crash of the running model."""
    suite = None if SHOWN_BY[code] else "contract"
    found = codes(weigh(question, [], [declared(entry(code=code, suite=suite))]).decisive)
    sure = question in SHOWN_BY[code] or (suite is not None and question is CONTRACT)
    assert found == (["known-failure.passed"] if sure else [])


def test_a_named_suite_is_sure() -> None:
    """Who says which suite fails is held to it."""
    known = declared(entry(code="run.failed", suite="placement"))
    assert codes(weigh(PLACEMENT, [], [known]).decisive) == ["known-failure.passed"]
    assert weigh(PARITY, [], [known]).decisive == ()


def test_every_code_can_be_excused_or_has_its_reason() -> None:
    """A new code is entered in `SHOWN_BY` with the suites that are sure to show it."""
    failing = {code for code, own in CODES.items() if own in {Severity.FAIL, Severity.ERROR}}
    assert set(SHOWN_BY) == failing - NEVER_EXCUSED
    assert failing >= NEVER_EXCUSED


# expiring


@pytest.mark.parametrize(("days", "excused"), [(-1, True), (0, True), (1, False)])
def test_the_last_day_counts(days: int, excused: bool) -> None:  # noqa: FBT001 - drawn
    """From the day after it, nothing is excused."""
    known = declared(entry(), day=LAST + datetime.timedelta(days=days))
    assert bool(weigh(PARITY, [TOLERANCE], [known]).excused) is excused


def test_an_expired_entry_in_full() -> None:
    """The failure stands as ever, with the day that counted and where it comes from."""
    late = declared(entry(), day=datetime.date(2027, 4, 2))
    weighed = weigh(PARITY, [TOLERANCE], [late])
    assert (weighed.excused, weighed.decisive) == (
        (),
        (
            TOLERANCE,
            Finding(
                code="known-failure.expired",
                what=f"Known failure 'parity.tolerance' expired on 2027-03-01: {ISSUE}",
                where="m.toml, known_failure[0]",
                expected="'expires' on or after 2027-04-02, given by --as-of",
                got="2027-03-01",
                next_step="mend the failure and delete the entry, or agree on another day in the "
                "issue",
            ),
        ),
    )


def test_an_expired_entry_is_told_only_where_it_would_matter() -> None:
    """Not for another code, and not beside an entry that still excuses the same."""
    late = declared(entry(expires=datetime.date(2020, 1, 1)))
    assert weigh(PARITY, [SHAPE], [late]).decisive == (SHAPE,)
    assert codes(weigh(PARITY, [TOLERANCE], [late, declared(entry())]).decisive) == [
        "known-failure"
    ]


@pytest.mark.parametrize(("days", "warned"), [(15, False), (14, True), (0, True), (-1, False)])
def test_the_end_is_announced(days: int, warned: bool) -> None:  # noqa: FBT001 - drawn
    """From 14 days before the last day until that day."""
    day = AsOf(date=LAST - datetime.timedelta(days=days), source="given by --as-of")
    assert is_expiring(entry(), day) is warned


# faults of the spec


def test_entries_that_match_are_no_fault() -> None:
    """Whole cells, globs, and suites of less depth."""
    assert faults(entry("m/fp16/cpu/two"), entry("*/fp*/c*"), entry("m", "contract.dtype")) == []


@pytest.mark.parametrize(
    ("known", "fault"),
    [
        (
            entry("m/fp8"),
            (
                "matches no parity item of this model: m/fp32/cpu/one, m/fp32/cpu/two, "
                "m/fp16/cpu/one, ..."
            ),
        ),
        (
            entry("m/fp32/cpu", "contract.dtype", "contract"),
            "matches no contract item of this model: m/fp32, m/fp16",
        ),
        (
            entry("n", "session.refused"),
            (
                "matches no placement or parity or properties item of this model: m/fp32/cpu, "
                "m/fp16/cpu, m/fp32/cpu/one, ..."
            ),
        ),
    ],
)
def test_an_entry_that_matches_nothing(known: KnownFailure, fault: str) -> None:
    """It could never excuse anything: most likely it is misspelled."""
    assert faults(entry(), known) == [f"'known_failure[1].cell' = '{known.cell}' {fault}"]


def test_an_entry_for_what_cannot_run() -> None:
    """Cells that the spec declares not applicable are never judged."""
    elsewhere = ProviderUse(not_applicable="no kernel")
    assert faults(entry("*/*/qnn"), cpu=ProviderUse(), qnn=elsewhere) == [
        (
            "'known_failure[0].cell' = '*/*/qnn' matches no parity item of this model: "
            "m/fp32/cpu/one, m/fp32/cpu/two, m/fp16/cpu/one, ..."
        )
    ]
    assert faults(entry(), qnn=elsewhere) == [
        "'known_failure[0].cell' = '*' matches nothing: no item of this model can run"
    ]
    assert faults(entry(code="model.invalid"), qnn=elsewhere) == []


def test_a_runtime_may_be_named() -> None:
    """Only a command line asks for `cpu@older`, so the declared provider is what must be there."""
    assert faults(entry("*/*/cpu@older")) == []
    assert len(faults(entry("*/*/cuda@older"))) == 1


def test_an_entry_that_stands_twice() -> None:
    """The second one is superfluous; another issue makes another entry."""
    other = KnownFailure(cell="*", code="parity.tolerance", issue=f"{ISSUE}1", expires=LAST)
    assert faults(entry(), other, entry()) == [
        "'known_failure[2]' is the same as 'known_failure[0]'"
    ]


def test_without_cells_other_faults_are_told() -> None:
    """A model without a case has one fault, not two."""
    assert entry_faults("m", spec(entry()), []) == []


# laws

FINDINGS = st.lists(
    st.sampled_from(sorted(CODES)).map(lambda code: Finding(code=code, what="w")), max_size=4
)
ENTRIES = st.lists(
    st.builds(
        lambda code, late: declared(
            entry(code=code, suite=None if SHOWN_BY[code] else "parity"),
            day=LAST + datetime.timedelta(days=late),
        ),
        st.sampled_from(sorted(SHOWN_BY)),
        st.integers(0, 1),
    ),
    max_size=3,
)


@given(st.sampled_from(sorted(QUESTIONS)), FINDINGS, ENTRIES)
def test_no_finding_is_lost(name: str, found: list[Finding], known: list[Declared]) -> None:
    """Every finding counts or is excused, and what is excused has an entry that is valid."""
    weighed = weigh(QUESTIONS[name], found, known)
    kept = [*weighed.decisive, *weighed.excused]
    assert [kept.count(each) for each in found] == [found.count(each) for each in found]
    valid = {each.entry.code for each in known if not each.is_expired}
    assert {each.code for each in weighed.excused} <= valid
    assert bool(weighed.excused) <= ("known-failure" in codes(weighed.decisive))


def test_depths_are_those_of_the_questions() -> None:
    """The examples above speak of these."""
    depths = [question.depth for question in (CONTRACT, PLACEMENT, PARITY)]
    assert depths == [VARIANT_DEPTH, PROVIDER_DEPTH, CASE_DEPTH]
