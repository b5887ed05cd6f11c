"""Charts of lines as one SVG, drawn by hand: legible in light and dark, without any script."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Literal

# Okabe and Ito's colours, which colour-blind readers tell apart; dashes and marks help the rest.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b07d00", "#3a9bd1", "#7a4fa0", "#7b8794")
DASHES = ("", "6 3", "2 3", "8 3 2 3")
WIDTH, HEIGHT = 440, 300  # of one chart
LEFT, RIGHT, TOP, BOTTOM = 58, 16, 40, 52
LETTER = 7.0  # width of a letter of 12 px, about
_STYLE = (
    ".study{color:#1a1f26;font:12px system-ui,'Segoe UI',Roboto,'Liberation Sans',Arial,sans-serif}"
    ".study .grid{stroke:currentColor;stroke-opacity:.13}.study .axis{stroke:currentColor}"
    ".study text{fill:currentColor}.study .head{font-weight:650;font-size:13px}"
    ".study .soft{fill-opacity:.72}"
    "@media (prefers-color-scheme:dark){.study{color:#e7e9ec}}"
)


Style = Literal["lines", "categories", "points"]


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


def figure(charts: Sequence[Chart], *, title: str, columns: int = 2) -> str:
    """All charts on one sheet under one legend: the same name has the same colour everywhere."""
    names = list(dict.fromkeys(line.name for chart in charts for line in chart.lines))
    look = {name: _look(place) for place, name in enumerate(names)}
    columns = max(1, min(columns, len(charts)))
    width = columns * WIDTH
    keys, legend_height = _legend(names, look, width)
    body = []
    for place, chart in enumerate(charts):
        row, column = divmod(place, columns)
        x, y = column * WIDTH, legend_height + row * HEIGHT
        body.append(f'<g transform="translate({x} {y})">{_chart(chart, look)}</g>')
    height = legend_height + math.ceil(len(charts) / columns) * HEIGHT
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="study" role="img" '
        f'viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'style="max-width:100%;height:auto">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style>{keys}{''.join(body)}</svg>"
    )


def _look(place: int) -> tuple[str, str, int]:
    """Colour, dashes and mark of the line at this place: the first 32 differ."""
    colour = COLOURS[place % len(COLOURS)]
    dash = DASHES[(place + place // len(COLOURS)) % len(DASHES)]
    return colour, dash, place % 3


def _legend(
    names: Sequence[str], look: dict[str, tuple[str, str, int]], width: float
) -> tuple[str, int]:
    parts, x, y = [], 16.0, 18
    for name in names:
        need = 44 + LETTER * len(name)
        if x > 16 and x + need > width:
            x, y = 16.0, y + 20
        colour, dash, mark = look[name]
        parts.append(
            f'<line x1="{x:.1f}" x2="{x + 24:.1f}" y1="{y}" y2="{y}" stroke="{colour}" '
            f'stroke-width="2" stroke-dasharray="{dash}"/>'
            + _mark(x + 12, y, colour, mark)
            + f'<text x="{x + 30:.1f}" y="{y + 4}">{escape(name)}</text>'
        )
        x += need
    return "".join(parts), y + 14


def _chart(chart: Chart, look: dict[str, tuple[str, str, int]]) -> str:
    seen = [(x, y, s) for line in chart.lines for x, y, s in line.points]
    xs = [x for x, _, _ in seen] + [x for x, _ in chart.ticks or ()]
    marks = _nice(_top(seen))
    margin = 14.0
    if chart.style == "categories" and chart.ticks:  # half of what each category has
        margin = (WIDTH - LEFT - RIGHT) / (2 * len(chart.ticks))
    across = _Scale(xs, LEFT + margin, WIDTH - RIGHT - margin, log=chart.log_x)
    up = _Scale([0.0, marks[-1]], HEIGHT - BOTTOM, TOP)
    ticks = chart.ticks
    if ticks is None:
        ticks = tuple((x, f"{x:g}") for x in sorted(set(xs)))
    parts = [_frame(chart, marks, up)]
    for x, text in ticks:
        parts.append(
            f'<text class="soft" x="{across(x):.1f}" y="{HEIGHT - BOTTOM + 16}" '
            f'text-anchor="middle">{escape(text)}</text>'
        )
    for place, line in enumerate(chart.lines):
        # categories: side by side, so that no mark hides another
        shift = (place - (len(chart.lines) - 1) / 2) * 6 if chart.style == "categories" else 0.0
        joined = chart.style == "lines"
        parts.append(_line(line, look[line.name], across, up, shift, joined=joined))
    return "".join(parts)


def _top(seen: Sequence[tuple[float, float, float]]) -> float:
    """The largest y with its bar; a bar does not lift shares above 1."""
    known = [(y, y + (s if math.isfinite(s) else 0.0)) for _, y, s in seen if math.isfinite(y)]
    if not known:
        return 1.0
    highest, end = (max(pair) for pair in zip(*known, strict=True))
    return float(min(end, 1.0) if highest <= 1 else end)


def _frame(chart: Chart, marks: Sequence[float], up: _Scale) -> str:
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    parts = [
        f'<text class="head" x="{LEFT}" y="22">{escape(chart.title)}</text>',
        f'<text x="{(LEFT + right) / 2}" y="{HEIGHT - 14}" text-anchor="middle">'
        f"{escape(chart.x_label)}</text>",
        f'<text transform="translate(14 {(TOP + bottom) / 2}) rotate(-90)" text-anchor="middle">'
        f"{escape(chart.y_label)}</text>",
        f'<path class="axis" fill="none" d="M{LEFT} {TOP}V{bottom}H{right}"/>',
    ]
    for value in marks:
        y = up(value)
        parts.append(
            f'<line class="grid" x1="{LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text class="soft" x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>'
        )
    return "".join(parts)


def _line(
    line: Line,
    look: tuple[str, str, int],
    across: _Scale,
    up: _Scale,
    shift: float,
    *,
    joined: bool,
) -> str:
    colour, dash, mark = look
    path, pen, parts = "", "M", []
    for x, y, spread in line.points:
        if not math.isfinite(y):
            pen = "M"
            continue
        px, py = across(x) + shift, up(y)
        path += f"{pen}{px:.1f} {py:.1f}"
        pen = "L"
        if math.isfinite(spread) and spread > 0:
            low, high = up(max(0.0, y - spread)), max(TOP, up(y + spread))
            parts.append(
                f'<path stroke="{colour}" stroke-opacity=".55" d="M{px:.1f} {low:.1f}V{high:.1f}"/>'
            )
        parts.append(_mark(px, py, colour, mark))
    if joined and path:
        parts.insert(
            0,
            f'<path fill="none" stroke="{colour}" stroke-width="2" stroke-dasharray="{dash}" '
            f'd="{path}"/>',
        )
    return f"<g><title>{escape(line.name)}</title>{''.join(parts)}</g>"


def _mark(x: float, y: float, colour: str, kind: int) -> str:
    if kind == 0:
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.2" fill="{colour}"/>'
    if kind == 1:
        return f'<path fill="{colour}" d="M{x - 3:.1f} {y - 3:.1f}h6v6h-6z"/>'
    return f'<path fill="{colour}" d="M{x:.1f} {y - 4.2:.1f}l4 7h-8z"/>'


class _Scale:
    """From values to pixels, evenly or by their logarithm."""

    def __init__(self, values: Sequence[float], low: float, high: float, *, log: bool = False):
        self.log = log
        moved = [self._moved(value) for value in values] or [0.0]
        self.first, self.span = min(moved), max(moved) - min(moved)
        self.low, self.high = low, high

    def __call__(self, value: float) -> float:
        share = (self._moved(value) - self.first) / self.span if self.span else 0.5
        return self.low + share * (self.high - self.low)

    def _moved(self, value: float) -> float:
        return math.log10(value) if self.log else value


def _nice(top: float) -> list[float]:
    """Four to seven round marks from 0 to at least `top`."""
    if top <= 0:
        return [0.0, 1.0]
    unit = 10.0 ** math.floor(math.log10(top / 4))
    step = next(unit * n for n in (1, 2, 2.5, 5, 10, 20) if top / (unit * n) <= 6)
    return [round(step * n, 10) for n in range(math.ceil(round(top / step, 9)) + 1)]
