"""Absurd values: which are left out of a fit, which are a channel's habit, and what is said"""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imdiffusion.data.frame import Frame
from imdiffusion.data.scaling import MOST, absurd_values, note_absurd
from imdiffusion.errors import DataWarning

quick = settings(max_examples=40, deadline=None)


def places(values, observed=None):
    values = np.asarray(values, float)
    values = values[:, None] if values.ndim == 1 else values
    seen = ~np.isnan(values) if observed is None else observed
    return [tuple(at) for at in np.argwhere(absurd_values(values, seen)).tolist()]


def test_golden():
    """Median 0, the farthest of the others 1: above 20 from the median a value is absurd."""
    column = np.tile([-1.0, 0.0, 1.0], 100)
    for value, found in ((-9999.0, True), (20.5, True), (-20.5, True), (19.5, False), (3.0, False)):
        rows = column.copy()
        rows[150] = value
        assert places(rows) == ([(150, 0)] if found else []), value


def test_each_channel_by_itself_and_several_values_in_one():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(1000, 3)) * [1, 100, 1e6] + [0, 5000, -1e8]
    rows[3, 0], rows[900, 0] = 65535.0, -1e12  # two of them, of very different size
    rows[44, 2] = 0.0
    assert places(rows) == [(3, 0), (44, 2), (900, 0)]


def test_what_comes_often_is_the_habit_of_a_channel():
    rng = np.random.default_rng(0)
    for count in (1, int(MOST * 1000), int(MOST * 1000) + 1, 40):
        rows = rng.normal(size=1000)
        rows[np.arange(count) * 20] = -9999.0
        assert len(places(rows)) == (count if count <= MOST * 1000 else 0), count


def test_of_values_that_are_all_alike_none_is_absurd():
    """An error count that was 0 but once: that it moves at all may be the event to learn."""
    rows = np.zeros(500)
    rows[7] = 3.0
    assert places(rows) == []
    assert places(np.full(500, 12.0)) == []


def test_half_alike_and_half_not():
    rows = np.where(np.arange(400) % 2, 0.0, np.sin(np.arange(400)))
    rows[9] = 1e6
    assert places(rows) == [(9, 0)]


@pytest.mark.parametrize("total", [0, 1, 2])
def test_too_few_values_to_say(total):
    assert places(np.array([1.0, 1e9])[:total]) == []


def test_of_three_values_one_can_be_absurd():
    assert places([1.0, 2.0, 1e9]) == [(2, 0)]


def test_what_is_not_observed_is_not_looked_at():
    rows = np.sin(np.arange(300.0))[:, None]
    rows[5], rows[6] = 1e9, np.nan
    seen = np.ones(rows.shape, bool)
    seen[[5, 6]] = False
    assert places(rows, seen) == []
    seen[5] = True
    assert places(rows, seen) == [(5, 0)]
    assert places(rows, np.zeros(rows.shape, bool)) == []


@quick
@given(
    st.integers(3, 400),
    st.integers(0, 999),
    st.floats(1e-6, 1e6),
    st.floats(-1e6, 1e6),
    st.sampled_from(["normal", "laplace", "uniform"]),
)
def test_what_is_found_dwarfs_all_others_and_no_unit_matters(total, seed, scale, shift, kind):
    rng = np.random.default_rng(seed)
    rows = getattr(rng, kind)(size=total) if kind != "uniform" else rng.uniform(-1, 1, total)
    rows[rng.integers(total, size=rng.integers(0, 3))] *= 10.0 ** rng.uniform(0, 6)
    found = absurd_values(rows[:, None], np.ones((total, 1), bool))[:, 0]
    far = np.abs(rows - np.median(rows))
    if found.any():
        assert far[found].min() > 20 * far[~found].max()
        assert found.sum() <= max(1, MOST * total)
    # The next one beyond the farthest of what is kept is the first that dwarfs it.
    order = rng.permutation(total)
    again = absurd_values(rows[order, None], np.ones((total, 1), bool))[:, 0]
    assert np.array_equal(again, found[order])
    if abs(shift) < 1e3 * scale:  # so that nothing is lost to rounding
        moved = absurd_values((shift + scale * rows)[:, None], np.ones((total, 1), bool))[:, 0]
        near = far > 0
        ratio = np.sort(far[near])[1:] / np.sort(far[near])[:-1]
        if not ((ratio > 19.9) & (ratio < 20.1)).any():
            assert np.array_equal(moved, found)


@quick
@given(st.integers(50, 300), st.integers(0, 99), st.sampled_from([-9999.0, 65535.0, 1e30, -1e9]))
def test_one_sentinel_in_plain_noise_is_found(total, seed, value):
    rows = np.random.default_rng(seed).normal(size=total)
    rows[total // 3] = value
    assert places(rows) == [(total // 3, 0)]


# -- what is said


def frame(values, entity=None):
    seen = ~np.isnan(values)
    names = tuple(f"c{k}" for k in range(values.shape[1]))
    return Frame(values, seen, None, names, entity=entity)


def said(values, entity=None):
    made = frame(values, entity)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        note_absurd(made, absurd_values(made.values, made.observed))
    (one,) = caught
    assert issubclass(one.category, DataWarning)
    return str(one.message)


def test_the_warning_names_row_channel_and_value():
    rows = np.random.default_rng(0).normal(size=(2000, 2))
    rows[100, 1] = -9999.0
    text = said(rows, entity="pump-3")
    assert "-9999 of 'c1' in row 100" in text
    assert "'pump-3'" in text
    assert "more" not in text
    rows[[300, 400, 500, 600], 0] = 1e7
    text = said(rows)
    assert text.count(" in row ") == 3
    assert "and 2 more" in text
    assert text.startswith("5 values")
