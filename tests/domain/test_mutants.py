"""Mutants: which are made, what they score, and when a model proves nothing."""

from __future__ import annotations

import pytest

from harness.domain.mutants import (
    LEAST_DEPENDENCE,
    Dependence,
    Fate,
    Mutant,
    Proof,
    Trial,
    sample,
    sample_curve,
)

MANY = tuple(
    Mutant(kind=kind, id=f"{kind}/{number}")
    for kind, count in (("scale", 50), ("swap", 3), ("flip", 20))
    for number in range(count)
)
ENOUGH = Dependence(inputs=0.5, weights=0.1)


def proof(fates: list[Fate], *, minimum: float = 0.95, dependence: Dependence = ENOUGH) -> Proof:
    """Return a proof with one mutant of each fate given."""
    return Proof(
        model="tiny",
        minimum=minimum,
        listed=len(fates),
        trials=tuple(
            Trial(mutant=Mutant(kind=f"kind{n % 2}", id=str(n)), fate=fate)
            for n, fate in enumerate(fates)
        ),
        dependence=dependence,
    )


def test_a_sample_does_not_depend_on_the_order_of_the_list() -> None:
    """It is the same on every machine and in every run."""
    assert sample(reversed(MANY), 20) == sample(MANY, 20)


def test_every_kind_gets_its_turn() -> None:
    """A kind with few mutants is not lost among those with many."""
    kinds = [mutant.kind for mutant in sample(MANY, 12)]
    assert (kinds.count("swap"), kinds.count("scale"), kinds.count("flip")) == (3, 4, 5)


def test_a_larger_sample_holds_the_smaller_one() -> None:
    """Asking for more never drops a mutant."""
    assert set(sample(MANY, 10)) < set(sample(MANY, 30))


def test_a_large_limit_takes_all() -> None:
    """Each of them once."""
    assert sorted(mutant.id for mutant in sample(MANY, 1000)) == sorted(m.id for m in MANY)
    assert sample((), 10) == ()


def test_the_curve_takes_the_same_weights_for_every_amount() -> None:
    """Amounts come in ascending order, each with as many draws."""
    ids = [f"single-weight/w/{n}/{amount}" for n in range(9) for amount in ("1e0", "1e-3")]
    chosen = sample_curve(ids, 4)
    assert list(chosen) == ["1e-3", "1e0"]
    small, large = ([name.rpartition("/")[0] for name in names] for names in chosen.values())
    assert small == large
    assert len(small) == 4


def test_equivalent_mutants_are_counted_apart() -> None:
    """They lie neither in the numerator nor in the denominator."""
    made = proof([Fate.KILLED, Fate.KILLED, Fate.SURVIVED, Fate.EQUIVALENT])
    assert made.score == pytest.approx(2 / 3)
    assert made.count(Fate.EQUIVALENT) == 1
    assert made.count(Fate.KILLED, "kind0") == 1


def test_what_is_undecided_counts_as_survived() -> None:
    """Not knowing is no excuse."""
    assert proof([Fate.KILLED, Fate.UNDECIDED]).score == 0.5


def test_a_score_at_the_minimum_is_enough() -> None:
    """Only below it is a fault."""
    fates = [Fate.KILLED, Fate.KILLED, Fate.KILLED, Fate.SURVIVED]
    assert proof(fates, minimum=0.75).faults == ()
    assert proof(fates, minimum=0.76).faults == ("its suite kills 75.0% of the mutants, not 76.0%",)


@pytest.mark.parametrize("fates", [[], [Fate.EQUIVALENT]])
def test_without_a_mutant_to_judge_nothing_is_proved(fates: list[Fate]) -> None:
    """No mutant, or equivalent ones only."""
    made = proof(fates)
    assert made.score is None
    assert made.faults == ("no mutant of it could be judged",)


def test_a_model_that_hardly_depends_on_anything_is_called_out() -> None:
    """Whatever its score: a constant would pass its suite as well."""
    little = LEAST_DEPENDENCE / 2
    made = proof([Fate.KILLED], dependence=Dependence(inputs=little, weights=0.0))
    assert made.faults == (
        "its outputs move by 0.0005 of their size when its inputs are other ones, less than 0.001",
        "its outputs move by 0 of their size when its weights are a tenth larger, less than 0.001",
    )


def test_a_model_without_weights_is_not_blamed_for_them() -> None:
    """What could not be measured is no fault."""
    assert proof([Fate.KILLED], dependence=Dependence(inputs=None, weights=None)).faults == ()
    least = Dependence(inputs=LEAST_DEPENDENCE, weights=LEAST_DEPENDENCE)
    assert proof([Fate.KILLED], dependence=least).faults == ()
