"""Medians over days that lean on their parent, slots and folds: numbers worked out by hand"""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imdiffusion.data.calendar import HOLIDAY, Calendar
from imdiffusion.scoring.cycles import (
    DAY,
    WEEKDAY,
    WIDTHS,
    WORKDAY,
    Layout,
    clearly_less,
    coarser,
    columns,
    folds,
    held_out,
    quantile_of_last,
    slot_widths,
    usual,
)

WEEKEND = frozenset((5, 6))


def table(days, kinds, level):
    return usual(np.array([days], dtype=float), np.array(kinds), level, WEEKEND)[0].tolist()


def test_medians_by_level():
    days = [10, 11, 12, 13, 14, 2, 3]  # a week from Monday on: the median is 11
    kinds = list(range(7))
    assert table(days, kinds, DAY) == [11]
    # workdays 10 11 12 13 14 and the 11: 11.5; weekend 2 3 and the 11: 3; no holiday: the weekend
    assert table(days, kinds, WORKDAY) == [11.5, 3, 3]
    # Monday 10 and its parent 11.5, ... Saturday 2 and its parent 3, Sunday 3 and 3
    assert table(days, kinds, WEEKDAY) == [10.75, 11.25, 11.75, 12.25, 12.75, 2.5, 3, 3]


def test_two_days_are_believed_as_far_as_both_go():
    weeks = [0] * 5 + [8, 8] + [0] * 5 + [8, 8]
    kinds = list(range(7)) * 2
    # The day's median is 0; weekend 8 8 8 8 against one 0: 8.
    assert table(weeks, kinds, WORKDAY) == [0, 8, 8]
    weeks[1] = weeks[8] = 5  # both Tuesdays
    assert table(weeks, kinds, WEEKDAY)[1] == 5
    weeks[8] = 3  # the milder one
    assert table(weeks, kinds, WEEKDAY)[1] == 3
    weeks[8] = 0  # one odd Tuesday
    assert table(weeks, kinds, WEEKDAY)[1] == 0
    weeks[8] = -5
    assert table(weeks, kinds, WEEKDAY)[1] == 0


def test_a_holiday_leans_on_the_weekend():
    days = [10, 10, 10, 4, 10, 2, 2]
    kinds = [0, 1, 2, HOLIDAY, 4, 5, 6]
    assert table(days, kinds, WORKDAY) == [10, 2, 3]  # the holiday's 4 and the weekend's 2
    assert table(days, kinds, WEEKDAY)[HOLIDAY] == 3


@pytest.mark.parametrize("level", [DAY, WORKDAY, WEEKDAY])
def test_every_kind_of_day_has_a_column(level):
    width = usual(np.zeros((1, 7)), np.arange(7), level, WEEKEND).shape[-1]
    assert columns(level, WEEKEND).max() + 1 == width
    assert columns(WORKDAY, frozenset((4, 5))).tolist() == [0, 0, 0, 0, 1, 1, 0, 2]


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.lists(st.sampled_from([0.0, 1.0, 2.5, -3.0, np.nan]), min_size=5, max_size=5),
             min_size=1, max_size=4),
    st.sampled_from([0.0, 0.25, 0.5, 0.6827, 1.0]),
)  # fmt: skip
def test_quantiles_are_numpys_without_what_is_missing(rows, share):
    values = np.array(rows)
    found = quantile_of_last(values, share)
    for row, one in zip(values, found, strict=True):
        known = row[np.isfinite(row)]
        assert one == pytest.approx(
            np.quantile(known, share) if known.size else np.nan, nan_ok=True
        )


def test_slots_are_no_finer_than_rows_and_no_coarser_than_an_hour():
    minute = 60 * 10**9
    assert slot_widths(10**9) == slot_widths(minute) == (60, 15, 5, 1)
    assert slot_widths(5 * minute) == (60, 15, 5)
    assert slot_widths(7 * minute) == (60, 10)
    assert slot_widths(90 * minute) == (120,)
    assert slot_widths(1440 * minute) == (1440,)
    assert slot_widths(1441 * minute) == (1440,)  # a clock that is a little slow
    assert slot_widths(2 * 1440 * minute) == ()
    for widths in WIDTHS.values():
        assert all(1440 % width == 0 for width in widths)
        assert all(a % b == 0 for a, b in pairwise(widths))


def test_a_layout_puts_each_row_in_its_day_and_slot():
    stamps = np.datetime64("2026-03-01T23:00", "ns") + np.arange(4) * np.timedelta64(30, "m")
    layout = Layout.of(stamps, Calendar())
    values = np.arange(4.0)[:, None]
    cube = layout.cube(values, values != 2)
    assert cube.shape == (48, 1, 2)
    assert cube[46:, 0, 0].tolist() == [0, 1]
    assert cube[1, 0, 1] == 3
    assert np.isfinite(cube).sum() == 3
    assert coarser(cube, 2)[23, 0, 0] == 0.5


def test_several_rows_in_a_slot_are_told_by_their_median():
    stamps = np.datetime64("2026-03-01", "ns") + np.arange(172_800) * np.timedelta64(1, "s")
    layout = Layout.of(stamps, Calendar())
    values = np.zeros((172_800, 1))
    values[:25] = 1e9  # less than half of the first minute
    values[60:95] = 7.0  # more than half of the second
    cube = layout.cube(values, np.isfinite(values))
    assert cube.shape == (1440, 1, 2)
    assert cube[:3, 0, 0].tolist() == [0, 7, 0]


def test_folds_keep_groups_whole_and_neighbours_together():
    assert folds(np.array([4, 4, 5, 7, 7]), 7).tolist() == [0, 0, 1, 2, 2]
    assert folds(np.arange(6), 3).tolist() == [0, 0, 1, 1, 2, 2]


def test_held_out_days_do_not_speak_of_themselves():
    cube = np.array([[1.0, 1.0, 100.0, 1.0]])
    said = held_out(cube, np.zeros(4, dtype=int), np.arange(4), DAY, WEEKEND)
    assert said.tolist() == [[1, 1, 1, 1]]


def test_a_fall_is_clear_by_share_and_by_standard_errors():
    before = np.full(20, 1.0)
    rules = {"share": 0.02, "sure": 2.0}
    assert clearly_less(before, before - 0.1, **rules)
    assert not clearly_less(before, before - 0.01, **rules)  # 1 %
    assert not clearly_less(before[:2], before[:2] - 0.1, **rules)  # of two days 17 % are asked
    unsteady = np.where(np.arange(20) % 2, 0.4, -0.3)  # mean .05, standard error .08
    assert not clearly_less(before, before - unsteady, **rules)
    assert not clearly_less(before * np.nan, before, **rules)
    assert not clearly_less(before[:1], before[:1] - 0.9, **rules)
