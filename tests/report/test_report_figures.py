"""Matplotlib figures for notebooks."""

import builtins
import sys

import numpy as np
import pytest
from story import story

from imdiffusion.errors import MissingExtraError, UsageError
from imdiffusion.report.figures import plot_event, plot_score


@pytest.mark.parametrize("timed", [True, False])
def test_figures_draw_and_leave_pyplot_alone(tmp_path, timed):
    one = story(1200, timed=timed)
    before = "matplotlib.pyplot" in sys.modules
    score = plot_score(one.analysis, faults=one.faults)
    event = plot_event(one.analysis, one.analysis.events[1], channels=4)
    for name, figure in (("score", score), ("event", event)):
        figure.savefig(tmp_path / f"{name}.png", dpi=60)
        assert (tmp_path / f"{name}.png").stat().st_size > 4000
    assert len(event.axes) == 4
    assert [axes.get_title(loc="left").split("  ")[0] for axes in event.axes] == list(
        one.analysis.events[1].channels[:4]
    )
    assert ("matplotlib.pyplot" in sys.modules) == before


def test_the_scale_of_scores_is_straight_below_the_threshold_and_logarithmic_above():
    one = story(1200)
    (axes,) = plot_score(one.analysis).axes
    drawn = axes.transScale.transform(np.array([[0, 0.5], [0, 1], [0, 10], [0, 100]]))[:, 1]
    np.testing.assert_allclose(drawn, [0.5, 1, 2, 3])


def test_an_event_asks_for_at_least_one_channel():
    one = story(600)
    with pytest.raises(UsageError, match="channels=0"):
        plot_event(one.analysis, one.analysis.events[0], channels=0)


def test_without_matplotlib_the_error_names_the_extra(monkeypatch):
    one = story(600)
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtraError, match=r"imdiffusion\[plot\]"):
        plot_score(one.analysis)
