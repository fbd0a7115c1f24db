"""The chain of rules that decides how an output is judged, each with what it says here."""

from __future__ import annotations

from dataclasses import dataclass

from harness.domain.bounds import Rule, Standing
from harness.domain.cells import short_name
from harness.domain.dtypes import DType
from harness.domain.spec import OutputSpec
from harness.domain.tolerance import own_tolerance, resolve_tolerance


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """One rule of the chain."""

    rule: str
    """Where it stands: a key of the spec, the bound, the table."""
    says: str
    """What it gives for this output, or why it gives nothing."""
    applies: bool = False
    """Whether it is the one that decides."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BoundFacts:
    """What the float64 run gives an output."""

    rule: Rule
    standing: Standing


def explain_output(
    *,
    name: str,
    spec: OutputSpec,
    dtype: DType,
    provider: str,
    bound: BoundFacts | str,
    whole: bool = False,
) -> tuple[Link, ...]:
    """Return the chain for one output; exactly one link applies.

    Args:
        name: The output's name.
        spec: What the model's spec says of it.
        dtype: Element type of the candidate's output.
        provider: Provider, perhaps with its runtime.
        bound: What the float64 run gives, or why it gives nothing.
        whole: Whether measures alone judge it, as they do in a quantised build.
    """
    keys = dict.fromkeys((provider, short_name(provider), "default"))
    exact = spec.compare != "close" or not dtype.is_floating
    own = None if exact else own_tolerance(spec, provider)
    own_key = next((key for key in keys if key in spec.tolerance), "") if own else ""
    links = [_comparison(name, spec, dtype, exact=exact)]
    links += [
        Link(
            rule=f"outputs.{name}.tolerance.{key}",
            says=_tolerance(spec, key),
            applies=key == own_key,
        )
        for key in keys
    ]
    is_bound = not exact and own is None and isinstance(bound, BoundFacts)
    links.append(Link(rule="bound from float64", says=_bound(bound), applies=is_bound))
    table = resolve_tolerance(output=OutputSpec(), dtype=dtype, provider=provider)
    if whole and not exact:
        says = "no element by itself; what they ask is in the spec"
        links.append(Link(rule=f"outputs.{name}.measures", says=says, applies=True))
        says = "says nothing about a quantised build"
    else:
        says = f"atol {table.atol:g}, rtol {table.rtol:g} ({table.source})"
    by_table = not (exact or own or is_bound or whole)
    return (*links, Link(rule="tolerance table", says=says, applies=by_table))


def _comparison(name: str, spec: OutputSpec, dtype: DType, *, exact: bool) -> Link:
    says = f"'{spec.compare}'" + (f"; {dtype} values are compared exactly" if exact else "")
    return Link(rule=f"outputs.{name}.compare", says=says, applies=exact)


def _tolerance(spec: OutputSpec, key: str) -> str:
    own = spec.tolerance.get(key)
    return f"atol {own.atol:g}, rtol {own.rtol:g}: {own.reason}" if own else "not set"


def _bound(bound: BoundFacts | str) -> str:
    if isinstance(bound, str):
        return f"none: {bound}"
    rule, standing = bound.rule, bound.standing
    found, limit = standing.found, standing.limit
    return (
        f"{rule.factor:g} x the {rule.dtype} reference's error + {rule.floor:.3g} "
        f"({rule.source}): RMS {found.rms:.3g} of {limit.rms:.3g}, largest {found.largest:.3g} of "
        f"{limit.largest:.3g} ({standing.basis})"
    )
