"""Quiet while timing: items share the machine, measurements take it alone and come last."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from harness.domain.cells import Cell
from harness.domain.project import ProjectSettings
from harness.domain.questions import CONTRACT, LATENCY, PARITY, PLACEMENT, PROPERTIES, Question
from harness.domain.verdict import Verdict
from harness.evidence import Selection
from harness.files.models import load_models
from harness.pipeline import Gate
from harness.runtimes.launchers import LocalLauncher
from harness.runtimes.quiet import Quiet
from harness.runtimes.registry import Runtimes
from harness.testing import MiniProject, Outcome
from tests.runtimes.test_quiet import wait_for_waiter

if sys.platform != "linux":
    pytest.skip("nothing is locked elsewhere", allow_module_level=True)

#: Items that are judged by nobody, half of which measure; each writes when it held the machine.
STAND_IN = """
import json, os, time
from pathlib import Path

import pytest

from harness.domain.cells import Cell
from harness.runtimes.quiet import Quiet

CELLS = [Cell("standing", "in", "cpu", f"case{number}") for number in range(8)]


def hold(held, cell, kind):
    with held:
        times = [time.monotonic_ns()]
        time.sleep(0.05)
        times.append(time.monotonic_ns())
    told = {"kind": kind, "worker": os.environ.get("PYTEST_XDIST_WORKER"), "times": times}
    Path(os.environ["TIMES"], f"{kind}-{cell.case}.json").write_text(json.dumps(told))


@pytest.mark.MARKER
@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_KIND(cell):
    hold(Quiet().HOW(), cell, "KIND")
"""
UNJUDGED = "def test_of_others():\n    pass\n"


def stand_in(project: MiniProject, kind: str, marker: str, how: str) -> str:
    """Write a module of stand-ins and return its path."""
    text = STAND_IN.replace("KIND", kind).replace("MARKER", marker).replace("HOW", how)
    return str(project.write(f"test_{kind}.py", text))


def test_measurements_of_all_xdist_workers_exclude_everything(tiny: MiniProject) -> None:
    """No interval of one overlaps any other, whichever worker had it."""
    pytest.importorskip("xdist")
    times = tiny.root / "times"
    times.mkdir()
    modules = [
        stand_in(tiny, "beside", "parity", "shared"),
        stand_in(tiny, "alone", "parity", "exclusive"),  # not last, so that both kinds mix
    ]
    env = {"ONNX_HARNESS_LOCKS": str(tiny.root), "TIMES": str(times)}
    outcome = tiny.run(*modules, "-n", "2", env=env, suites=False)
    assert outcome.exit_code == pytest.ExitCode.OK, outcome.text
    told = [json.loads(file.read_text(encoding="utf-8")) for file in times.iterdir()]
    assert len(told) == 16
    assert {each["worker"] for each in told if each["kind"] == "alone"} == {"gw0", "gw1"}
    for alone in (each for each in told if each["kind"] == "alone"):
        start, end = alone["times"]
        others = [each["times"] for each in told if each is not alone]
        assert all(other[1] <= start or other[0] >= end for other in others)


def collected(outcome: Outcome) -> list[str]:
    """Return the collected items in their order, without their files."""
    return [line.partition("::")[2] for line in outcome.text.splitlines() if "::" in line]


def test_measurements_come_last(mixed: MiniProject) -> None:
    """Behind the other suites and behind what is not ours, in the order of the others."""
    latency = stand_in(mixed, "alone", "latency", "exclusive")
    others = str(mixed.write("test_of_others.py", UNJUDGED))
    found = collected(mixed.run(latency, others, "--collect-only", "-q"))
    measured = [f"test_alone[standing/in/cpu/case{number}]" for number in range(8)]
    ours = [name for name in found if name.startswith(("test_alone", "test_latency"))]
    assert found[-len(ours) :] == ours
    assert [name for name in ours if name in measured] == measured
    before = found[: -len(ours)]
    assert "test_of_others" in before
    assert len([name for name in before if name.startswith("test_contract")]) == 5


def test_items_wait_while_somebody_measures(tiny: MiniProject) -> None:
    """The first one stands at the turnstile until the measurement is over."""
    locks = tiny.root / "locks"
    locks.mkdir()
    outcomes: list[Outcome] = []

    def run() -> None:
        env = {"ONNX_HARNESS_LOCKS": str(locks)}
        outcomes.append(tiny.run("-m", "contract", "-p", "no:xdist", env=env))

    waiting = threading.Thread(target=run)
    with Quiet(locks).exclusive():
        waiting.start()
        wait_for_waiter(locks)
        assert not outcomes
    waiting.join()
    assert outcomes[0].exit_code == pytest.ExitCode.OK, outcomes[0].text


def test_a_lock_that_cannot_be_used_is_an_error_told_once(tiny: MiniProject) -> None:
    """What one item tells in full the others tell in a line."""
    outcome = tiny.run(env={"ONNX_HARNESS_LOCKS": str(tiny.root / "none")})
    findings = [finding for item in outcome.items.values() for finding in item.findings]
    assert {item.verdict for item in outcome.items.values()} == {Verdict.ERROR}
    codes = [finding["code"] for finding in findings]
    assert (codes[0], {*codes[1:]}) == ("lock.unusable", {"blocked"})
    assert str(tiny.root / "none" / "onnx-harness.turnstile") in findings[0]["where"]


class Recorder(Quiet):
    """Notes what is taken, and takes nothing."""

    def __init__(self) -> None:
        super().__init__(Path())
        self.taken: list[str] = []

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Note it."""
        self.taken.append("shared")
        yield

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Note it."""
        self.taken.append("exclusive")
        yield

    @contextmanager
    def device(self, name: str) -> Iterator[None]:
        """Note it."""
        self.taken.append(f"device '{name}'")
        yield


@pytest.mark.parametrize(
    ("question", "cell", "expected"),
    [
        (CONTRACT, Cell("tiny", "fp32"), ["shared"]),
        (PLACEMENT, Cell("tiny", "fp32", "cpu"), ["shared"]),
        (PLACEMENT, Cell("tiny", "fp32", "cuda"), ["shared", "device '1'"]),
        (PARITY, Cell("tiny", "fp32", "cuda@own", "one"), ["shared", "device '1'"]),
        (PROPERTIES, Cell("tiny", "fp32", "openvino"), ["shared"]),
    ],
    ids=str,
)
def test_what_an_item_takes(
    tiny: MiniProject,
    monkeypatch: pytest.MonkeyPatch,
    question: Question,
    cell: Cell,
    expected: list[str],
) -> None:
    """All take the machine shared; on a GPU they take turns as well."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert taken(tiny, question, cell) == expected


def test_an_item_that_measures_does_not_hold_the_machine_for_its_whole_length(
    tiny: MiniProject,
) -> None:
    """It takes it alone while it measures only, which a shared hold of its own would prevent."""
    assert "shared" not in taken(tiny, LATENCY, Cell("tiny", "fp32", "cpu", "one"))


def taken(project: MiniProject, question: Question, cell: Cell) -> list[str]:
    """Return what a gate takes for an item."""
    with LocalLauncher() as launcher:
        runtimes = Runtimes(ProjectSettings(), project.root, project.root / "none", launcher)
        selection = Selection(models=load_models(project.models))
        cache = project.root / ".cache"
        gate = Gate(selection, runtimes=runtimes, launcher=launcher, cache=cache)
        gate.quiet = recorder = Recorder()
        gate.check(question, cell)
        gate.close()
    return recorder.taken
