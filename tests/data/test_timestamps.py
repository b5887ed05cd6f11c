"""Timestamps of every accepted form, against instants worked out by hand."""

from datetime import UTC, date, datetime

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imdiffusion.data.columns import Place
from imdiffusion.data.frame import frame_from
from imdiffusion.data.timestamps import Counted, check_order, parse_times, text_of
from imdiffusion.errors import DataError, DataWarning, UsageError

PLACE = Place("x.csv")
# 2024-01-31T12:00:00Z is 19753 days and 12 hours after 1970: 19753 * 86400 + 43200 s
NOON = 1_706_702_400


def parse(values, kind=None, unit="auto"):
    return parse_times(pa.array(values, kind), place=PLACE, name="timestamp", unit=unit)


def seconds(times):
    return (times.values.view(np.int64) / 1e9).tolist()


@pytest.mark.parametrize(
    ("text", "offset", "zone"),
    [
        ("2024-01-31T12:00:00Z", 0, "UTC"),
        ("2024-01-31 12:00:00.25+00:00", 0.25, "UTC"),
        ("2024-01-31T14:00:00+02:00", 0, "+02:00"),
        ("2024-01-31T14:00+0200", 0, "+02:00"),
        ("2024-01-31T06:30:00-05:30", 0, "-05:30"),
        (" 2024-01-31T12:00:00 ", 0, None),
        ("2024-01-31 12:00", 0, None),
        ("2024-01-31", -43200, None),
        ("20240131", -43200, None),
        ("20240131T120000Z", 0, "UTC"),
        ("2024-W05-3T12:00:00", 0, None),
        (str(NOON), 0, None),
        (f"{NOON}.5", 0.5, None),
        (f"{NOON}000", 0, None),
        ("1.7067024e9", 0, None),
    ],
)
def test_text(text, offset, zone):
    times = parse([text])
    assert times.values.view(np.int64).tolist() == [NOON * 10**9 + int(offset * 10**9)]
    assert times.zone == zone


def test_nanoseconds_in_text_are_kept():
    times = parse(["2024-01-31T12:00:00.123456789Z"])
    assert times.values.view(np.int64).tolist() == [NOON * 10**9 + 123_456_789]


@pytest.mark.parametrize(("scale", "unit"), [(1, "s"), (10**3, "ms"), (10**6, "us"), (10**9, "ns")])
@pytest.mark.parametrize("kind", [pa.int64(), pa.uint64(), pa.float64(), pa.string()])
def test_the_unit_of_epoch_numbers_follows_from_their_magnitude(scale, unit, kind):
    values = [NOON * scale, (NOON + 1) * scale]
    given = list(map({pa.string(): str, pa.float64(): float}.get(kind, int), values))
    times = parse(given, kind)
    assert seconds(times) == [NOON, NOON + 1]
    assert times.counted == Counted(unit)


def test_a_given_unit_wins_over_the_magnitude():
    assert seconds(parse([0, 500], unit="ms")) == [0, 0.5]
    assert seconds(parse([0, 500])) == [0, 500]


def test_float_seconds_lose_no_more_than_a_float_holds():
    times = parse([NOON + 0.1, NOON + 0.2])
    assert (times.values.view(np.int64) - NOON * 10**9).tolist() == [100_000_000, 200_000_000]
    assert seconds(parse([0.0, 1e-9])) == [0, 1e-9]
    assert seconds(parse([-0.5, 0.0])) == [-0.5, 0]


@given(st.integers(0, 4_000_000_000_000_000))
def test_microseconds_survive_float_seconds(microseconds):
    times = parse([microseconds / 1e6], unit="s")
    assert abs(int(times.values.view(np.int64)[0]) - microseconds * 1000) <= 1000


@given(st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1)))
def test_text_of_an_instant_reads_back(when):
    instant = np.datetime64(when, "ns")
    assert parse([text_of(instant)]).values[0] == instant
    assert parse([when.isoformat()]).values[0] == instant


def test_text_of_is_short():
    assert text_of(np.datetime64("2024-01-31T12:00:00")) == "2024-01-31T12:00:00Z"
    assert text_of(np.datetime64("2024-01-31T12:00:10.25")) == "2024-01-31T12:00:10.25Z"


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        (["2024-01-31T12:00:00Z", "2024-01-31T12:00:01"], r"row 2.*no zone here, 'UTC' in row 1"),
        (["2024-01-31T12:00:00", "2024-01-31T12:00:01Z"], r"row 2.*'UTC' here, no zone in row 1"),
        (
            ["2024-10-27T02:00:00+02:00", "2024-10-27T02:00:00+01:00", "2024-10-27T03:00:00"],
            r"row 3.*no zone here, '\+02:00' in row 1",
        ),
    ],
)
def test_mixed_zones_are_refused(texts, said):
    with pytest.raises(DataError, match=f"x.csv, {said}.*Write all timestamps in one zone"):
        parse(texts)


def test_offsets_that_change_with_daylight_saving_are_exact_instants():
    times = parse(["2025-10-26T02:55:00+02:00", "2025-10-26T02:00:00+01:00"])
    assert times.values.astype(str).tolist() == [
        "2025-10-26T00:55:00.000000000",
        "2025-10-26T01:00:00.000000000",
    ]
    assert times.zone == "+02:00"
    check_order(times.values, place=PLACE, name="timestamp")


@pytest.mark.parametrize("end", [" UTC", "UTC", " GMT", "Z"])
def test_a_zone_by_its_name(end):
    times = parse([f"2024-01-31 12:00:00{end}", f"2024-01-31 12:00:01{end}"])
    assert seconds(times) == [NOON, NOON + 1]
    assert times.zone == "UTC"


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (
            [46023.0, 46023.003472, 46023.006944],
            r"row 1.*46023 looks like a day of a spreadsheet \(2026-01-01\).*origin='1899-12-30'",
        ),
        ([20454.0, 20455.0], r"20454 looks like a day of a spreadsheet \(1955-12-31\)"),
        ([20240131, 20240201], r"row 1.*20240131 looks like a date.*format=.%Y%m%d."),
        ([29_453_760, 29_453_765], r"would be 1970-12-07 .*--ignore-column timestamp"),
        (
            [1767225600, 1767225900, 1767226200000],
            r"row 3.*1767226200000 looks like milliseconds since 1970, but other rows like "
            r"seconds since 1970\. Write all rows in one unit; if they are, name .*--unit s",
        ),
        ([1767225600, 0], "row 2.*: 0 looks like seconds elapsed, but other rows like seconds s"),
        ([0, 1767225600], "row 1.*: 0 looks like seconds elapsed, but other rows like seconds s"),
    ],
)
@pytest.mark.parametrize("kind", [pa.float64(), pa.string()])
def test_numbers_that_are_no_epoch_are_refused_with_a_remedy(values, said, kind):
    if kind == pa.string():
        values = list(map(str, values))
        if values[0].startswith("20240131"):
            return  # text of eight digits is a day
    else:
        said = said.replace("1767226200000", r"1767226200000\.0").replace(": 0", r": 0\.0")
    with pytest.raises(DataError, match=f"x.csv, .*{said}"):
        parse(values, kind)


def test_numbers_that_begin_near_zero_are_seconds_elapsed():
    assert parse([0.5, 60.5, 1e6]).counted == Counted("s", elapsed=True)
    assert seconds(parse([46023.0, 46024.0], unit="s")) == [46023, 46024]


def test_spellings_of_utc_are_one_zone():
    times = parse(["2024-01-31T12:00:00Z", "2024-01-31T12:00:01+00:00", "2024-01-31T12:00:02+0000"])
    assert seconds(times) == [NOON, NOON + 1, NOON + 2]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (["2024-01-31T12:00:00Z", "soon"], "row 2.*mixed zones"),
        (["2024-01-31", "soon"], "row 2, column 'timestamp': 'soon' is not a timestamp"),
        (["17", "soon"], "row 2, column 'timestamp': 'soon' is not a timestamp"),
        (["2024-13-01"], "row 1, column 'timestamp': '2024-13-01' is not a timestamp"),
        (["2024-01-31", ""], "row 2, column 'timestamp': the timestamp is missing"),
        (["2024-01-31", None], "row 2, column 'timestamp': the timestamp is missing"),
        ([1.0, float("nan")], "row 2, column 'timestamp': 'nan' is not a timestamp"),
        ([1.0, float("inf")], "row 2, column 'timestamp': 'inf' is not a timestamp"),
        (["1066-10-14"], "row 1, column 'timestamp': a timestamp is outside the years"),
        ([True], "bool cannot be read as timestamps"),
    ],
)
def test_unreadable_timestamps_name_the_row(values, said):
    with pytest.raises(DataError, match=said):
        parse(values)


def test_a_magnitude_beyond_the_unit_is_refused():
    with pytest.raises(DataError, match=r"row 2.*outside the years.*--unit"):
        parse([0, 10**12], unit="s")
    with pytest.raises(DataError, match="outside the years"):
        parse([2**63], pa.uint64())
    with pytest.raises(UsageError, match="unknown unit 'h'"):
        parse([0], unit="h")


def test_order_is_checked_across_a_border():
    times = np.array([1, 2, 3], dtype="datetime64[ns]")
    check_order(times, place=PLACE, name="t")
    check_order(times, place=PLACE, name="t", previous=np.datetime64(0, "ns"))
    with pytest.raises(DataError, match=r"row 11, column 't': duplicate timestamp.* in row 10"):
        check_order(times, place=Place("x", 10), name="t", previous=np.datetime64(1, "ns"))
    with pytest.raises(DataError, match=r"row 13.*unsorted timestamps.* in row 12"):
        check_order(times[[0, 2, 1]], place=Place("x", 10), name="t")


TIMES = [datetime(2024, 1, 31, 12), datetime(2024, 1, 31, 13)]
AWARE = [when.replace(tzinfo=UTC) for when in TIMES]


@pytest.mark.parametrize(
    "column",
    [
        pd.Series(TIMES),
        pd.Series(AWARE),
        pd.Series(AWARE, dtype=object),
        pd.Series(pd.to_datetime(TIMES)).astype("datetime64[s]"),
        pd.Series(pd.to_datetime(AWARE)).dt.tz_convert("Europe/Berlin"),
        pd.Series([when.isoformat() for when in AWARE]),
        pd.Series([when.isoformat() for when in AWARE], dtype="category"),
        pd.Series([NOON, NOON + 3600]),
        pd.Series([float(NOON), NOON + 3600.0]),
        pl.Series(TIMES),
        pl.Series(TIMES).dt.replace_time_zone("UTC").dt.convert_time_zone("America/New_York"),
        pl.Series([when.isoformat() for when in TIMES]),
        pa.chunked_array([pa.array(TIMES)]),
    ],
    ids=lambda column: str(getattr(column, "dtype", "arrow")),
)
def test_timestamp_columns_of_every_library(column):
    if isinstance(column, pd.Series):
        table = pd.DataFrame({"timestamp": column, "a": [1.0, 2.0]})
    elif isinstance(column, pl.Series):
        table = pl.DataFrame({"timestamp": column, "a": [1.0, 2.0]})
    else:
        table = pa.table({"timestamp": column, "a": [1.0, 2.0]})
    frame = frame_from(table)
    assert frame.timestamps.dtype == np.dtype("datetime64[ns]")
    assert frame.timestamps.view(np.int64).tolist() == [NOON * 10**9, (NOON + 3600) * 10**9]
    assert frame.channels == ("a",)


def test_the_zone_is_remembered():
    index = pd.date_range("2024", periods=2, tz="Europe/Berlin")
    frame = frame_from(pd.DataFrame({"a": [1.0, 2]}, index=index))
    assert frame.zone == "Europe/Berlin"
    assert frame.timestamps[0] == np.datetime64("2023-12-31T23:00:00")
    assert frame_from(pd.DataFrame({"a": [1.0]}, index=index[:1].tz_convert("UTC"))).zone is None


def test_mixed_objects_are_refused():
    column = pd.Series([TIMES[0], AWARE[1]], dtype=object)
    with pytest.raises(DataError, match="mixed zones"):
        frame_from(pd.DataFrame({"timestamp": column, "a": [1, 2]}))
    column = pd.Series([date(2024, 1, 31), 5], dtype=object)
    with pytest.raises(DataError, match="several forms"):
        frame_from(pd.DataFrame({"timestamp": column, "a": [1, 2]}))


def test_sorting_keeps_the_last_of_equal_timestamps():
    table = pd.DataFrame({"timestamp": [3, 1, 2, 1], "a": [30.0, 10.0, 20.0, 11.0]})
    with pytest.raises(DataError, match=r"row 2.*unsorted.*--sort"):
        frame_from(table)
    with pytest.warns(DataWarning, match=r"1 rows share .* the first is row 2"):
        frame = frame_from(table, sort=True)
    assert frame.values[:, 0].tolist() == [11, 20, 30]
    assert frame.timestamps.astype("datetime64[s]").astype(int).tolist() == [1, 2, 3]
    assert frame.rows is None


def test_sorting_many_rows_is_stable():
    seconds_ = np.random.default_rng(0).integers(0, 50, 5000)
    table = pl.DataFrame({"timestamp": seconds_, "a": np.arange(5000.0)})
    with pytest.warns(DataWarning, match="4950 rows share"):
        frame = frame_from(table, sort=True)
    last = [np.flatnonzero(seconds_ == second)[-1] for second in range(50)]
    assert frame.values[:, 0].tolist() == last


def test_duplicates_name_both_rows():
    table = pd.DataFrame({"timestamp": [1, 2, 2], "a": [1.0, 2.0, 2.0]})
    with pytest.raises(DataError, match=r"row 3.*duplicate timestamp 1970-01-01T00:00:02Z.*row 2"):
        frame_from(table)
