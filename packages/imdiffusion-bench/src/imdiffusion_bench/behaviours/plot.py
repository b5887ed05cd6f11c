"""The plot of a run: under each scenario a mark for each detector, and who did not find it."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imdiffusion.data.atomic import atomic_path
from imdiffusion.errors import UsageError
from imdiffusion_bench.behaviours.summary import Cell, Record, by_both, names
from imdiffusion_bench.behaviours.table import tables
from imdiffusion_bench.page.document import POLICY
from imdiffusion_bench.page.style import STYLE
from imdiffusion_bench.page.svg import WIDTH, dot, drawing, line, safe, text_width, words
from imdiffusion_bench.studies.drawing import COLOURS

STEP, TOP = 20.0, 46.0
TITLE = "Behaviours"
_RIGHT = 12.0
_MISSED = 46.0  # room for the column of those that found nothing
_DECADES = (0, 1, 10, 100, 1000, 10_000)


@dataclass(frozen=True, slots=True)
class Panel:
    """One measure, by scenario. missed: what a fault lacks that stands in the column "missed"."""

    title: str
    read: Callable[[Cell], float]
    missed: str = ""


PANELS = (
    Panel("Delay at arrival, rows", lambda cell: cell.median("delay_arrival"), "delay_arrival"),
    Panel("Worse edge in hindsight, rows off", lambda cell: cell.worst_edge(), "end_error"),
    Panel("False events a day", lambda cell: cell.outside("false_events_a_day")),
)


def plot(document: Mapping[str, Any]) -> str:
    """One SVG with a panel a measure, one below the other; legible in light and dark."""
    records: list[Record] = document["records"]
    detectors, parts, top = names(records, "detector"), [], 0.0
    legend, height = _legend(detectors)
    parts += legend
    top += height
    told = []
    for panel in PANELS:
        body, height = _panel(panel, records, detectors)
        parts.append(f'<g transform="translate(0 {top:.0f})">{"".join(body)}</g>')
        top += height
        told.append(panel.title)
    label = f"{', '.join(told)}, of {', '.join(detectors)}"
    svg = drawing(top + 8, label, [f"<style>{_style(detectors)}</style>", *parts])
    return svg.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" class="behaviours" ', 1)


def write_plot(document: Mapping[str, Any], path: str | Path) -> Path:
    """Write the plot as .svg, or as an offline .html page with the tables below it.

    Raises UsageError for another ending, OutputError where it cannot be written.
    """
    target = check_plot(path)
    text = plot(document) + "\n" if target.suffix == ".svg" else _page(document)
    with atomic_path(target) as draft:
        draft.write_text(text, encoding="utf-8")
    return target


def check_plot(path: str | Path) -> Path:
    """The path; UsageError unless it ends in .svg or .html."""
    target = Path(path)
    if target.suffix not in (".svg", ".html"):
        raise UsageError(
            f"{target} is neither .svg nor .html", remedy="Give the file one of these endings."
        )
    return target


def _style(detectors: Sequence[str]) -> str:
    colours = "".join(
        f".behaviours .d{place}{{fill:{_colour(place)};stroke:{_colour(place)}}}"
        for place in range(len(detectors))
    )
    return (
        ".behaviours{color:#1a1f26}.behaviours text{fill:currentColor;font:12px system-ui,"
        "sans-serif}.behaviours .soft{fill-opacity:.72}.behaviours .head{font-weight:650}"
        ".behaviours .grid{stroke:currentColor;stroke-opacity:.13}"
        ".behaviours .axis{stroke:currentColor;stroke-opacity:.5}"
        "@media (prefers-color-scheme:dark){.behaviours{color:#e7e9ec}}" + colours
    )


def _colour(place: int) -> str:
    return COLOURS[place % len(COLOURS)]


def _legend(detectors: Sequence[str]) -> tuple[list[str], float]:
    parts, x, y = [], 8.0, 16.0
    for place, name in enumerate(detectors):
        need = 24 + text_width(name)
        if x > 8 and x + need > WIDTH:
            x, y = 8.0, y + 18
        parts += [dot(x + 4, y - 4, 4, f"d{place}"), words(x + 13, y, name)]
        x += need
    return parts, y + 8


def _panel(
    panel: Panel, records: Sequence[Record], detectors: Sequence[str]
) -> tuple[list[str], float]:
    found = by_both(records)
    scenarios = [
        name
        for name in names(records, "scenario")
        if any((one, name) in found and found[one, name].ok for one in detectors)
        and not (panel.missed and name == "clean")
    ]
    left = 16 + max((text_width(name) for name in scenarios), default=0.0)
    right = WIDTH - _RIGHT - (_MISSED if panel.missed else 0.0)
    bottom = TOP + STEP * len(scenarios)
    values = [panel.read(found[d, s]) for d in detectors for s in scenarios if (d, s) in found]
    marks = _marks(values)
    across = _Across(left, right, marks[-1])
    parts = [words(8, 16, panel.title, kind="head")]
    for mark in marks:
        parts.append(line(across(mark), TOP - 6, across(mark), bottom, "grid"))
        parts.append(words(across(mark), TOP - 12, f"{mark:g}", anchor="middle", kind="soft"))
    if panel.missed:
        x = right + _MISSED / 2 + 4
        parts.append(words(x, TOP - 12, "missed", anchor="middle", kind="soft"))
    for place, name in enumerate(scenarios):
        y = TOP + STEP * (place + 0.5)
        parts.append(words(left - 10, y + 4, name, anchor="end"))
        parts.append(line(left, y, right, y, "grid"))
        for at, detector in enumerate(detectors):
            cell = found.get((detector, name))
            if cell is not None and cell.ok:
                shift = (at - (len(detectors) - 1) / 2) * min(2.4, 14 / max(1, len(detectors)))
                parts += _mark(panel, cell, detector, (at, y + shift), across)
    return parts, bottom + 12


def _mark(
    panel: Panel, cell: Cell, detector: str, where: tuple[int, float], across: _Across
) -> list[str]:
    """A mark at the value, and one in the column "missed" where a fault has none."""
    place, y = where
    value, marks = panel.read(cell), []
    if math.isfinite(value):
        marks.append(dot(across(value), y, 3.2, f"d{place}", f"{detector}: {value:.3g}"))
    if panel.missed:
        lacking = len(cell.faults) - cell.count(panel.missed)[1]
        x = across.right + 8 + 5.0 * place
        told = f"{detector}: {lacking} of {len(cell.faults)} missed"
        marks += [dot(x, y, 2.2, f"d{place}", told)] if lacking else []
    return marks


class _Across:
    """From values from 0 on to pixels: by log(1 + value), for a row and a day both matter."""

    def __init__(self, left: float, right: float, highest: float) -> None:
        self.left, self.right, self.highest = left, right, highest

    def __call__(self, value: float) -> float:
        share = math.log1p(max(0.0, value)) / math.log1p(self.highest)
        return self.left + min(1.0, share) * (self.right - self.left)


def _marks(values: Sequence[float]) -> list[float]:
    """0, 1, 10, ... up to the first that is not below the largest value."""
    highest = max((value for value in values if math.isfinite(value)), default=1.0)
    kept = [float(mark) for mark in _DECADES if mark < highest]
    last = next((mark for mark in _DECADES if mark >= max(highest, 1)), _DECADES[-1])
    return [*kept, float(last)] if float(last) not in kept else kept


def _page(document: Mapping[str, Any]) -> str:
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{TITLE}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<header><h1>{TITLE}"
        f"</h1></header>\n<main>\n<figure>{plot(document)}</figure>\n"
        f"{_html(tables(document))}\n</main>\n</body>\n</html>\n"
    )


def _html(text: str) -> str:
    """The blocks of our own tables as HTML: headings, tables, lists, paragraphs."""
    blocks = []
    for block in text.strip().split("\n\n"):
        lines = block.split("\n")
        if block.startswith("## "):
            blocks.append(f"<h2>{_inline(block[3:])}</h2>")
        elif block.startswith("|"):
            head, _, *body = ([c.strip() for c in row.strip("|").split("|")] for row in lines)
            blocks.append(_html_table(head, body))
        elif block.startswith("- "):
            blocks.append("<ul>" + "".join(f"<li>{_inline(x[2:])}</li>" for x in lines) + "</ul>")
        else:
            blocks.append(f"<p>{_inline(block)}</p>")
    return "\n".join(blocks)


def _html_table(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    heads = "".join(f'<th scope="col">{_inline(one)}</th>' for one in head)
    rows = "".join(
        f'<tr><th scope="row">{_inline(first)}</th>'
        + "".join(f"<td>{_inline(one)}</td>" for one in rest)
        + "</tr>"
        for first, *rest in body
    )
    return (
        f'<div class="scroll"><table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>'
        "</div>"
    )


def _inline(text: str) -> str:
    told = re.sub(r"`([^`]+)`", r"<code>\1</code>", safe(text))
    return re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", told)
