"""What recordings of decisions amount to: shares with intervals, seconds, other rules beside it."""

from __future__ import annotations

import itertools
import json
import math
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harness.domain import duet
from harness.domain.duet import LATENCY, Outcome, Stage
from power import neighbours
from power.trials import CPU, DECISIONS, GATE, SLOWDOWN

#: What `pytest-benchmark --benchmark-compare-fail=median:5%` compares with.
STORED_LIMIT = 1.05
RULE = LATENCY.among(DECISIONS)
_SAME = (Outcome.SAME.value, Outcome.NOT_SLOWER.value)
_VERDICTS = (Outcome.SLOWER.value, *_SAME, Outcome.FASTER.value)
#: Of fewer stages no scatter is told.
_FEWEST_STAGES = 10
#: Effects of the modelled curve, per cent.
CURVE = (0.0, 0.5, 1.0, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0)
#: Resampled decisions of each class and effect; effects, per cent.
RESAMPLED, RESAMPLED_AT = 20_000, (0.0, 0.5, 2.0, 3.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """One recorded decision."""

    line: dict[str, Any]
    stored_ratio: float | None = None
    """Its candidate's p50 to that of the control in the decision before, of the same subject."""

    @property
    def outcome(self) -> str:
        """Return what the gate said of p50."""
        return "error" if self.line["error"] else str(self.line["quantities"]["p50"]["outcome"])

    @property
    def startup(self) -> str:
        """Return what the gate said of start-up."""
        return "error" if self.line["error"] else str(self.line["quantities"]["startup"]["outcome"])

    @property
    def stages(self) -> list[Stage]:
        """Return what the stages saw."""
        return [Stage(**each) for each in self.line["quantities"]["p50"]["stages"]]

    @property
    def pairs(self) -> list[float]:
        """Return the log ratios of all stages."""
        return [value for stage in self.stages for value in stage.candidate]

    @property
    def effect(self) -> float:
        """Return the estimate over all pairs, per cent."""
        return 100 * math.expm1(duet.estimate(self.pairs, RULE).effect)

    @property
    def seconds(self) -> float:
        """Return how long it was measured, the waiting between stages left out."""
        return float(sum(self.line["seconds"]))


def read(files: Iterable[Path]) -> list[Decision]:
    """Return the decisions of recordings in the order of time; a line cut off at the end is left.

    A recording whose writer was killed ends in half a line.
    """
    lines = []
    for file in files:
        texts = file.read_text(encoding="utf-8").splitlines(keepends=True)
        lines += [json.loads(text) for text in texts if text.endswith("\n")]
    lines.sort(key=lambda line: str(line["when"]))
    return list(_with_stored(lines))


def _with_stored(lines: Sequence[dict[str, Any]]) -> Iterator[Decision]:
    """Yield decisions with what a stored number of minutes before would have told."""
    before: dict[tuple[str, ...], float] = {}
    for line in lines:
        if line["error"] or line["way"] != GATE:
            yield Decision(line=line)
            continue
        place = (line["subject"], line["condition"], _provider(line))
        ours, theirs = (
            statistics.median(line["workers_ms"][arm]) for arm in ("candidate", "control")
        )
        yield Decision(line=line, stored_ratio=ours / before[place] if place in before else None)
        before[place] = theirs


def _provider(line: Mapping[str, Any]) -> str:
    return str(line.get("provider", CPU))  # the oldest lines are all of the CPU


def _slowdown(line: Mapping[str, Any]) -> float:
    return float(line.get("slowdown", SLOWDOWN))  # the oldest lines are all of the default


def interval(hits: int, count: int) -> tuple[float, float]:
    """Return the Clopper-Pearson interval of a share, 95 %."""
    from scipy import stats

    found = stats.binomtest(hits, count).proportion_ci(0.95)
    return float(found.low), float(found.high)


def groups(decisions: Sequence[Decision]) -> list[dict[str, Any]]:
    """Return the figures of each way, class, condition and truth."""
    ordered = sorted(decisions, key=_place)
    return [_figures(place, list(group)) for place, group in itertools.groupby(ordered, _place)]


def _place(decision: Decision) -> tuple[Any, ...]:
    line = decision.line
    truth = str(line["truth"])
    layers = int(truth.split(maxsplit=1)[0]) if truth.endswith("layers") else 0
    scale = float(str(line["scale"]).split(maxsplit=1)[0])
    way = line["way"]
    return (
        way != GATE,
        way,
        scale,
        line["condition"],
        layers,
        truth,
        _provider(line),
        _slowdown(line),
    )


def _figures(place: tuple[Any, ...], found: list[Decision]) -> dict[str, Any]:
    outcomes = [each.outcome for each in found]
    judged = sum(map(outcomes.count, _VERDICTS))
    sound = [each for each in found if not each.line["error"]]
    effects = [each.effect for each in sound]
    slower = outcomes.count(Outcome.SLOWER.value)
    stored = [each.stored_ratio for each in sound if each.stored_ratio is not None]
    plugin = [asked for each in found if (asked := each.line.get("plugin_slower")) is not None]
    return {
        "way": place[1],
        "scale": found[0].line["scale"],
        "condition": place[3],
        "truth": place[5],
        "provider": place[6],
        "slowdown": place[7],
        "subjects": sorted({each.line["subject"] for each in found}),
        "decisions": len(found),
        "slower": slower,
        "same": sum(map(outcomes.count, _SAME)),
        "faster": outcomes.count(Outcome.FASTER.value),
        "not_judged": len(found) - judged,
        "slower_share": _share(slower, len(found)),
        "startup_slower": sum(each.startup == "slower" for each in found),
        "startup_not_judged": sum(each.startup not in _VERDICTS for each in found),
        "effect_percent": _mean_and_sd(effects),
        "scatter_percent": _median(100 * _scatter(each) for each in sound),
        "seconds": _median(each.seconds for each in found),
        "seconds_longest": round(max(each.seconds for each in found), 1),
        "load": _median(statistics.mean(each.line["loads"]) for each in found),
        "stored_slower": _share(sum(ratio > STORED_LIMIT for ratio in stored), len(stored)),
        "plugin_slower": _share(sum(plugin), len(plugin)),
        "screen_only_slower": _share(sum(map(screen_only, sound)), len(sound)),
        "means_slower": _share(sum(map(by_means, sound)), len(sound)),
        "means_sd_percent": _mean_and_sd([100 * statistics.fmean(_means(each)) for each in sound])[
            1
        ]
        if sound
        else None,
    }


def _scatter(decision: Decision) -> float:
    return duet.estimate(decision.pairs, RULE).spread


def _median(values: Iterable[float]) -> float | None:
    kept = list(values)
    return round(statistics.median(kept), 2) if kept else None


def _mean_and_sd(values: Sequence[float]) -> tuple[float | None, float | None]:
    if not values:
        return None, None
    deviation = round(statistics.stdev(values), 2) if len(values) > 1 else None
    return round(statistics.fmean(values), 2), deviation


def _share(hits: int, count: int) -> dict[str, Any]:
    if not count:
        return {"hits": 0, "of": 0, "low": None, "high": None}
    low, high = interval(hits, count)
    return {"hits": hits, "of": count, "low": round(low, 3), "high": round(high, 3)}


# whether pairs are independent


def between_stages(decisions: Sequence[Decision]) -> list[dict[str, Any]]:
    """Return for each subject what stages of unchanged candidates scatter by, and what they say.

    Where pairs are independent both agree. Only the first `EARLY_PAIRS` of a stage are looked at: a
    screen that ends early ends because of what it saw.
    """
    own = [
        each
        for each in decisions
        if each.line["way"] == GATE and each.line["truth"] == "unchanged" and not each.line["error"]
    ]
    found = []
    for name in sorted({each.line["subject"] for each in own}):
        stages = [
            duet.estimate(stage.candidate[: duet.EARLY_PAIRS], RULE)
            for each in own
            if each.line["subject"] == name
            for stage in each.stages
        ]
        if len(stages) < _FEWEST_STAGES:
            continue
        found.append({
            "subject": name,
            "stages": len(stages),
            "scatter_percent": round(100 * statistics.stdev(each.effect for each in stages), 2),
            "error_percent": round(
                100 * math.sqrt(statistics.fmean(each.error**2 for each in stages)), 2
            ),
        })
    return found


# other rules on the same pairs


def screen_only(decision: Decision) -> bool:
    """Return whether a gate without confirmations would have said slower."""
    found = duet.estimate(decision.stages[0].candidate, RULE)
    nearest = found.bound(1 - RULE.alarm, upper=False)
    return found.effect >= RULE.bound and nearest > 0


def by_means(decision: Decision) -> bool:
    """Return whether the mean of all calls, instead of medians, is beyond the bound."""
    return statistics.fmean(_means(decision)) >= RULE.bound


def _means(decision: Decision) -> list[float]:
    return [float(value) for value in decision.line["mean_ratios"]]


# a model: recorded decisions, moved


def curve(decisions: Sequence[Decision]) -> dict[str, list[dict[str, Any]]]:
    """Return for each class how often effects would be seen, by moving recorded decisions.

    A model: decisions with three stages or more are taken as they were, and every pair is moved by
    the same amount, so that the mean effect of all decisions of one subject and truth is the wanted
    one. It assumes that the scatter does not depend on the effect.
    """
    return {
        scale: [{"percent": percent, **_share(_seen(own, percent), len(own))} for percent in CURVE]
        for scale, own in _whole(decisions).items()
    }


def _whole(decisions: Sequence[Decision]) -> dict[str, list[Decision]]:
    """Return for each class the quiet decisions about added layers that have all their stages."""
    whole = [
        each
        for each in decisions
        if not each.line["error"]
        and (each.line["way"], each.line["condition"]) == (GATE, neighbours.AS_FOUND)
        and _slowdown(each.line) == SLOWDOWN
        and each.line["truth"].endswith("layers")
        and len(each.stages) >= duet.STAGES
    ]
    scales = sorted({each.line["scale"] for each in whole}, key=lambda each: float(each[:-3]))
    return {scale: [each for each in whole if each.line["scale"] == scale] for scale in scales}


def _seen(decisions: Sequence[Decision], percent: float) -> int:
    by = math.log1p(percent / 100)
    return sum(
        duet.replay(_moved(stages, by), RULE) is Outcome.SLOWER for stages in _centred(decisions)
    )


def _centred(decisions: Sequence[Decision]) -> Iterator[list[Stage]]:
    """Yield the stages of each decision, less the mean effect of its subject and truth."""

    def truth(decision: Decision) -> tuple[str, str]:
        return decision.line["subject"], decision.line["truth"]

    for _, group in itertools.groupby(sorted(decisions, key=truth), truth):
        own = list(group)
        centre = statistics.fmean(duet.estimate(each.pairs, RULE).effect for each in own)
        yield from (_moved(each.stages, -centre) for each in own)


def resampled(decisions: Sequence[Decision], count: int = RESAMPLED) -> list[dict[str, Any]]:
    """Return what decisions of mixed stages would say, for each class and effect.

    A model: every stage of a decision is drawn from another recorded decision of the class, less
    the mean effect of its kind and moved to the wanted one. It assumes that stages share nothing
    and that the scatter does not depend on the effect.
    """
    random = np.random.default_rng(0)
    found = []
    for scale, own in _whole(decisions).items():
        centred = list(_centred(own))
        for percent in RESAMPLED_AT:
            outcomes = [
                duet.replay(_moved(_mixed(centred, random), math.log1p(percent / 100)), RULE)
                for _ in range(count)
            ]
            found.append({
                "scale": scale,
                "percent": percent,
                "slower": _share(outcomes.count(Outcome.SLOWER), count),
                "not_judged": sum(each is None or each.value not in _VERDICTS for each in outcomes),
            })
    return found


def _mixed(centred: Sequence[Sequence[Stage]], random: np.random.Generator) -> list[Stage]:
    """Return a screen, two confirmations and a settlement, all of different decisions if can be."""
    several = len(centred) >= duet.STAGES + 2
    chosen = random.choice(len(centred), duet.STAGES + 2, replace=not several)
    screen, *later = [
        centred[each][0 if not number else int(random.integers(1, duet.STAGES))]
        for number, each in enumerate(chosen)
    ]
    first, second = later[-2:]
    settlement = Stage(
        candidate=[*first.candidate, *second.candidate][: duet.SETTLE_PAIRS],
        sentinel=[*first.sentinel, *second.sentinel][: duet.SETTLE_PAIRS],
    )
    return [screen, *later[:-2], settlement]


def _moved(stages: Sequence[Stage], by: float) -> list[Stage]:
    return [
        Stage(candidate=[value + by for value in stage.candidate], sentinel=stage.sentinel)
        for stage in stages
    ]


# text and picture


def lines(found: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Yield the table as Markdown."""
    yield (
        "| class | condition | candidate | decisions | slower | same or not slower | faster "
        "| not judged | effect, sd | pairs' scatter | seconds | stored median + 5 % "
        "| pytest-benchmark |"
    )
    yield "|---|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|"
    for each in found:
        name = ", ".join((
            each["truth"],
            *([each["way"]] if each["way"] != GATE else ()),
            *([f"on {each['provider']}"] if each["provider"] != CPU else ()),
            *([f"bound {each['slowdown']:.1%}"] if each["slowdown"] != SLOWDOWN else ()),
        ))
        mean, deviation = each["effect_percent"]
        cells = (
            *(each["scale"], each["condition"], name, each["decisions"]),
            _with_interval(each["slower_share"]),
            *(each["same"], each["faster"], each["not_judged"]),
            "" if mean is None else f"{mean:+.2f} %, {_plain(deviation)}",
            f"{_plain(each['scatter_percent'])} %",
            f"{each['seconds']:.0f}, longest {each['seconds_longest']:.0f}",
            _with_interval(each["stored_slower"]),
            _with_interval(each["plugin_slower"]),
        )
        yield f"| {' | '.join(map(str, cells))} |"


def _plain(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _with_interval(share: dict[str, Any]) -> str:
    if not share["of"]:
        return "-"
    return f"{share['hits']} of {share['of']} ({share['low']:.0%} to {share['high']:.0%})"


def curve_lines(found: dict[str, list[dict[str, Any]]]) -> Iterator[str]:
    """Yield the modelled curve as Markdown."""
    yield "| class | " + " | ".join(f"{percent:g} %" for percent in CURVE) + " |"
    yield "|---|" + "---:|" * len(CURVE)
    for scale, points in found.items():
        told = " | ".join(f"{each['hits']} of {each['of']}" for each in points)
        yield f"| {scale} | {told} |"


def resampled_lines(found: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield what resampled decisions say as Markdown."""
    yield "| class | effect | called slower | not judged |"
    yield "|---|---:|---:|---:|"
    for each in found:
        slower = each["slower"]
        told = f"{slower['hits']:,} of {slower['of']:,}"
        yield f"| {each['scale']} | {each['percent']:g} % | {told} | {each['not_judged']} |"


def plot(
    path: Path, decisions: Sequence[Decision], *, importer: Callable[[str], Any] = __import__
) -> None:
    """Draw every gate decision: true slowdown by added layers, estimate, outcome."""
    pyplot = importer("matplotlib.pyplot").pyplot
    own = [
        each
        for each in decisions
        if each.line["way"] == GATE
        and not each.line["error"]
        and each.line["condition"] == neighbours.AS_FOUND
        and _slowdown(each.line) == SLOWDOWN
    ]
    scales = sorted({each.line["scale"] for each in own}, key=lambda each: float(each[:-3]))
    figure, axes = pyplot.subplots(1, len(scales), figsize=(4 * len(scales), 3.6), squeeze=False)
    colours = {"slower": "tab:red", "same or not slower": "tab:green", "faster": "tab:blue"}
    words = dict.fromkeys(_SAME, "same or not slower")
    random = np.random.default_rng(0)
    for axis, scale in zip(axes[0], scales, strict=True):
        for each in own:
            layers = _place(each)[4]
            if each.line["scale"] == scale and (layers or each.line["truth"] == "unchanged"):
                axis.plot(
                    layers + random.uniform(-0.15, 0.15), each.effect, "o", ms=4, alpha=0.6,
                    color=colours.get(words.get(each.outcome, each.outcome), "tab:gray"),
                )  # fmt: skip
        axis.axhline(1.0, color="gray", lw=0.8, ls=":")
        axis.set(title=f"about {scale} a run", xlabel="layers added to 100")
    axes[0][0].set_ylabel("estimated slowdown, %")
    for name, colour in {**colours, "not judged": "tab:gray"}.items():
        axes[0][-1].plot([], [], "o", ms=4, color=colour, label=name)
    axes[0][-1].legend(loc="upper left", fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=90)
