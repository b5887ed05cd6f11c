"""The CSV files of spreadsheets and tools, read to the frame that a plain file gives."""

import gzip

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imdiffusion.data.columns import decimal_mark, dialect_of
from imdiffusion.data.files import read, read_pieces
from imdiffusion.data.frame import concat
from imdiffusion.data.layout import FileOptions
from imdiffusion.errors import DataError

TIME = "2026-01-01T00:00:00Z"
LATER = "2026-01-01T00:05:00Z"
FILES = {
    "plain": f"timestamp,cpu,mem\n{TIME},50.1,3992\n{LATER},51,3993\n",
    "semicolons": f"timestamp;cpu;mem\n{TIME};50.1;3992\n{LATER};51;3993\n",
    "decimal commas": f"timestamp;cpu;mem\n{TIME};50,1;3992,0\n{LATER};51;3993,0\n",
    "tabs": f"timestamp\tcpu\tmem\n{TIME}\t50.1\t3992\n{LATER}\t51\t3993\n",
    "bars": f"timestamp|cpu|mem\n{TIME}|50.1|3992\n{LATER}|51|3993\n",
    "comments": "# by a tool\n#\n\n# v2, of 2026\n"
    f"timestamp,cpu,mem\n{TIME},50.1,3992\n{LATER},51,3993\n",
    "header in a comment": f"# of numpy\n# timestamp,cpu,mem\n{TIME},50.1,3992\n{LATER},51,3993\n",
    "quoted header": f'"timestamp","cpu","mem"\n"{TIME}",50.1,3992\n"{LATER}",51,3993\n',
    "sep line": f"sep=,\ntimestamp,cpu,mem\n{TIME},50.1,3992\n{LATER},51,3993\n",
    "sep line of semicolons": '\ufeff"sep=;"\r\n'
    f'timestamp;cpu;mem\r\n{TIME};"50,1";3992\r\n{LATER};51;3993\r\n',
    "trailing comma": f"timestamp,cpu,mem,\n{TIME},50.1,3992,\n{LATER},51,3993,\n",
    "trailing comma of the header": f"timestamp,cpu,mem,\n{TIME},50.1,3992\n{LATER},51,3993\n",
    "trailing comma of the rows": f"timestamp,cpu,mem\n{TIME},50.1,3992,\n{LATER},51,3993,\n",
    "by name": "timestamp,cpu,mem\n2026-01-01 00:00:00 UTC,50.1,3992\n"
    "2026-01-01 00:05:00 UTC,51,3993\n",
    "two offsets": "timestamp,cpu,mem\n2026-01-01T01:00:00+01:00,50.1,3992\n"
    "2026-01-01T00:05:00+00:00,51,3993\n",
    "epoch with commas": "timestamp;cpu;mem\n1767225600,0;50,1;3992\n1767225900,0;51;3993\n",
}


@pytest.mark.parametrize("form", FILES)
@pytest.mark.parametrize("zipped", [False, True])
def test_every_dialect_is_the_same_series(tmp_path, form, zipped):
    data = FILES[form].encode()
    path = tmp_path / ("x.csv.gz" if zipped else "x.csv")
    path.write_bytes(gzip.compress(data) if zipped else data)
    for frame in (read(path), *(concat(list(read_pieces(path, rows=n))) for n in (1, 2, 3))):
        assert frame.channels == ("cpu", "mem")
        np.testing.assert_array_equal(frame.values, [[50.1, 3992], [51, 3993]])
        assert frame.timestamps.astype("datetime64[s]").astype(np.int64).tolist() == [
            1767225600,
            1767225900,
        ]


CELLS = st.one_of(st.none(), st.integers(-(10**6), 10**6), st.floats(-1e9, 1e9, width=32))


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=12),
    st.sampled_from([(",", "."), (";", "."), (";", ","), ("\t", ","), ("\t", "."), ("|", ",")]),
    st.sampled_from(["", "# a comment\n", "sep={}\n"]),
    st.booleans(),
)
def test_what_is_written_in_a_dialect_is_read_back(tmp_path_factory, rows, marks, head, trailing):
    separator, decimal = marks
    end = separator if trailing else ""
    text = head.format(separator) + separator.join(["a", "b"]) + end + "\n"
    for row in rows:
        cells = ["" if cell is None else repr(cell).replace(".", decimal) for cell in row]
        text += separator.join(cells) + end + "\n"
    path = tmp_path_factory.mktemp("x") / "x.csv"
    path.write_text(text)
    wanted = np.array([[np.nan if cell is None else cell for cell in row] for row in rows], float)
    whole, pieces = read(path), concat(list(read_pieces(path, rows=5)))
    np.testing.assert_array_equal(whole.values, wanted)
    np.testing.assert_array_equal(pieces.values, wanted)


def test_a_decimal_comma_may_come_late(tmp_path):
    path = tmp_path / "x.csv"
    lines = [f"{k};{k}" for k in range(5000)]
    path.write_text("\n".join(["a;b", *lines, "1,5;2", "x,5;3"]))
    with pytest.raises(DataError, match=r"row 5002 \(line 5003\), column 'a': 'x,5' is not a num"):
        read(path)
    path.write_text("\n".join(["a;b", *lines, "1,5;2"]))
    assert read(path).values[-1].tolist() == [1.5, 2]
    path.write_text("a;b\n1,5;2\n1.5;2\n")
    with pytest.raises(DataError, match=r"row 2 \(line 3\), column 'a': '1.5' is not a number"):
        read(path)


def test_a_value_in_a_column_without_a_name_is_refused(tmp_path):
    path = tmp_path / "x.csv"
    rows = "".join(f"{k},{k},\n" for k in range(300))
    path.write_text("a,b,\n" + rows + "1,2,late\n")
    for reading in (lambda: read(path), lambda: list(read_pieces(path, rows=7))):
        with pytest.raises(DataError, match=r"row 301 \(line 302\): 'late' is in a column"):
            reading()
    path.write_text("a,b,\n1,2,3\n")
    with pytest.raises(DataError, match="column 3 has no name"):
        read(path)


def test_the_line_of_a_row_counts_what_stands_before_the_header(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("# one\nsep=;\n\na;b\n1;2\n\n3;oops\n")
    with pytest.raises(DataError, match=r"row 2 \(line 7\), column 'b': 'oops'"):
        read(path)


def test_entities_and_long_files_in_a_dialect(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text(f"entity;timestamp;channel;value\nx;{TIME};a;1,5\ny;{TIME};a;2,5\n")
    frames = read(path)
    assert [frames[name].values.tolist() for name in ("x", "y")] == [[[1.5]], [[2.5]]]
    path.write_text("time;a\nx;1\n")
    options = FileOptions(ignore_columns=("time",))
    assert read(path, options).values.tolist() == [[1]]


def test_what_looks_like_another_dialect_and_is_not():
    assert dialect_of(["a;b,c\n", "1,2\n"]).separator == ","
    assert dialect_of(["a\n", "1\n"]).separator == ","
    assert dialect_of(["# only a comment\n"]).skipped == 1
    assert dialect_of(["#,a\n", "x,1\n"]).names is None
    assert decimal_mark([b"a;b\n", b"31.12.2025;7\n", b"x;7,25\r\n"], ";") == ","
    assert decimal_mark([b"1,5\n"], ",") == "."
