"""A column that shows itself as the time is the time, and it is said; labels are warned of."""

import warnings

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from imdiffusion.data.files import read, read_pieces
from imdiffusion.data.frame import concat, frame_from
from imdiffusion.data.layout import FileOptions
from imdiffusion.data.tables import warn_of_labels
from imdiffusion.data.writing import write_table
from imdiffusion.errors import DataError, DataWarning

NEW_YEAR = 1_767_225_600  # 2026-01-01T00:00:00Z
SECONDS = NEW_YEAR + 60 * np.arange(5)
TEXTS = [f"2026-01-01 00:0{k}:00" for k in range(5)]
NAMES = [
    "Time",
    "time",
    "ts",
    "date",
    "Date Time",
    "Timestamp",
    "@timestamp",
    "ds",
    "epoch",
    "_time",
]
FORMS = ["csv", "jsonl", "parquet", "pandas", "polars", "pyarrow"]


def given(form, columns, tmp_path):
    """A reader of these columns in one form: takes options, gives a frame."""
    table = pa.table(columns)
    if form in ("pandas", "polars", "pyarrow"):
        native = {"pandas": table.to_pandas, "polars": lambda: pl.from_arrow(table)}
        frame = native.get(form, lambda: table)()
        return lambda **more: frame_from(frame, **more)
    path = tmp_path / f"x.{form}"
    if form == "parquet":
        pq.write_table(table, path)
    else:
        write_table(table, path)
    return lambda **more: read(path, FileOptions(**more))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("values", [SECONDS, SECONDS * 1000.0, TEXTS], ids=["s", "ms", "text"])
def test_a_column_by_such_a_name_is_the_time_and_it_is_said(tmp_path, form, name, values):
    reading = given(form, {"a": [1.0, 3, 2, 5, 4], name: values}, tmp_path)
    said = rf"column '{name}' is read as the time .*--timestamp {name} .*--ignore-column {name}"
    with pytest.warns(DataWarning, match=said) as caught:
        frame = reading()
    assert len(caught) == 1
    assert frame.channels == ("a",)
    assert frame.timestamps.astype("datetime64[s]").astype(int).tolist() == SECONDS.tolist()
    same = reading(timestamp=name)  # named: nothing is said
    np.testing.assert_array_equal(same.timestamps, frame.timestamps)
    if form not in ("csv", "jsonl", "parquet") or not isinstance(values, list):
        assert reading(ignore_columns=(name,)).timestamps is None


@pytest.mark.parametrize("form", ["parquet", "pandas", "polars", "pyarrow"])
def test_dates_by_their_type_under_any_name(tmp_path, form):
    when = pa.array(SECONDS, pa.timestamp("s"))
    reading = given(form, {"when": when, "a": [1.0, 3, 2, 5, 4]}, tmp_path)
    with pytest.warns(DataWarning, match=r"column 'when' is read as the time \(dates\)"):
        assert reading().timestamps[0] == np.datetime64("2026-01-01")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "values",
    [[0.2, 31.0, 0.7, 4.0, 2.2], [120, 80, 4000, 77, 81], [0, 60, 120, 180, 240], [True] * 5],
    ids=["seconds", "milliseconds", "elapsed", "flag"],
)
def test_a_number_that_is_merely_called_time_stays_a_channel(tmp_path, form, values):
    frame = given(form, {"time": values, "a": [1.0, 3, 2, 5, 4]}, tmp_path)()
    assert frame.channels == ("time", "a")
    assert frame.timestamps is None
    assert frame.values[:, 0].tolist() == list(map(float, values))


@pytest.mark.parametrize("form", FORMS)
def test_times_by_a_name_that_says_nothing_are_refused_with_the_remedy(tmp_path, form):
    reading = given(form, {"when": TEXTS, "a": np.arange(5.0)}, tmp_path)
    with pytest.raises(DataError, match=r"not a number\. If it is the time, .*--timestamp when"):
        reading()
    assert reading(timestamp="when").channels == ("a",)


def test_epoch_numbers_in_no_order_are_a_channel_and_it_is_said(tmp_path):
    values = np.random.default_rng(0).permutation(NEW_YEAR + np.arange(50))
    reading = given("csv", {"time": values, "a": np.arange(50.0)}, tmp_path)
    with pytest.warns(DataWarning, match="seconds since the epoch, out of order.*--sort"):
        assert reading().channels == ("time", "a")
    with pytest.warns(DataWarning, match="is read as the time"):
        assert reading(sort=True).channels == ("a",)


@pytest.mark.parametrize("form", FORMS)
def test_two_that_could_be_the_time_are_refused(tmp_path, form):
    clock = [f"00:0{k}:00" for k in range(5)]
    reading = given(
        form, {"date": ["2026-01-01"] * 5, "time": clock, "a": np.arange(5.0)}, tmp_path
    )
    said = r"'date' \(times as text\) and 'time' \(times as text\) could.*--timestamp date .*join"
    with pytest.raises(DataError, match=said):
        reading()
    reading = given(form, {"epoch": SECONDS, "ds": TEXTS, "a": np.arange(5.0)}, tmp_path)
    with pytest.raises(DataError, match=r"'(epoch|ds)' .* and '(epoch|ds)' "):
        reading()
    with pytest.warns(DataWarning, match="'epoch' looks like seconds since the epoch, and is read"):
        assert reading(timestamp="ds").channels == ("epoch", "a")
    assert reading(timestamp="ds", ignore_columns=("epoch",)).channels == ("a",)


@pytest.mark.parametrize("form", FORMS)
def test_the_usual_name_wins_and_another_epoch_is_said(tmp_path, form):
    reading = given(form, {"ts": SECONDS, "timestamp": TEXTS, "a": np.arange(5.0)}, tmp_path)
    with pytest.warns(DataWarning, match=r"'ts' looks like seconds .*read as a channel.*--ignore"):
        assert reading().channels == ("ts", "a")


def test_an_index_of_datetimes_wins():
    table = pd.DataFrame({"ts": SECONDS, "a": 1.0}, index=pd.to_datetime(TEXTS))
    with pytest.warns(DataWarning, match="'ts' looks like seconds since the epoch"):
        assert frame_from(table).channels == ("ts", "a")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert frame_from(table, channels=["a", "ts"]).channels == ("a", "ts")


def test_days_of_a_spreadsheet_by_such_a_name_are_refused(tmp_path):
    days = [46023.0, 46023.003472, 46023.006944]
    for name in ("Date", "time"):
        reading = given("csv", {name: days, "a": [1.0, 2, 3]}, tmp_path)
        with (
            pytest.warns(DataWarning, match="days of a spreadsheet"),
            pytest.raises(DataError, match=r"a day of a spreadsheet \(2026-01-01\)"),
        ):
            reading()
    numbers = [20260101, 20260102, 20260103]
    reading = given("pandas", {"date": numbers, "a": [1.0, 2, 3]}, tmp_path)
    with (
        pytest.warns(DataWarning, match="dates as numbers"),
        pytest.raises(DataError, match="20260101 looks like a date"),
    ):
        reading()


def test_pieces_find_the_time_that_the_whole_finds(tmp_path):
    path = tmp_path / "x.csv"
    rows = "".join(f"{NEW_YEAR + k},{k % 7}\n" for k in range(3000))
    path.write_text("Time,a\n" + rows)
    with pytest.warns(DataWarning, match="read as the time"):
        whole = read(path)
    with pytest.warns(DataWarning, match="read as the time"):
        pieces = concat(list(read_pieces(path, rows=700)))
    np.testing.assert_array_equal(pieces.timestamps, whole.timestamps)
    np.testing.assert_array_equal(pieces.values, whole.values)


def test_long_files_and_entities_by_another_name_of_the_time(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text(f"time,channel,value\n{TEXTS[0]},a,1\n{TEXTS[1]},a,2\n")
    with pytest.warns(DataWarning, match="'time' is read as the time"):
        assert read(path).channels == ("a",)
    path.write_text(f"entity,ts,a\nx,{NEW_YEAR},1\nx,{NEW_YEAR + 1},2\ny,{NEW_YEAR},1\n")
    with pytest.warns(DataWarning, match="'ts' is read as the time"):
        frames = read(path)
    assert [len(frames[name].timestamps) for name in ("x", "y")] == [2, 1]


@pytest.mark.parametrize("name", ["label", "is_anomaly", "Is Anomaly", "attack", "target"])
@pytest.mark.parametrize("values", [[0, 1, 0], [0, 0, np.nan], [1, -1, 1]])
def test_labels_are_warned_of(name, values):
    column = np.array(values, float)[:, None]
    with pytest.warns(DataWarning, match=f"0/1 column '{name}' .*--ignore-column {name}"):
        warn_of_labels([name], column, ~np.isnan(column))


def test_what_is_no_label_is_not_warned_of():
    values = np.array([[0, 0, 0.5], [1, 1, 2]], float)
    warn_of_labels(["labeled_requests", "up", "target"], values, np.ones((2, 3), bool))
    warn_of_labels(["label"], np.full((3, 1), np.nan), np.zeros((3, 1), bool))
