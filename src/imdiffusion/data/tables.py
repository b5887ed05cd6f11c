"""Tables of the caller's own kind: narwhals in the middle, pandas and polars never imported."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import date
from typing import Any

import narwhals as nw
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from imdiffusion.arrays import Flags, Floats, Reals
from imdiffusion.data.columns import IGNORE, NUMBER, Place
from imdiffusion.data.timestamps import SHEET_DAYS, are_days_as_numbers, plausible_epoch
from imdiffusion.errors import DataError, DataWarning, UsageError

USUAL = "timestamp"  # the name of the time that needs no saying
# Letters and digits of a name, lower case: "@timestamp", "Date Time" and "event_time" are found.
TIME_NAMES = frozenset(
    (
        *("time", "times", "ts", "date", "dates", "datetime", "timestamp", "timestamps", "ds"),
        *("epoch", "epochtime", "epochseconds", "epochms", "unix", "unixtime", "unixtimestamp"),
        *("utc", "utctime", "timeutc", "dateutc", "datetimeutc", "timestamputc", "eventtime"),
        *("timems", "timens", "timestampms", "timestampns", "localtime", "recordedat"),
        *("createdat", "measuredat", "readat"),
    )
)
LABEL_NAMES = frozenset(
    (
        *("label", "labels", "anomaly", "isanomaly", "anomalous", "isanomalous", "outlier"),
        *("isoutlier", "attack", "isattack", "target", "groundtruth", "gt", "class", "fault"),
        *("isfault", "isattacked", "changepoint", "anomalylabel", "attacklabel"),
    )
)
SAMPLE = 1_000  # rows that tell what a column holds
_SHUFFLED = 0.25  # share of steps back in time above which numbers are in no order
_WORDS = {word for one in ("true", "false") for word in (one, one.title(), one.upper())}
_LABELS = {-1.0, 0.0, 1.0}
_UNITS = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}

Column = Any  # a pyarrow array


def find_time(
    columns: Iterable[str],
    sample: Callable[[str], Column],
    *,
    dated: Collection[str] = (),
    sort: bool = False,
    place: Place,
) -> str | None:
    """The column that holds the time, of those without an option; None for none.

    sample: the first rows of a column. dated: columns whose own type is a date or time. sort: rows
    may stand in any order. Says with DataWarning which one it is; DataError where two could be.
    """
    found: dict[str, str] = {}
    for name in columns:
        if name in dated:
            found[name] = "dates"
        elif _plain(name) in TIME_NAMES:
            held = _held(name, sample(name))
            if held.endswith("epoch") and not sort and _is_shuffled(sample(name)):
                how = f"--timestamp {name} --sort"
                _warn_of_channel(name, f"{held}, out of order", place, how)
            elif held:
                found[name] = held
    if not found:
        return None
    first, *others = found
    if others:
        both = " and ".join(f"{name!r} ({held})" for name, held in found.items())
        raise DataError(
            place.says(f"any of the columns {both} could be the time"),
            remedy=f"Name the one, for instance --timestamp {first} (timestamp={first!r}), and "
            f"leave out the others (--ignore-column {others[0]}); if they are parts of one time, "
            "join them in one column.",
        )
    warnings.warn(
        place.says(
            f"column {first!r} is read as the time ({found[first]}). Say so with --timestamp "
            f"{first} (timestamp={first!r}), or {IGNORE.format(name=first)}"
        ),
        DataWarning,
        stacklevel=4,
    )
    return first


def warn_of_times(columns: Iterable[str], sample: Callable[[str], Column], *, place: Place) -> None:
    """Say with DataWarning which columns hold epoch time, though another one is the time."""
    for name in columns:
        if _plain(name) in TIME_NAMES:
            held = _held(name, sample(name))
            if held.endswith("epoch"):
                _warn_of_channel(name, held, place)


def warn_of_labels(channels: Iterable[str], values: Reals, observed: Flags) -> None:
    """Say with DataWarning which channels of values (T, K) look like labels: 0/1, by their name."""
    for k, name in enumerate(channels):
        if _plain(name) not in LABEL_NAMES or not observed[:, k].any():
            continue
        if set(np.unique(values[observed[:, k], k]).tolist()) <= _LABELS:
            warnings.warn(
                f"the 0/1 column {name!r} is read as a channel. If it holds labels, "
                f"{IGNORE.format(name=name)}",
                DataWarning,
                stacklevel=4,
            )


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", str(name).lower())


def _held(name: str, column: Column) -> str:
    """What of a time a column holds, for messages; "" where it holds none."""
    column = _without_empty(column)
    if not len(column):
        return ""
    if pa.types.is_timestamp(column.type) or pa.types.is_date(column.type):
        return "dates"
    numbers = _numbers(column)
    if numbers is None:
        is_text = pa.types.is_string(column.type) and not set(column.to_pylist()) <= _WORDS
        return "times as text" if is_text else ""
    if are_days_as_numbers(numbers):
        return "dates as numbers"
    unit = plausible_epoch(numbers)
    if unit is not None:
        return f"{_UNITS[unit]} since the epoch"
    low, high = SHEET_DAYS
    days = bool(((numbers >= low) & (numbers < high)).all())
    rising = len(numbers) > 1 and bool((np.diff(numbers) >= 0).all() and numbers[-1] > numbers[0])
    told = "date" in name.lower() or "stamp" in name.lower() or bool((numbers % 1).any())
    return "days of a spreadsheet" if days and rising and told else ""


def _is_shuffled(column: Column) -> bool:
    numbers = _numbers(_without_empty(column))
    back = np.diff(numbers if numbers is not None else np.empty(0)) < 0
    return bool(len(back) and back.mean() > _SHUFFLED)


def _without_empty(column: Column) -> Column:
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_large_string(column.type) or pa.types.is_string_view(column.type):
        column = column.cast(pa.string())
    if pa.types.is_string(column.type):
        column = pc.utf8_trim_whitespace(column)
        column = column.filter(pc.fill_null(pc.not_equal(column, ""), False))
    return column.drop_null()


def _numbers(column: Column) -> Floats | None:
    """A column of numbers, or of text that holds nothing else, as float64; None for others."""
    kind = column.type
    if pa.types.is_string(kind):
        texts = column.to_pylist()
        if not all(NUMBER.fullmatch(text) for text in texts):
            return None
        numbers = np.array([float(text) for text in texts])
    elif pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        numbers = np.asarray(column.cast(pa.float64(), safe=False).to_numpy())
    else:
        return None
    found: Floats = numbers[np.isfinite(numbers)]
    return found


def _warn_of_channel(name: str, held: str, place: Place, otherwise: str = "") -> None:
    remedy = IGNORE.format(name=name)
    if otherwise:
        remedy = f"read it as the time with {otherwise}, or {remedy}"
    warnings.warn(
        place.says(
            f"column {name!r} looks like {held}, and is read as a channel. To change that, {remedy}"
        ),
        DataWarning,
        stacklevel=5,
    )


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
    that shows itself as the time is taken (`find_time`). None if `timestamp` is None or there
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
