"""Rows one by one: their times as the readers of files have them, their frames in any order."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rows_read import cells

from imdiffusion.data.columns import Place
from imdiffusion.data.timestamps import parse_times, unit_of
from imdiffusion.errors import ConfigError, DataError
from imdiffusion.live.connection.record_json import instant_of
from imdiffusion.live.sources.text_rows import Gathering, RowForm, number_of

TIMES = [
    "2024-01-31T12:00:00Z",
    "2024-01-31 12:00:00.5",
    "2024-01-31T12:00:00.123456789+02:00",
    "2024-01-31T12:00:00-0330",
    "1969-12-31T23:59:59.25Z",
    "2024-01-31",
    "20240131",
    "2024-W05-3T12:00:00Z",
    "1700000000",
    " 2024-01-31T12:00:00Z ",
    1_700_000_000,
    1_700_000_000_123,
    1_700_000_000_123_456,
    1_700_000_000_123_456_789,
    1_700_000_000.1,
    -5,
    0,
]


@pytest.mark.parametrize("value", TIMES)
def test_a_time_is_what_it_is_in_a_file(value):
    times = parse_times(pa.array([value]), place=Place(), name="timestamp")
    assert instant_of(value) == int(times.values.astype(np.int64)[0])


@given(st.integers(-(2**62), 2**62), st.sampled_from(["auto", "s", "ms", "us", "ns"]))
def test_numbers_are_what_they_are_in_a_file(value, unit):
    if unit == "auto":  # a file's column says more than one number: it may be refused as of 1970
        unit = unit_of(abs(value))
    try:
        times = parse_times(pa.array([value]), place=Place(), name="timestamp", unit=unit)
    except DataError:
        with pytest.raises(DataError):
            instant_of(value, unit)
    else:
        assert instant_of(value, unit) == instant_of(f"+{value}".replace("+-", "-"), unit)
        assert instant_of(value, unit) == int(times.values.astype(np.int64)[0])


def test_whole_and_broken_numbers_are_told_apart():
    assert instant_of(1, "s") == instant_of(1.0, "s") == 10**9
    assert instant_of(5000) == instant_of(5000.0) == instant_of("5000.0") == 5000 * 10**9


@pytest.mark.parametrize(
    "value",
    [
        *(None, True, "", "now", "2024-02-30T00:00:00Z", "1500-01-01T00:00:00Z", b"2024"),
        *(10**30, -(2**63), float("nan"), float("inf"), 1e300, [], {}),
    ],
)
def test_what_is_no_time_is_refused(value):
    with pytest.raises(DataError, match="timestamp"):
        instant_of(value)


@pytest.mark.parametrize(
    ("value", "number"),
    [(1, 1.0), (True, 1.0), (1.5, 1.5), ("1e3", 1000.0), (" 2 ", 2.0), ("TRUE", 1.0)],
)
def test_numbers(value, number):
    assert number_of(value) == number


@pytest.mark.parametrize("value", [None, "", "NaN", "null", "None", float("nan")])
def test_missing_values(value):
    assert np.isnan(number_of(value))


@pytest.mark.parametrize("value", ["1_0", "inf", "-Infinity", "x", [], {}, 1e999, 10**400])
def test_what_is_no_number(value):
    with pytest.raises(DataError):
        number_of(value)


ROWS = [
    {"entity": entity, "timestamp": 1_700_000_000 + i, **part}
    for entity in ("a", "b")
    for i in range(3)
    for part in ({"x": i}, {"channel": "y", "value": i + 0.5}, {"x": None, "z": 1})
]


@settings(deadline=None)
@given(st.permutations(ROWS))
def test_frames_do_not_depend_on_the_order_of_rows(rows):
    gathering = Gathering(RowForm())
    for row in rows:
        gathering.add_json(json.dumps(row).encode(), "here", "nobody")
    batch = gathering.batch("0")
    assert batch.rejected == ()
    wanted = {}
    for entity in ("a", "b"):
        for i in range(3):
            instant = (1_700_000_000 + i) * 10**9
            wanted |= {
                (entity, instant, "x"): float(i),
                (entity, instant, "y"): i + 0.5,
                (entity, instant, "z"): 1.0,
            }
    assert cells([batch]) == wanted
    for frame in batch.frames:
        assert (np.diff(frame.timestamps) > np.timedelta64(0)).all()


def test_names_are_free_and_some_are_left_out():
    form = RowForm.of_options(entity="host", timestamp="at", unit="ms", ignore=("rack", "zone"))
    gathering = Gathering(form)
    gathering.add({"host": 7, "at": 5, "rack": "r1", "cpu": 1}, "here", "nobody")
    gathering.add({"at": 5, "channel": "zone", "value": "eu"}, "here", "nobody")
    batch = gathering.batch("0")
    assert cells([batch]) == {("7", 5_000_000, "cpu"): 1.0}
    assert batch.rejected == ()
    assert Gathering(form).batch("0") is None
    with pytest.raises(ConfigError, match="a name of its own"):
        RowForm.of_options(entity="at", timestamp="at", unit="ms", ignore=())


def test_rows_with_ever_other_channels_do_not_fill_the_memory():
    gathering = Gathering(RowForm())
    for i in range(500):
        gathering.add({"timestamp": i, **{f"c{i}_{k}": k for k in range(100)}}, "here", "e")
    batch = gathering.batch("0")
    assert len(cells([batch])) == 500 * 100
    assert sum(frame.values.size for frame in batch.frames) < 500 * 100 * 100
    assert [t for frame in batch.frames for t in frame.timestamps.astype(int)] == [
        i * 10**9 for i in range(500)
    ]


def test_endless_names_and_times_are_refused():
    gathering = Gathering(RowForm())
    gathering.add({"timestamp": 1, "x" * 1001: 1, "y" * 1000: 1}, "here", "e")
    gathering.add({"timestamp": 1, "entity": "x" * 1001, "y": 1}, "here", "e")
    gathering.add({"timestamp": "2024-01-31" + " " * 91, "y": 1}, "here", "e")
    batch = gathering.batch("0")
    assert cells([batch]) == {("e", 10**9, "y" * 1000): 1.0}
    assert [said.rpartition(" is ")[2] for said in batch.rejected[:2]] == [
        "longer than 1000 characters"
    ] * 2
    assert batch.rejected[2] == "here: the timestamp has 101 characters"


def test_what_is_told_is_short_and_on_one_line():
    gathering = Gathering(RowForm())
    gathering.add({"timestamp": 1, "a\n" * 500: "x\n" * 500, "b": {}}, "here", "e")
    gathering.add({"timestamp": 1, "entity": ["x\n" * 500]}, "here", "e")
    for said in gathering.rejected:
        assert "\n" not in said
        assert len(said) < 250
    assert gathering.rejected[0].endswith("(and 1 more channels)")
