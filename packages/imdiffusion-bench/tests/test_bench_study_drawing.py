"""Charts of studies: lines, gaps, bars and marks lie where their numbers say"""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET

import pytest
from imdiffusion_bench.studies.drawing import Chart, Line, figure


def path_of(svg, name):
    """The points of a named line, as pixels."""
    whole = ET.fromstring(svg)
    space = "{http://www.w3.org/2000/svg}"
    for group in whole.iter(f"{space}g"):
        titles = group.findall(f"{space}title")
        if titles and titles[0].text == name:
            found = [
                path.get("d") for path in group.iter(f"{space}path") if path.get("fill") == "none"
            ]
            return found[0] if found else None
    return None


def numbers(path):
    return [tuple(map(float, pair.split())) for pair in re.findall(r"[ML]([\d.]+ [\d.]+)", path)]


def test_a_line_lies_where_its_numbers_say():
    line = Line("a <&> b", ((1, 0.0, math.nan), (10, 0.5, 0.1), (100, 1.0, math.nan)))
    svg = figure([Chart("t", "x", "y", (line,), log_x=True)], title="T <1>")
    (x0, y0), (x1, y1), (x2, y2) = numbers(path_of(svg, "a <&> b"))
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.2)  # even in decades
    assert y0 - y1 == pytest.approx(y1 - y2, abs=0.2)
    assert y0 > y2  # larger values lie higher
    assert "<&>" not in svg
    assert ET.fromstring(svg)[0].text == "T <1>"


def test_a_gap_breaks_a_line_and_a_bar_is_as_long_as_its_spread():
    line = Line("l", ((0, 0.2, 0.1), (1, math.nan, math.nan), (2, 0.4, 0.0), (3, 1.0, 0.0)))
    svg = figure([Chart("t", "x", "y", (line,))], title="t")
    path = path_of(svg, "l")
    assert path.count("M") == 2
    assert len(numbers(path)) == 3
    (_, first), (_, second), _ = numbers(path)
    low, high = map(
        float, re.search(r'stroke-opacity="\.55" d="M[\d.]+ ([\d.]+)V([\d.]+)"', svg).groups()
    )
    assert low - high == pytest.approx(first - second, abs=0.2)  # .1 up and .1 down, against .2
    assert (low + high) / 2 == pytest.approx(first, abs=0.2)
    empty = figure([Chart("t", "x", "y", (Line("l", ()),))], title="t")
    assert path_of(empty, "l") is None


def test_categories_stand_side_by_side_and_names_keep_their_look():
    charts = [
        Chart("one", "", "y", tuple(Line(n, ((0, 0.5, math.nan),)) for n in "ab"),
              ticks=((0, "zero"),), style="categories"),
        Chart("two", "", "y", (Line("b", ((0, 0.5, math.nan), (1, 0.6, math.nan))),)),
    ]  # fmt: skip
    svg = figure(charts, title="sheet")
    colours = re.findall(r"<title>(.)</title>.*?(?:fill|stroke)=\"(#\w+)\"", svg)
    assert colours[1][1] == colours[2][1] != colours[0][1]
    assert ">zero</text>" in svg
    marks = re.findall(r'<circle cx="([\d.]+)"', svg.partition("<title>a</title>")[2])
    squares = re.findall(r'd="M([\d.]+) [\d.]+h6', svg.partition("<title>b</title>")[2])
    assert float(squares[0]) + 3 - float(marks[0]) == pytest.approx(6, abs=0.2)
