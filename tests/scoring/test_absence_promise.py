"""The promise of absence on channels that are often still or often missing by nature, fresh rows"""

import numpy as np
import pytest

from imdiffusion.scoring.absence import AbsenceModel, AbsenceMonitor
from imdiffusion.scoring.absence_fit import FROZEN, MISSING

TRAIN, FRESH = 3000, 8000


def noise(rng, rows, channels):
    return rng.normal(size=(rows, channels))


def holding(rng, changes, values):
    """Each of `values` from the row of a change on."""
    changes[0] = True
    row = np.arange(len(changes))[:, None]
    last = np.maximum.accumulate(np.where(changes, row, 0), axis=0)
    return np.take_along_axis(values, last, axis=0)


def gauge(rng, rows, channels):
    return holding(rng, rng.random((rows, channels)) < 1 / 200, noise(rng, rows, channels))


def integers(rng, rows, channels):
    return rng.poisson(3, (rows, channels)).astype(float)


def flag(rng, rows, channels):
    changes = rng.random((rows, channels)) < 1 / 20
    return holding(rng, changes, (rng.random((rows, channels)) < 0.2).astype(float))


def errors(rng, rows, channels):
    some = rng.random((rows, channels)) < 0.02
    return np.where(some, rng.poisson(2, (rows, channels)) + 1.0, 0.0)


def rare_errors(rng, rows, channels):
    return (rng.random((rows, channels)) < 0.001).astype(float)


def held_reading(rng, rows, channels):
    return np.repeat(noise(rng, rows // 10 + 1, channels), 10, axis=0)[:rows]


def nightly_batch(rng, rows, channels):
    by_night = (np.arange(rows) % 300 < 45)[:, None]
    return np.where(by_night, 100 + 10 * noise(rng, rows, channels), 0.0)


def noisy_batch(rng, rows, channels):
    by_night = (np.arange(rows) % 300 < 45)[:, None]
    return np.where(by_night, 100.0, 0.1) * noise(rng, rows, channels)


def slow(rng, rows, channels):
    phase = rng.uniform(0, 6, channels)
    return 10 * np.sin(2 * np.pi * np.arange(rows)[:, None] / 1440 + phase)


def every_fifth(rng, rows, channels):
    return np.where((np.arange(rows) % 5 == 0)[:, None], noise(rng, rows, channels), np.nan)


def at_random(rng, rows, channels):
    values = noise(rng, rows, channels)
    return np.where(rng.random(values.shape) < 0.3, np.nan, values)


def down_by_night(rng, rows, channels):
    values = noise(rng, rows, channels)
    for start in range(0, rows, 300):
        for k in range(channels):
            jitter = rng.integers(-3, 4, 2)
            values[max(start + jitter[0], 0) : start + 100 + jitter[1], k] = np.nan
    return values


def ragged(rng, rows, channels):
    values = noise(rng, rows, channels)
    for start, k in np.argwhere(rng.random((rows, channels)) < 1 / 300):
        values[start : start + rng.geometric(1 / 10), k] = np.nan
    return values


NATURES = (
    noise, gauge, integers, flag, errors, rare_errors, held_reading, nightly_batch, noisy_batch,
    slow, every_fifth, at_random, down_by_night, ragged,
)  # fmt: skip


def shares(nature, channels, seed):
    """The share of fresh rows that are news for promises of .01 and .001."""
    rng = np.random.default_rng(seed)
    values = nature(rng, TRAIN + FRESH, channels)
    observed = np.isfinite(values)
    model = AbsenceModel.fit(values[:TRAIN], observed[:TRAIN], alarm_rate=0.01)
    found = []
    for rate in (0.01, 0.001):
        run = AbsenceMonitor(model.with_alarm_rate(rate)).push(values[TRAIN:], observed[TRAIN:])
        found.append(float(((run.score > 1).any(axis=1) | (run.all_missing > 1)).mean()))
    return found


@pytest.mark.parametrize("nature", NATURES, ids=lambda nature: nature.__name__)
def test_the_promise_holds_on_fresh_rows_over_all_channels(nature):
    alone = np.mean([shares(nature, 1, seed) for seed in range(6)], axis=0)
    many = shares(nature, 40, 11)
    # Twice the promise: a single long run of a channel that changes every 200 rows is a hundred
    # rows of these eight thousand.
    assert alone[0] <= 0.02
    assert alone[1] <= 0.002
    assert many[0] <= 0.02
    assert many[1] <= 0.002


@pytest.mark.parametrize(
    ("nature", "kind", "longest"),
    [
        (noise, FROZEN, 10), (noise, MISSING, 10), (integers, FROZEN, 15),
        (held_reading, FROZEN, 35),
        (every_fifth, MISSING, 8), (at_random, MISSING, 15), (down_by_night, MISSING, 150),
        (noisy_batch, FROZEN, 10), (ragged, MISSING, 150),
    ],
)  # fmt: skip
def test_what_is_still_or_missing_for_longer_than_its_nature_is_news(nature, kind, longest):
    """Also in forty channels at .001: each has a five thousandth of a thousandth of the rows."""
    rng = np.random.default_rng(3)
    values = nature(rng, TRAIN + 400, 40)
    model = AbsenceModel.fit(values[:TRAIN], np.isfinite(values[:TRAIN]), alarm_rate=0.001)
    rows = values[TRAIN:]
    rows[40:] = np.nan if kind == MISSING else rows[40]
    run = AbsenceMonitor(model).push(rows, np.isfinite(rows))
    news = (run.score[40:] > 1) & (run.kind[40:] == kind)
    # By chance one channel of forty had gaps unlike those of the others.
    assert (news.argmax(axis=0) < longest).mean() >= 0.95
    assert news.any(axis=0).all()
    assert news[-1].all()
