"""Every form of input becomes the same frame; what cannot is refused by row and column."""

from decimal import Decimal

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from imdiffusion.data.frame import Frame, frame_from
from imdiffusion.errors import DataError, DataWarning, UsageError

NAN = float("nan")


def same(left, right):
    np.testing.assert_array_equal(left, right)


# -- arrays


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_float_arrays_are_not_copied(kind):
    x = np.arange(6, dtype=kind).reshape(3, 2)
    frame = frame_from(x)
    assert frame.values is x
    assert frame.channels == ("c0", "c1")
    assert frame.observed.all()
    assert (frame.timestamps, frame.rows, frame.kind) == (None, None, "numpy")
    assert (len(frame), frame.length, frame.width) == (3, 3, 2)


@pytest.mark.parametrize(
    ("x", "expected", "kind"),
    [
        (np.array([1, 2]), [[1], [2]], np.float64),
        (np.array([True, False]), [[1], [0]], np.float64),
        (np.array([[1.5]], dtype=np.float16), [[1.5]], np.float32),
        (np.array([[1.5]], dtype=">f8"), [[1.5]], np.float64),
        ([[1, None], [Decimal("2.5"), True]], [[1, NAN], [2.5, 1]], np.float64),
        (np.ma.masked_array([1, 2], mask=[False, True]), [[1], [NAN]], np.float64),
    ],
)
def test_other_arrays_become_floats(x, expected, kind):
    frame = frame_from(x)
    same(frame.values, expected)
    assert frame.values.dtype == kind
    assert frame.values.dtype.isnative
    same(frame.observed, ~np.isnan(np.array(expected, dtype=float)))


@pytest.mark.parametrize(
    ("x", "said"),
    [
        (np.zeros((2, 2, 2)), r"shape \(2, 2, 2\)"),
        (np.float64(1), r"shape \(\)"),
        (np.zeros((0, 3)), "no rows"),
        (np.zeros((3, 0)), "no numeric column"),
        (np.zeros(3, dtype=complex), "complex128 does not hold real numbers"),
        (np.array([[1.0, 2.0], [3.0, np.inf]]), "row 2, column 'c1': inf is infinite.*NaN"),
        (np.array([[1.0, 2.0], [-np.inf, 3.0]]), "row 2, column 'c0': -inf is infinite"),
        ([[1, 10**400]], "row 1, column 'c1': inf is infinite"),
        ([[1, "x"]], "row 1, column 'c0': '1' is not a number"),
        (np.array([[1, "x"]], dtype=object), "row 1, column 'c1': 'x' is not a number"),
        ([[1, 2], [3]], "cannot be read as an array"),
        (np.zeros(2, dtype="datetime64[s]"), "does not hold real numbers"),
    ],
)
def test_unusable_arrays(x, said):
    with pytest.raises(DataError, match=said):
        frame_from(x)


def test_an_infinity_far_down_is_named():
    x = np.zeros((70_000, 2))
    x[69_998, 1] = -np.inf
    with pytest.raises(DataError, match="row 69999, column 'c1': -inf is infinite"):
        frame_from(x)


def test_names_for_an_array():
    assert frame_from(np.zeros((2, 2)), channels=["a", "b"]).channels == ("a", "b")
    with pytest.raises(UsageError, match="1 channel names for 2 columns"):
        frame_from(np.zeros((2, 2)), channels=["a"])
    with pytest.raises(DataError, match="'a': two columns have this name"):
        frame_from(np.zeros((2, 2)), channels=["a", "a"])


@pytest.mark.parametrize("x", ["train.csv", {"a": np.zeros(3)}])
def test_paths_and_dicts_are_not_one_series(x):
    with pytest.raises(UsageError, match=r"is not one series.*imdiffusion\.read"):
        frame_from(x)


# -- tables

COLUMNS = {
    "whole": [1, 2, None],
    "real": [0.5, None, NAN],
    "yes": [True, None, False],
    "money": [Decimal("1.25"), None, Decimal("-3")],
    "never": [None, None, None],
}
VALUES = [[1, 0.5, 1, 1.25, NAN], [2, NAN, NAN, NAN, NAN], [NAN, NAN, 0, -3, NAN]]


@pytest.mark.parametrize(
    ("table", "kind"),
    [
        (pd.DataFrame(COLUMNS), "pandas"),
        (pd.DataFrame(COLUMNS).convert_dtypes(), "pandas"),
        (pd.DataFrame(COLUMNS).convert_dtypes(dtype_backend="pyarrow"), "pandas"),
        (pl.DataFrame(COLUMNS, strict=False), "polars"),
        (pl.LazyFrame(COLUMNS, strict=False), "polars"),
        (pa.table(COLUMNS), "pyarrow"),
        (pa.RecordBatch.from_pydict(COLUMNS), "pyarrow"),
    ],
    ids=["pandas", "nullable", "pandas-arrow", "polars", "lazy", "arrow", "batch"],
)
def test_tables_of_every_library(table, kind):
    frame = frame_from(table)
    same(frame.values, VALUES)
    same(frame.observed, ~np.isnan(VALUES))
    assert frame.channels == tuple(COLUMNS)
    assert frame.kind == kind
    assert frame.values.dtype == np.float64


@pytest.mark.parametrize("make", [pd.DataFrame, pl.DataFrame, pa.table])
def test_single_precision_stays(make):
    x = {"a": np.array([1, 2], np.float32), "b": np.array([3, 4], np.float32)}
    assert frame_from(make(x)).values.dtype == np.float32
    x["b"] = x["b"].astype(np.float64)
    assert frame_from(make(x)).values.dtype == np.float64


@pytest.mark.parametrize(
    "series",
    [pd.Series([1.0, 2.0], name="cpu"), pl.Series("cpu", [1.0, 2.0])],
    ids=["pandas", "polars"],
)
def test_a_series_is_one_channel(series):
    frame = frame_from(series)
    assert frame.channels == ("cpu",)
    same(frame.values, [[1], [2]])


def test_a_pandas_index_of_datetimes_gives_timestamps():
    index = pd.date_range("2024-01-31", periods=2, freq="h")
    for x in (pd.DataFrame({0: [1.0, 2]}, index=index), pd.Series([1.0, 2], index=index)):
        frame = frame_from(x)
        same(frame.timestamps, np.array(["2024-01-31T00", "2024-01-31T01"], "datetime64[ns]"))
    assert frame_from(pd.DataFrame({0: [1.0, 2]})).channels == ("0",)
    frame = frame_from(pd.DataFrame({"a": [1.0, 2]}, index=pd.Index([7, 8], name="at")),
                       timestamp="at")  # fmt: skip
    assert frame.timestamps[0] == np.datetime64(7, "s")


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (pd.DataFrame({"a": [1, 2], "b": ["x", "y"]}), r"row 1, column 'b': 'x' is not a number"),
        (pd.DataFrame({"a": [1, "x"]}), "row 2, column 'a': 'x' is not a number"),
        (pl.DataFrame({"a": [1, 2], "b": [None, "y"]}), "row 2, column 'b': 'y' is not a number"),
        (pa.table({"a": [1], "b": [[1.0]]}), "row 1, column 'b'.* is not a number"),
        (pl.DataFrame({"timestamp": [1, 2]}), "no numeric column"),
        (pl.DataFrame({"a": ["x"], "b": ["y"]}), r"no numeric column \('a', 'b' hold text\)"),
        (pl.DataFrame({"a": []}, schema={"a": pl.Float64}), "no rows"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "'a'"),
        (pd.DataFrame({1: [1], "1": [2]}), "'1': two columns have this name"),
        (pd.DataFrame({"a": [1.0, np.inf]}), "row 2, column 'a': inf is infinite"),
    ],
)
def test_unusable_tables(table, said):
    with pytest.raises(DataError, match=said):
        frame_from(table)


def test_text_is_ignored_when_named():
    table = pl.DataFrame({"a": [1.0], "name": ["x"]})
    with pytest.raises(DataError, match="--ignore-column name"):
        frame_from(table)
    assert frame_from(table, ignore_columns=["name"]).channels == ("a",)
    with pytest.warns(DataWarning, match="no column 'nam' to leave out"):
        frame_from(table, ignore_columns=["name", "nam"])


def test_chosen_columns_of_a_table():
    table = pl.DataFrame({"a": [1.0], "b": [2.0], "name": ["x"]})
    assert frame_from(table, channels=["b", "a"]).values.tolist() == [[2, 1]]
    with pytest.raises(UsageError, match=r"no column 'c'.*a, b, name"):
        frame_from(table, channels=["c"])


def test_the_timestamp_column_is_an_option():
    table = pl.DataFrame({"time": [10, 20], "a": [1.0, 2.0]})
    assert frame_from(table, timestamp="time").channels == ("a",)
    assert frame_from(table).channels == ("time", "a")
    assert frame_from(table, timestamp=None).timestamps is None
    with pytest.raises(DataError, match=r"no column 'when'.*'time', 'a'"):
        frame_from(table, timestamp="when")


def test_a_frame_passes_through():
    frame = frame_from(np.zeros((2, 2)))
    assert frame_from(frame) is frame
    assert frame_from(frame, entity="e").entity == "e"
    assert frame_from(frame, channels=["c1"]).channels == ("c1",)


@given(hnp.arrays(np.float64, st.tuples(st.integers(1, 5), st.integers(1, 4)),
                  elements=st.floats(allow_infinity=False)))  # fmt: skip
def test_every_library_gives_the_same_frame(x):
    columns = {f"c{k}": x[:, k] for k in range(x.shape[1])}
    for table in (pd.DataFrame(columns), pl.DataFrame(columns), pa.table(columns)):
        frame = frame_from(table)
        same(frame.values, x)
        same(frame.observed, ~np.isnan(x))
        assert frame.channels == frame_from(x).channels


# -- the frame itself


def test_select_reorders_and_makes_up_the_missing():
    frame = Frame(np.array([[1.0, NAN]]), np.array([[True, False]]), None, ("a", "b"))
    chosen = frame.select(["b", "x", "a"])
    same(chosen.values, [[NAN, NAN, 1]])
    same(chosen.observed, [[False, False, True]])
    assert chosen.channels == ("b", "x", "a")
    assert frame.select(("a", "b")) is frame


def test_slices_share_memory_and_know_their_rows():
    frame = frame_from(pd.DataFrame({"timestamp": [1, 2, 3, 4], "a": [1.0, 2, 3, 4]}))
    part = frame.slice(1, 3)
    assert part.values.base is not None
    same(part.rows, [1, 2])
    same(part.slice(1).rows, [2])
    assert part.time_of(0) == np.datetime64(2, "s")
    assert frame_from(np.zeros(3)).time_of(2) == 2


def test_the_period_is_the_median():
    frame = frame_from(pd.DataFrame({"timestamp": [0.0, 0.25, 0.5, 9.0], "a": [1.0, 2, 3, 4]}))
    assert frame.period == np.timedelta64(250, "ms")
    assert frame.slice(0, 1).period is None
    assert frame_from(np.zeros(3)).period is None
