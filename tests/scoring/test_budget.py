"""The alert budget: levels and rates against brute force and counts by hand"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imdiffusion import ImDiffusion
from imdiffusion.durations import DAY_NS
from imdiffusion.errors import ConfigError
from imdiffusion.scoring.event import spans
from imdiffusion.scoring.threshold import level_within, rate_within

pytestmark = pytest.mark.filterwarnings("ignore::imdiffusion.errors.ConvergenceWarning")

MINUTE = 60 * 1_000_000_000


def count(scores, level, **rules):
    return len(spans(np.where(scores > level, 2.0, 0.0), **rules))


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.sampled_from([1.0, 2.0, 3.0, 4.0, 5.0, np.nan]), min_size=1, max_size=40),
    st.floats(0, 6), st.integers(0, 3), st.integers(1, 3),
)  # fmt: skip
def test_no_level_from_there_on_has_more_events(scores, events, merge_gap, min_length):
    scores = np.array(scores)
    rules = {"merge_gap": merge_gap, "min_length": min_length}
    level = level_within(scores, events=events, **rules)
    distinct = np.unique(scores[np.isfinite(scores)])
    levels = [float("-inf"), *distinct]
    good = [count(scores, one, **rules) <= events for one in levels]
    lowest = next(k for k in range(len(levels)) if all(good[k:]))
    assert count(scores, level, **rules) == count(scores, levels[lowest], **rules)
    assert level == levels[lowest]


def day(peaks):
    """A day of minutes: quiet noise, and a peak of three rows every so often."""
    scores = np.random.default_rng(1).uniform(0.1, 0.5, 1440)
    for number in range(peaks):
        at = 20 + number * (1400 // peaks)
        scores[at : at + 3] = 1.0 + number / 1000 + np.array([0.0, 0.1, 0.05])
    return scores


def rate(scores, per_day, **options):
    return rate_within(
        scores, alarms_per_day=per_day, **{"period_ns": MINUTE, "merge_gap": 2, "min_length": 1,
                                           **options},
    )  # fmt: skip


def test_a_budget_is_counted_in_merged_events():
    scores = day(20)
    level = np.quantile(scores, 1 - rate(scores, 20.0), method="higher")
    assert count(scores, level, merge_gap=2) <= 20
    assert 58 <= (scores > level).sum() <= 60  # three rows an event: a row count would say 20
    level = np.quantile(scores, 1 - rate(scores, 7.0), method="higher")
    assert 6 <= count(scores, level, merge_gap=2) <= 7


def test_the_sampling_period_turns_events_a_day_into_a_rate():
    scores = day(20)
    assert rate(scores, 10.0, period_ns=2 * MINUTE) == rate(scores, 20.0)
    assert rate(scores, 20.0, period_ns=DAY_NS) == 0.5


def test_a_budget_of_less_than_the_rows_can_show_is_scaled_down():
    scores = day(20)
    five = rate(scores, 5.0)
    assert rate(scores, 1.0) == pytest.approx(five / 5)
    assert rate(scores, 0.01) == pytest.approx(five / 500)
    assert rate(np.full(10, np.nan), 1.0) == 1e-9


TINY = {
    "window": 10, "patch_length": 5, "width": 8, "layers": 1, "heads": 2, "feedforward": 8,
    "diffusion_steps": 4, "sampling_steps": 4, "sampling_start": 0.0, "ensemble_steps": 2,
    "ensemble_every": 1, "max_steps": 10, "max_epochs": 0, "patience": 0, "holdout": 0.5,
}  # fmt: skip


def frame(rows, *, timed):
    import pandas as pd

    data = pd.DataFrame(np.random.default_rng(0).normal(size=(rows, 2)), columns=["a", "b"])
    if timed:
        data.insert(0, "timestamp", pd.date_range("2026-01-01", periods=rows, freq="1min"))
    return data


def test_a_detector_keeps_its_budget_on_the_rows_it_was_calibrated_on():
    train = frame(600, timed=True)
    made = {}
    for per_day in (24.0, 120.0):
        detector = ImDiffusion(
            **TINY, alarms_per_day=per_day, threshold="quantile", ensemble="mean", merge_gap=2,
            calibrate_on="all",
        ).fit(train)  # fmt: skip
        made[per_day] = count(detector.decision_function(train), 1.0, merge_gap=2)
        assert made[per_day] <= per_day * 600 / 1440
    assert 0 < made[24.0] < made[120.0]


def test_a_budget_that_cannot_be_kept_is_refused():
    with pytest.raises(ConfigError, match="alarms_per_day = 3 needs timestamps"):
        ImDiffusion(**TINY, alarms_per_day=3.0).fit(frame(200, timed=False))
    with pytest.raises(ConfigError, match=r"means nothing to ensemble = 'rank'.*anomaly_share"):
        ImDiffusion(**TINY, alarms_per_day=3.0, ensemble="rank").fit(frame(200, timed=True))
    with pytest.raises(ConfigError, match="alarms_per_day"):
        ImDiffusion(**TINY, alarms_per_day=-1.0).fit(frame(200, timed=True))
