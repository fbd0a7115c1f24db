"""Why one model is slower than another: operators, graph, placement and settings side by side.

Times come from ONNX Runtime's profiler, in a run of its own: it disturbs what it measures, so they
tell which operators a difference lies in, and never whether there is one.
"""

from __future__ import annotations

import math
import re
import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

#: A change is shown from this share of the control's time on, and beyond so many standard errors:
#: smaller ones come and go between two profiles of one model.
SHOWN_SHARE, SHOWN_ERRORS = 0.005, 3.0
#: Lines of operators; the rest is one line more.
OPERATORS = 5
#: One node of several is named if so much of its operator's change lies in it.
MOSTLY = 0.5
#: What works against the difference is told from this share of it on.
OFFSET = 0.1
#: Columns of a line.
WIDTH = 98
#: Names that compiling providers give to the parts of a graph: counted, or made from a hash.
COMPILED = re.compile(r"^(?:(TRTKernel)_.*|(.*subgraph)_\d+)$")


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeTime:
    """One node of the optimised graph, as the profiler saw it."""

    provider: str
    name: str
    """Made from operator and place where the node has none."""
    op: str
    total_us: float
    """Time of one run, without the nodes inside this one; a robust mean over runs."""
    calls: int
    """Over all runs that were counted."""
    error_us: float = 0.0
    """Standard error of the time."""
    is_named: bool = True
    """Whether the name is the model's own."""
    rounds_us: tuple[float, ...] = ()
    """The time in each of several profiles, in fresh processes; empty for one profile."""

    @property
    def operator(self) -> str:
        """Return the operator without what a compiling provider counts it by."""
        found = COMPILED.match(self.op)
        return (found[1] or found[2]) if found else self.op


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorChange:
    """All nodes of one operator, on both sides."""

    op: str
    candidate_us: float
    control_us: float
    candidate_nodes: int
    control_nodes: int
    error_us: float
    """Standard error of the difference."""
    mostly: str = ""
    """Name of the node of both sides in which most of the change lies, if there is one."""

    @property
    def change_us(self) -> float:
        """Return how much more time the candidate spends."""
        return self.candidate_us - self.control_us


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """Nodes of both sides that changed their provider."""

    was: str
    """Provider in the control."""
    now: str
    """Provider in the candidate."""
    nodes: tuple[str, ...]
    """Operator and name of each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderTime:
    """Time of all nodes of one provider."""

    provider: str
    candidate_us: float
    control_us: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingChange:
    """One setting that differs."""

    name: str
    candidate: str
    """Empty where it is not set."""
    control: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """What differs between the profiles of candidate and control."""

    operators: tuple[OperatorChange, ...] = ()
    """All of both sides, those that explain the difference first."""
    moved: tuple[Moved, ...] = ()
    providers: tuple[ProviderTime, ...] = ()
    settings: tuple[SettingChange, ...] = ()
    slower: bool = True
    """Whether the candidate is the slower one; else this explains why it is faster."""
    problem: str = ""
    """Why there is no profile."""

    @property
    def candidate_us(self) -> float:
        """Return the time of all nodes of the candidate."""
        return sum(each.candidate_us for each in self.operators)

    @property
    def control_us(self) -> float:
        """Return the time of all nodes of the control."""
        return sum(each.control_us for each in self.operators)

    @property
    def accounting(self) -> tuple[OperatorChange, ...]:
        """Return the operators that account for the difference; none if the profile has none."""
        shown = [each for each in self.operators if any(self._is_shown(each, s) for s in (1, -1))]
        if self._sign * sum(each.change_us for each in shown) <= 0:
            return ()
        return tuple(each for each in shown if self._sign * each.change_us > 0)

    def lines(self) -> list[str]:
        """Return at most twelve lines for a screen of 100 columns."""
        told = [*self._profile_lines(), *self._graph_lines(), *self._setting_lines()]
        return [_cut(f"{label + ':':<10}{text}") for label, text in told]

    @property
    def _sign(self) -> int:
        return 1 if self.slower else -1

    def _is_shown(self, each: OperatorChange, sign: int) -> bool:
        least = max(SHOWN_SHARE * self.control_us, SHOWN_ERRORS * each.error_us)
        return sign * each.change_us > least

    def _profile_lines(self) -> Iterator[tuple[str, str]]:
        if self.problem:
            yield "profile", f"none: {self.problem}"
            return
        change = self.candidate_us / self.control_us - 1 if self.control_us else 0.0
        ours, theirs = _us(self.candidate_us), _us(self.control_us)
        yield "profile", f"nodes take {ours}, control {theirs} ({change:+.1%}), in a run of its own"
        if self.accounting:
            yield from self._operator_lines()
        else:
            yield from self._not_shown()

    def _operator_lines(self) -> Iterator[tuple[str, str]]:
        label, it = ("slower", "increase") if self.slower else ("faster", "decrease")
        whole = sum(each.change_us for each in self.operators if self._sign * each.change_us > 0)
        for each in self.accounting[:OPERATORS]:
            text = f"{each.op} {each.change_us:+,.0f} us, {each.change_us / whole:.0%} of the {it}"
            yield label, f"{text} ({_nodes(each)})" + _mostly(each)
        rest = self.accounting[OPERATORS:]
        if rest:
            change_us = sum(each.change_us for each in rest)
            text = f"{len(rest)} more operators {change_us:+,.0f} us"
            yield label, f"{text}, {change_us / whole:.0%} of the {it}"
        yield from self._offset_lines(whole)

    def _offset_lines(self, whole_us: float) -> Iterator[tuple[str, str]]:
        against = [each for each in self.operators if self._is_shown(each, -self._sign)]
        if abs(sum(each.change_us for each in against)) < OFFSET * abs(whole_us):
            return
        ordered = sorted(against, key=lambda each: -abs(each.change_us))
        yield "against", _listed(f"{each.op} {each.change_us:+,.0f} us" for each in ordered)

    def _not_shown(self) -> Iterator[tuple[str, str]]:
        word, text = "slower" if self.slower else "faster", "the profiler does not show it: "
        changes = sorted(self.operators, key=lambda each: -abs(each.change_us))
        seen = [each for each in changes if any(self._is_shown(each, sign) for sign in (1, -1))]
        if seen:
            parts = (f"{each.op} {each.change_us:+,.0f} us" for each in seen)
            yield word, text + _listed(parts, WIDTH - 10 - len(text))
            return
        share = abs(changes[0].change_us) / self.control_us if self.control_us else 0.0
        yield word, f"{text}per-operator times agree within {share:.1%} of a run"

    def _graph_lines(self) -> Iterator[tuple[str, str]]:
        changed = [each for each in self.operators if each.candidate_nodes != each.control_nodes]
        if changed:
            changed.sort(key=_by_loss)
            parts = (
                f"{each.op} {each.control_nodes} -> {each.candidate_nodes}" for each in changed
            )
            yield "graph", _listed(parts)
        for each in self.moved[:1]:
            more = f"; {len(self.moved) - 1} more such moves" if self.moved[1:] else ""
            count = f"{len(each.nodes)} node{'s' * (len(each.nodes) != 1)}"
            text = f"{count} from {_short(each.was)} to {_short(each.now)}{more}: "
            yield "moved", text + _listed(each.nodes, WIDTH - 10 - len(text))
        if len(self.providers) > 1:
            yield (
                "provider",
                _listed(
                    f"{_short(each.provider)} {_us(each.candidate_us)} ({_us(each.control_us)})"
                    for each in self.providers
                ),
            )

    def _setting_lines(self) -> Iterator[tuple[str, str]]:
        if self.settings:
            yield (
                "settings",
                _listed(
                    f"{each.name} {each.candidate or 'not set'} ({each.control or 'not set'})"
                    for each in self.settings
                ),
            )


def explain(
    candidate: Sequence[NodeTime],
    control: Sequence[NodeTime],
    *,
    settings: tuple[SettingChange, ...] = (),
    slower: bool = True,
) -> Explanation:
    """Return what differs between two profiles.

    Nodes are matched by name and operator where both sides name them; else only the sums of an
    operator are compared.

    Args:
        candidate: Nodes of what is slower.
        control: Nodes of what it is slower than.
        settings: Those that differ, of `changed_settings`.
        slower: False explains a candidate that is faster.
    """
    sign = 1 if slower else -1
    operators = [
        _operator(op, candidate, control)
        for op in dict.fromkeys(node.operator for node in (*candidate, *control))
    ]
    return Explanation(
        operators=tuple(sorted(operators, key=lambda each: -sign * each.change_us)),
        moved=tuple(_moved(candidate, control)),
        providers=tuple(_providers(candidate, control)),
        settings=settings,
        slower=slower,
    )


def at_one_pace(
    candidate: Sequence[Sequence[NodeTime]], control: Sequence[Sequence[NodeTime]]
) -> tuple[list[tuple[NodeTime, ...]], list[tuple[NodeTime, ...]]]:
    """Return the profiles of several rounds as if the control had always taken as long.

    Both sides of a round run in turn, so a machine that is twice as slow meanwhile is so for both.
    """
    totals = [sum(node.total_us for node in nodes) for nodes in control]
    usual = statistics.median(totals) if totals else 0.0
    paces = [usual / total if total else 1.0 for total in totals]
    ours, theirs = (
        [
            tuple(replace(node, total_us=node.total_us * pace) for node in nodes)
            for nodes, pace in zip(side, paces, strict=True)
        ]
        for side in (candidate, control)
    )
    return ours, theirs


def merge(profiles: Sequence[Sequence[NodeTime]]) -> tuple[NodeTime, ...]:
    """Return the nodes of several profiles of one model; a node's time is the median of all."""
    rounds: dict[tuple[str, str, str, int], list[NodeTime | None]] = {}
    for number, nodes in enumerate(profiles):
        seen: Counter[tuple[str, str, str]] = Counter()
        for node in nodes:
            key = (node.provider, node.name, node.op)
            members = rounds.setdefault((*key, seen[key]), [None] * len(profiles))
            members[number] = node
            seen[key] += 1
    return tuple(_merged(members) for members in rounds.values())


def _merged(members: Sequence[NodeTime | None]) -> NodeTime:
    found = [node for node in members if node is not None]
    times = tuple(node.total_us if node else 0.0 for node in members)
    return replace(
        found[0],
        total_us=statistics.median(times),
        calls=sum(node.calls for node in found),
        error_us=_together(node.error_us for node in found) / len(members),
        rounds_us=times,
    )


def changed_settings(
    candidate: Mapping[str, str], control: Mapping[str, str]
) -> tuple[SettingChange, ...]:
    """Return the settings that differ, in the order of the candidate's, then the control's."""
    return tuple(
        SettingChange(name=name, candidate=candidate.get(name, ""), control=control.get(name, ""))
        for name in dict.fromkeys((*candidate, *control))
        if candidate.get(name, "") != control.get(name, "")
    )


def _operator(
    op: str, candidate: Sequence[NodeTime], control: Sequence[NodeTime]
) -> OperatorChange:
    ours, theirs = ([node for node in side if node.operator == op] for side in (candidate, control))
    ours_us, theirs_us = (sum(node.total_us for node in side) for side in (ours, theirs))
    return OperatorChange(
        op=op,
        candidate_us=ours_us,
        control_us=theirs_us,
        candidate_nodes=len(ours),
        control_nodes=len(theirs),
        error_us=_error_us(ours, theirs),
        mostly=_most_of(ours_us - theirs_us, _matched(ours, theirs)),
    )


def _error_us(candidate: Sequence[NodeTime], control: Sequence[NodeTime]) -> float:
    """Return the standard error of the difference: from round to round where there are several.

    What sets processes apart, such as addresses, hits all nodes of an operator alike.
    """
    rounds = min((len(node.rounds_us) for node in (*candidate, *control)), default=0)
    if rounds < 2:  # noqa: PLR2004 - one profile has no scatter
        return _together(node.error_us for node in (*candidate, *control))
    ours, theirs = (
        [sum(node.rounds_us[number] for node in side) for number in range(rounds)]
        for side in (candidate, control)
    )
    changes = [one - other for one, other in zip(ours, theirs, strict=True)]
    return statistics.stdev(changes) / math.sqrt(rounds)


def _together(errors_us: Iterable[float]) -> float:
    return math.sqrt(sum(each * each for each in errors_us))


def _matched(
    candidate: Iterable[NodeTime], control: Iterable[NodeTime]
) -> list[tuple[NodeTime, NodeTime]]:
    """Return the nodes that both sides have under a name of the model that is used once."""
    ours, theirs = (_by_name(side) for side in (candidate, control))
    return [(node, theirs[key]) for key, node in ours.items() if key in theirs]


def _by_name(nodes: Iterable[NodeTime]) -> dict[tuple[str, str], NodeTime]:
    named = [((node.name, node.op), node) for node in nodes if node.is_named]
    counts = Counter(key for key, _ in named)
    return {key: node for key, node in named if counts[key] == 1}


def _most_of(change_us: float, matched: Sequence[tuple[NodeTime, NodeTime]]) -> str:
    """Return the name of the node in which most of its operator's change lies, if there is one."""
    for ours, theirs in matched:
        errors = SHOWN_ERRORS * (ours.error_us**2 + theirs.error_us**2) ** 0.5
        change = ours.total_us - theirs.total_us
        if change_us and change / change_us > MOSTLY and abs(change) > errors:
            return ours.name
    return ""


def _moved(candidate: Sequence[NodeTime], control: Sequence[NodeTime]) -> Iterator[Moved]:
    groups: dict[tuple[str, str], list[str]] = {}
    for ours, theirs in _matched(candidate, control):
        if ours.provider != theirs.provider:
            names = groups.setdefault((theirs.provider, ours.provider), [])
            names.append(f"{ours.op} '{ours.name}'")
    for (was, now), nodes in sorted(groups.items(), key=lambda group: -len(group[1])):
        yield Moved(was=was, now=now, nodes=tuple(nodes))


def _providers(
    candidate: Sequence[NodeTime], control: Sequence[NodeTime]
) -> Iterator[ProviderTime]:
    for name in dict.fromkeys(node.provider for node in (*candidate, *control)):
        ours, theirs = (
            sum(node.total_us for node in side if node.provider == name)
            for side in (candidate, control)
        )
        yield ProviderTime(provider=name, candidate_us=ours, control_us=theirs)


def _by_loss(change: OperatorChange) -> tuple[bool, int]:
    """Order operators that are gone first: what a fusion no longer gives is told by them."""
    return change.candidate_nodes > 0, -abs(change.candidate_nodes - change.control_nodes)


def _nodes(change: OperatorChange) -> str:
    if change.candidate_nodes == change.control_nodes:
        return f"{change.candidate_nodes} node{'s' * (change.candidate_nodes != 1)}"
    return f"{change.control_nodes} -> {change.candidate_nodes} nodes"


def _mostly(change: OperatorChange) -> str:
    return f", mostly '{change.mostly}'" if change.mostly and change.candidate_nodes > 1 else ""


def _us(time_us: float) -> str:
    return f"{time_us:,.0f} us" if time_us >= 10 else f"{time_us:.1f} us"  # noqa: PLR2004 - digits


def _short(provider: str) -> str:
    return provider.removesuffix("ExecutionProvider") or "no provider"


def _listed(parts: Iterable[str], width: int = WIDTH - 10) -> str:
    """Return parts with commas, as many as fit, and the number of the others."""
    found, rest = "", list(parts)
    while rest:
        more = f"; {len(rest) - 1} more" if rest[1:] else ""
        if found and len(found) + 2 + len(rest[0]) + len(more) > width:
            return f"{found}; {len(rest)} more"
        found += ("; " if found else "") + rest.pop(0)
    return found


def _cut(line: str) -> str:
    return line if len(line) <= WIDTH else line[: WIDTH - 3] + "..."
