"""Known failures under pytest: xfailed while they last, a failure once they are gone."""

from __future__ import annotations

import os
import re
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import onnx
import pytest
from onnx import helper

import harness
from harness.domain.questions import SHOWN_BY
from harness.files.toml import read
from harness.testing import (
    MiniProject,
    Outcome,
    file_spec,
    identity_model,
    linear_model,
    make_model,
    tensor_info,
)
from tests.plugin.test_outcomes import properties

ONE = np.ones((2, 3), np.float32)
HEAD = 'schema_version = 1\ncandidate.file = "model.onnx"\nreference.recorded = "."\n\n'
DAY = ("--as-of", "2027-01-15")
RIGHT, WRONG = "parity m/fp32/cpu/test_data_set_0", "parity m/fp32/cpu/test_data_set_1"
REMARK = "Known failure 'parity.tolerance', excused until 2027-03-01: https://example.com/issues/7"


def entry(
    cell: str = "*/*/*/test_data_set_1", code: str = "parity.tolerance", more: str = ""
) -> str:
    """Return the lines of one entry."""
    keys = f'cell = "{cell}"\ncode = "{code}"\n{more}'
    last = 'issue = "https://example.com/issues/7"\nexpires = 2027-03-01'
    return f"[[known_failure]]\n{keys}{last}\n"


def add(project: MiniProject, *entries: str, model: onnx.ModelProto | None = None) -> None:
    """Add the model `m`, whose second recorded output is not its own, with known failures."""
    found = identity_model(shape=("n", 3)) if model is None else model
    project.add_zoo_model("m", found, [((ONE,), (ONE,)), ((ONE,), (2 * ONE,))])
    project.write("models/m/model.toml", HEAD + "\n".join(entries))


def unknown_operator() -> onnx.ModelProto:
    """Return a model that no session opens."""
    node = helper.make_node("Mystery", ["x"], ["y"], domain="com.example")
    shape: list[int | str] = ["n", 3]
    ports = [tensor_info("x", shape=shape)], [tensor_info("y", shape=shape)]
    return make_model([node], *ports, domains={"com.example": 1})


def codes(outcome: Outcome) -> dict[str, list[str]]:
    """Return the codes of all items that have any, behind the verdict; notes are left aside."""
    return {
        key: [
            item.verdict.value,
            *(each["code"] for each in item.findings if each["code"] != "parity.origin"),
        ]
        for key, item in outcome.items.items()
        if item.findings and item.findings[0]["code"] != "property.not-applicable"
    }


def counts(outcome: Outcome) -> dict[str, int]:
    """Return what pytest's last line counts; nothing is searched in a recorded model."""
    words = "failed|passed|errors?|xfailed|blocked"
    found = re.findall(rf"(\d+) ({words})\b", outcome.text.splitlines()[-1])
    return {word.removesuffix("s"): int(number) for number, word in found}


def closing(outcome: Outcome) -> list[str]:
    """Return the lines of the closing table and behind it."""
    text = outcome.text.partition(" onnx-harness =")[2].splitlines()[1:]
    return text[: next(n for n, line in enumerate(text) if line.startswith("run record"))]


@pytest.mark.parametrize("options", [(), ("--no-skips",)], ids=["skips", "no skips"])
def test_an_expected_failure_is_xfailed(project: MiniProject, options: tuple[str, ...]) -> None:
    """The run is green, the finding stays in record, JUnit and closing lines."""
    add(project, entry())
    outcome = project.run(*options, *DAY, "-rx", "--junitxml", "junit.xml")
    assert (outcome.exit_code, counts(outcome)) == (0, {"passed": 3, "xfailed": 1})
    assert codes(outcome) == {WRONG: ["SKIP", "known-failure", "parity.tolerance"]}
    place = f"{project.models}/m/model.toml, known_failure[0], lines 5 to 9"
    assert outcome.items[WRONG].findings[0]["where"] == place
    assert re.search(rf"XFAIL .*test_data_set_1\] - {re.escape(REMARK)}", outcome.text)
    _, _, totals, *rest = closing(outcome)
    assert totals.startswith("5 items: 3 PASS, 2 SKIP (1 expected to fail); ")
    assert f"expected to fail: 1 item: {REMARK}" in rest
    tree = ET.parse(project.root / "junit.xml")  # noqa: S314 - our own file
    (case,) = [each for each in tree.iter("testcase") if "set_1" in each.attrib["name"]]
    (skipped,) = case.iter("skipped")
    assert (skipped.attrib["type"], skipped.attrib["message"]) == ("pytest.xfail", REMARK)
    assert {
        ("harness.verdict", "SKIP"),
        ("harness.finding", "known-failure"),
        ("harness.finding", "parity.tolerance"),
    } <= properties(case)


def test_two_workers_say_the_same(project: MiniProject) -> None:
    """Verdicts, findings, counts and closing lines do not depend on who judges."""
    pytest.importorskip("xdist")
    known = entry("*/*/*/test_data_set_*"), entry("*", "session.refused").replace("2027", "2026")
    add(project, *known)
    plain, spread = (project.run("--as-of", "2027-02-20", *more) for more in ((), ("-n", "2")))
    assert codes(spread) == codes(plain)
    assert codes(plain)[WRONG] == ["SKIP", "known-failure", "parity.tolerance"]
    assert codes(plain)[RIGHT] == ["FAIL", "known-failure.passed", "known-failure.passed"]
    assert (spread.exit_code, counts(spread)) == (plain.exit_code, counts(plain))
    assert closing(spread) == closing(plain)
    assert closing(plain)[-1].startswith("warning: known_failure[0] of 'm' ")


def test_its_message_can_be_shown(project: MiniProject) -> None:
    """`--xfail-tb` prints what fails, as for any xfailed test."""
    add(project, entry())
    outcome = project.run(*DAY, "--xfail-tb", "-rx")
    message = outcome.text.partition("test_parity[m/fp32/cpu/test_data_set_1] _")[2]
    assert message.partition("\n")[2].startswith(
        f"{REMARK}\n"
        f"  where:    {project.models}/m/model.toml, known_failure[0], lines 5 to 9\n"
        "  code:     known-failure\n"
        "Parity failed: 6 of 6 elements (100 %) of output 'y' exceed tolerance for cell "
        "'m/fp32/cpu/test_data_set_1'\n"
    )


def test_a_run_of_expected_failures_judged_something(project: MiniProject) -> None:
    """It is no run that was all skipped."""
    add(project, entry())
    outcome = project.run(*DAY, "-k", "test_data_set_1")
    assert (outcome.exit_code, counts(outcome)) == (0, {"xfailed": 1})
    assert "Nothing was judged" not in outcome.text


def test_an_unexpected_pass_shows_what_to_delete(project: MiniProject) -> None:
    """Item by item: one of two cells that an entry names passes, and fails the run."""
    add(project, entry("*/*/*/test_data_set_*"))
    outcome = project.run(*DAY)
    assert (outcome.exit_code, counts(outcome)) == (1, {"failed": 1, "passed": 2, "xfailed": 1})
    assert codes(outcome) == {
        RIGHT: ["FAIL", "known-failure.passed"],
        WRONG: ["SKIP", "known-failure", "parity.tolerance"],
    }
    failure = outcome.text.partition("test_parity[m/fp32/cpu/test_data_set_0] _")[2]
    assert (
        "Passed, although 'parity.tolerance' is declared a known failure here: "
        "https://example.com/issues/7\n"
        f"  where:    {project.models}/m/model.toml, known_failure[0], lines 5 to 9\n"
        "  expected: 'parity.tolerance' in every item that '*/*/*/test_data_set_*' matches\n"
        "  got:      no finding\n"
        "  next:     if other cells still fail, narrow 'cell' to them, else delete these lines:\n"
        "            [[known_failure]]\n"
        '            cell = "*/*/*/test_data_set_*"\n'
        '            code = "parity.tolerance"\n'
        '            issue = "https://example.com/issues/7"\n'
        "            expires = 2027-03-01\n"
        "  code:     known-failure.passed\n"
        "  again:    pytest --pyargs harness.suites -k "
        "'test_parity[m/fp32/cpu/test_data_set_0]' --provider cpu --as-of 2027-01-15\n"
    ) in failure


def test_nothing_is_said_of_cells_that_are_not_selected(project: MiniProject) -> None:
    """Neither that the entry passed nor that it ends soon."""
    add(project, entry(), entry("*/*/*/test_data_set_0", "parity.shape"))
    outcome = project.run("--as-of", "2027-02-27", "-k", "contract or placement")
    assert (outcome.exit_code, codes(outcome)) == (0, {})
    assert "known" not in outcome.text.partition(" onnx-harness =")[2]
    assert "warning" not in outcome.text


def test_another_failure_still_fails(project: MiniProject) -> None:
    """Its message comes first, and what is excused stands behind the remark."""
    shape: list[int | str] = ["n", 3]
    nodes = [helper.make_node("Identity", ["x"], [name]) for name in ("y", "z")]
    outputs = [tensor_info(name, shape=shape) for name in ("y", "z")]
    model = make_model(nodes, [tensor_info("x", shape=shape)], outputs)
    project.add_zoo_model("m", model, [((ONE,), (2 * ONE, ONE[:1]))])
    project.write("models/m/model.toml", HEAD + entry("*"))
    outcome = project.run(*DAY, "-m", "parity")
    assert (outcome.exit_code, counts(outcome)) == (1, {"failed": 1})
    assert codes(outcome) == {RIGHT: ["FAIL", "parity.shape", "known-failure", "parity.tolerance"]}
    failure = outcome.text.partition("test_parity[m/fp32/cpu/test_data_set_0] _")[2]
    firsts = [line for line in failure.splitlines()[1:] if line[:1].isupper()]
    assert [line.partition(" ")[0] for line in firsts[:3]] == ["Output", "Known", "Parity"]
    assert "expected to fail" not in outcome.text


def test_an_error_can_be_excused(project: MiniProject) -> None:
    """What is no failure of the model is xfailed all the same, not an error."""
    add(project, entry("*/*/*/test_data_set_0", "reference.recorded"), entry())
    project.write("models/m/test_data_set_0/output_0.pb", b"\xff")
    outcome = project.run(*DAY)
    assert (outcome.exit_code, counts(outcome)) == (0, {"passed": 2, "xfailed": 2})
    assert codes(outcome)[RIGHT] == ["SKIP", "known-failure", "reference.recorded"]


def test_from_the_day_after_the_last_nothing_is_excused(project: MiniProject) -> None:
    """FAIL stays FAIL, ERROR stays ERROR, and both say that the entry expired."""
    add(project, entry("*/*/*/test_data_set_0", "reference.recorded"), entry())
    project.write("models/m/test_data_set_0/output_0.pb", b"\xff")
    outcome = project.run("--as-of", "2027-03-02")
    assert (outcome.exit_code, counts(outcome)) == (1, {"failed": 1, "passed": 2, "error": 1})
    assert codes(outcome) == {
        RIGHT: ["ERROR", "reference.recorded", "known-failure.expired"],
        WRONG: ["FAIL", "parity.tolerance", "known-failure.expired"],
    }
    expired = outcome.items[WRONG].findings[1]
    assert expired["expected"] == "'expires' on or after 2027-03-02, given by --as-of"
    assert "warning" not in "\n".join(closing(outcome))


def test_the_end_is_announced(project: MiniProject) -> None:
    """Behind the closing table, and the run stays green."""
    add(project, entry())
    outcome = project.run("--as-of", "2027-02-15")
    assert outcome.exit_code == 0
    assert closing(outcome)[-1] == (
        "warning: known_failure[0] of 'm' ('parity.tolerance', '*/*/*/test_data_set_1') "
        "ends in 14 days, on 2027-03-01: https://example.com/issues/7"
    )


def test_what_is_not_judged_disproves_nothing(project: MiniProject) -> None:
    """A missing package and a provider that is not applicable are no unexpected pass."""
    requires = 'requires = ["no-such-distribution"]\n'
    project.add_model("lacking", requires + file_spec(more=entry("*")), GOOD)
    providers = 'cpu = {}\nopenvino = { not_applicable = "none" }'
    project.add_model("elsewhere", file_spec(providers=providers, more=entry("*")), GOOD)
    outcome = project.run(*DAY, "--provider", "openvino", "-m", "parity")
    assert codes(outcome) == {
        "parity elsewhere/fp32/openvino/one": ["SKIP", "provider.not-applicable"],
        "parity lacking/fp32/openvino/one": ["SKIP", "package.missing"],
    }
    strict = project.run(*DAY, "--provider", "openvino", "-m", "parity", "--no-skips")
    assert codes(strict)["parity lacking/fp32/openvino/one"] == ["FAIL", "package.missing"]


def test_runxfail_judges_as_if_nothing_were_declared(project: MiniProject) -> None:
    """Failures fail, passes pass, and the record says so."""
    add(project, entry("*"))
    outcome = project.run(*DAY, "--runxfail")
    assert (outcome.exit_code, counts(outcome)) == (1, {"failed": 1, "passed": 3})
    assert codes(outcome) == {WRONG: ["FAIL", "parity.tolerance"]}


# what one failure blocks


GOOD = {"model.onnx": linear_model().SerializeToString()}
#: Code -> the cells that show it, besides all of the model's.
SHARED = {
    "session.refused": "*/fp32",
    "model.missing": "*",
    "model.unreadable": "*",
    "contract.shape": "*",
    "provider.unavailable": "*/*/qnn",
    "spec.inputs": "*",
}


def name_of(code: str) -> str:
    """Return the name of the model with a failure."""
    return code.replace(".", "-")


def add_shared(project: MiniProject) -> None:
    """Add one model for each code that one item meets and that blocks others."""
    known = {code: entry(cell, code) for code, cell in SHARED.items()}
    deep = identity_model(shape=("n", 3, 1)).SerializeToString()
    two = "cpu = {}\nqnn = {}"
    unreal = '[[case]]\nname = "one"\ninputs = "in.npz"'
    for code, files, changes in (
        ("model.missing", {}, {}),
        ("model.unreadable", {"model.onnx": b"\xff\xff"}, {}),
        ("contract.shape", {"model.onnx": deep}, {}),
        ("provider.unavailable", GOOD, {"providers": two}),
        ("spec.inputs", {**GOOD, "in.npz": b"PK"}, {"case": unreal}),
    ):
        project.add_model(name_of(code), file_spec(more=known[code], **changes), files)
    name = name_of("session.refused")
    project.add_zoo_model(name, unknown_operator(), [((ONE,), (ONE,))] * 2)
    project.write(f"models/{name}/model.toml", HEAD + known["session.refused"])


def test_a_shared_failure_is_excused_wherever_it_shows(project: MiniProject) -> None:
    """The suites that are sure to show a code do, as failure or as blocked; the others pass."""
    add_shared(project)
    providers = ("--model", "provider-unavailable", "--provider", "qnn")
    for options in ((), providers):
        outcome = project.run(*DAY, *options)
        assert outcome.exit_code == 0, outcome.text
        assert set(counts(outcome)) <= {"passed", "xfailed"}
        assert "Blocked" not in "\n".join(closing(outcome))
        for code in SHARED:
            items = [item for key, item in outcome.items.items() if f" {name_of(code)}/" in key]
            shown = {item.question for item in items if item.is_expected_failure}
            if bool(options) == (code == "provider.unavailable"):
                sure = {question.name for question in SHOWN_BY[code]}
                # properties reads cases too, leaves recorded models alone; nothing is timed here
                others = {"properties", "latency"}
                assert shown - others == sure - others, code


def test_which_item_meets_a_failure_first_does_not_matter(project: MiniProject) -> None:
    """With the suites alone that are blocked otherwise, the answer is the same."""
    add_shared(project)
    outcome = project.run(*DAY, "-m", "parity")
    assert outcome.exit_code == 0, outcome.text
    shown = {item.cell.split("/")[0] for item in outcome.items.values()
             if item.is_expected_failure}  # fmt: skip
    assert shown == {name_of(code) for code in SHARED if code != "provider.unavailable"}


def test_the_suites_that_are_sure_disprove_it(project: MiniProject) -> None:
    """A model without the failure fails in these suites, and in no other."""
    disproved = [*SHARED, "worker.signal", "placement.fallback"]
    for code in disproved:
        project.add_model(name_of(code), file_spec(more=entry("*", code)), GOOD)
    outcome = project.run(*DAY)
    for code in disproved:
        failed = {item.question for key, item in outcome.items.items()
                  if item.findings and f" {name_of(code)}/" in key}  # fmt: skip
        sure = {question.name for question in SHOWN_BY[code]} - {"latency"}  # nothing is timed
        assert failed == sure, code
    assert {tuple(found) for found in codes(outcome).values()} == {("FAIL", "known-failure.passed")}


def test_a_suite_must_be_named_where_any_can_fail(project: MiniProject) -> None:
    """A bug of the harness in one suite is excused there, and nowhere else."""
    known = entry("m", "harness.bug", 'suite = "placement"\n')
    project.add_model("m", file_spec(more=known), GOOD)
    project.write(
        "broken.py",
        "import harness.pipeline\n"
        "def fail(*_, **__):\n"
        "    raise RuntimeError('surprise')\n"
        "harness.pipeline.judge_placement = fail\n",
    )
    path = os.pathsep.join((str(project.root), str(Path(harness.__file__).parents[1])))
    outcome = project.run(*DAY, "-p", "broken", env={"PYTHONPATH": path})
    assert (outcome.exit_code, counts(outcome)) == (0, {"passed": 3, "xfailed": 1})
    assert codes(outcome) == {"placement m/fp32/cpu": ["SKIP", "known-failure", "harness.bug"]}


def test_the_shipped_models_have_no_known_failure() -> None:
    """What this repository ships passes."""
    specs = sorted((Path(__file__).parents[2] / "models").glob("*/model.toml"))
    assert specs
    assert [spec.parent.name for spec in specs if "known_failure" in read(spec)] == []
