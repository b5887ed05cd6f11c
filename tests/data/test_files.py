"""Files of every form, read to frames worked out by hand, and written to be read again."""

import gzip
import json
import string

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imdiffusion.data.files import read, read_pieces
from imdiffusion.data.frame import Frame
from imdiffusion.data.layout import FileOptions
from imdiffusion.data.writing import write_table
from imdiffusion.errors import DataError, DataWarning, UsageError

NAN = float("nan")
FORMS = [".csv", ".csv.gz", ".parquet", ".jsonl", ".ndjson"]


def same(left, right):
    np.testing.assert_array_equal(left, right)


def minutes(*at):
    return np.array([np.datetime64("2024-01-31T12:00", "ns") + np.timedelta64(m, "m") for m in at])


@pytest.fixture(name="write")
def _write(tmp_path):
    def write(text, name="x.csv"):
        path = tmp_path / name
        data = text if isinstance(text, bytes) else text.encode()
        path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
        return path

    return write


WIDE = """\
timestamp,cpu,memory busy
2024-01-31T12:00:00Z,0.5,1
2024-01-31T12:01:00Z,,NaN
2024-01-31T12:02:00Z,1e-3,-3
"""


@pytest.mark.parametrize("name", ["x.csv", "x.csv.gz", "X.CSV"])
def test_wide_csv(write, name):
    frame = read(write(WIDE, name))
    same(frame.values, [[0.5, 1], [NAN, NAN], [0.001, -3]])
    same(frame.observed, [[True, True], [False, False], [True, True]])
    same(frame.timestamps, minutes(0, 1, 2))
    assert frame.channels == ("cpu", "memory busy")
    assert (frame.entity, frame.kind, frame.rows, frame.zone) == (None, "pyarrow", None, None)


@pytest.mark.parametrize(
    "text",
    [
        "\ufeff" + WIDE,
        WIDE.replace("\n", "\r\n"),
        "\n" + WIDE.replace("\n", "\n\n"),
        WIDE.rstrip("\n"),
        WIDE.replace("cpu,memory busy", ' cpu,"memory busy"'),
        WIDE.replace("2024-01-31T12:01:00Z,,NaN", "2024-01-31T12:01:00Z,null,NA"),
        WIDE.replace("2024-01-31T12:01:00Z,,NaN", '2024-01-31T12:01:00Z,"",None'),
        WIDE.replace("0.5,1", "+0.50,01"),
    ],
    ids=["BOM", "CRLF", "blank lines", "no last line end", "quoted", "NA", "None", "signs"],
)
def test_dialects_of_csv(write, text):
    frame = read(write(text))
    same(frame.values, [[0.5, 1], [NAN, NAN], [0.001, -3]])
    assert frame.channels == ("cpu", "memory busy")


def test_one_column_may_have_empty_lines(write):
    same(read(write("a\n1\n\n3\n")).values, [[1], [NAN], [3]])


def test_booleans_in_csv(write):
    same(read(write("up,a\ntrue,1\n,2\nFalse,3\n")).values, [[1, 1], [NAN, 2], [0, 3]])


def test_pandas_numbers_its_columns(write):
    assert read(write("0,1\n5,6\n")).channels == ("0", "1")


def test_a_column_may_be_empty_for_long_before_its_first_number(write):
    lines = "\n".join(f"{k},," for k in range(60_000))
    frame = read(write(f"timestamp,late,never\n{lines}\n60000,0.5,\n"))
    assert frame.values[-1, 0] == 0.5
    assert frame.observed.sum() == 1


def test_wide_json(write):
    lines = [
        {"timestamp": "2024-01-31T12:00:00Z", "a": 1, "b": True},
        {"timestamp": "2024-01-31T12:01:00Z", "a": None},
        {"timestamp": "2024-01-31T12:02:00Z", "b": NAN, "late": 2.5},
        {"timestamp": "2024-01-31T12:03:00Z", "a": 10**30, "late": "NaN"},
    ]
    for form in (".jsonl", ".ndjson", ".jsonl.gz"):
        frame = read(write("\n\n".join(map(json.dumps, lines)), f"x{form}"))
        assert frame.channels == ("a", "b", "late")
        same(frame.values, [[1, 1, NAN], [NAN, NAN, NAN], [NAN, NAN, 2.5], [1e30, NAN, NAN]])
        same(frame.timestamps, minutes(0, 1, 2, 3))


def test_json_numbers_as_timestamps(write):
    frame = read(
        write('{"timestamp": 1706702400000, "a": 1}\n{"timestamp": 1706702460000}', "x.jsonl")
    )
    same(frame.timestamps, minutes(0, 1))


def test_parquet_keeps_single_precision(tmp_path):
    table = pa.table(
        {"a": pa.array([0.1, None], pa.float32()), "b.c": pa.array([1, 2], pa.float32())}
    )
    pq.write_table(table, tmp_path / "x.parquet")
    frame = read(tmp_path / "x.parquet")
    assert frame.values.dtype == np.float32
    assert frame.channels == ("a", "b.c")
    same(frame.values, np.array([[0.1, 1], [NAN, 2]], np.float32))


def test_parquet_of_pandas_with_an_index(tmp_path):
    index = pd.date_range("2024-01-31T12:00", periods=2, freq="min", tz="UTC")
    pd.DataFrame({"a": [1, 2]}, index=index).to_parquet(tmp_path / "times.parquet")
    frame = read(tmp_path / "times.parquet")
    same(frame.timestamps, minutes(0, 1))
    assert frame.channels == ("a",)
    pd.DataFrame({"a": [1, 2]}, index=[5, 9]).to_parquet(tmp_path / "numbers.parquet")
    assert read(tmp_path / "numbers.parquet").channels == ("a",)


LONG = """\
timestamp,channel,value
2024-01-31T12:00:00Z,cpu,1
2024-01-31T12:00:00Z,disk,10
2024-01-31T12:01:00Z,disk,11
2024-01-31T12:02:00Z,cpu,
2024-01-31T12:02:00Z,disk,12
"""


def test_long_csv(write):
    frame = read(write(LONG))
    assert isinstance(frame, Frame)
    assert frame.channels == ("cpu", "disk")
    same(frame.values, [[1, 10], [NAN, 11], [NAN, 12]])
    same(frame.timestamps, minutes(0, 1, 2))


def test_long_rows_may_come_channel_by_channel(write):
    head, *lines = LONG.splitlines()
    frame = read(write("\n".join([head, *sorted(lines, key=lambda line: line.split(",")[1])])))
    same(frame.values, [[1, 10], [NAN, 11], [NAN, 12]])


def test_entities_of_a_long_file(write):
    text = "entity,timestamp,channel,value\nb,0,x,1\na,0,y,2\na,5,y,3\nb,0,y,4\n"
    for name in ("x.csv", "x.csv.gz"):
        frames = read(write(text, name))
        assert list(frames) == ["b", "a"]
        assert frames["b"].channels == ("x", "y")
        same(frames["b"].values, [[1, 4]])
        assert frames["a"].channels == ("y",)
        same(frames["a"].values, [[2], [3]])
        assert frames["a"].entity == "a"


def test_entities_of_a_wide_file(write):
    text = "entity,timestamp,x\n2,0,1\n1,0,2\n2,1,3\n1,7,4\n"
    frames = read(write(text))
    assert list(frames) == ["2", "1"]
    same(frames["2"].values, [[1], [3]])
    same(frames["1"].timestamps.astype("datetime64[s]").astype(int), [0, 7])
    frames = read(write('{"entity": 2, "x": 1}\n{"entity": 1, "x": 2}\n', "x.jsonl"))
    assert list(frames) == ["2", "1"]
    frames = read(write(text.replace("entity", "host")), FileOptions(entity_column="host"))
    assert list(frames) == ["2", "1"]
    assert list(read(write("entity,x\none,1\n"))) == ["one"]


def test_options(write):
    text = "when,a,note,label\n5,1,x,0\n3,2,y,1\n3,3,z,1\n"
    options = FileOptions(timestamp="when", unit="ms", ignore_columns=("note", "label"), sort=True)
    with pytest.warns(DataWarning, match="1 rows share their timestamp"):
        frame = read(write(text), options)
    assert frame.channels == ("a",)
    same(frame.timestamps.astype("datetime64[ms]").astype(int), [3, 5])
    same(frame.values, [[3], [1]])
    with pytest.warns(DataWarning, match="no column 'lable' to leave out"):
        read(write("a\n1\n"), FileOptions(ignore_columns=("lable",)))


def test_the_layout_can_be_forced(write):
    numbers = "timestamp,channel,value\n0,1,5\n1,2,6\n"
    assert read(write(numbers)).channels == ("1", "2")
    wide = read(write(numbers), FileOptions(layout="wide"))
    assert wide.channels == ("channel", "value")
    with pytest.raises(DataError, match=r"column 'channel': there is no such column"):
        read(write(WIDE), FileOptions(layout="long"))
    with pytest.raises(UsageError, match="unknown layout 'tall'"):
        read(write(WIDE), FileOptions(layout="tall"))


def test_sorted_long_rows_keep_the_last_value(write):
    text = "timestamp,channel,value\n1,a,5\n0,a,6\n1,a,7\n"
    with pytest.warns(DataWarning, match="1 values are replaced by later ones"):
        frame = read(write(text), FileOptions(sort=True))
    same(frame.values, [[6], [7]])


# -- round trips

TAKEN = {"timestamp", "entity", "nan", "inf", "infinity"}
names = st.text(string.ascii_letters + "é_. ", min_size=1, max_size=6).map(str.strip)
channels = st.lists(
    names.filter(lambda name: name and name.lower() not in TAKEN),
    min_size=1, max_size=4, unique=True,
)  # fmt: skip
cells = st.floats(allow_infinity=False, width=64) | st.just(NAN) | st.integers(-5, 5).map(float)


@st.composite
def frames(draw):
    columns = draw(channels)
    rows = draw(st.integers(1, 6))
    steps = draw(st.lists(st.integers(1, 10**12), min_size=rows, max_size=rows))
    times = (np.cumsum(steps) + 1_706_702_400 * 10**9).view("datetime64[ns]")
    values = np.array(
        draw(st.lists(st.lists(cells, min_size=len(columns), max_size=len(columns)),
                      min_size=rows, max_size=rows))
    )  # fmt: skip
    return Frame(values, ~np.isnan(values), times, tuple(columns))


quick = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.mark.parametrize("form", FORMS)
@quick
@given(frame=frames())
def test_wide_files_read_back_what_was_written(tmp_path, form, frame):
    columns = {"timestamp": pa.array(frame.timestamps, pa.timestamp("ns", "UTC"))}
    columns |= {name: frame.values[:, k] for k, name in enumerate(frame.channels)}
    path = tmp_path / f"x{form}"
    write_table(pa.table(columns), path)
    back = read(path)
    same(back.values, frame.values)
    same(back.observed, frame.observed)
    same(back.timestamps, frame.timestamps)
    assert back.channels == frame.channels
    for size in (1, 2, 100):
        pieces = list(read_pieces(path, rows=size))
        assert all(len(piece) == size for piece in pieces[:-1])
        same(np.concatenate([piece.values for piece in pieces]), back.values)
        same(np.concatenate([piece.timestamps for piece in pieces]), back.timestamps)


@pytest.mark.parametrize("form", FORMS)
@quick
@given(frame=frames(), seed=st.integers(0, 99))
def test_long_files_read_back_what_was_written(tmp_path, form, frame, seed):
    rows, k = frame.values.shape
    entity = seed % 2 == 1
    columns = {"entity": ["e"] * (rows * k)} if entity else {}
    columns |= {
        "timestamp": pa.array(np.repeat(frame.timestamps, k), pa.timestamp("ns", "UTC")),
        "channel": list(frame.channels) * rows,
        "value": frame.values.ravel(),
    }
    path = tmp_path / f"x{form}"
    write_table(pa.table(columns), path)
    back = read(path)["e"] if entity else read(path)
    same(back.values, frame.values)
    same(back.timestamps, frame.timestamps)
    assert back.channels == frame.channels
    for size in (1, 3):
        pieces = list(read_pieces(path, rows=size))
        assert all(len(piece) == size for piece in pieces[:-1])
        same(np.concatenate([piece.values for piece in pieces]), back.values)
        assert all(piece.channels == frame.channels for piece in pieces)
        assert all(piece.entity == back.entity for piece in pieces)
