"""Times of day that are always harder: scores there are divided by how much."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from imdiffusion import ImDiffusion
from imdiffusion.scoring.hours import LEAST_DAYS, MOST, HardHours

MINUTES = 1_440


def days(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Times and one kind of score, every five minutes: largest in a quarter of about 1."""
    times = np.datetime64("2026-03-02T00:00", "ns") + np.arange(0, count * MINUTES, 5).astype(
        "timedelta64[m]"
    )
    return times, np.random.default_rng(seed).uniform(0.5, 1.0, (len(times), 1))


def at(times: np.ndarray, hour: int, minute: int) -> np.ndarray:
    clock = (times - times.astype("datetime64[D]")) // np.timedelta64(1, "m")
    return np.asarray(clock == 60 * hour + minute)


def test_a_batch_of_every_night_is_divided_by_how_much_higher_it_is():
    times, scores = days(10)
    scores[at(times, 2, 5)] = 3.0
    found = HardHours.fit(times, scores, "UTC")
    assert found is not None
    # The largest of three uniform values is below .5 + .5 * .75^(1/3) in .75 of the quarters.
    assert found.factor[8, 0] == pytest.approx(3.0 / (0.5 + 0.5 * 0.75 ** (1 / 3)), rel=0.01)
    assert (np.delete(found.factor[:, 0], 8) == 1.0).all()
    assert found.at(times[at(times, 2, 10)]).min() > 3.0
    assert (found.at(times[at(times, 2, 15)]) == 1.0).all()


def test_what_one_day_in_four_does_is_no_habit():
    times, scores = days(12)
    bad = at(times, 14, 0) & (times < np.datetime64("2026-03-05"))
    scores[bad] = 9.0
    assert HardHours.fit(times, scores, "UTC") is None


def test_few_days_say_nothing():
    times, scores = days(LEAST_DAYS - 1)
    scores[at(times, 2, 5)] = 3.0
    assert HardHours.fit(times, scores, "UTC") is None
    times, scores = days(LEAST_DAYS)
    scores[at(times, 2, 5)] = 99.0
    found = HardHours.fit(times, scores, "UTC")
    assert found is not None
    assert found.factor.max() == MOST


def test_the_clock_is_the_local_one():
    times, scores = days(10)
    scores[at(times, 2, 5)] = 3.0
    found = HardHours.fit(times, scores, "+02:00")
    assert found is not None
    assert np.flatnonzero(found.factor[:, 0] > 1).tolist() == [16]
    assert HardHours.from_dict(found.to_dict()).at(times).tolist() == found.at(times).tolist()


def test_a_detector_does_not_alarm_every_night(tmp_path):
    """A job at about two that disturbs one channel, never at the same minute."""

    def table(start: str, count: int, seed: int) -> pd.DataFrame:
        generator = np.random.default_rng(seed)
        times = pd.date_range(start, periods=count * 288, freq="5min")
        common = np.sin(np.arange(len(times)) / 9.0)[:, None]
        values = common + 0.2 * generator.normal(size=(len(times), 4))
        for day in range(count):
            begin = day * 288 + 24 + int(generator.integers(0, 3))
            values[begin : begin + 2, 1] += generator.choice([-1.5, 1.5])
        return pd.DataFrame(values, columns=list("abcd"), index=times)

    detector = ImDiffusion("linear", alarm_rate=0.01).fit(table("2026-03-02", 14, 0))
    detector.save(tmp_path / "model")
    later = table("2026-03-16", 10, 1)
    score = ImDiffusion.load(tmp_path / "model").decision_function(later)
    assert np.array_equal(score, detector.decision_function(later))
    night = (later.index.hour == 2) & (later.index.minute < 30)
    without = ImDiffusion("linear", alarm_rate=0.01, calendar="off").fit(table("2026-03-02", 14, 0))
    assert (without.decision_function(later)[night] > 1).mean() > 0.2
    assert (score[night] > 1).mean() < 0.1
    later.iloc[5 * 288 + 100 : 5 * 288 + 104, 2] += 2.0  # at another time of day it is a fault
    assert (detector.decision_function(later)[5 * 288 + 100 : 5 * 288 + 104] > 1).all()
