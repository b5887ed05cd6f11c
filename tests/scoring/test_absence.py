"""Absence: what is news and when, on the cases of users; pieces are the whole; no fault deafens"""

import json

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from imdiffusion.errors import ConfigError, DataError, ModelError
from imdiffusion.scoring.absence import AbsenceModel, AbsenceMonitor
from imdiffusion.scoring.absence_fit import (
    FROZEN,
    KINDS,
    LEFT_CONSTANT,
    MISSING,
    NOTHING,
    QUIET,
    describe,
)


def fit(values, alarm_rate=0.001):
    return AbsenceModel.fit(values, np.isfinite(values), alarm_rate=alarm_rate)


def push(model, values):
    return AbsenceMonitor(model).push(values, np.isfinite(values))


def sensors(rows, seed=0):
    """Four noisy sensors of different units, two of them coupled."""
    rng = np.random.default_rng(seed)
    load = rng.normal(size=rows)
    noise = rng.normal(size=(rows, 4))
    return np.c_[
        20 + 0.8 * load + noise[:, 0],
        50 + 3 * load + 3 * noise[:, 1],
        5 + 0.2 * noise[:, 2],
        900 + 12 * noise[:, 3],
    ]


def shop(rows, seed=0):
    """A daily load with an error ratio, a small constant, a flag, and a large constant."""
    rng = np.random.default_rng(seed)
    load = np.sin(2 * np.pi * np.arange(rows) / 288)
    return np.c_[
        50 + 20 * load + rng.normal(0, 2, rows),
        np.zeros(rows),
        np.full(rows, 1e-3),
        np.ones(rows),
        np.full(rows, 6.8e10),
    ]


def delay(run, start, channel, kind):
    """Rows from the start of a fault to its news, the first row being 1."""
    news = (run.score[start:, channel] > 1) & (run.kind[start:, channel] == kind)
    assert news.any()
    return int(news.argmax()) + 1


def test_a_noisy_sensor_frozen_at_its_mean_is_news_within_ten_rows():
    model, rows = fit(sensors(3000)), sensors(1500, seed=7)
    assert not (push(model, rows).score > 1).any()
    for channels in ([3], [0, 1, 2, 3]):
        stuck = rows.copy()
        stuck[600:900, channels] = np.array([20, 50, 5, 900.0])[channels]
        run = push(model, stuck)
        for channel in channels:
            assert delay(run, 600, channel, FROZEN) < 10
            assert run.score[899, channel] > run.score[700, channel] > 10
            assert run.since[899, channel] == 299  # it began at row 600
        others = [k for k in range(4) if k not in channels]
        assert not (run.score[:, others] > 1).any()
        assert not (run.score[900:] > 1).any()


def test_silence_of_a_channel_of_all_and_of_rows():
    model, rows = fit(sensors(600)), sensors(300, seed=1)
    silent = rows.copy()
    silent[150:, 0] = np.nan
    run = push(model, silent)
    assert delay(run, 150, 0, MISSING) <= 5
    assert run.since[299, 0] == 149
    assert not (run.score[:, 1:] > 1).any()
    assert not run.all_missing.any()
    assert not run.all_since.any()

    silent = rows.copy()
    silent[150:250] = np.nan
    run = push(model, silent)
    news = np.flatnonzero(run.all_missing > 1)
    assert news[0] <= 155
    assert news[-1] == 249
    assert run.all_since[249] == 99
    assert (run.kind[200] == MISSING).all()
    assert not (run.score[250:] > 1).any()


@pytest.mark.parametrize(
    ("channel", "value"),
    [(1, 0.05), (1, 0.3), (1, 1e-6), (2, 0.5), (3, 0.0), (4, 6.8e10 + 4096), (4, 0.0)],
)
def test_leaving_the_only_value_is_news_at_once_in_whatever_unit(channel, value):
    rows = shop(900, seed=1)
    rows[500:530, channel] = value
    run = push(fit(shop(3000)), rows)
    assert delay(run, 500, channel, LEFT_CONSTANT) == 1
    assert (run.score[500:530, channel] > 1).all()
    assert (np.diff(run.score[500:530, channel]) > 0).all()
    assert run.since[529, channel] == 29
    run.score[500:530, channel] = 0
    assert not (run.score > 1).any()  # back at the constant, and everywhere else


def test_float_noise_is_not_leaving_and_never_makes_a_constant_move():
    rows = shop(3000)
    jitter = 1 + 4e-16 * np.arange(-2, 3)[np.arange(3000) % 5]
    rows[:, 2:] *= jitter[:, None]
    model = fit(rows)
    assert np.isfinite(model.habits.constant[1:]).all()
    assert not (push(model, rows[::-1]).score > 1).any()


def test_a_new_value_of_a_channel_of_few_values_is_not_leaving():
    rng = np.random.default_rng(0)
    states = rng.integers(0, 3, size=(3000, 1)).astype(float)
    later = states[:200].copy()
    later[100] = 7.0
    assert not (push(fit(states), later).score > 1).any()


def test_quiet_is_news_where_noise_all_but_stops():
    rows = sensors(900, seed=3)
    rows[500:, 3] = 900 + (rows[500:, 3] - 900) / 50
    run = push(fit(sensors(3000)), rows)
    assert delay(run, 500, 3, QUIET) <= 40
    at = 500 + delay(run, 500, 3, QUIET) - 1
    assert abs(at - run.since[at, 3] - 500) <= 32
    assert run.since[899, 3] - run.since[at, 3] == 899 - at
    assert not (run.score[:, :3] > 1).any()


def test_what_never_came_is_never_news_and_comes_without_an_error():
    rows = sensors(1000)
    rows[:, 2] = np.nan
    model = fit(rows)
    run = push(model, rows[:300])
    assert not run.score[:, 2].any()
    assert not run.all_missing.any()
    nothing = np.full((500, 2), np.nan)
    run = push(fit(nothing), nothing)
    assert not run.score.any()
    assert not run.all_missing.any()
    late = sensors(300, seed=2)
    assert not (push(model, late).score[:, 2] > 1).any()


FAULTS = {
    "one absurd value": lambda rows: rows.__setitem__((1234, slice(None)), -9999.0),
    "stuck for a tenth of the rows": lambda rows: rows.__setitem__(
        (slice(1000, 1280), slice(None)), rows[1000]
    ),
    "missing for a fiftieth": lambda rows: rows.__setitem__(
        (slice(1000, 1060), slice(None)), np.nan
    ),
    "three stuck stretches": lambda rows: [
        rows.__setitem__((slice(at, at + 20), slice(None)), rows[at]) for at in (300, 1300, 2300)
    ],
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_the_training_rows_does_not_deafen(fault):
    train = np.c_[sensors(3000), shop(3000)[:, 1:]]
    FAULTS[fault](train)
    model = fit(train)
    rows = np.c_[sensors(600, seed=5), shop(600)[:, 1:]]
    assert not (push(model, rows).score > 1).any()
    frozen, silent, left = rows.copy(), rows.copy(), rows.copy()
    frozen[300:, :4] = frozen[300, :4]
    silent[300:] = np.nan
    left[300:, 4:] *= 2
    left[300:, 4] = 0.05
    for channel in range(4):
        assert delay(push(model, frozen), 300, channel, FROZEN) < 15
    for channel in range(8):
        assert delay(push(model, silent), 300, channel, MISSING) <= 15
    for channel in range(4, 8):
        assert delay(push(model, left), 300, channel, LEFT_CONSTANT) == 1


def test_what_was_set_aside_is_told():
    train = np.c_[sensors(3000), shop(3000)[:, 1:]]
    train[1234, 4] = -9999.0
    train[2000:2200, 1] = train[2000, 1]
    train[500:550, 0] = np.nan
    model = fit(train)
    assert [(row, channel) for row, channel, _ in model.set_aside] == [
        (500, 0),
        (1234, 4),
        (2000, 1),
    ]
    assert np.isnan(model.set_aside[0][2])
    assert model.set_aside[1][2] == -9999.0
    assert model.set_aside[2][2] == train[2000, 1]
    assert [one.rows for one in model.habits.set_aside] == [50, 1, 200]
    assert [one.kind for one in model.habits.set_aside] == [MISSING, LEFT_CONSTANT, FROZEN]


def test_a_channel_that_leaves_its_constant_by_habit_is_news_when_it_stays_away():
    train = np.zeros((3000, 1))
    train[[400, 1100, 1101, 2500]] = 3.0
    model = fit(train)
    assert model.set_aside == []
    rows = np.zeros((300, 1))
    rows[50:52] = 1.0
    rows[100:160, 0] = np.arange(60) + 1.0
    run = push(model, rows)
    assert not (run.score[:100] > 1).any()
    assert delay(run, 100, 0, LEFT_CONSTANT) <= 20
    assert run.since[159, 0] == 59
    assert not (run.score[160:] > 1).any()


def test_a_new_promise_needs_no_new_fit():
    rows = sensors(3000)
    rows[np.random.default_rng(1).random(rows.shape) < 0.3] = np.nan
    model = fit(rows, 0.05)
    for rate in (0.01, 0.001, 1e-6):
        again = model.with_alarm_rate(rate)
        afresh = fit(rows, rate)
        assert again.alarm_rate == rate
        assert np.array_equal(again.missing, afresh.missing)
        assert np.array_equal(again.quiet, afresh.quiet)
        assert (again.missing >= model.missing).all()
        model = again
    assert (fit(rows, 1e-6).missing > fit(rows, 0.05).missing).all()


def mixed(rows, seed=0):
    """Noise, integers, a flag, a constant, a held reading, gaps, and one that never comes."""
    rng = np.random.default_rng(seed)
    values = np.c_[
        rng.normal(size=rows),
        rng.poisson(2, rows),
        rng.random(rows) < 0.02,
        np.full(rows, 0.1),
        np.repeat(rng.normal(size=rows // 10 + 1), 10)[:rows],
        rng.normal(size=(rows, 2)),
        np.full(rows, np.nan),
    ].astype(float)
    values[np.arange(rows) % 5 != 0, 5] = np.nan
    values[rng.random(rows) < 0.3, 6] = np.nan
    return values


MODEL = fit(mixed(2000))
TROUBLE = mixed(400, seed=1)
TROUBLE[60:130, 0] = TROUBLE[60, 0]
TROUBLE[150:170] = np.nan
TROUBLE[200:240, 3] = 0.2
TROUBLE[210, 3] = np.nan
TROUBLE[250:300, 0] /= 100
TROUBLE[270:275, 0] = np.nan
TROUBLE[320:400, 6] = np.nan
FIELDS = ("score", "kind", "since", "all_missing", "all_since")


def test_the_troubles_are_all_heard():
    run = push(MODEL, TROUBLE)
    assert set(np.unique(run.kind)) == set(KINDS)
    assert (run.all_missing > 1).any()


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 400), max_size=12))
@example(list(range(1, 400)))  # row by row
def test_pieces_give_what_the_whole_gives_also_across_a_stop(cuts):
    whole = push(MODEL, TROUBLE)
    monitor, parts = AbsenceMonitor(MODEL), []
    for piece in np.split(TROUBLE, sorted(cuts)):
        parts.append(monitor.push(piece, np.isfinite(piece)))
        fresh = AbsenceMonitor(AbsenceModel.from_dict(MODEL.to_dict()))
        monitor = AbsenceMonitor.from_state(monitor.to_state(), fresh)
    for name in FIELDS:
        joined = np.concatenate([getattr(part, name) for part in parts])
        assert np.array_equal(joined, getattr(whole, name)), name


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(1, 400), st.floats(0, 1))
def test_any_rows_fit_and_survive_a_round_trip(seed, channels, rows, missing):
    rng = np.random.default_rng(seed)
    values = np.where(
        rng.random(channels) < 0.5,
        rng.integers(0, rng.integers(1, 5), (rows, channels)),
        rng.normal(size=(rows, channels)) * 10.0 ** rng.integers(-8, 9, channels),
    )
    values[rng.random(values.shape) < missing] = np.nan
    model = fit(values)
    facts = model.to_dict()
    arrays = {name: fact for name, fact in facts.items() if isinstance(fact, np.ndarray)}
    plain = json.loads(json.dumps({k: v for k, v in facts.items() if k not in arrays}))
    again = AbsenceModel.from_dict({**arrays, **plain})
    for name, fact in again.to_dict().items():
        assert np.array_equal(fact, facts[name], equal_nan=name not in plain), name
    for name in ("missing", "frozen", "resting", "quiet", "left"):
        assert np.array_equal(getattr(again, name), getattr(model, name), equal_nan=True)
    run = push(again, values)
    assert np.isfinite(run.score).all()
    assert ((run.score > 1) == (run.kind > NOTHING)).all()
    assert not (run.score > 1).any()  # what training did is no news
    assert (run.since <= np.arange(rows)[:, None]).all()


def test_rows_before_a_channel_was_there_are_no_gap():
    train = sensors(3000)
    train[:1500, 0] = np.nan
    rows = sensors(100, seed=1)
    rows[50:] = np.nan
    assert delay(push(fit(train), rows), 50, 0, MISSING) <= 10


def test_infinite_values_are_missing():
    rows = sensors(300, seed=1)
    rows[100:, 0] = np.inf
    run = AbsenceMonitor(fit(sensors(600))).push(rows, np.ones(rows.shape, bool))
    assert delay(run, 100, 0, MISSING) <= 5


def test_words_for_an_event():
    assert describe(MISSING, 33, 60.0) == "missing for 34 rows (34 min)"
    assert describe(FROZEN, 179, None) == "frozen at one value for 180 rows"
    assert describe(LEFT_CONSTANT, 0, 0.25) == "away from its constant value for 1 row (0.25 s)"
    assert describe(QUIET, 99, 3600.0) == "far quieter than normal for 100 rows (4.17 d)"


def test_what_cannot_be_is_refused():
    rows = sensors(100)
    with pytest.raises(ConfigError, match="alarm_rate is 0"):
        fit(rows, 0.0)
    with pytest.raises(ConfigError, match="alarm_rate is nan"):
        fit(rows).with_alarm_rate(float("nan"))
    with pytest.raises(DataError, match="no rows"):
        fit(rows[:0])
    with pytest.raises(DataError, match=r"\(5, 3\).*not \(rows, 4\)"):
        push(fit(rows), rows[:5, :3])
    with pytest.raises(DataError, match="observed has"):
        AbsenceModel.fit(rows, np.isfinite(rows[:, :2]), alarm_rate=0.01)
    facts = fit(rows).to_dict()
    with pytest.raises(ModelError, match="format 99"):
        AbsenceModel.from_dict({**facts, "format": 99})
    del facts["frozen"]
    with pytest.raises(ModelError, match="'frozen'"):
        AbsenceModel.from_dict(facts)
    state = AbsenceMonitor(fit(rows[:, :2])).to_state()
    with pytest.raises(ModelError, match="'missing' of shape"):
        AbsenceMonitor.from_state(state, AbsenceMonitor(fit(rows)))
