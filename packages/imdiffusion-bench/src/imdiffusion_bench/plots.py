"""All plots, drawn by Matplotlib: charts of studies, marks by scenario.

Colours are Okabe and Ito's, which colour-blind readers tell apart; dashes and marks help the rest.
An SVG holds no date and no random name: the same numbers give the same file.
"""

from __future__ import annotations

import io
import math
import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from imdiffusion.data.atomic import atomic_path
from imdiffusion.errors import UsageError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Style = Literal["lines", "categories", "points"]
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b07d00", "#3a9bd1", "#7a4fa0", "#7b8794")
DASHES = ("-", "--", ":", "-.")
MARKS = "os^"
ENDINGS = (".svg", ".png")


@dataclass(frozen=True, slots=True)
class Line:
    """A named line: (x, y, spread); a y that is not finite breaks it, a spread draws a bar."""

    name: str
    points: tuple[tuple[float, float, float], ...]


@dataclass(frozen=True, slots=True)
class Chart:
    """Lines over one pair of axes. y begins at 0.

    ticks: (x, text) of the horizontal axis; None = at every x of a line. style: lines; marks alone,
    side by side over each tick (categories) or where they belong (points).
    """

    title: str
    x_label: str
    y_label: str
    lines: tuple[Line, ...]
    log_x: bool = False
    ticks: tuple[tuple[float, str], ...] | None = None
    style: Style = "lines"


@dataclass(frozen=True, slots=True)
class Panel:
    """A measure by scenario: detector -> scenario -> value, NaN = none; all are 0 or more.

    missed: (detector, scenario) -> how many faults have no value; None = every fault has one.
    """

    title: str
    values: Mapping[str, Mapping[str, float]]
    missed: Mapping[tuple[str, str], int] | None = None


def check_plot(path: str | Path) -> Path:
    """The path; UsageError unless it ends in .svg or .png."""
    target = Path(path)
    if target.suffix not in ENDINGS:
        raise UsageError(
            f"{target} is neither .svg nor .png", remedy="Give the file one of these endings."
        )
    return target


def save_plot(figure: Figure, path: str | Path) -> Path:
    """Write a figure as .svg or .png by its ending. Raises UsageError, OutputError."""
    import matplotlib

    target = check_plot(path)
    # Letters stay letters: legible, searchable, and a tenth of the bytes of their outlines.
    style: Any = {"svg.fonttype": "none", "svg.hashsalt": "imdiffusion"}
    style["font.sans-serif"] = ["DejaVu Sans", "sans-serif"]
    drawn = io.BytesIO()
    with matplotlib.rc_context(style):
        metadata = {"Date": None} if target.suffix == ".svg" else None
        figure.savefig(drawn, format=target.suffix[1:], bbox_inches="tight", metadata=metadata)
    content = drawn.getvalue()
    if target.suffix == ".svg":
        content = _short(content.decode()).encode()
    with atomic_path(target) as draft:
        draft.write_bytes(content)
    return target


def _short(svg: str) -> str:
    """An SVG in half its bytes: coordinates to a hundredth of a point, no indents, no idle ids."""

    def rounded(attribute: re.Match[str]) -> str:
        value = re.sub(r"-?\d+\.\d+", lambda one: f"{float(one[0]):.2f}", attribute[2])
        return f'{attribute[1]}="{" ".join(value.split())}"'

    svg = re.sub(r'\b(d|x|y|transform)="([^"]*)"', rounded, svg)
    svg = re.sub(r' transform="rotate\(-0 [^"]*"', "", svg)
    styles = dict.fromkeys(re.findall(r'style="([^"]*)"', svg))
    classes = {style: f"s{place}" for place, style in enumerate(styles)}
    svg = re.sub(r'style="([^"]*)"', lambda one: f'class="{classes[one[1]]}"', svg)
    rules = "".join(f".{name}{{{style}}}" for style, name in classes.items())
    svg = svg.replace("</style>", f"{rules}</style>", 1)
    used = set(re.findall(r"#([\w.]+)", svg))
    svg = re.sub(r' id="([^"]*)"', lambda one: one[0] if one[1] in used else "", svg)
    return re.sub(r"\n\s*|<!--.*?-->", "\n", svg)


def charts_figure(charts: Sequence[Chart], *, title: str, columns: int = 2) -> Figure:
    """All charts on one sheet under one legend: the same name has the same colour everywhere."""
    columns = max(1, min(columns, len(charts)))
    rows = math.ceil(len(charts) / columns)
    figure = _sheet(4.6 * columns, 3.3 * rows + 0.6, title)
    names = list(dict.fromkeys(line.name for chart in charts for line in chart.lines))
    place = {name: number for number, name in enumerate(names)}
    drawn: dict[str, Any] = {}
    for number, chart in enumerate(charts, start=1):
        axes = figure.add_subplot(rows, columns, number)
        for at, line in enumerate(chart.lines):
            drawn.setdefault(line.name, _line(axes, chart, at, place[line.name]))
        _label_chart(axes, chart)
    if drawn:
        _legend(figure, list(drawn.values()), list(drawn))
    return figure


def _line(axes: Axes, chart: Chart, at: int, place: int) -> Any:
    x, y, spread = np.array(chart.lines[at].points or [(math.nan,) * 3], np.float64).T
    if chart.style == "categories":  # side by side, so that no mark hides another
        x = x + (at - (len(chart.lines) - 1) / 2) * 0.8 / max(1, len(chart.lines))
    dash = DASHES[(place + place // len(COLOURS)) % len(DASHES)] if chart.style == "lines" else ""
    look: dict[str, Any] = {"color": COLOURS[place % len(COLOURS)], "marker": MARKS[place % 3]}
    found = axes.plot(x, y, linestyle=dash or "none", markersize=4, **look)
    known = np.isfinite(y) & (np.nan_to_num(spread) > 0)
    if known.any():
        low, high = (y + sign * spread for sign in (-1, 1))
        axes.vlines(x[known], low[known], high[known], colors=look["color"], lw=0.8)
    return found[0]


def _label_chart(axes: Axes, chart: Chart) -> None:
    axes.set_title(chart.title, fontsize=9, fontweight="bold", loc="left")
    axes.set_xlabel(chart.x_label, fontsize=8)
    axes.set_ylabel(chart.y_label, fontsize=8)
    if chart.log_x:
        axes.set_xscale("log")
    ticks = chart.ticks
    if ticks is None:
        every = sorted({x for line in chart.lines for x, _, _ in line.points})
        ticks = tuple((x, f"{x:g}") for x in every)
    axes.set_xticks([x for x, _ in ticks], [text for _, text in ticks], fontsize=8)
    axes.set_xticks([], minor=True)
    seen = [(y, y + np.nan_to_num(s)) for line in chart.lines for _, y, s in line.points]
    known = [pair for pair in seen if math.isfinite(pair[0])]
    shares = bool(known) and max(y for y, _ in known) <= 1  # a bar does not lift shares above 1
    axes.set_ylim(0, 1.02 if shares and max(top for _, top in known) > 1 else None)
    axes.grid(axis="y", alpha=0.25)


def panels_figure(panels: Sequence[Panel], *, title: str) -> Figure:
    """A panel a measure, one below the other: a line a scenario, a mark a detector, on log(1 + x).

    A hollow mark to the right of all values: a fault that the detector missed.
    """
    heights = [1.0 + len(_scenarios(panel)) for panel in panels]
    figure = _sheet(9.0, 0.22 * sum(heights) + 1.0, title)
    grid = figure.add_gridspec(len(panels), 1, height_ratios=heights)
    detectors = list(dict.fromkeys(name for panel in panels for name in panel.values))
    marks: list[Any] = []
    for number, panel in enumerate(panels):
        marks = _panel(figure.add_subplot(grid[number]), panel, detectors)
    if detectors:
        _legend(figure, marks, detectors)
    return figure


def _scenarios(panel: Panel) -> list[str]:
    return list(dict.fromkeys(name for one in panel.values.values() for name in one))


def _panel(axes: Axes, panel: Panel, detectors: Sequence[str]) -> list[Any]:
    """Draw one panel; a mark of each detector, for the legend."""
    scenarios, missed = _scenarios(panel), panel.missed or {}
    marks: list[Any] = []
    known = [value for one in panel.values.values() for value in one.values() if value > 0]
    right = 3.0 * max([1.0, *known])  # where what was missed stands
    for at, name in enumerate(detectors):
        shift = (at - (len(detectors) - 1) / 2) * 0.7 / len(detectors)
        look: dict[str, Any] = {"color": COLOURS[at % len(COLOURS)], "marker": MARKS[at % 3]}
        own = panel.values.get(name, {})
        y = [place + shift for place in range(len(scenarios))]
        x = [own.get(one, math.nan) for one in scenarios]
        marks += axes.plot(x, y, linestyle="none", markersize=4, **look)
        lost = [at for at, one in zip(y, scenarios, strict=True) if missed.get((name, one))]
        hollow: dict[str, Any] = {"linestyle": "none", "markersize": 4, "fillstyle": "none"}
        axes.plot([right] * len(lost), lost, **hollow, **look)
    if panel.missed is not None:
        axes.text(right, -0.6, "missed", fontsize=7, ha="center", va="bottom")
    axes.set_xscale("symlog", linthresh=1.0)
    axes.set_xlim(-0.1, 2.0 * right)
    axes.set_yticks(range(len(scenarios)), scenarios, fontsize=7)
    axes.set_ylim(len(scenarios) - 0.5, -0.5)
    axes.set_title(panel.title, fontsize=9, fontweight="bold", loc="left")
    axes.grid(alpha=0.25)
    return marks


def _legend(figure: Figure, marks: Sequence[Any], names: Sequence[str]) -> None:
    columns = min(4, len(names))
    figure.legend(marks, names, loc="outside lower center", ncols=columns, fontsize=8)


def _sheet(width: float, height: float, title: str) -> Figure:
    """An empty sheet in inches: no global state, no window, whatever backend is set."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    text = textwrap.fill(title.replace("$", r"\$"), int(13 * width))
    figure.suptitle(text, fontsize=10)
    return figure
