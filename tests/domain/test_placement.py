"""Where nodes run, judged against what a spec allows."""

from __future__ import annotations

import pytest

from harness.domain.findings import Finding
from harness.domain.placement import Placement, judge_placement
from harness.domain.session import CPU_PROVIDER, NodeInfo
from harness.domain.spec import AllowCpu, PlacementSpec

CUDA = "CUDAExecutionProvider"
CELL = "m/fp32/cuda"


def nodes(*operators: str) -> tuple[NodeInfo, ...]:
    """Return one node per operator, named after its place."""
    return tuple(NodeInfo(name=f"n{i}", op=op) for i, op in enumerate(operators))


def judged(rule: PlacementSpec | None = None, **spread: tuple[NodeInfo, ...]) -> list[Finding]:
    """Judge nodes on `cuda`, `cpu` and `other`."""
    names = {"cuda": CUDA, "cpu": CPU_PROVIDER, "other": "OtherExecutionProvider"}
    placement = Placement(
        provider=CUDA, nodes={names[name]: found for name, found in spread.items()}
    )
    return [*judge_placement(placement, rule=rule or PlacementSpec(), cell=CELL, short="cuda")]


def test_all_nodes_on_the_provider() -> None:
    """Nothing to tell."""
    assert judged(cuda=nodes("Conv", "Relu")) == []


def test_fallback_in_full() -> None:
    """A node that left its provider is named, with the way to allow it."""
    assert judged(cuda=nodes("Conv", "Relu"), cpu=nodes("Shape", "Gather")) == [
        Finding(
            code="placement.fallback",
            what="2 nodes of 4 fell back from CUDAExecutionProvider for cell 'm/fp32/cuda'",
            where="Shape 'n0', Gather 'n1'",
            expected="ratio >= 1 (spec, placement.cuda.min_ratio)",
            got="ratio 0.5000; 2 nodes on CUDAExecutionProvider, 2 nodes on CPUExecutionProvider",
            next_step="list Gather, Shape in placement.cuda.allow_cpu with a reason, "
            "or drop the operators from the export",
        )
    ]


def test_long_lists_of_nodes_are_cut() -> None:
    """Five nodes stand for all."""
    (finding,) = judged(cuda=nodes("Conv"), cpu=nodes(*["Shape"] * 7))
    assert finding.where == "Shape 'n0', Shape 'n1', Shape 'n2', Shape 'n3', Shape 'n4', ..."


@pytest.mark.parametrize("spread", [{}, {"cuda": ()}])
def test_a_folded_graph_is_called_so(spread: dict[str, tuple[NodeInfo, ...]]) -> None:
    """No provider is at fault where nothing is left to run."""
    (finding,) = judged(None, **spread)
    assert finding.code == "placement.none"
    assert finding.what.endswith("is left to run: ONNX Runtime folded the graph to constants")


@pytest.mark.parametrize("spread", [{"cpu": nodes("Conv")}, {}, {"cuda": (), "cpu": nodes("Conv")}])
def test_no_node_at_all(spread: dict[str, tuple[NodeInfo, ...]]) -> None:
    """A provider that took nothing is told apart from one that took too little."""
    (finding,) = judged(None, **spread)
    assert finding.code == "placement.none"


def test_no_node_at_all_in_full() -> None:
    """The message offers to leave the provider out."""
    assert judged(cpu=nodes("Conv")) == [
        Finding(
            code="placement.none",
            what="No node of 'm/fp32/cuda' runs on CUDAExecutionProvider",
            where="session with CUDAExecutionProvider",
            expected="at least one of 1 nodes there",
            got="1 node on CPUExecutionProvider",
            next_step="leave 'cuda' out for this model, or declare providers.cuda.not_applicable "
            "with the reason",
        )
    ]


def test_allowed_operators_do_not_count() -> None:
    """What may stay on the CPU is left out of the ratio."""
    rule = PlacementSpec(allow_cpu=AllowCpu(ops=("Shape",), reason="sizes live on the host"))
    assert judged(rule, cuda=nodes("Conv"), cpu=nodes("Shape", "Shape")) == []
    (finding,) = judged(rule, cuda=nodes("Conv"), cpu=nodes("Shape", "Gather"))
    assert finding.what.startswith("1 node of 2 fell back")


def test_operators_are_allowed_on_the_cpu_only() -> None:
    """A third provider is no excuse."""
    rule = PlacementSpec(allow_cpu=AllowCpu(ops=("Shape",), reason="sizes live on the host"))
    (finding,) = judged(rule, cuda=nodes("Conv"), other=nodes("Shape"))
    assert finding.code == "placement.fallback"


@pytest.mark.parametrize(("strays", "found"), [(1, []), (2, ["placement.fallback"])])
def test_min_ratio(strays: int, found: list[str]) -> None:
    """The ratio itself is still fine."""
    rule = PlacementSpec(min_ratio=0.75, reason="the tail is small")
    spread = {"cuda": nodes(*["Conv"] * 3), "cpu": nodes(*["Shape"] * strays)}
    assert [finding.code for finding in judged(rule, **spread)] == found


def test_only_allowed_operators_are_still_no_node() -> None:
    """A model whose every node may stay on the CPU proves nothing about the provider."""
    rule = PlacementSpec(allow_cpu=AllowCpu(ops=("Shape",), reason="sizes live on the host"))
    (finding,) = judged(rule, cpu=nodes("Shape"))
    assert finding.code == "placement.none"


def test_counts_of_a_placement() -> None:
    """Placed and total are what the receipt shows."""
    placement = Placement(provider=CUDA, nodes={CUDA: nodes("A"), CPU_PROVIDER: nodes("B", "C")})
    assert (placement.placed, placement.total, placement.ratio(("B",))) == (1, 3, 0.5)
    assert Placement(provider=CUDA, nodes={}).ratio(()) == 0
