"""`Frame`: the one form in which a multivariate time series travels, and the way into it.

This is the one place that knows numpy, pandas, polars and pyarrow (through narwhals). A frame
shares memory with the caller's array where it can: nothing writes into one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import narwhals as nw
import numpy as np

from imdiffusion.arrays import Flags, Floats, Instants, Ints, Reals
from imdiffusion.data.columns import (
    Place,
    check_channels,
    check_finite,
    check_ignored,
    check_rows,
    chosen_columns,
    matrix_of_array,
    no_numbers,
    numbers_of_series,
)
from imdiffusion.data.tables import kind_of, table_like, table_of, times_column
from imdiffusion.data.timestamps import Times, check_order, parse_times, sorted_rows
from imdiffusion.errors import UsageError

__all__ = ["Frame", "concat", "frame_from", "frame_of_columns", "table_like"]

_ANYWHERE = Place()
_TEXT_TYPES = (nw.String, nw.Categorical, nw.Enum)


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """A series of T rows and K channels of one entity; rows are in the order of time.

    values      float32 or float64 (T, K), NaN where not observed, never infinite
    observed    bool (T, K)
    timestamps  datetime64[ns] (T,) in UTC, strictly increasing; None = positions only
    channels    K names
    entity      whose series it is, or None
    kind        the caller's own kind: numpy, pandas, polars or pyarrow
    rows        int64 (T,) the caller's row of each row, -1 = put in for a gap; None = 0, 1, 2, ...
    zone        zone in which timestamps were given; None = UTC or none
    """

    values: Reals
    observed: Flags
    timestamps: Instants | None
    channels: tuple[str, ...]
    entity: str | None = None
    kind: str = "numpy"
    rows: Ints | None = None
    zone: str | None = None

    def __len__(self) -> int:
        return len(self.values)

    @property
    def length(self) -> int:
        """T, the number of rows."""
        return int(self.values.shape[0])

    @property
    def width(self) -> int:
        """K, the number of channels."""
        return int(self.values.shape[1])

    @property
    def period(self) -> np.timedelta64 | None:
        """Median time between neighbours, in ns; None without two timestamps."""
        if self.timestamps is None or len(self.timestamps) < 2:
            return None
        median = np.median(np.diff(self.timestamps.view(np.int64)))
        return np.timedelta64(max(1, round(float(median))), "ns")

    def select(self, channels: Sequence[str]) -> Frame:
        """These channels in this order; one the frame does not have is there, never observed."""
        if tuple(channels) == self.channels:
            return self
        place = {name: k for k, name in enumerate(self.channels)}
        values = np.full((self.length, len(channels)), np.nan, dtype=self.values.dtype)
        observed = np.zeros(values.shape, dtype=np.bool_)
        for k, name in enumerate(channels):
            if name in place:
                values[:, k] = self.values[:, place[name]]
                observed[:, k] = self.observed[:, place[name]]
        return replace(self, values=values, observed=observed, channels=tuple(channels))

    def slice(self, start: int, stop: int | None = None) -> Frame:
        """Rows start to stop, without a copy; `rows` still count in the caller's rows."""
        cut = slice(start, stop)
        rows = np.arange(self.length, dtype=np.int64) if self.rows is None else self.rows
        return replace(
            self,
            values=self.values[cut],
            observed=self.observed[cut],
            timestamps=None if self.timestamps is None else self.timestamps[cut],
            rows=rows[cut],
        )

    def time_of(self, index: int) -> np.datetime64 | int:
        """Timestamp of row `index`, or the index itself where there are no timestamps."""
        return index if self.timestamps is None else self.timestamps[index]


def frame_from(
    x: Any,
    *,
    timestamp: str | None = "timestamp",
    channels: Sequence[str] | None = None,
    ignore_columns: Sequence[str] = (),
    sort: bool = False,
    entity: str | None = None,
) -> Frame:
    """Make a frame of an array (T, K) or (T,), or of a pandas, polars or pyarrow table or series.

    float32 and float64 stay what they are; integers, booleans, decimals become float64; null and
    NaN count as missing. `timestamp` names the column of timestamps, which may be absent; a pandas
    index of datetimes serves as well, and so does a column that shows itself as the time, which is
    said with DataWarning. `channels` are the names for an array's columns, or the
    columns to take of a table. `sort` sorts by time and keeps the last of rows with one timestamp;
    `rows` then counts sorted rows.

    Raises DataError for what cannot be read, naming row (counted from 1), column and remedy;
    UsageError for a path, a dict or wrong names.
    """
    if isinstance(x, Frame):
        given: Frame = x if channels is None else x.select(channels)
        return given if entity is None else replace(given, entity=entity)
    table = table_of(x)
    if table is None:
        return _frame_of_array(x, channels, entity)
    check_rows(len(table))
    found = times_column(table, timestamp, others={*ignore_columns, *(channels or ())}, sort=sort)
    check_ignored(ignore_columns, table.columns)
    left_out = {*ignore_columns, *([] if found is None else [found[0]])}
    names = chosen_columns(table.columns, channels, left_out)
    times = None if found is None else parse_times(found[1], place=_ANYWHERE, name=found[0])
    frame = frame_of_columns(table, names, times, time_name=found[0] if found else "", sort=sort)
    return replace(frame, entity=entity, kind=kind_of(table))


def frame_of_columns(
    table: nw.DataFrame[Any],
    names: Sequence[str],
    times: Times | None,
    *,
    time_name: str = "timestamp",
    sort: bool = False,
    place: Place = _ANYWHERE,
    previous: np.datetime64 | None = None,
) -> Frame:
    """A frame of the named columns and of parsed timestamps; what `frame_from` and files share.

    `previous` is the last timestamp before this piece. Raises DataError.
    """
    channels = tuple(str(name) for name in names)
    check_channels(channels, place)
    schema = table.schema
    if all(schema[name] in _TEXT_TYPES for name in names):
        raise no_numbers(place, channels)
    single = all(schema[name] == nw.Float32 for name in names)
    values: Reals = np.empty((len(table), len(names)), np.float32 if single else np.float64)
    for k, name in enumerate(names):
        values[:, k] = numbers_of_series(table.get_column(name), channels[k], place)
    observed = check_finite(values, channels, place)
    if times is None:
        return Frame(values, observed, None, channels, kind="pyarrow")
    instants = times.values
    order = sorted_rows(instants, place=place) if sort else None
    if order is not None:
        values, observed, instants = values[order], observed[order], instants[order]
    elif not sort:
        check_order(instants, place=place, name=time_name, previous=previous)
    return Frame(values, observed, instants, channels, kind="pyarrow", zone=times.frame_zone)


def concat(frames: Sequence[Frame]) -> Frame:
    """Join slices or pieces with the same channels, one after the other.

    `rows` are joined too; pieces without `rows` are counted through.
    """
    first = frames[0]
    if any(frame.channels != first.channels for frame in frames):
        raise UsageError("frames of different channels", remedy="Use Frame.select first.")
    times = [frame.timestamps for frame in frames if frame.timestamps is not None]
    rows = [frame.rows for frame in frames if frame.rows is not None]
    return replace(
        first,
        values=np.concatenate([frame.values for frame in frames]),
        observed=np.concatenate([frame.observed for frame in frames]),
        timestamps=np.concatenate(times) if len(times) == len(frames) else None,
        rows=np.concatenate(rows) if len(rows) == len(frames) else None,
    )


def _frame_of_array(x: Any, channels: Sequence[str] | None, entity: str | None) -> Frame:
    values = matrix_of_array(x, _ANYWHERE)
    names = tuple(channels) if channels else tuple(f"c{k}" for k in range(values.shape[1]))
    if len(names) != values.shape[1]:
        raise UsageError(
            f"{len(names)} channel names for {values.shape[1]} columns",
            remedy="Give as many names as there are columns.",
        )
    check_channels(names, _ANYWHERE)
    check_rows(len(values))
    return Frame(values, check_finite(values, names, _ANYWHERE), None, names, entity)


def places_of(names: Sequence[str], channels: Sequence[str]) -> list[int]:
    """Where each of `names` stands among `channels`; -1 = nowhere."""
    place = {name: k for k, name in enumerate(channels)}
    return [place.get(name, -1) for name in names]


def moved(cells: Reals, places: Sequence[int]) -> Floats:
    """Cells (..., K) in other places: at k what was at places[k], NaN where that is -1."""
    at = np.asarray(places, np.int64)
    wider = np.concatenate([cells, np.full((*cells.shape[:-1], 1), np.nan)], axis=-1)
    found: Floats = wider[..., at].astype(np.float64)
    return found
