"""The picture of a duet: call times of both sides, and what each pair said.

matplotlib is optional and imported when a picture is asked for. Figures are made without its
interface `pyplot`, so that no window, no global state and no display is involved.
"""

from __future__ import annotations

import importlib.util
import logging
import math
import textwrap
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.domain.receipts import Timed
from harness.errors import EnvironmentProblem, UsageProblem

#: Told apart by all common kinds of colour blindness, and in grey by their lightness.
CANDIDATE_COLOUR, CONTROL_COLOUR, GREY = "#D55E00", "#0072B2", "#606060"
#: Inches at this many points per inch: 900 x 450.
SIZE, DOTS = (9.0, 4.5), 100
#: As many bins as the root of the calls, within these limits.
FEWEST_BINS, MOST_BINS = 8, 60
#: Per cent of the calls of both sides that the picture spans: a few calls take many times longer.
SPAN = (0.5, 99.5)
#: Share of a panel's height below its legend.
UNDER_LEGEND = 0.78
FORMATS = (".png", ".svg", ".pdf")
NEXT = "pip install 'onnx-harness[plots]'"


def check_plot(path: Path) -> None:
    """Refuse to measure for a picture that cannot be drawn.

    Raises:
        EnvironmentProblem: If matplotlib is not installed; code `package.missing`.
        UsageProblem: If the file's folder does not exist, or its name is of no known format.
    """
    if not _has_matplotlib():
        msg = "Package 'matplotlib' is not installed: no picture can be drawn"
        raise EnvironmentProblem(
            msg, code="package.missing", expected="'matplotlib' beside the harness", next_step=NEXT
        )
    if path.suffix.lower() not in FORMATS:
        msg = f"'{path}' is of no format for a picture"
        raise UsageProblem(msg, where="--plot", expected=f"a name with one of {', '.join(FORMATS)}")
    if not path.parent.is_dir():
        msg = f"Folder '{path.parent}' does not exist"
        raise UsageProblem(msg, where="--plot", expected="a folder that exists")


def plot_distributions(
    path: Path,
    *,
    candidate_ms: Sequence[float] | npt.NDArray[np.float64],
    control_ms: Sequence[float] | npt.NDArray[np.float64],
    pairs: Sequence[float],
    title: str,
    caption: str,
    effect: float | None = None,
    interval: tuple[float, float] | None = None,
    bound: float | None = None,
) -> str:
    """Write the picture, and return nothing; without matplotlib, a note that there is none.

    Args:
        path: File; its ending is the format.
        candidate_ms: Times of single calls.
        control_ms: The same of the control.
        pairs: Log ratio of candidate to control of each pair.
        title: Which cell, and how much slower.
        caption: How it was measured.
        effect: Estimate over all pairs, a log ratio.
        interval: Confidence bounds of the estimate, log ratios.
        bound: Change that matters, a log ratio.
    """
    if not _has_matplotlib():
        return f"no picture: package 'matplotlib' is not installed ({NEXT})"
    with _quiet():
        figure = _figure()
        left, right = figure.subplots(1, 2, gridspec_kw={"width_ratios": (5, 4)})
        _draw_calls(left, {"candidate": candidate_ms, "control": control_ms})
        _draw_pairs(right, pairs, effect=effect, interval=interval, bound=bound)
        figure.suptitle(_wrapped(title, 100), fontsize=12)
        figure.supxlabel(_wrapped(caption, 145), fontsize=8, color=GREY)
        figure.savefig(path, dpi=DOTS)
    return ""


def draw(path: Path, timed: Timed, *, title: str, caption: str) -> str:
    """Write the picture of a duet; return a note where it cannot be drawn."""
    return plot_distributions(
        path,
        candidate_ms=timed.candidate_ns / 1e6,
        control_ms=timed.control_ns / 1e6,
        pairs=timed.pairs,
        title=title,
        caption=caption,
        effect=timed.effect,
        interval=timed.interval,
        bound=timed.bound,
    )


def _has_matplotlib() -> bool:
    try:
        return importlib.util.find_spec("matplotlib") is not None
    except ValueError:  # what Python says of a module that is blocked
        return False


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep matplotlib from telling about its caches, and about letters that its fonts lack."""
    logger = logging.getLogger("matplotlib")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from matplotlib import rc_context  # noqa: PLC0415 - optional, and half a second

            with rc_context({"text.parse_math": False, "font.size": 9}):
                yield
    finally:
        logger.setLevel(level)


def _figure() -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415 - optional
    from matplotlib.figure import Figure  # noqa: PLC0415 - optional

    figure = Figure(figsize=SIZE, dpi=DOTS, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _draw_calls(axes: Any, sides: dict[str, Any]) -> None:
    calls = {name: np.asarray(values, dtype=np.float64) for name, values in sides.items()}
    low, high = _span([values for values in calls.values() if values.size])
    fewest = min(values.size for values in calls.values())
    bins = min(MOST_BINS, max(FEWEST_BINS, math.isqrt(fewest)))
    for name, colour in (("control", CONTROL_COLOUR), ("candidate", CANDIDATE_COLOUR)):
        values = calls[name]
        if not values.size:
            continue
        shares, edges = np.histogram(values, bins=bins, range=(low, high))
        middle = float(np.median(values))
        axes.stairs(shares / values.size * 100, edges, color=colour, fill=True, alpha=0.25)
        axes.stairs(shares / values.size * 100, edges, color=colour, linewidth=1.2)
        axes.axvline(
            middle,
            ymax=UNDER_LEGEND,
            color=colour,
            linestyle="--" if name == "control" else "-",
            linewidth=1.6,
            label=f"{name}: median {middle:.4g} ms (n = {values.size:,})",
        )
    axes.set(xlim=(low, high), xlabel="time of a call, ms", ylabel="share, %")
    axes.set_ylim(0, axes.get_ylim()[1] / UNDER_LEGEND)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="upper right", frameon=False, fontsize=8.5)
    _plain(axes)


def _draw_pairs(
    axes: Any,
    pairs: Sequence[float],
    *,
    effect: float | None,
    interval: tuple[float, float] | None,
    bound: float | None,
) -> None:
    changes = [_percent(each) for each in pairs]
    axes.axhline(0, color="black", linewidth=1)
    for sign in (1, -1) if bound else ():
        change = _percent(sign * (bound or 0.0))
        label = f"bound, {change:.2g} %" if sign > 0 else None
        axes.axhline(change, color=GREY, linestyle=":", linewidth=1.4, label=label)
    if interval:
        low, high = (_percent(each) for each in interval)
        label = f"interval, {low:+.2f} to {high:+.2f} %"
        axes.axhspan(low, high, color=CANDIDATE_COLOUR, alpha=0.18, linewidth=0, label=label)
    if effect is not None:
        label = f"estimate, {_percent(effect):+.2f} %"
        axes.axhline(_percent(effect), color=CANDIDATE_COLOUR, linewidth=1.6, label=label)
    axes.plot(
        range(1, len(changes) + 1), changes, "o", color="black", markersize=3.5, label="one pair"
    )
    axes.set(xlabel="pair, in the order of measuring", ylabel="candidate against control, %")
    axes.xaxis.get_major_locator().set_params(integer=True)
    low, high = axes.get_ylim()
    axes.set_ylim(low, low + (high - low) / UNDER_LEGEND)
    axes.legend(loc="upper left", frameon=False, fontsize=8.5, ncols=2, columnspacing=1.0)
    _plain(axes)


def _span(sides: Sequence[npt.NDArray[np.float64]]) -> tuple[float, float]:
    """Return the range that holds nearly all calls of every side, never an empty one."""
    if not sides:
        return 0.0, 1.0
    ends = [np.percentile(values, SPAN) for values in sides]
    low, high = float(min(each[0] for each in ends)), float(max(each[1] for each in ends))
    margin = 0.02 * (high - low) or 0.05 * max(high, 1e-6)
    return max(0.0, low - margin), high + margin


def _percent(log_ratio: float) -> float:
    return math.expm1(log_ratio) * 100


def _wrapped(text: str, width: int) -> str:
    return "\n".join(textwrap.wrap(text, width, max_lines=2, placeholder=" ..."))


def _plain(axes: Any) -> None:
    axes.spines[["top", "right"]].set_visible(False)
