"""Counters: which channels are, and their rates, worked out by hand and cut into any pieces."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imdiffusion.data.counters import RISES, Counters, Rates, is_counter
from imdiffusion.data.frame import Frame, concat, frame_from
from imdiffusion.errors import DataWarning

RNG = np.random.default_rng(0)
MINUTE = 60 * 10**9
COUNT = np.cumsum(RNG.poisson(20, 300)).astype(float)


def frame(columns, *, minutes=None, timed=True):
    values = np.column_stack([np.asarray(column, float) for column in columns])
    minutes = np.arange(len(values)) if minutes is None else np.asarray(minutes)
    times = (minutes * MINUTE).astype(np.int64).view("datetime64[ns]") if timed else None
    names = tuple(f"c{k}" for k in range(values.shape[1]))
    return Frame(values, ~np.isnan(values), times, names)


def after_reset(at):
    return np.concatenate([COUNT[:at], COUNT[at:] - COUNT[at - 1]])


@pytest.mark.parametrize(
    ("what", "values", "counts"),
    [
        ("requests", COUNT, True),
        ("requests of long ago", 5e9 + COUNT, True),
        ("uptime", 300.0 * np.arange(300), True),
        ("single precision", COUNT.astype(np.float32), True),
        ("a reset", after_reset(150), True),
        ("seldom", np.repeat(np.arange(60.0), 5), True),
        ("a drifting temperature", 20 + 0.05 * np.arange(300) + RNG.normal(0, 0.2, 300), False),
        ("noise", RNG.normal(10, 1, 300), False),
        ("constant", np.full(300, 7.0), False),
        ("too few rises", np.repeat(np.arange(RISES - 1.0), 6), False),
        ("too short", np.arange(RISES * 1.0), False),
        ("one fall, not to zero", np.where(np.arange(300) == 150, COUNT - 1000, COUNT), False),
        ("a sawtooth", np.arange(300.0) % 20, False),
        ("negative", COUNT - 100, False),
        ("a level that changed once", np.where(np.arange(300) < 150, 0, 1e6) + COUNT, False),
        ("warming up, then still", np.minimum(np.arange(300.0), 100), False),
    ],
)
def test_what_is_a_counter(what, values, counts):
    assert is_counter(np.asarray(values)) == counts, what


def test_missing_values_and_excluded_rows_do_not_hide_a_counter():
    values = COUNT.copy()
    values[40:90:3] = np.nan
    given_ = frame([values, RNG.normal(size=300)])
    assert Counters.fit(given_).channels == ("c0",)
    values[100] = 1e12  # a bad row that the caller excludes
    given_ = frame([values, RNG.normal(size=300)])
    assert Counters.fit(given_).channels == ()
    given_ = replace(given_, observed=given_.observed & (np.arange(300) != 100)[:, None])
    counters = Counters.fit(given_)
    assert counters.channels == ("c0",)
    rates = counters.rates(given_)
    assert not rates.observed[100].any()
    assert rates.values[101, 0] == pytest.approx((COUNT[101] - COUNT[99]) / 120, rel=1e-5)
    assert counters.period_ns == MINUTE


def test_rates_worked_out_by_hand():
    given_ = frame([[10, 70, np.nan, 250, 5, 65], [1, 2, 3, 4, 5, 6]], minutes=[0, 1, 2, 3, 4, 6])
    rates = Counters(("c0",), MINUTE).rates(given_)
    # 60 in a minute; missing; 180 in two minutes; a reset; 60 in two minutes.
    np.testing.assert_array_equal(rates.values[:, 0], [np.nan, 1, np.nan, 1.5, np.nan, 0.5])
    np.testing.assert_array_equal(rates.observed[:, 0], ~np.isnan(rates.values[:, 0]))
    np.testing.assert_array_equal(rates.values[:, 1], given_.values[:, 1])
    assert given_.values[0, 0] == 10  # the caller's stay as they were
    by_row = Counters(("c0",)).rates(given_)
    np.testing.assert_array_equal(by_row.values[:, 0], [np.nan, 60, np.nan, 90, np.nan, 60])


def test_without_timestamps_a_row_is_a_period():
    given_ = frame([[0, 60, 180]], timed=False)
    assert Counters(("c0",), MINUTE).rates(given_).values[1:, 0].tolist() == [1, 2]
    assert Counters(("c0",)).rates(given_).values[1:, 0].tolist() == [60, 120]
    assert Counters(("c0",)).of(given_).period_ns is None
    assert Counters(("c0",)).of(frame([[0, 1]])).period_ns == MINUTE


def test_a_steady_rate_is_steady_however_large_the_count_is():
    values = 1e8 + 0.1 * np.arange(500)
    rates = Counters(("c0",), MINUTE).rates(frame([values])).values[1:, 0]
    assert len(set(rates.tolist())) == 1
    assert rates[0] == pytest.approx(0.1 / 60, rel=1e-5)


CELL = st.one_of(st.none(), st.integers(0, 10**6))


@settings(deadline=None)
@given(
    st.lists(st.tuples(CELL, CELL, st.integers(1, 5)), min_size=1, max_size=30),
    st.lists(st.integers(1, 7), max_size=30),
    st.booleans(),
    st.booleans(),
)
def test_pieces_of_any_size_give_what_the_whole_gives(rows, sizes, timed, restarted):
    columns = [[np.nan if row[k] is None else row[k] for row in rows] for k in (0, 1)]
    whole = frame(columns, minutes=np.cumsum([row[2] for row in rows]), timed=timed)
    counters = Counters(("c1", "absent"), MINUTE)
    wanted = counters.rates(whole)
    reader, pieces, edge = counters.reader(), [], 0
    for size in [*sizes, len(rows)]:
        pieces.append(reader.push(whole.slice(edge, edge + size)))
        edge = min(edge + size, len(rows))
        if restarted:
            reader = Rates.from_state(reader.to_state(), counters.reader())
    joined = concat(pieces)
    np.testing.assert_array_equal(joined.values, wanted.values)
    np.testing.assert_array_equal(joined.observed, wanted.observed)
    finite = wanted.values[wanted.observed[:, 1], 1]
    assert (finite >= 0).all()
    assert np.isfinite(finite).all()


def test_no_counters_change_nothing():
    given_ = frame_from(np.zeros((3, 2)))
    assert Counters().rates(given_) is given_
    Counters().say()


def test_what_is_saved_comes_back():
    counters = Counters(("c0", "c1"), MINUTE)
    assert Counters.from_dict(counters.to_dict()) == counters
    assert Counters.from_dict(None) == Counters()


def test_entities_agree_by_their_majority():
    several = [Counters(("a",), 1), Counters(("a", "b"), 2), Counters((), 3)]
    assert Counters.agreed(several).channels == ("a",)
    assert Counters.agreed(several[2:]).channels == ()


def test_what_is_said():
    with pytest.warns(DataWarning, match=r"2 channels only .* of x: a, b\. .*rates a second"):
        Counters(("a", "b"), MINUTE).say(" of x")
    with pytest.warns(DataWarning, match='1 channel only .*rates a row.*counters = "level"'):
        Counters(("a",)).say()
