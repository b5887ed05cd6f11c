"""Reading in pieces gives what reading whole gives, in bounded memory, with the same checks."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from imdiffusion.data import csv_source, json_source
from imdiffusion.data.files import read, read_pieces
from imdiffusion.data.frame import concat
from imdiffusion.data.layout import FileOptions
from imdiffusion.data.writing import write_table
from imdiffusion.errors import DataError, UsageError


def same(left, right):
    np.testing.assert_array_equal(left, right)


def put(path, text):
    path.write_text(text)
    return path


def test_types_and_channels_go_across_borders(tmp_path):
    lines = "".join(f"{k},{'' if k < 5 else k + 0.5},{k % 2}\n" for k in range(11))
    path = put(tmp_path / "x.csv", "timestamp,late,b\n" + lines)
    whole = read(path)
    for rows in (1, 3, 5, 11, 12):
        pieces = list(read_pieces(path, rows=rows))
        assert [len(piece) for piece in pieces] == [
            min(rows, 11 - start) for start in range(0, 11, rows)
        ]
        assert all(piece.rows is None for piece in pieces)
        joined = concat(pieces)
        same(joined.values, whole.values)
        same(joined.timestamps, whole.timestamps)
        assert joined.channels == whole.channels


def test_keys_of_json_that_come_late_are_channels_of_every_piece(tmp_path):
    path = put(tmp_path / "x.jsonl", '{"a": 1}\n{"b": 2}\n{"a": 3}\n')
    pieces = list(read_pieces(path, rows=1))
    assert [piece.channels for piece in pieces] == [("a", "b")] * 3
    same(pieces[1].values, [[np.nan, 2]])


def test_channels_of_long_files_that_come_late(tmp_path):
    path = put(tmp_path / "x.csv", "timestamp,channel,value\n0,a,1\n1,a,2\n2,b,3\n")
    pieces = list(read_pieces(path, rows=2))
    assert [piece.channels for piece in pieces] == [("a", "b")] * 2
    same(pieces[0].values, [[1, np.nan], [2, np.nan]])
    same(pieces[1].values, [[np.nan, 3]])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "timestamp,a\n0,1\n1,2\n1,3\n",
            r"row 3 \(line 4\).*duplicate timestamp.*row 2 \(line 3\)",
        ),
        ("timestamp,a\n0,1\n5,2\n3,3\n", r"row 3 \(line 4\).*unsorted timestamps"),
        ("timestamp,a\n0,1\n5,2\n6,inf\n", r"row 3 \(line 4\), column 'a': inf is infinite"),
        ("timestamp,a\n0,1\n5,2\n6,x\n", r"row 3 \(line 4\), column 'a': 'x' is not a number"),
        (
            "timestamp,a\n2024-01-31T12:00Z,1\n2024-01-31T12:01Z,2\n2024-01-31T12:02,3\n",
            r"row 3 \(line 4\).*mixed zones: no zone here, 'UTC' before",
        ),
        ("timestamp,channel,value\n0,a,1\n2,a,1\n1,a,1\n", r"row 3 \(line 4\).*order of time"),
        ("timestamp,channel,value\n0,a,1\n1,a,1\n1,a,1\n", r"row 3 \(line 4\).*a second value"),
    ],
)
def test_checks_go_across_borders(tmp_path, text, said):
    path = put(tmp_path / "x.csv", text)
    for rows in (1, 2, 3):
        if "before" in said and rows == 3:
            continue
        with pytest.raises(DataError, match=said):
            list(read_pieces(path, rows=rows))


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_a_unit_that_changes_is_refused_across_borders(tmp_path, rows):
    path = put(tmp_path / "x.csv", "timestamp,a\n5000000000,1\n20000000000,2\n")
    said = r"row 2 \(line 3\).*20000000000 looks like milliseconds .* other rows like seconds"
    with pytest.raises(DataError, match=said):
        list(read_pieces(path, rows=rows))
    with pytest.raises(DataError, match=said):
        read(path)
    pieces = list(read_pieces(path, rows=1, options=FileOptions(unit="ms")))
    assert pieces[1].timestamps[0] - pieces[0].timestamps[0] == np.timedelta64(15_000_000, "s")


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_seconds_elapsed_go_on_across_borders(tmp_path, rows):
    path = put(tmp_path / "x.csv", "timestamp,a\n0,1\n40000,2\n80000,3\n")
    times = concat(list(read_pieces(path, rows=rows))).timestamps
    same(times, read(path).timestamps)
    path = put(tmp_path / "x.csv", "timestamp,a\n0,1\n1767225600,2\n1767225601,3\n")
    for reading in (lambda: read(path), lambda: list(read_pieces(path, rows=rows))):
        with pytest.raises(DataError, match="looks like seconds"):
            reading()


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_offsets_that_change_go_across_borders(tmp_path, rows):
    lines = "2025-10-26T02:55:00+02:00,1\n2025-10-26T02:00:00+01:00,2\n"
    path = put(tmp_path / "x.csv", "timestamp,a\n" + lines)
    whole, pieces = read(path), list(read_pieces(path, rows=rows))
    same(concat(pieces).timestamps, whole.timestamps)
    assert {piece.zone for piece in pieces} == {whole.zone} == {"+02:00"}


def test_sorted_pieces(tmp_path):
    path = put(tmp_path / "x.csv", "timestamp,a\n2,2\n0,0\n1,1\n")
    pieces = list(read_pieces(path, rows=2, options=FileOptions(sort=True)))
    assert [piece.values[:, 0].tolist() for piece in pieces] == [[0, 1], [2]]


def test_several_entities_are_not_read_in_pieces(tmp_path):
    for text in ("entity,a\nx,1\ny,2\n", "entity,timestamp,channel,value\nx,0,a,1\ny,0,a,2\n"):
        path = put(tmp_path / "x.csv", text)
        with pytest.raises(UsageError, match=r"several entities.*imdiffusion\.read"):
            read_pieces(path)
    path = put(tmp_path / "x.csv", "entity,a\nx,1\nx,2\n")
    assert [piece.entity for piece in read_pieces(path, rows=1)] == ["x", "x"]


def test_a_file_that_is_absent_is_said_at_once(tmp_path):
    with pytest.raises(DataError, match="no file"):
        read_pieces(tmp_path / "x.csv")
    path = put(tmp_path / "x.csv", "a\n1\n")
    with pytest.raises(UsageError, match="at least one row"):
        read_pieces(path, rows=0)


@pytest.mark.parametrize("form", [".csv", ".parquet", ".jsonl"])
def test_only_a_few_blocks_are_held_at_once(tmp_path, form, monkeypatch):
    monkeypatch.setattr(csv_source, "_BLOCK", 1 << 16)  # Arrow reads 32 of them ahead
    monkeypatch.setattr(json_source, "_BLOCK", 1 << 16)
    rows, repeats = 10_000, 40
    block = np.random.default_rng(0).normal(size=(rows, 8)).round(3)
    table = pa.table({f"c{k}": block[:, k] for k in range(8)})
    path = tmp_path / f"x{form}"
    if form == ".parquet":
        with pq.ParquetWriter(path, table.schema) as writer:
            for _ in range(repeats):
                writer.write_table(table)
    else:
        write_table(table, path)
        head, body = path.read_bytes().split(b"\n", 1) if form == ".csv" else (b"", b"")
        path.write_bytes(head + b"\n" + body * repeats if body else path.read_bytes() * repeats)
    held, count = [], 0
    start = pa.total_allocated_bytes()
    for piece in read_pieces(path, rows=4096):
        held.append(pa.total_allocated_bytes() - start)
        count += len(piece)
    assert count == rows * repeats
    whole = count * 8 * 8
    assert max(held) < whole / 2, (max(held), whole)
