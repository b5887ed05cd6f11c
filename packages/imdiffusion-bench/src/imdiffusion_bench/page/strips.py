"""One case drawn as strips over one axis of rows: channels seen and expected, and the score."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from imdiffusion.errors import DataError
from imdiffusion_bench.metrics.segments import segments
from imdiffusion_bench.page.svg import safe, shortened, ticks

Floats = NDArray[np.float64]
Formatter = Callable[[float], str]
WIDTH, LEFT, RIGHT = 720, 64, 12
STRIP, GAP, TOP, BOTTOM = 88, 22, 46, 30
MOST_POINTS = 360  # of one line: a longer one keeps the lowest and highest value of each bin
MOST = 1e6  # times the threshold: a score above it is drawn there
_LEVELS = tuple(digit * 10.0**power for power in range(-3, 7) for digit in (1, 3))  # of a score
_STYLE = (
    ".strips{color:#1a1f26;font:12px system-ui,'Segoe UI',Roboto,'Liberation Sans',sans-serif}"
    ".strips text{fill:currentColor}.strips .soft{fill-opacity:.72}.strips .head{font-weight:650}"
    ".strips path{fill:none;stroke-width:1.3}.strips .seen,.strips .score{stroke:currentColor}"
    ".strips .expected{stroke:#d55e00}.strips .limit{stroke:#d55e00;stroke-dasharray:5 3}"
    ".strips .frame{stroke:currentColor;stroke-opacity:.25;stroke-width:1}"
    ".strips .label{fill:#0072b2;fill-opacity:.16}.strips .alarm{fill:#d55e00;fill-opacity:.75}"
    "@media (prefers-color-scheme:dark){.strips{color:#e7e9ec}}"
)


@dataclass(frozen=True, slots=True)
class Strip:
    """A channel over the rows shown: seen and expected (n,), NaN = nothing; expected may be None.

    name: its own. told: what stands behind the name, such as its share of the error.
    """

    name: str
    told: str
    seen: Floats
    expected: Floats | None


@dataclass(frozen=True, slots=True)
class Strips:
    """Rows first to first + n of a series: channels, score (n,) and threshold, label bool (n,)."""

    title: str
    first: int
    channels: tuple[Strip, ...]
    score: Floats
    threshold: float
    label: NDArray[np.bool_]


def strips(drawn: Strips) -> str:
    """The SVG; DataError where the lengths differ."""
    rows = len(drawn.score)
    lines = [one for strip in drawn.channels for one in (strip.seen, strip.expected)]
    if any(one is not None and len(one) != rows for one in (*lines, drawn.label)):
        raise DataError("the strips differ in length", remedy="Give all of them the same rows.")
    height = TOP + (len(drawn.channels) + 1) * (STRIP + GAP) + BOTTOM - GAP
    parts = [
        f'<text class="head" x="{LEFT}" y="16">{safe(drawn.title)}</text>',
        f'<text class="soft" x="{WIDTH - RIGHT}" y="16" text-anchor="end">shaded: label; '
        "bars below: rows in alarm</text>",
    ]
    top = TOP
    for strip in drawn.channels:
        parts.append(_channel(strip, top, drawn.label))
        top += STRIP + GAP
    parts.append(_score(drawn, top))
    parts.append(_rows(drawn.first, rows, top + STRIP))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="strips" role="img" '
        f'viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        f'style="max-width:100%;height:auto"><title>{safe(drawn.title)}</title>'
        f"<style>{_STYLE}</style>{''.join(parts)}</svg>\n"
    )


def _channel(strip: Strip, top: float, label: NDArray[np.bool_]) -> str:
    lines = [("seen", strip.seen)]
    if strip.expected is not None:
        lines.insert(0, ("expected", strip.expected))
    low, high = _range([values for _, values in lines])
    parts = [_shaded(label, top), _frame(top, low, high, lambda y: f"{y:.4g}")]
    parts.append(_heading(top, f"{strip.name}, seen", strip.told, strip.expected is not None))
    parts += [_curve(name, values, top, low, high) for name, values in lines]
    return "".join(parts)


def _score(drawn: Strips, top: float) -> str:
    """The score on a logarithmic axis, its threshold, and a bar under each row in alarm."""
    over = np.clip(drawn.score / drawn.threshold, 1e-3, MOST)
    level = np.log10(over)
    low, high = _range([level, np.array([-0.3, 0.3])])
    marks = [y for y in map(math.log10, _LEVELS) if low < y < high]
    marks = marks if len(marks) < 6 else ticks(low, high, 4)
    parts = [_shaded(drawn.label, top), _frame(top, low, high, lambda y: f"{10**y:.3g}", marks)]
    parts.append(_heading(top, "score / threshold (logarithmic)", "", False))
    at = _y(0.0, top, low, high)
    parts.append(f'<path class="limit" d="M{LEFT} {at:.1f}H{WIDTH - RIGHT}"/>')
    parts.append(_curve("score", level, top, low, high))
    for start, end in segments(drawn.score > drawn.threshold):
        x0, x1 = _x(start, len(level)), _x(end, len(level))
        parts.append(
            f'<rect class="alarm" x="{x0:.1f}" y="{top + STRIP + 1}" '
            f'width="{max(x1 - x0, 1.0):.1f}" height="4"/>'
        )
    return "".join(parts)


def _heading(top: float, name: str, told: str, expected: bool) -> str:
    line = '<tspan fill="#d55e00"> and expected</tspan>' if expected else ""
    behind = f'<tspan class="soft"> ({safe(told)})</tspan>' if told else ""
    return f'<text x="{LEFT}" y="{top - 6}">{safe(shortened(name, 300))}{line}{behind}</text>'


def _range(lines: Sequence[Floats]) -> tuple[float, float]:
    known = np.concatenate([values[np.isfinite(values)] for values in lines])
    if not known.size:
        return 0.0, 1.0
    low, high = float(known.min()), float(known.max())
    room = 0.06 * (high - low) or max(abs(high), 1.0) * 0.5
    return low - room, high + room


def _x(row: float, rows: int) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * row / max(rows, 1)


def _y(value: float, top: float, low: float, high: float) -> float:
    return top + STRIP * (1 - (value - low) / (high - low))


def _frame(
    top: float, low: float, high: float, text: Formatter, marks: Sequence[float] = ()
) -> str:
    parts = [
        f'<path class="frame" d="M{LEFT} {top}H{WIDTH - RIGHT}V{top + STRIP}H{LEFT}Z"/>',
    ]
    for mark in marks or ticks(low, high, 4):
        at = _y(mark, top, low, high)
        parts.append(
            f'<text class="soft" x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{text(mark)}'
            f'</text><path class="frame" d="M{LEFT - 3} {at:.1f}h3"/>'
        )
    return "".join(parts)


def _shaded(label: NDArray[np.bool_], top: float) -> str:
    parts = []
    for start, end in segments(label):
        x0, x1 = _x(start, len(label)), _x(end, len(label))
        parts.append(
            f'<rect class="label" x="{x0:.1f}" y="{top}" width="{max(x1 - x0, 1.0):.1f}" '
            f'height="{STRIP}"/>'
        )
    return "".join(parts)


def _rows(first: int, rows: int, bottom: float) -> str:
    marks = [mark for mark in ticks(first, first + rows, 8) if mark == int(mark)]
    parts = [
        f'<text class="soft" x="{_x(mark - first, rows):.1f}" y="{bottom + 18}" '
        f'text-anchor="middle">{int(mark)}</text>'
        for mark in marks
    ]
    return "".join(parts)


def _curve(name: str, values: Floats, top: float, low: float, high: float) -> str:
    """A line, broken where there is no value; a value alone is a short stroke."""
    path, pen_down = [], False
    for row, value in _thinned(values):
        if math.isfinite(value):
            point = f"{_x(row + 0.5, len(values)):.1f} {_y(value, top, low, high):.1f}"
            path.append(("L" if pen_down else "M") + point)
        pen_down = math.isfinite(value)
    return f'<path class="{name}" d="{"".join(path)}"/>'


def _thinned(values: Floats) -> Iterator[tuple[int, float]]:
    """(row, value): every row, or of each bin of rows its lowest and highest, in order."""
    rows = len(values)
    if rows <= MOST_POINTS:
        yield from enumerate(values.tolist())
        return
    edges = np.linspace(0, rows, MOST_POINTS // 2 + 1).astype(int)
    for start, end in pairwise(edges):
        part = values[start:end]
        if not np.isfinite(part).any():
            yield int(start), math.nan
            continue
        for at in sorted({int(np.nanargmin(part)), int(np.nanargmax(part))}):
            yield int(start) + at, float(part[at])
