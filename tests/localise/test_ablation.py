"""Which level and which optimiser: decided from sessions that are only pretended."""

from __future__ import annotations

import pytest

from harness.localise import optimizers
from harness.localise.ablation import Ablation, Trial, Try, ablate

VERSION = "1.32.0"


def pretend(
    *,
    fails_from: str,
    mended_by: tuple[frozenset[str], ...] = (),
    logged: tuple[str, ...] = ("A", "B", "C"),
    effective: frozenset[str] | None = None,
    refused: tuple[str, ...] = (),
) -> Try:
    """Return sessions that fail from a level on, unless one of the sets is switched off.

    Args:
        fails_from: The lowest failing level.
        mended_by: Sets of optimisers without which parity holds.
        logged: What changed the graph.
        effective: Optimisers whose absence changes the graph; None means all.
        refused: Levels that have no session.
    """
    order = ("disabled", "basic", "extended", "layout", "all", "never")

    def attempt(level: str, disabled: tuple[str, ...]) -> Trial:
        if level in refused:
            return Trial(fails=False, refused="no such level")
        off = frozenset(disabled) if effective is None else frozenset(disabled) & effective
        fails = order.index(level) >= order.index(fails_from)
        mended = any(each <= frozenset(disabled) for each in mended_by)
        graph = f"{level} without {sorted(off)}"
        return Trial(fails=fails and not mended, graph=graph, optimizers=logged)

    return attempt


def run(attempt: Try, highest: str = "all") -> Ablation:
    """Return the outcome."""
    return ablate(attempt, highest=highest, version=VERSION)


def test_one_optimiser_is_named() -> None:
    """At the lowest level that fails."""
    found = run(pretend(fails_from="extended", mended_by=(frozenset("B"),)))
    assert found.levels == (("disabled", "passes"), ("basic", "passes"), ("extended", "fails"))
    assert (found.level, found.culprits, found.separable) == ("extended", ("B",), True)
    assert found.text() == "B (level 'extended'): without it parity holds"


def test_the_last_of_several_is_named_with_what_it_builds_on() -> None:
    """Each alone mends it, because the later one works on what the earlier one made."""
    found = run(pretend(fails_from="basic", mended_by=(frozenset("A"), frozenset("C"))))
    assert found.text() == "C (level 'basic'): without it parity holds; it builds on A"
    assert found.switched_off == ("C",)


def test_a_pair_that_cannot_be_separated() -> None:
    """Neither alone mends it; the third does not belong to it."""
    found = run(pretend(fails_from="all", mended_by=(frozenset("AC"),)))
    assert found.text() == "not separable: {A, C} (level 'all')"
    assert found.switched_off == ("A", "C")


def test_a_failure_without_optimisations_is_none_of_theirs() -> None:
    """Nothing is switched off then."""
    found = run(pretend(fails_from="disabled"))
    assert not found.is_optimisation
    assert found.tried == 0
    assert found.text() == (
        "none: it fails with every optimisation off, so it is not an optimisation"
    )


def test_a_failure_that_went_away_is_told() -> None:
    """It may depend on the machine's load or be random."""
    assert run(pretend(fails_from="never")).text() == ("none: no optimisation level fails any more")


def test_an_optimiser_that_does_nothing_is_not_believed() -> None:
    """A pass that came with an unchanged graph has another reason."""
    mended = (frozenset("A"),)
    found = run(pretend(fails_from="basic", mended_by=mended, effective=frozenset()))
    assert found.culprits == ()
    assert found.text() == "level 'basic', no single optimiser of 4 sets tried"


def test_levels_above_the_one_in_use_are_not_tried() -> None:
    """The spec's level is the highest."""
    found = run(pretend(fails_from="layout"), highest="extended")
    assert [level for level, _ in found.levels] == ["disabled", "basic", "extended"]


def test_a_level_that_is_refused_is_told() -> None:
    """Older ONNX Runtimes have no level 'layout'."""
    found = run(pretend(fails_from="all", mended_by=(frozenset("A"),), refused=("layout",)))
    assert dict(found.levels)["layout"] == "no such level"
    assert found.culprits == ("A",)


def test_a_rule_inside_a_transformer_is_named() -> None:
    """The log names the transformer only; its rules come from the table."""
    group, rule = "Level1_RuleBasedTransformer", "ConvBNFusion"
    mended = (frozenset({group}), frozenset({rule}))
    found = run(pretend(fails_from="basic", mended_by=mended, logged=(group, "A")))
    assert found.culprits == (rule,)


def test_without_a_log_the_table_is_tried() -> None:
    """An ONNX Runtime that does not name its optimisers still has them."""
    found = run(pretend(fails_from="all", mended_by=(frozenset({"NchwcTransformer"}),), logged=()))
    assert found.culprits == ("NchwcTransformer",)


@pytest.mark.parametrize(
    ("version", "known", "unknown"),
    [
        ("1.20.1", "GeluApproximation", "WeightBiasQuantization"),
        ("1.24.1", "WeightBiasQuantization", "SliceConcatToSpaceToDepthFusion"),
        ("1.31.0", "SliceConcatToSpaceToDepthFusion", "SwiGluFusion"),
        ("1.40.0.dev1", "SwiGluFusion", "MemcpyTransformer"),
        ("a build of ours", "SwiGluFusion", "MemcpyTransformer"),
    ],
)
def test_names_belong_to_versions(version: str, known: str, unknown: str) -> None:
    """A name is tried where the version has it."""
    names = optimizers.transformers(version)
    assert known in names
    assert unknown not in names
    assert len(set(names)) == len(names)


def test_rules_belong_to_versions() -> None:
    """The same for rewrite rules."""
    assert "CastChainElimination" not in optimizers.rules("1.20.1")
    assert {"CastChainElimination", "ConvBNFusion"} <= set(optimizers.rules("1.32.0"))
