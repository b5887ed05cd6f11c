"""Write a table to a file that appears whole or not at all."""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as arrow_csv
import pyarrow.parquet as parquet

from imdiffusion.data.atomic import atomic_path
from imdiffusion.data.tables import arrow_table
from imdiffusion.errors import UsageError

_ROWS = 65536  # rows turned into text at once
_EFFORT = 5  # of gzip: a fifth of the time of 9, for a few per cent more bytes


def write_table(table: Any, path: str | Path) -> None:
    """Write a pandas, polars or pyarrow table as .csv, .csv.gz, .parquet, .jsonl or .ndjson.

    Timestamps become ISO 8601 in UTC with as many digits as they need, NaN an empty field in CSV
    and null in JSON; lists become JSON text in CSV. Raises OutputError where the file cannot be
    written, leaving nothing half-written; UsageError for another suffix.
    """
    path = Path(path)
    write = next((how for end, how in _WRITERS.items() if path.name.lower().endswith(end)), None)
    if write is None:
        raise UsageError(
            f"{path} has no suffix of a known form",
            remedy=f"Name a file that ends in {', '.join(_WRITERS)}.",
        )
    arrow = arrow_table(table)
    with atomic_path(path) as draft:
        write(arrow, draft)


def _write_parquet(table: pa.Table, path: Path) -> None:
    parquet.write_table(table, path)


def _write_csv(table: pa.Table, path: Path) -> None:
    with path.open("wb") as file:
        _csv_into(table, file)


def _write_csv_gz(table: pa.Table, path: Path) -> None:
    with path.open("wb") as file, gzip.GzipFile("", "wb", _EFFORT, file, mtime=0) as zipped:
        _csv_into(table, zipped)


def _csv_into(table: pa.Table, file: Any) -> None:
    header = io.StringIO()
    csv.writer(header, lineterminator="\n").writerow(table.column_names)
    file.write(header.getvalue().encode())
    for start in range(0, len(table), _ROWS):
        piece = table.slice(start, _ROWS)
        columns = {name: _plain(piece[name], lists=_json_text) for name in piece.column_names}
        file.write(_csv_text(pa.table(columns)))


def _csv_text(table: pa.Table) -> bytes:
    """Lines of CSV, in quotes only where something in the table needs them."""
    for style in ("none", "needed"):
        text = io.BytesIO()
        options = arrow_csv.WriteOptions(include_header=False, quoting_style=style)
        try:
            arrow_csv.write_csv(table, text, options)
        except pa.ArrowInvalid:  # a comma, a quote or a line break in some text
            if style == "needed":
                raise
        else:
            break
    return text.getvalue()


def _write_json(table: pa.Table, path: Path) -> None:
    with path.open("w", encoding="utf-8") as file:
        for start in range(0, len(table), _ROWS):
            piece = table.slice(start, _ROWS)
            columns = {name: _plain(piece[name], lists=_without_nan) for name in piece.column_names}
            rows = zip(*(column.to_pylist() for column in columns.values()), strict=True)
            for row in rows:
                cells = dict(zip(columns, row, strict=True))
                file.write(json.dumps(cells, ensure_ascii=False, allow_nan=False) + "\n")


_WRITERS: dict[str, Callable[[pa.Table, Path], None]] = {
    ".csv": _write_csv,
    ".csv.gz": _write_csv_gz,
    ".parquet": _write_parquet,
    ".jsonl": _write_json,
    ".ndjson": _write_json,
}


def _plain(column: Any, *, lists: Callable[[Any], Any]) -> Any:
    """A column as numbers, booleans and text that read back as they were; NaN becomes null."""
    kind = column.type
    if pa.types.is_floating(kind):
        return pc.if_else(pc.is_finite(column), column, None)
    if pa.types.is_timestamp(kind):
        return _iso(column)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return lists(column)
    if pa.types.is_dictionary(kind):
        return column.cast(kind.value_type)
    if pa.types.is_decimal(kind):
        return column.cast(pa.float64())
    if pa.types.is_duration(kind):
        return pc.divide(column.cast(pa.duration("ns")).cast(pa.int64()).cast(pa.float64()), 1e9)
    return column.cast(pa.string()) if pa.types.is_temporal(kind) else column


def _iso(column: Any) -> Any:
    """Timestamps as text, in the coarsest of s, ms, us, ns that keeps all of them."""
    instants = column.cast(pa.timestamp("ns", "UTC"))
    for unit in ("s", "ms", "us"):
        coarse = instants.cast(pa.timestamp(unit, "UTC"), safe=False)
        if coarse.cast(instants.type).equals(instants):
            instants = coarse
            break
    return pc.strftime(instants, format="%Y-%m-%dT%H:%M:%SZ")


def _json_text(column: Any) -> Any:
    cells = _clean_lists(column)
    texts = [None if cell is None else json.dumps(cell, ensure_ascii=False) for cell in cells]
    return pa.array(texts, pa.string())


def _without_nan(column: Any) -> Any:
    return pa.array(_clean_lists(column), column.type)


def _clean_lists(column: Any) -> list[Any]:
    return [
        cell if cell is None else [_null_if_nan(value) for value in cell]
        for cell in column.to_pylist()
    ]


def _null_if_nan(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
