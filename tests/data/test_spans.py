"""Spans of time and of positions, against masks worked out by hand."""

import warnings
from datetime import UTC, date, datetime

import numpy as np
import pandas as pd
import pytest

from imdiffusion.data.frame import frame_from
from imdiffusion.data.grid import regularize, span_positions
from imdiffusion.errors import DataError, DataWarning, UsageError

HOURS = pd.date_range("2024-01-31T00:00", periods=6, freq="h", tz="UTC")
FRAME = frame_from(pd.DataFrame({"a": np.arange(6.0)}, index=HOURS))


@pytest.mark.parametrize(
    ("span", "expected"),
    [
        (("2024-01-31T01:00:00Z", "2024-01-31T03:00:00Z"), "011000"),
        (("2024-01-31T01:00", "2024-01-31 01:00:01"), "010000"),
        (("2024-01-31T02:00+01:00", "2024-01-31T02:00Z"), "010000"),
        (("2024-01-31", "2024-02-01"), "111111"),
        ((date(2024, 1, 31), datetime(2024, 1, 31, 2)), "110000"),
        ((datetime(2024, 1, 31, 2, tzinfo=UTC), np.datetime64("2024-01-31T04")), "001100"),
        ((HOURS[4], HOURS[5]), "000010"),
        ((0, 2), "110000"),
        ([np.int64(4), 100], "000011"),
    ],
)
def test_a_span(span, expected):
    assert "".join(map(str, span_positions(FRAME, [span]).astype(int))) == expected


def test_several_spans_are_one_mask():
    mask = span_positions(FRAME, [(0, 1), ("2024-01-31T05:00", "2024-01-31T06:00"), (0, 2)])
    assert mask.tolist() == [True, True, False, False, False, True]
    assert span_positions(FRAME, []).tolist() == [False] * 6


def test_positions_count_the_callers_rows():
    times = pd.to_datetime([0, 1, 2, 5, 6, 7, 8], unit="s")
    frame = frame_from(pd.DataFrame({"a": np.arange(7.0)}, index=times))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        frame = regularize(frame)
    np.testing.assert_array_equal(span_positions(frame, [(3, 5)]), [0, 0, 0, 0, 0, 1, 1, 0, 0])
    np.testing.assert_array_equal(span_positions(frame, [(2, 4)]), [0, 0, 1, 1, 1, 1, 0, 0, 0])


@pytest.mark.parametrize(
    ("span", "said"),
    [
        ((3, 2), r"span 1 \(3, 2\) does not end after its start"),
        ((3, 3), "does not end after its start"),
        (("2024-01-31T02:00Z", "2024-01-31T01:00Z"), "2024-01-31T02:00Z.*does not end after"),
        (("soon", "later"), r"span 1 \(soon, later\) cannot be read: 'soon' is no time"),
        ((1, "2024-01-31"), "mixes a row position and a time"),
        ((-1, 2), "negative position"),
        ((True, 2), "cannot be read: True"),
        ((None, 2), "cannot be read: None"),
        ((1.5, 2), "cannot be read: 1.5"),
        ((np.datetime64("NaT"), HOURS[0]), "cannot be read"),
        ((1, 2, 3), "is not a pair"),
        ("12", "is not a pair"),
        (("1", "2"), "cannot be read: '1'"),
    ],
)
def test_unusable_spans_are_named(span, said):
    with pytest.raises(UsageError, match=said):
        span_positions(FRAME, [span])


def test_a_span_of_time_needs_timestamps():
    with pytest.raises(DataError, match=r"span 2 .* no timestamps.*row positions"):
        span_positions(frame_from(np.zeros(5)), [(0, 1), ("2024-01-01", "2024-01-02")])


@pytest.mark.parametrize("span", [(6, 9), ("2023-01-01", "2023-01-02")])
def test_a_span_of_no_row_is_said(span):
    with pytest.warns(DataWarning, match=r"covers no row: the data goes from 2024-01-31T00:00:00Z"):
        assert not span_positions(FRAME, [span]).any()
