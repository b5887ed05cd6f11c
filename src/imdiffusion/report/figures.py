"""Matplotlib figures for notebooks: the score of an analysis, and one event with its channels.

They need the extra: pip install 'imdiffusion[plot]'. Nothing here touches pyplot's global state:
a figure is an object that a notebook shows and `figure.savefig("event.png")` writes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from imdiffusion import wording
from imdiffusion.errors import MissingExtraError, UsageError
from imdiffusion.report.cards import Axis, Fault

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from imdiffusion.results import Analysis
    from imdiffusion.scoring.event import Event

# Okabe and Ito's colours, told apart by every kind of colour vision; the page uses the same.
SEEN, EXPECTED, ALARM, FAULT, CALM = "#20262e", "#0072b2", "#c24a00", "#7a4fa0", "#8b95a1"
CAP = 1000.0  # scores above this touch the ceiling


def plot_score(
    analysis: Analysis,
    *,
    faults: Sequence[Fault] = (),
    width: float = 10.0,
    height: float = 2.6,
) -> Figure:
    """The score over time with its threshold at 1, the events, and known faults beneath.

    The score is drawn as it is up to 1 and by its logarithm above. `width` and `height` in inches.
    Raises MissingExtraError without matplotlib.
    """
    figure = _figure(width, height)
    axes = figure.subplots()
    x = _x(analysis, slice(None))
    score = np.asarray(analysis.score, dtype=np.float64)
    for event in analysis.events:
        axes.axvspan(*_ends(analysis, event.start, event.end), color=ALARM, alpha=0.12, lw=0)
    axes.plot(x, score, color=CALM, lw=0.9)
    _redden_above_threshold(axes, x, score)
    axes.axhline(1.0, color=ALARM, lw=0.8, ls=(0, (4, 4)))
    top = min(CAP, float(np.nanmax(score, initial=10.0)))
    axes.set_yscale("function", functions=(_bend, _straighten))
    ticks = [tick for tick in (0, 1, 10, 100, 1000) if tick <= top]
    axes.set_yticks(ticks, [str(tick) for tick in ticks])
    axes.set_ylim(0, top * 1.1)
    _mark_faults(axes, analysis, faults, width)
    axes.set_ylabel("score")
    axes.set_title(analysis.frame.entity or "", loc="left", fontsize="medium")
    _tidy(axes, analysis)
    return figure


def plot_event(
    analysis: Analysis, event: Event, channels: int = 6, *, width: float = 10.0
) -> Figure:
    """One event: its `channels` of largest share, seen against expected and the band around it.

    Raises UsageError if `channels` is below 1; MissingExtraError without matplotlib.
    """
    if channels < 1:
        raise UsageError(f"channels={channels}", remedy="Plot at least one channel.")
    chosen = list(zip(event.channels, event.shares, strict=True))[:channels]
    figure = _figure(width, 0.7 + 1.3 * len(chosen))
    margin = max(40, int(1.5 * (event.end - event.start)))
    rows = slice(max(0, event.start - margin), event.end + margin)
    x = _x(analysis, rows)
    panels = figure.subplots(len(chosen), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (channel, part) in zip(panels, chosen, strict=True):
        k = analysis.frame.channels.index(channel)
        _draw_channel(axes, analysis, k, rows, x)
        axes.axvspan(*_ends(analysis, event.start, event.end), color=ALARM, alpha=0.12, lw=0)
        kind = dict(zip(event.channels, event.kinds, strict=False)).get(channel, "")
        title = f"{channel}  {wording.share(part)}  {kind.replace('_', ' ')}".rstrip()
        axes.set_title(title, loc="left", fontsize="medium")
        _tidy(axes, analysis)
    panels[0].legend(loc="upper right", frameon=False, ncols=3, fontsize="small")
    return figure


def _draw_channel(axes: Axes, analysis: Analysis, k: int, rows: slice, x: NDArray[Any]) -> None:
    """Seen and expected of channel `k`, and of the band what leaves these two readable."""
    observed = analysis.frame.observed[rows, k]
    seen = np.where(observed, analysis.frame.values[rows, k], np.nan)
    expected = np.asarray(analysis.expected)[rows, k]
    lower, upper = (
        np.asarray(one[rows, k], np.float64) for one in (analysis.lower, analysis.upper)
    )
    axes.fill_between(x, lower, upper, color=EXPECTED, alpha=0.18, lw=0, label="band")
    axes.plot(x, expected, color=EXPECTED, lw=1.0, label="expected")
    axes.plot(x, seen, color=SEEN, lw=1.0, label="seen")
    both = np.concatenate([seen, expected])
    both = both[np.isfinite(both)]
    if len(both) and (reach := float(np.ptp(both))) > 0:
        low, high = float(both.min()), float(both.max())
        bottom = np.nanmin(lower, initial=low)
        axes.set_ylim(
            max(bottom, low - reach / 2) - reach * 0.06,
            min(np.nanmax(upper, initial=high), high + reach / 2) + reach * 0.06,
        )


def _figure(width: float, height: float) -> Figure:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("matplotlib", extra="plot") from error
    return Figure(figsize=(width, height), layout="constrained")


def _x(analysis: Analysis, rows: slice) -> NDArray[Any]:
    stamps = analysis.frame.timestamps
    return np.arange(len(analysis.score))[rows] if stamps is None else stamps[rows]


def _ends(analysis: Analysis, start: int, end: int) -> tuple[Any, Any]:
    """Where rows [start, end) begin and end on x."""
    axis = Axis(analysis.frame)
    return _place(axis, axis.x(start)), _place(axis, axis.x(end - 1) + axis.step)


def _place(axis: Axis, x: float) -> Any:
    return np.datetime64(round(x * 1e6), "us") if axis.temporal else x


def _redden_above_threshold(axes: Axes, x: NDArray[Any], score: NDArray[np.float64]) -> None:
    """The same line once more, cut off at the threshold."""
    from matplotlib.patches import Rectangle

    (line,) = axes.plot(x, score, color=ALARM, lw=0.9)
    above = Rectangle((0, 1), 1, 10 * CAP, transform=axes.get_yaxis_transform())
    line.set_clip_path(above)


def _mark_faults(axes: Axes, analysis: Analysis, faults: Sequence[Fault], width: float) -> None:
    """Bars above the plot, each with the fault's kind where there is room for it."""
    axis = Axis(analysis.frame)
    first, last = axis.x(0), axis.x(len(analysis.score))
    letter = (last - first) * 0.065 / width  # x that one small letter takes, about
    free = first
    for fault in sorted(faults, key=lambda fault: axis.at(fault.start)):
        if fault.entity not in (None, analysis.frame.entity):
            continue
        start, end = axis.at(fault.start), axis.at(fault.end)
        ends = [_place(axis, start), _place(axis, end)]
        place = axes.get_xaxis_transform()
        bar: dict[str, Any] = {"transform": place, "clip_on": False, "solid_capstyle": "butt"}
        axes.plot(ends, [1.03, 1.03], color=FAULT, lw=3, **bar)
        if start < free:
            continue
        free = start + letter * (len(fault.kind) + 2)
        small: dict[str, Any] = {"fontsize": "x-small", "va": "bottom", "annotation_clip": False}
        axes.annotate(fault.kind, (ends[0], 1.06), xycoords=place, color=FAULT, **small)


def _bend(score: NDArray[np.float64]) -> NDArray[np.float64]:
    score = np.asarray(score, dtype=np.float64)
    return np.where(score > 1, 1 + np.log10(np.maximum(score, 1)), score)


def _straighten(drawn: NDArray[np.float64]) -> NDArray[np.float64]:
    drawn = np.asarray(drawn, dtype=np.float64)
    return np.where(drawn > 1, 10 ** (np.minimum(drawn, 300) - 1), drawn)


def _tidy(axes: Axes, analysis: Analysis) -> None:
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.grid(axis="y", lw=0.4, alpha=0.5)
    axes.margins(x=0)
    axes.set_xlabel("")
    if Axis(analysis.frame).temporal:
        from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

        locator = AutoDateLocator()  # type: ignore[no-untyped-call]
        axes.xaxis.set_major_locator(locator)
        formatter = ConciseDateFormatter(locator)  # type: ignore[no-untyped-call]
        axes.xaxis.set_major_formatter(formatter)
