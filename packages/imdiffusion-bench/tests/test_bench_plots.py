"""Charts: lines, gaps, bars and marks lie where their numbers say; same numbers, same file."""

from __future__ import annotations

import math

import pytest

from imdiffusion.errors import UsageError
from imdiffusion_bench.plots import Chart, Line, Panel, charts_figure, panels_figure, save_plot


def lines_of(axes) -> list:
    """What was drawn of each line: its x and y."""
    return [(one.get_xdata().tolist(), one.get_ydata().tolist()) for one in axes.get_lines()]


def test_a_line_lies_where_its_numbers_say_and_a_bar_is_as_long_as_its_spread():
    line = Line("a <&> b", ((1, 0.0, math.nan), (10, math.nan, 0.1), (100, 1.0, 0.25)))
    (axes,) = charts_figure([Chart("t", "x", "y", (line,), log_x=True)], title="T <1>").axes
    ((x, y),) = lines_of(axes)
    assert x == [1, 10, 100]
    assert y[::2] == [0.0, 1.0]
    assert math.isnan(y[1])  # a gap breaks the line
    assert axes.get_xscale() == "log"
    (bar,) = axes.collections[0].get_segments()
    assert bar.tolist() == [[100, 0.75], [100, 1.25]]
    assert axes.get_ylim() == (0, 1.02)  # a bar does not lift shares above 1


def test_categories_stand_side_by_side_and_names_keep_their_look():
    one = Chart(
        "one",
        "",
        "y",
        tuple(Line(name, ((0, 0.5, math.nan),)) for name in "ab"),
        ticks=((0, "zero"),),
        style="categories",
    )
    two = Chart("two", "", "y", (Line("b", ((0, 0.5, math.nan), (1, 0.6, math.nan))),))
    figure = charts_figure([one, two], title="sheet")
    first, second = figure.axes
    a, b = first.get_lines()
    assert (b.get_xdata() - a.get_xdata()).tolist() == pytest.approx([0.4])
    assert b.get_color() == second.get_lines()[0].get_color() != a.get_color()
    assert b.get_linestyle() == "None" != second.get_lines()[0].get_linestyle()
    assert [text.get_text() for text in first.get_xticklabels()] == ["zero"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a", "b"]


def test_an_empty_chart_and_panels_without_a_value_are_drawn(tmp_path):
    save_plot(charts_figure([Chart("t", "x", "y", ())], title="t"), tmp_path / "a.png")
    panel = Panel("delay", {"d": {"s": math.nan}}, {("d", "s"): 2})
    figure = panels_figure([panel], title="p")
    known, missed = figure.axes[0].get_lines()
    assert missed.get_xdata()[0] == 3.0  # to the right of all values
    assert missed.get_fillstyle() == "none"
    assert len(known.get_xdata()) == 1


def test_the_same_numbers_give_the_same_file_and_other_endings_are_refused(tmp_path):
    chart = Chart("t", "x", "y", (Line("l", ((0, 0.5, 0.1), (1, 0.7, 0.1))),))
    files = [
        save_plot(charts_figure([chart], title="$t"), tmp_path / f"{k}.svg").read_bytes()
        for k in range(2)
    ]
    assert files[0] == files[1]
    assert b"$t" in files[0]
    with pytest.raises(UsageError, match="neither"):
        save_plot(charts_figure([chart], title="t"), tmp_path / "a.pdf")
