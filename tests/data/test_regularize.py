"""An even rhythm out of jitter, drift and gaps, without losing a row of the caller's."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imdiffusion.data.frame import Frame, concat, frame_from
from imdiffusion.data.grid import regularize
from imdiffusion.errors import DataWarning


def at(seconds, **more):
    """A frame with a row at each of these seconds, its value the number of the row."""
    times = np.round(np.asarray(seconds, float) * 1e9).astype(np.int64).view("datetime64[ns]")
    values = np.arange(len(times), dtype=float)[:, None]
    return Frame(values, np.ones(values.shape, bool), times, ("a",), **more)


def quietly(frame, **more):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        return regularize(frame, **more)


def test_regular_frames_come_back_as_they_are():
    for frame in (at(range(10)), at([0]), at([0, 1]), frame_from(np.zeros(5))):
        assert regularize(frame) is frame


def test_a_gap_becomes_unobserved_rows():
    with pytest.warns(DataWarning, match=r"1 gap .* 2 rows without .*\(period 1 s\)"):
        frame = regularize(at([0, 1, 2, 5, 6, 7, 8]))
    np.testing.assert_array_equal(frame.rows, [0, 1, 2, -1, -1, 3, 4, 5, 6])
    np.testing.assert_array_equal(frame.values[:, 0], [0, 1, 2, np.nan, np.nan, 3, 4, 5, 6])
    np.testing.assert_array_equal(frame.observed[:, 0], frame.rows >= 0)
    np.testing.assert_array_equal(frame.timestamps, np.arange(9) * np.timedelta64(1, "s")
                                  + np.datetime64(0, "ns"))  # fmt: skip


def test_rows_of_a_slice_still_count_in_the_callers_rows():
    frame = quietly(at([0, 1, 2, 3, 4, 6, 7]).slice(2))
    np.testing.assert_array_equal(frame.rows, [2, 3, 4, -1, 5, 6])


def test_a_long_gap_is_cut():
    with pytest.warns(DataWarning, match="1 gaps are longer and were cut to 3 rows"):
        frame = regularize(at([0, 1, 2, 3, 1000, 1001, 1002]), max_gap_rows=3)
    np.testing.assert_array_equal(frame.rows, [0, 1, 2, 3, -1, -1, -1, 4, 5, 6])
    assert (np.diff(frame.timestamps) > np.timedelta64(0)).all()


def test_one_night_off_is_a_gap_and_not_the_lack_of_a_rhythm():
    frame = quietly(at([*range(100), *range(5000, 5100)]))
    assert len(frame) == 5100
    assert (frame.rows >= 0).sum() == 200


def test_mild_jitter_is_no_gap():
    rng = np.random.default_rng(1)
    frame = at(np.arange(2000) + rng.uniform(-0.3, 0.3, 2000))
    assert regularize(frame) is frame
    frame = at(10 + np.arange(500) * 0.5 + rng.normal(0, 0.02, 500))
    assert regularize(frame) is frame


def test_jitter_and_gaps_together():
    rng = np.random.default_rng(2)
    slots = np.delete(np.arange(2000), [5, 6, 700, 1500, 1501, 1502])
    frame = quietly(at(slots + rng.uniform(-0.2, 0.2, len(slots))))
    np.testing.assert_array_equal(np.flatnonzero(frame.rows < 0), [5, 6, 700, 1500, 1501, 1502])


def test_drift_never_adds_up_to_a_gap():
    times = np.arange(100_000) * 0.2500003
    times[::2] += 0.00001  # so that steps are not all one period to the nanosecond
    frame = at(times)
    assert regularize(frame) is frame
    slow = np.cumsum(np.where(np.arange(5000) < 3000, 1.0, 1.04))
    assert regularize(at(slow)) is not None
    assert len(quietly(at(slow))) == 5000


def test_after_a_gap_the_phase_may_be_another():
    frame = quietly(at([*range(50), *(np.arange(60, 110) + 0.45)]))
    assert (frame.rows < 0).sum() == 10
    assert (np.flatnonzero(frame.rows < 0) == np.arange(50, 60)).all()


def test_jitter_of_the_first_row_is_no_gap():
    offsets = np.array([-0.45, *([0.1, -0.1] * 20)])
    frame = at(1 + np.arange(41) + offsets)
    assert regularize(frame) is frame


def test_another_phase_and_jitter_after_a_gap():
    rest = 60.4 + np.arange(40) + np.tile([0, 0.25], 20)
    frame = quietly(at([*range(50), *rest]))
    np.testing.assert_array_equal(np.flatnonzero(frame.rows < 0), np.arange(50, 60))


def test_two_rows_for_one_slot_both_stay():
    frame = at([0, 1, 2, 2.1, 3, 4, 5, 6, 7, 8])
    assert len(quietly(frame)) == 10


def test_random_events_have_no_rhythm():
    rng = np.random.default_rng(3)
    frame = at(np.cumsum(rng.exponential(1, 3000)) + 1)
    with pytest.warns(DataWarning, match="no regular rhythm"):
        assert regularize(frame) is frame


def test_bursts_far_apart_do_not_fill_the_memory():
    starts = np.arange(1000) * 3600.0
    frame = at((starts[:, None] + np.arange(4)).ravel())
    with pytest.warns(DataWarning, match="gaps of 3592404 rows, too many to fill beside 4000 rows"):
        assert regularize(frame) is frame


def test_one_gap_of_ten_years_leaves_the_period_and_the_memory_alone():
    minutes = np.arange(600) * 60.0
    minutes[300:] += 3650 * 86400
    with pytest.warns(DataWarning, match="1 gaps are longer and were cut to 10000 rows"):
        frame = regularize(at(minutes))
    assert len(frame) == 10_600
    assert frame.period == np.timedelta64(60, "s")
    steps = np.diff(frame.timestamps)
    assert (np.delete(steps, 10_299) == np.timedelta64(60, "s")).all()


def test_a_gap_of_two_centuries_at_a_nanosecond_is_cut():
    times = np.concatenate([np.arange(20), 6 * 10**18 + np.arange(20)]).view("datetime64[ns]")
    frame = Frame(np.zeros((40, 1)), np.ones((40, 1), bool), times, ("a",))
    with pytest.warns(DataWarning, match="were cut to 10000 rows"):
        assert len(regularize(frame)) == 10_040


def test_pieces_are_joined_by_the_row_before():
    whole = quietly(at([0, 1, 2, 6, 7, 8]))
    first, second = at([0, 1, 2]), at([6, 7, 8])
    period = np.timedelta64(1, "s")
    joined = quietly(second, period=period, after=first.timestamps[-1])
    np.testing.assert_array_equal(joined.rows, [-1, -1, -1, 0, 1, 2])
    np.testing.assert_array_equal(
        np.concatenate([first.timestamps, joined.timestamps]), whole.timestamps
    )
    same = regularize(at([3, 4]), period=period, after=first.timestamps[-1])
    assert same.rows is None
    assert len(quietly(at([5]), period=period, after=first.timestamps[-1])) == 3


@settings(deadline=None)
@given(st.lists(st.floats(0.01, 30), min_size=1, max_size=40), st.integers(1, 20))
def test_no_row_of_the_caller_is_ever_lost(gaps, most):
    given_ = at(np.cumsum([0, *gaps]))
    frame = quietly(given_, max_gap_rows=most)
    if frame is given_:
        return
    own = frame.rows >= 0
    np.testing.assert_array_equal(frame.rows[own], np.arange(len(given_)))
    np.testing.assert_array_equal(frame.values[own], given_.values)
    np.testing.assert_array_equal(frame.timestamps[own], given_.timestamps)
    assert not frame.observed[~own].any()
    assert np.isnan(frame.values[~own]).all()
    assert (np.diff(frame.timestamps) > np.timedelta64(0)).all()
    runs = np.diff(np.flatnonzero(own)) - 1
    assert runs.max(initial=0) <= most
    assert own[0]
    assert own[-1]


@settings(deadline=None)
@given(st.sets(st.integers(1, 98), max_size=30), st.integers(0, 10**9), st.floats(0.001, 3600))
def test_missing_slots_are_found_exactly(missing, seed, period):
    slots = np.delete(np.arange(100), sorted(missing))
    jitter = np.random.default_rng(seed).uniform(-0.02, 0.02, len(slots))
    frame = at(np.maximum(slots + jitter, 0) * period + 1)
    if np.median(np.diff(slots)) != 1:
        return
    result = quietly(frame)
    found = set(np.flatnonzero(result.rows < 0).tolist()) if result.rows is not None else set()
    assert found == missing


def test_concat_joins_slices():
    whole = at(range(5))
    joined = concat([whole.slice(0, 2), whole.slice(2)])
    np.testing.assert_array_equal(joined.values, whole.values)
    np.testing.assert_array_equal(joined.rows, range(5))
    np.testing.assert_array_equal(joined.timestamps, whole.timestamps)
