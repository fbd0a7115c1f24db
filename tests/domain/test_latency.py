"""What the figures of a latency item amount to."""

from __future__ import annotations

import importlib.util
import math
import sys
from collections.abc import Iterable, Sequence

import pytest

from harness.domain import latency
from harness.domain.duet import LATENCY, STARTUP, Estimate, Outcome
from harness.domain.findings import Finding, Severity
from harness.domain.latency import Told
from harness.domain.session import NodeInfo
from harness.domain.spec import Budget
from harness.errors import EnvironmentProblem
from tests.baselines import timing

NEEDS_SCIPY = pytest.mark.skipif(
    importlib.util.find_spec("scipy") is None, reason="no interval without scipy"
)

MIB = 2**20
TOLD = Told(cell="m/fp32/cpu/one", model="m", against="the baseline 111111111111")
CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
APPROVE = "onnx-harness baseline refresh --model m --reason '...' --accept-regression m"
UNDECIDED = [Outcome.UNDECIDED, Outcome.CONTAMINATED, Outcome.UNSTABLE]


def estimate(effect: float) -> Estimate:
    """Return an estimate of this effect."""
    return Estimate(effect=effect, error=0.001, spread=0.004, pairs=16)


def only(found: Iterable[Finding]) -> Finding:
    """Return the one finding, whose texts must be complete."""
    (finding,) = found
    assert finding.what
    assert finding.expected or finding.severity is Severity.NOTE
    assert finding.got
    assert finding.next_step
    return finding


def nodes(**counts: int) -> dict[str, tuple[NodeInfo, ...]]:
    """Return a placement with these numbers of nodes, by the provider's short name."""
    names = {"cpu": CPU, "cuda": CUDA}
    node = NodeInfo(name="n", op="Add")
    return {names.get(name, name): (node,) * count for name, count in counts.items()}


def test_what_is_as_fast_has_no_finding() -> None:
    """Neither p50 nor start-up, whatever the estimate of a settled duet."""
    for judge, rule in ((latency.judge_p50, LATENCY), (latency.judge_startup, STARTUP)):
        assert not list(judge(Outcome.SAME, estimate(0.004), rule, TOLD, got="p50 1 ms"))


def test_a_slower_p50_says_by_how_much_and_how_to_approve_it() -> None:
    """The limit is that of the rule, and the figures that were got stand below."""
    found = only(
        latency.judge_p50(Outcome.SLOWER, estimate(math.log(1.25)), LATENCY, TOLD, got="p50 2 ms")
    )
    assert (found.code, found.severity) == ("latency.slower", Severity.FAIL)
    assert found.what == "'m/fp32/cpu/one' is slower than its baseline: p50 +25.0%"
    assert found.expected == "p50 at most 1.0% above that of the baseline 111111111111"
    assert found.got == "p50 2 ms"
    assert found.next_step.endswith(APPROVE)


def test_a_faster_p50_is_a_note_that_asks_for_a_refresh() -> None:
    """It fails nothing, and needs no approval of a regression."""
    found = only(
        latency.judge_p50(Outcome.FASTER, estimate(math.log(0.5)), LATENCY, TOLD, got="p50 1 ms")
    )
    assert (found.code, found.severity) == ("latency.faster", Severity.NOTE)
    assert found.what.endswith("p50 -50.0%")
    assert "--accept-regression" not in found.next_step


@pytest.mark.parametrize("outcome", UNDECIDED)
def test_a_p50_that_was_not_judged_says_why(outcome: Outcome) -> None:
    """Each reason has its own code, and none fails."""
    found = only(latency.judge_p50(outcome, estimate(0.02), LATENCY, TOLD, got="p50 1 ms"))
    assert found.code == f"latency.{outcome.value}"
    assert found.severity is Severity.NOT_JUDGED
    assert "was not judged: " in found.what


@pytest.mark.parametrize(
    ("outcome", "code", "severity"),
    [
        (Outcome.SLOWER, "startup.slower", Severity.FAIL),
        (Outcome.FASTER, "startup.faster", Severity.NOTE),
        *((each, "startup.unsettled", Severity.NOT_JUDGED) for each in UNDECIDED),
    ],
)
def test_start_up_has_codes_of_its_own(outcome: Outcome, code: str, severity: Severity) -> None:
    """Its limit is ten per cent."""
    found = only(latency.judge_startup(outcome, estimate(0.2), STARTUP, TOLD, got="40 ms"))
    assert (found.code, found.severity) == (code, severity)
    if severity is not Severity.NOTE:
        assert found.expected == "at most 10% longer than the baseline 111111111111"


def test_what_was_held_against_a_runtime_is_not_approved_by_a_refresh() -> None:
    """No baseline was part of it: neither the words nor the next step name one."""
    told = Told(
        cell="m/fp32/cpu/one", model="m", against="the same model on 1.31", is_baseline=False
    )
    found = [
        *latency.judge_p50(Outcome.SLOWER, estimate(0.1), LATENCY, told, got="p50"),
        *latency.judge_p50(Outcome.FASTER, estimate(-0.1), LATENCY, told, got="p50"),
        *latency.judge_startup(Outcome.SLOWER, estimate(0.1), STARTUP, told, got="40 ms"),
        *latency.judge_startup(Outcome.FASTER, estimate(-0.1), STARTUP, told, got="40 ms"),
        *latency.judge_memory([9 * MIB], [1], told),
    ]
    assert len(found) == 5
    for each in found:
        assert "the same model on 1.31" in each.what
        assert each.next_step == "see what changed between the two releases of ONNX Runtime"


@pytest.mark.parametrize(
    ("grown", "usual", "code"),
    [
        (MIB, 10 * MIB, ""),
        (MIB + 1, 10 * MIB, "memory.larger"),
        (-MIB, 10 * MIB, ""),
        (-MIB - 1, 10 * MIB, "memory.smaller"),
        (5 * MIB, 500 * MIB, ""),
        (5 * MIB + 1, 500 * MIB, "memory.larger"),
        (MIB, 0, ""),
        (2 * MIB, 0, "memory.larger"),
    ],
)
def test_memory_may_grow_by_a_mebibyte_or_one_per_cent(grown: int, usual: int, code: str) -> None:
    """Exactly the limit is allowed, in both directions; a control may need none at all."""
    found = list(latency.judge_memory([usual + grown] * 8, [usual] * 8, TOLD))
    assert [each.code for each in found] == ([code] if code else [])
    if found:
        assert only(found).got.endswith("median over 8 pairs")


def test_one_pair_moves_no_memory() -> None:
    """The median of the pairs' differences counts: what hits both sides of a pair cancels."""
    control = [100 * MIB] * 7 + [900 * MIB]
    assert not list(latency.judge_memory([*control[:7], 100 * MIB], control, TOLD))
    together = [each + 3 * MIB for each in control]
    assert only(latency.judge_memory(together, control, TOLD)).what.endswith("+3.0 MiB")


@pytest.mark.parametrize(
    ("size", "code"),
    [(1010, ""), (1011, "size.larger"), (990, ""), (989, "size.smaller"), (1000, "")],
)
def test_a_file_may_grow_by_one_per_cent(size: int, code: str) -> None:
    """Exactly the limit is allowed; a smaller one is a note."""
    found = list(latency.judge_size(size, 1000, TOLD))
    assert [each.code for each in found] == ([code] if code else [])
    if found:
        told = only(found)
        assert (told.expected, told.got) == ("at most 1% above 1,000 bytes", f"{size:,} bytes")
        assert (APPROVE in told.next_step) == (code == "size.larger")


@pytest.mark.parametrize(
    ("ours", "theirs", "code", "says"),
    [
        (nodes(cpu=1, cuda=4), nodes(cpu=1, cuda=4), "", ""),
        (nodes(cpu=1, cuda=4), nodes(cuda=5), "nodes.moved", "1 more of its nodes is not on CUDA"),
        (nodes(cpu=3, cuda=2), nodes(cuda=5), "nodes.moved", "3 more of its nodes are not on CUDA"),
        (nodes(cpu=1, cuda=9), nodes(cuda=5), "nodes.moved", "1 more of its nodes is not on CUDA"),
        (nodes(cuda=6), nodes(cuda=5), "nodes.more", "1 more node is left after optimisation"),
        (nodes(cuda=7), nodes(cuda=5), "nodes.more", "2 more nodes are left after optimisation"),
        (nodes(cuda=4), nodes(cuda=5), "nodes.fewer", "1 node fewer is left after optimisation"),
        (nodes(cuda=3), nodes(cuda=5), "nodes.fewer", "2 nodes fewer are left after optimisation"),
        (nodes(cuda=5), nodes(cpu=1, cuda=4), "nodes.fewer", "1 node fewer is not on CUDA"),
        (nodes(cuda=4, a=1), nodes(cuda=4, b=1), "nodes.fewer", "as many nodes, spread otherwise"),
        (nodes(cuda=5), nodes(cuda=5, cpu=0), "", ""),
    ],
)  # fmt: skip
def test_counts_of_nodes_are_exact(
    ours: dict[str, tuple[NodeInfo, ...]],
    theirs: dict[str, tuple[NodeInfo, ...]],
    code: str,
    says: str,
) -> None:
    """What left the provider goes before what became more; the words are true of the counts."""
    found = list(latency.judge_nodes(ours, theirs, provider=CUDA, told=TOLD))
    assert [each.code for each in found] == ([code] if code else [])
    if found:
        told = only(found)
        assert says in told.what
        assert told.expected.endswith(f"({TOLD.against})")
        assert (APPROVE in told.next_step) == (code != "nodes.fewer")


def test_a_graph_without_nodes_is_told_as_such() -> None:
    """Nothing is left of a model of constants."""
    found = only(latency.judge_nodes({}, nodes(cpu=1), provider=CPU, told=TOLD))
    assert (found.code, found.got) == ("nodes.fewer", "no node")


@pytest.mark.parametrize(
    ("spread", "ratio", "code"),
    [
        (0.0, 1.25, ""),
        (0.0, 1.2501, "latency.slower"),
        (0.0, 0.8, ""),
        (0.0, 0.79, "latency.faster"),
        (0.055, 1.25, ""),
        (0.1, 1.49, ""),
        (0.1, 1.50, "latency.slower"),
        (0.1, 0.6, "latency.faster"),
    ],
)
def test_a_stored_number_gates_beyond_what_it_scatters_by(
    spread: float, ratio: float, code: str
) -> None:
    """A quarter at least, and four deviations if those are more."""
    stored = timing(p50_ms=1.0, spread=spread)
    found = list(latency.judge_stored(timing(p50_ms=ratio), stored, TOLD))
    assert [each.code for each in found] == ([code] if code else [])
    if found:
        told = only(found)
        assert told.where == "judged by a stored number: the control could not be run beside it"
        assert told.got.endswith("median of 8 workers")


@pytest.mark.parametrize("spread", [0.4, 5.0, 10.0])
@pytest.mark.parametrize("ratio", [0.001, 1.0, 1000.0])
def test_a_stored_number_that_scatters_too_much_judges_nothing(spread: float, ratio: float) -> None:
    """A limit that nothing breaks would look like a pass."""
    stored = timing(p50_ms=1.0, spread=spread)
    found = only(latency.judge_stored(timing(p50_ms=ratio), stored, TOLD))
    assert (found.code, found.severity) == ("latency.unstable", Severity.NOT_JUDGED)
    assert "stored number" in found.what


def budget(max_ms: float = 1.0, percentile: float = 50.0) -> Budget:
    """Return a budget for any environment."""
    return Budget(environment="*", max_ms=max_ms, percentile=percentile)


def calls(within: int, beyond: int = 0) -> list[float]:
    """Return calls on both sides of a budget of 1 ms."""
    return [0.5] * within + [2.0] * beyond


@NEEDS_SCIPY
@pytest.mark.parametrize(
    ("percentile", "timed", "code"),
    [
        (50.0, calls(5), ""),
        (50.0, calls(4), "latency.undecided"),
        (50.0, calls(1), "latency.undecided"),
        (50.0, calls(0, 5), "latency.budget"),
        (50.0, calls(0, 4), "latency.undecided"),
        (50.0, calls(60, 40), ""),
        (50.0, calls(50, 50), "latency.undecided"),
        (50.0, calls(40, 60), "latency.budget"),
        (99.0, calls(299), ""),
        (99.0, calls(298), "latency.undecided"),
        (99.0, calls(9990, 10), ""),
        (99.0, calls(990, 10), "latency.undecided"),
        (99.0, calls(970, 30), "latency.budget"),
    ],
)
def test_a_budget_is_kept_broken_or_beyond_what_calls_tell(
    percentile: float, timed: Sequence[float], code: str
) -> None:
    """With 95 % confidence either way; one that nobody exceeds needs enough calls all the same."""
    found = list(latency.judge_budget(budget(percentile=percentile), timed, TOLD))
    assert [each.code for each in found] == ([code] if code else [])
    if found:
        told = only(found)
        assert f"p{percentile:g} at most 1 ms, with 95% confidence" in told.expected
        assert f"of {len(timed):,} calls beyond" in told.got
        assert told.where == "latency.budget of the spec, environment '*'"


@NEEDS_SCIPY
def test_a_call_of_exactly_the_budget_keeps_it() -> None:
    """`max_ms` is the most that a percentile may be."""
    assert not list(latency.judge_budget(budget(max_ms=1.0), [1.0] * 100, TOLD))
    over = [math.nextafter(1.0, 2.0)] * 100
    assert only(latency.judge_budget(budget(max_ms=1.0), over, TOLD)).code == "latency.budget"


@NEEDS_SCIPY
def test_too_few_calls_say_how_many_are_needed() -> None:
    """Running again brings no more of them: a lower percentile does."""
    found = only(latency.judge_budget(budget(percentile=99), calls(298), TOLD))
    assert "at least 299 calls are needed if none is" in found.got
    assert "a lower percentile" in found.next_step
    close = only(latency.judge_budget(budget(percentile=99), calls(990, 10), TOLD))
    assert "more room" in close.next_step


def test_a_budget_needs_scipy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it nothing is judged, and the message says what to install."""
    monkeypatch.setitem(sys.modules, "scipy", None)
    with pytest.raises(EnvironmentProblem) as caught:
        list(latency.judge_budget(budget(), calls(5), TOLD))
    assert caught.value.code == "package.missing"
    assert "onnx-harness[latency]" in caught.value.next_step
