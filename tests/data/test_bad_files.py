"""What cannot be read is refused with the file, the row, the column and what to do."""

import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from imdiffusion.data.files import read, read_pieces
from imdiffusion.data.layout import FileOptions
from imdiffusion.errors import DataError


def both(path, options=FileOptions()):  # noqa: B008
    """The message of reading it whole; reading it in pieces must be refused too."""
    with pytest.raises(DataError) as whole:
        read(path, options)
    with pytest.raises(DataError):
        list(read_pieces(path, rows=2, options=options))
    assert str(path) in str(whole.value)
    assert whole.value.remedy
    return str(whole.value)


ROWS = "timestamp,cpu,disk\n0,1,2\n1,3,4\n\n2,5,6\n"  # data row 3 stands in line 5


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "is empty"),
        ("\n\n", "is empty"),
        ("timestamp,cpu\n", "a header and no rows"),
        ("timestamp,cpu", "a header and no rows"),
        ("timestamp\n1\n", "no numeric column"),
        ("name,town\nbob,rome\n", "no numeric column ('name', 'town' hold text)"),
        ("0.5,1.5\n2,3\n", "the first line holds numbers"),
        (",cpu\n0,1\n", "column 1 has no name"),
        ("cpu,cpu\n0,1\n", "two columns have the name 'cpu'"),
        (ROWS + "3,abc,8\n", "row 4 (line 6), column 'cpu': 'abc' is not a number"),
        (ROWS + '3,"1,5",8\n', "row 4 (line 6), column 'cpu': '1,5' is not a number"),
        (ROWS + "3, ,8\n", "row 4 (line 6), column 'cpu': ' ' is not a number"),
        (ROWS + "3,0x1F,8\n", "row 4 (line 6), column 'cpu': '0x1F' is not a number"),
        (ROWS + "3,inf,8\n", "row 4 (line 6), column 'cpu': inf is infinite"),
        (ROWS + "3,7,-Infinity\n", "row 4 (line 6), column 'disk': -inf is infinite"),
        (ROWS + "3,7\n", "row 4 (line 6): 2 values where the header names 3 columns"),
        (ROWS + "3,7,8,9\n", "row 4 (line 6): 4 values where the header names 3 columns"),
        (ROWS + '3,"7\n",8\n', "line 6: a value goes over several lines"),
        (ROWS + "2,7,8\n", "row 4 (line 6), column 'timestamp': duplicate timestamp"),
        (ROWS + "1.5,7,8\n", "row 4 (line 6), column 'timestamp': unsorted timestamps"),
        (ROWS + ",7,8\n", "row 4 (line 6), column 'timestamp': the timestamp is missing"),
        (ROWS + "x,7,8\n", "row 4 (line 6), column 'timestamp': 'x' is not a timestamp"),
        ("up,a\ntrue,1\nmaybe,2\n", "row 2 (line 3), column 'up': 'maybe' is not a number"),
        (ROWS.encode() + b"3,\xe9t\xe9,8\n", "line 6: not UTF-8 (byte 0xe9)"),
        ("température,a\n1,2\n".encode("latin-1"), "line 1: not UTF-8 (byte 0xe9)"),
        (ROWS.encode("utf-16"), "line 1: not UTF-8"),
        ("entity,a\nx,1\n,2\n", "row 2 (line 3), column 'entity': the name is missing"),
        (
            "timestamp,channel,value\n0,a,1\n0,a,2\n",
            "row 2 (line 3), column 'timestamp': duplicate timestamp 1970-01-01T00:00:00Z of "
            "channel 'a' in row 1 (line 2)",
        ),
        (
            "timestamp,channel,value\n5,a,1\n0,a,2\n",
            "row 2 (line 3), column 'timestamp': unsorted timestamps",
        ),
        ("timestamp,channel,value\n0,a,x\n", "no numeric column ('value' hold text)"),
        ("timestamp,channel,value\n0,a,1\n1,a,x\n", "row 2 (line 3), column 'value': 'x' is not"),
        ("timestamp,channel,value\n0,a,inf\n", "row 1 (line 2), column 'a': inf is infinite"),
        ("timestamp,channel,value\n0,,1\n", "row 1 (line 2), column 'channel': the name is miss"),
    ],
)
@pytest.mark.parametrize("name", ["x.csv", "x.csv.gz"])
def test_bad_csv(tmp_path, content, said, name):
    data = content if isinstance(content, bytes) else content.encode()
    path = tmp_path / name
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    assert said in both(path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("\n\n", "holds no rows"),
        ('{"timestamp": 0, "a": 1}\n\n{"timestamp": 1, "a":\n', "row 2 (line 3): broken JSON"),
        ('{"a": 1}\n{"a": 2', "row 2 (line 2): broken JSON"),
        ('{"a": 1}\n[2]\n', "row 2 (line 2): not a JSON object"),
        ('[\n{"a": 1}\n]', "row 1 (line 1): broken JSON"),
        ('{"a": 1}\n{"a": "x"}\n', "row 2 (line 2), column 'a': 'x' is not a number"),
        ('{"a": 1}\n{"a": "2"}\n', "row 2 (line 2), column 'a': '2' is not a number"),
        ('{"a": 1}\n{"a": [2]}\n', "row 2 (line 2), column 'a': '[2]' is not a number"),
        ('{"a": {"b": 1}}\n', "row 1 (line 1), column 'a'"),
        ('{"a": 1}\n{"a": Infinity}\n', "row 2 (line 2), column 'a': inf is infinite"),
        ('{"timestamp": 1, "a": 1}\n{"a": 1}\n', "row 2 (line 2), column 'timestamp': the timesta"),
        ('{"timestamp": 1, "a": 1}\n{"timestamp": "x", "a": 1}\n', "row 2 (line 2), column 'times"),
        ('{"timestamp": 1}\n', "no numeric column"),
        (b'{"a": "\xe9"}\n', "row 1 (line 1): not UTF-8"),
        (b'{"entity": "x", "a": 1}\n{"entity": "\xe9"}\n', "row 2 (line 2): not UTF-8"),
    ],
)
def test_bad_json(tmp_path, content, said):
    path = tmp_path / "x.jsonl"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert said in both(path)


def test_a_line_is_counted_in_a_long_file(tmp_path):
    rows = [{"timestamp": k, "a": k / 7} for k in range(200_000)]
    rows[150_000]["a"] = "oops"
    path = tmp_path / "x.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(DataError, match=r"row 150001 \(line 150001\), column 'a': 'oops'"):
        read(path)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"a": [1], "b": ["x"]}, "row 1, column 'b': 'x' is not a number"),
        ({"a": [1.0, float("inf")]}, "row 2, column 'a': inf is infinite"),
        ({"a": pa.array([], pa.float64())}, "holds no rows"),
        ({"timestamp": [1, 1], "a": [1, 2]}, "row 2, column 'timestamp': duplicate timestamp"),
        ({"a": ["x"]}, "no numeric column ('a' hold text)"),
    ],
)
def test_bad_parquet(tmp_path, table, said):
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table(table), path)
    assert said in both(path)


@pytest.mark.parametrize("part", [0.3, 0.9, 0.999])
def test_a_truncated_parquet(tmp_path, part):
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"a": [k / 7 for k in range(5000)]}), path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * part)])
    assert "truncated, damaged or no Parquet file" in both(path)


def test_a_parquet_damaged_inside(tmp_path):
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"a": [k / 7 for k in range(5000)]}), path)
    data = bytearray(path.read_bytes())
    data[4:2000] = bytes(1996)
    path.write_bytes(data)
    assert "truncated, damaged or no Parquet file" in both(path)


@pytest.mark.parametrize("name", ["x.csv.gz", "x.jsonl.gz"])
def test_bad_gzip(tmp_path, name):
    path = tmp_path / name
    line = '{"a": 1.5}\n' if "json" in name else "1.5,2\n"
    text = ("" if "json" in name else "a,b\n") + "".join(
        line.replace("1.5", str(k / 7)) for k in range(9000)
    )
    whole = gzip.compress(text.encode())
    for content in (b"no gzip at all\n" * 50, whole[: len(whole) // 2], whole[:-3]):
        path.write_bytes(content)
        assert "damaged or no gzip file" in both(path)
    broken = bytearray(whole)
    broken[len(broken) // 2] ^= 255
    path.write_bytes(broken)
    with pytest.raises(DataError):
        read(path)


def test_places_that_are_no_file(tmp_path):
    assert "there is no file" in both(tmp_path / "absent.csv")
    assert "there is no file" in both(tmp_path / "absent" / "absent.csv")
    assert "is a folder, not a file. Name a file in it" in both(tmp_path)
    (tmp_path / "x.xlsx").write_bytes(b"x")
    assert "no suffix of a known form. Give a file that ends in .csv, " in both(tmp_path / "x.xlsx")
    (tmp_path / "x.parquet").write_bytes(b"")
    assert "is empty" in both(tmp_path / "x.parquet")


def test_columns_that_are_asked_for_and_absent(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text(ROWS)
    said = both(path, FileOptions(timestamp="when"))
    assert "column 'when': there is no such column" in said
    assert "'timestamp', 'cpu', 'disk'" in said
    path.write_text("timestamp,channel,value,extra\n0,a,1,2\n")
    said = both(path, FileOptions(layout="long"))
    assert "column 'extra': a long file has no place for it" in said
