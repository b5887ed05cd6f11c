"""Tables written to files: their text, and nothing half-written."""

import datetime as dt
import gzip
import json
import subprocess
import sys

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from imdiffusion.data.frame import table_like
from imdiffusion.data.writing import write_table
from imdiffusion.errors import DataError, OutputError, UsageError

EVENTS = {
    "entity": ["web, 1", 'say "hi"'],
    "start": np.array(["2024-01-31T12:00:00", "2024-01-31T12:00:00.25"], "datetime64[ns]"),
    "score": np.array([1.5, np.nan]),
    "count": np.array([1, 2]),
    "alarm": np.array([True, False]),
    "channels": [["a", "é"], []],
    "shares": [[0.75, np.nan], []],
}
CSV = '''\
entity,start,score,count,alarm,channels,shares
"web, 1","2024-01-31T12:00:00.000Z",1.5,1,true,"[""a"", ""é""]","[0.75, null]"
"say ""hi""","2024-01-31T12:00:00.250Z",,2,false,"[]","[]"
'''


@pytest.mark.parametrize("kind", ["pyarrow", "pandas", "polars"])
def test_events_as_text(tmp_path, kind):
    table = table_like(kind, EVENTS)
    write_table(table, tmp_path / "x.csv")
    assert (tmp_path / "x.csv").read_text() == CSV
    write_table(table, tmp_path / "x.csv.gz")
    assert gzip.decompress((tmp_path / "x.csv.gz").read_bytes()).decode() == CSV
    write_table(table, tmp_path / "x.jsonl")
    first, second = map(json.loads, (tmp_path / "x.jsonl").read_text().splitlines())
    assert first == {
        "entity": "web, 1", "start": "2024-01-31T12:00:00.000Z", "score": 1.5, "count": 1,
        "alarm": True, "channels": ["a", "é"], "shares": [0.75, None],
    }  # fmt: skip
    assert second["score"] is None
    write_table(table, tmp_path / "x.parquet")
    assert pq.read_table(tmp_path / "x.parquet")["channels"].to_pylist() == [["a", "é"], []]


def test_plain_text_is_not_quoted(tmp_path):
    table = pa.table({"timestamp": pa.array([0], pa.timestamp("s", "UTC")), "a": [0.1]})
    write_table(table, tmp_path / "x.csv")
    assert (tmp_path / "x.csv").read_text() == "timestamp,a\n1970-01-01T00:00:00Z,0.1\n"


def test_rarer_types_have_a_text(tmp_path):
    table = pa.table({
        "day": [dt.date(2024, 1, 31)],
        "time": [dt.time(12, 30)],
        "length": [dt.timedelta(seconds=1.5)],
        "name": pa.array(["x"]).dictionary_encode(),
        "money": pa.array([1]).cast(pa.decimal128(21, 2)),
        "naive": pa.array([dt.datetime(2024, 1, 31)]),
        "nothing": pa.nulls(1),
    })  # fmt: skip
    write_table(table, tmp_path / "x.jsonl")
    row = json.loads((tmp_path / "x.jsonl").read_text())
    assert row["day"] == "2024-01-31"
    assert row["length"] == 1.5
    assert (row["name"], row["money"], row["nothing"]) == ("x", 1, None)
    assert row["naive"] == "2024-01-31T00:00:00Z"
    write_table(table, tmp_path / "x.csv")


def test_empty_tables_have_a_header(tmp_path):
    table = table_like("numpy", {"a": np.zeros(0), "start": np.array([], "datetime64[ns]")})
    write_table(table, tmp_path / "x.csv")
    assert (tmp_path / "x.csv").read_text() == "a,start\n"
    write_table(table, tmp_path / "x.jsonl")
    assert (tmp_path / "x.jsonl").read_text() == ""


def test_what_cannot_be_written(tmp_path):
    table = pl.DataFrame({"a": [1]})
    with pytest.raises(UsageError, match=r"x.xlsx has no suffix of a known form.*\.csv"):
        write_table(table, tmp_path / "x.xlsx")
    with pytest.raises(OutputError, match="Make its folder first"):
        write_table(table, tmp_path / "absent" / "x.csv")
    with pytest.raises(UsageError, match="a list is not a table"):
        write_table([1], tmp_path / "x.csv")
    with pytest.raises(DataError, match="mixes several types"):
        write_table(pd.DataFrame({"a": [1, "x", b"y"]}), tmp_path / "x.csv")
    assert list(tmp_path.iterdir()) == []


PROGRAM = """
import resource, sys
import numpy as np, pyarrow as pa
from imdiffusion.data.writing import write_table
from imdiffusion.errors import OutputError
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
x = np.random.default_rng(0).normal(size=9000)
for name in sys.argv[1:]:
    try:
        write_table(pa.table({"a": x}), name)
    except OutputError as error:
        print(error)
"""


def test_a_file_that_cannot_grow_leaves_nothing(tmp_path):
    names = ["x.csv", "x.csv.gz", "x.parquet", "x.jsonl"]
    (tmp_path / "x.csv").write_text("before")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *names],
        cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    lines = done.stdout.splitlines()
    assert len(lines) == 4, done
    for name, line in zip(names, lines, strict=True):
        assert line.startswith(f"cannot write {name}: ")
        assert "ulimit" in line
    assert [path.name for path in tmp_path.iterdir()] == ["x.csv"]
    assert (tmp_path / "x.csv").read_text() == "before"


@pytest.mark.parametrize("form", [".csv", ".csv.gz", ".parquet", ".jsonl"])
def test_a_full_device(tmp_path, form, full_device):
    link = tmp_path / f"x{form}"
    link.symlink_to(full_device)
    with pytest.raises(OutputError, match=r"No space left on device.*Free some space"):
        write_table(pa.table({"a": np.arange(9000.0)}), link)
    assert link.is_symlink()
    assert full_device.is_char_device()
