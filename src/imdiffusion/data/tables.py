"""Tables of the caller's own kind: narwhals in the middle, pandas and polars never imported."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from datetime import date
from typing import Any

import narwhals as nw
import numpy as np
import pyarrow as pa

from imdiffusion.data.named_columns import SAMPLE, USUAL, find_time, warn_of_times
from imdiffusion.data.place import Place
from imdiffusion.errors import DataError, UsageError

KINDS = ("numpy", "pandas", "polars", "pyarrow")


def table_like(
    kind: str, columns: Mapping[str, Any], *, types: Mapping[str, Any] | None = None
) -> Any:
    """A table of the caller's kind ("numpy" gives pyarrow) from arrays or lists (n,), by name.

    A datetime64 array is taken as UTC and becomes a zoned column. A list of lists becomes a column
    of lists. `types` names the pyarrow type of a column whose values may not tell it: an empty
    list has no type. Raises UsageError for an unknown kind.
    """
    if kind not in KINDS:
        raise UsageError(
            f"unknown kind of table {kind!r}", remedy=f"Use one of {', '.join(KINDS)}."
        )
    types = types or {}
    table = pa.table(
        {name: _arrow_column(values, types.get(name)) for name, values in columns.items()}
    )
    if kind == "polars":
        return nw.from_native(table, eager_only=True).to_polars()
    if kind == "pandas":
        return _pandas(table)
    return table


def arrow_table(table: Any) -> pa.Table:
    """Any eager or lazy table that narwhals knows -> pyarrow.

    Raises UsageError for another object, DataError where columns cannot be converted.
    """
    if isinstance(table, pa.Table):
        return table
    if isinstance(table, pa.RecordBatch):
        return pa.Table.from_batches([table])
    frame = nw.from_native(table, pass_through=True)
    if isinstance(frame, nw.LazyFrame):
        frame = frame.collect()
    if not isinstance(frame, nw.DataFrame):
        raise UsageError(
            f"a {type(table).__name__} is not a table",
            remedy="Give a pandas, polars or pyarrow table.",
        )
    try:
        return frame.to_arrow()
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise DataError(
            f"a column mixes several types: {error}", remedy="Give each column one type."
        ) from error


def table_of(x: Any) -> nw.DataFrame[Any] | None:
    """A table or series of any kind as narwhals sees it; None for what is not one.

    A lazy table is collected. Raises DataError for a column name that stands twice, UsageError for
    a path or a dict.
    """
    if isinstance(x, str | os.PathLike | dict):
        raise UsageError(
            f"a {type(x).__name__} is not one series",
            remedy="Read a path with imdiffusion.read; take one entity of a dict at a time.",
        )
    if isinstance(x, pa.RecordBatch):
        x = pa.Table.from_batches([x])
    try:
        native = nw.from_native(x, pass_through=True, allow_series=True)
    except nw.exceptions.DuplicateError as error:
        raise DataError(str(error), remedy="Give every column a name of its own.") from error
    if isinstance(native, nw.LazyFrame):
        return native.collect()
    if isinstance(native, nw.Series):
        return native.alias(native.name or "c0").to_frame()
    return native if isinstance(native, nw.DataFrame) else None


def kind_of(table: nw.DataFrame[Any]) -> str:
    """The kind of a table: "pandas", "polars", or "pyarrow" for whatever else."""
    if table.implementation.is_pandas():
        return "pandas"
    return "polars" if table.implementation.is_polars() else "pyarrow"


def times_column(
    table: nw.DataFrame[Any],
    timestamp: str | None,
    *,
    others: Collection[str] = (),
    sort: bool = False,
) -> tuple[str, Any] | None:
    """Name and pyarrow array of the timestamps of a table: its column, or a pandas index.

    others: columns of which it is said what they are for. Without the usual "timestamp", a column
    that shows itself as the time is taken (`named_columns`). None if `timestamp` is None or there
    are none. Raises DataError where another column was asked for and is absent, or two show.
    """
    if timestamp is None:
        return None
    unsaid = [name for name in table.columns if name not in others and name != timestamp]

    def sample(name: str) -> Any:
        return _arrow_times(table[name].head(SAMPLE), name)

    if timestamp in table.columns:
        warn_of_times(unsaid, sample, place=Place())
        return timestamp, _arrow_times(table[timestamp], timestamp)
    index = nw.maybe_get_index(table)
    if index is not None and getattr(index, "nlevels", 1) == 1:
        series = nw.from_native(index.to_series(), series_only=True)
        if isinstance(series.dtype, nw.Datetime) or index.name == timestamp:
            warn_of_times(unsaid, sample, place=Place())
            return timestamp, _arrow_times(series, timestamp)
    if timestamp != USUAL:
        raise DataError(
            f"there is no column {timestamp!r} for the timestamps",
            remedy=f"The columns are {', '.join(map(repr, table.columns))}.",
        )
    dated = [name for name in unsaid if isinstance(table.schema[name], nw.Datetime | nw.Date)]
    found = find_time(unsaid, sample, dated=dated, sort=sort, place=Place())
    return None if found is None else (found, _arrow_times(table[found], found))


def _arrow_times(series: nw.Series[Any], name: str) -> Any:
    if series.dtype != nw.Object:
        return series.to_arrow()
    texts = [value.isoformat() if isinstance(value, date) else value for value in series.to_list()]
    try:
        return pa.array(texts, from_pandas=True)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise DataError(
            f"column {name!r} mixes several forms of timestamps: {error}",
            remedy="Write all of them in one form, best as ISO 8601 with a zone.",
        ) from error


def _arrow_column(values: Any, kind: Any) -> Any:
    if isinstance(values, np.ndarray):
        if values.dtype.kind == "M":
            instants = values.astype("datetime64[ns]")
            return pa.array(instants, pa.timestamp("ns", "UTC"))
        if values.dtype.kind in "OU":
            values = values.tolist()
    elif isinstance(values, Sequence) and not isinstance(values, str):
        values = [list(value) if isinstance(value, tuple) else value for value in values]
    return pa.array(values, kind)


def _pandas(table: pa.Table) -> Any:
    """pandas, with Python lists (not arrays) in columns of lists."""
    lists = [field.name for field in table.schema if pa.types.is_list(field.type)]
    frame = nw.from_native(table.drop_columns(lists), eager_only=True).to_pandas()
    for name in lists:
        column = frame.index.to_series().astype(object)
        for row, value in enumerate(table[name].to_pylist()):
            column.iat[row] = value
        frame.insert(table.schema.get_field_index(name), name, column)
    return frame
