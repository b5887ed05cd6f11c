"""The plots of one data set: means with their seeds, mean ranks, quality against speed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from imdiffusion import presets
from imdiffusion_bench import columns
from imdiffusion_bench.page.svg import (
    WIDTH,
    dot,
    drawing,
    line,
    short_names,
    text_width,
    ticks,
    words,
)
from imdiffusion_bench.significance import Comparison
from imdiffusion_bench.summary import Block, Row

RIGHT, STEP, TOP = 384.0, 24.0, 26.0
NAMES, MOST = 118.0, 220.0  # room for the names of a plot's lines: at least, at most
KINDS = {"ours": "this library", "other": "baseline", "peer": "peer", "noise": "random"}


def kind(row: Row) -> str:
    """The colour of a row: "ours" (a preset), "peer" (another package), "noise" or "other"."""
    if row.row in presets.PRESETS:
        return "ours"
    if row.row == "random":
        return "noise"
    return "peer" if ":" in row.row else "other"


def means_plot(block: Block, metric: str) -> str:
    """A bar to each row's mean, a dot a seed, a line of one standard deviation to either side.

    Hollow: rows over fewer entities. Nothing where no row has a value.
    """
    rows = [row for row in block.ordered(metric) if row.measures[metric].by_entity]
    if not rows:
        return ""
    highest = max(_reach(row, metric) for row in rows) or 1.0
    names = [row.variant for row in rows]
    left = _left(names)
    marks = ticks(0.0, highest * 1.02, 6)
    scale = (RIGHT - left) / (highest * 1.02)
    bottom = TOP + STEP * len(rows)
    parts = []
    for mark in marks:
        x = left + mark * scale
        parts.append(line(x, TOP - 6, x, bottom, "grid"))
        parts.append(words(x, TOP - 12, f"{mark:g}", anchor="middle", kind="soft"))
    ranked = block.comparable(metric)
    for place, row in enumerate(rows):
        y = TOP + STEP * (place + 0.5)
        parts += _one_mean(row, metric, y, (left, scale), hollow=row not in ranked)
        mean = columns.value(metric, row.measures[metric].mean)
        parts.append(words(WIDTH - 2, y + 4, mean, anchor="end"))
    parts += _names(names, left, TOP)
    told = ", ".join(
        f"{row.variant} {columns.value(metric, row.measures[metric].mean)}" for row in rows
    )
    return drawing(bottom + 6, f"{columns.title(metric)} on {block.dataset}: {told}", parts)


def _reach(row: Row, metric: str) -> float:
    measure = row.measures[metric]
    spread = measure.std if math.isfinite(measure.std) else 0.0
    return max(measure.mean + spread, *measure.by_seed.values(), 0.0)


def _one_mean(
    row: Row, metric: str, y: float, across: tuple[float, float], *, hollow: bool
) -> Iterable[str]:
    measure, colour = row.measures[metric], kind(row)
    left, scale = across
    x = left + measure.mean * scale
    yield line(left, y, x, y, f"bar {colour}")
    if len(measure.by_seed) > 1:
        for seed, value in measure.by_seed.items():
            told = f"seed {seed}: {columns.value(metric, value)}"
            yield dot(left + value * scale, y, 2.5, f"seed {colour}", told)
    if math.isfinite(measure.std):
        low, high = max(left, x - measure.std * scale), x + measure.std * scale
        yield line(low, y, high, y, f"spread {colour}")
        yield line(low, y - 4, low, y + 4, f"spread {colour}")
        yield line(high, y - 4, high, y + 4, f"spread {colour}")
    told = f"{row.variant}: {columns.mean_and_std(metric, measure.mean, measure.std)}"
    yield dot(x, y, 4, f"{colour} hollow" if hollow else colour, told)


def ranks_plot(block: Block, metric: str, found: Comparison) -> str:
    """Mean ranks, best first, with half a critical difference to either side.

    Two rows differ where their lines do not overlap; a bar at the right joins rows that do not.
    Nothing where there is no test.
    """
    if found.critical_difference is None:
        return ""
    kinds = {row.variant: kind(row) for row in block.rows}
    order = sorted(found.names, key=found.mean_ranks.__getitem__)
    groups, left = found.groups(), _left(order)
    right = WIDTH - 12.0 - 9.0 * max(1, len(groups))
    low, high = 1.0, float(len(order))
    half = found.critical_difference / 2
    start = min(low, min(found.mean_ranks.values()) - half)
    end = max(high, max(found.mean_ranks.values()) + half)
    scale = (right - left) / (end - start)
    top = TOP + 18
    bottom = top + STEP * len(order)
    parts = []
    for mark in ticks(low, high, 8):
        if mark != int(mark):
            continue
        x = left + (mark - start) * scale
        parts.append(line(x, top - 6, x, bottom, "grid"))
        parts.append(words(x, top - 12, f"{mark:g}", anchor="middle", kind="soft"))
    parts += _difference(found.critical_difference, left, scale)
    for place, name in enumerate(order):
        y = top + STEP * (place + 0.5)
        x = left + (found.mean_ranks[name] - start) * scale
        parts.append(line(x - half * scale, y, x + half * scale, y, f"spread {kinds[name]}"))
        parts.append(dot(x, y, 4, kinds[name], f"{name}: mean rank {found.mean_ranks[name]:.2f}"))
    for column, group in enumerate(groups):
        x = WIDTH - 6 - 9.0 * (len(groups) - 1 - column)
        first, last = order.index(group[0]), order.index(group[-1])
        parts.append(line(x, top + STEP * first + 7, x, top + STEP * (last + 1) - 7, "group"))
    parts += _names(order, left, top)
    told = ", ".join(f"{name} {found.mean_ranks[name]:.2f}" for name in order)
    label = (
        f"Mean ranks in {columns.title(metric)} on {block.dataset}, critical difference "
        f"{found.critical_difference:.2f}: {told}"
    )
    return drawing(bottom + 6, label, parts)


def _difference(width: float, left: float, scale: float) -> Iterable[str]:
    end = left + width * scale
    yield line(left, 10, end, 10, "axis")
    yield line(left, 6, left, 14, "axis")
    yield line(end, 6, end, 14, "axis")
    yield words(left - 8, 14, f"CD {width:.2f}", anchor="end", kind="soft")


def speed_plot(block: Block, metric: str) -> str:
    """Quality upwards against test rows scored a second, on a logarithmic axis.

    Nothing where fewer than two rows have both.
    """
    rows = [
        row
        for row in block.ordered(metric)
        if row.measures[metric].by_entity and row.rows_per_second > 0
    ]
    if len(rows) < 2:
        return ""
    left, right, top, bottom = 44.0, WIDTH - 14.0, 14.0, 300.0
    speeds = [math.log10(row.rows_per_second) for row in rows]
    low, high = math.floor(min(speeds)), math.ceil(max(speeds))
    high += low == high
    highest = max(row.measures[metric].mean for row in rows) * 1.08 or 1.0
    parts = []
    for power in range(low, high + 1):
        x = left + (power - low) / (high - low) * (right - left)
        parts.append(line(x, top, x, bottom, "grid"))
        parts.append(words(x, bottom + 16, _power(power), anchor="middle", kind="soft"))
    for mark in ticks(0.0, highest, 6):
        y = bottom - mark / highest * (bottom - top)
        parts.append(line(left, y, right, y, "grid"))
        parts.append(words(left - 6, y + 4, f"{mark:g}", anchor="end", kind="soft"))
    spots = []
    ranked = block.comparable(metric)
    for row, speed in zip(rows, speeds, strict=True):
        x = left + (speed - low) / (high - low) * (right - left)
        y = bottom - row.measures[metric].mean / highest * (bottom - top)
        hollow = "" if row in ranked else " hollow"
        told = (
            f"{row.variant}: {columns.value(metric, row.measures[metric].mean)},"
            f" {columns.amount(row.rows_per_second)} rows a second"
        )
        parts.append(dot(x, y, 5, kind(row) + hollow, told))
        spots.append((x, y, row.variant))
    parts += _labels(spots, (left, top, right, bottom))
    parts.append(
        words((left + right) / 2, bottom + 34, "rows a second", anchor="middle", kind="soft")
    )
    label = f"{columns.title(metric)} against rows scored a second on {block.dataset}"
    return drawing(bottom + 40, label, parts)


def _power(power: int) -> str:
    return f"{10**power:,}" if 0 <= power < 6 else f"{10.0**power:.0e}".replace("e+0", "e")


def _left(names: Iterable[str]) -> float:
    """Where lines begin that have these names to their left: room for the widest, within limits."""
    return 20 + min(MOST, max(NAMES, *map(text_width, names)))


def _names(names: Sequence[str], left: float, top: float) -> Iterable[str]:
    """The names of the lines of a plot, one below the other, each before its line."""
    for place, (name, text) in enumerate(short_names(names, left - 12).items()):
        yield words(left - 8, top + STEP * (place + 0.5) + 4, text, anchor="end", full=name)


Box = tuple[float, float, float, float]  # left, top, right, bottom


def _labels(spots: list[tuple[float, float, str]], frame: Box) -> Iterable[str]:
    """Names beside their dots, moved until none covers a dot or another name.

    One that finds no room is left to its dot's title.
    """
    taken: list[Box] = [(x - 5, y - 5, x + 5, y + 5) for x, y, _ in spots]
    texts = short_names((name for *_, name in spots), 140)
    for x, y, name in spots:
        text = texts[name]
        width = text_width(text)
        for shift in (0, 14, -14, 28, -28, 42, -42, 56, -56):
            for side in (1, -1):
                start = x + 9 if side > 0 else x - 9 - width
                box = (start, y + shift - 7, start + width, y + shift + 7)
                if _inside(box, frame) and not any(_meet(box, other) for other in taken):
                    taken.append(box)
                    if shift:
                        yield line(x + 4 * side, y, x + 8 * side, y + shift, "lead")
                    yield words(start, y + shift + 4, text, full=name)
                    break
            else:
                continue
            break


def _inside(box: Box, frame: Box) -> bool:
    return (
        box[0] >= frame[0]
        and box[1] >= frame[1] - 8
        and box[2] <= frame[2] + 10
        and box[3] <= frame[3]
    )


def _meet(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
