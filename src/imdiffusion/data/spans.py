"""Spans of time or of row positions -> the rows they cover."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from datetime import date, datetime
from typing import TypeAlias

import numpy as np
import pyarrow as pa

from imdiffusion.arrays import Flags
from imdiffusion.data.frame import Frame
from imdiffusion.data.place import Place
from imdiffusion.data.timestamps import parse_times, text_of
from imdiffusion.errors import DataError, DataWarning, UsageError

Moment: TypeAlias = str | datetime | np.datetime64 | int
Span: TypeAlias = tuple[Moment, Moment]


def span_positions(frame: Frame, spans: Sequence[Span]) -> Flags:
    """True for each row of the frame that lies in a span, (T,).

    A span is (start, end), start inclusive, end exclusive: ISO 8601 text, datetimes or numpy
    datetimes (without a zone: UTC), or row positions counted from 0 in the caller's rows. A row
    put in for a gap belongs to a span of positions with the row before it. Raises UsageError for
    a span that cannot be read or ends before it starts, DataError for a span of time where rows
    have no timestamps. Warns with DataWarning for a span that covers no row.
    """
    covered = np.zeros(len(frame.values), dtype=np.bool_)
    for number, span in enumerate(spans):
        where = f"span {number + 1} {_shown(span)}"
        timed, start, end = _ends(span, where)
        if not timed:
            inside = _rows_within(frame, start, end)
        elif frame.timestamps is None:
            raise DataError(
                f"{where} is a span of time, but the data has no timestamps",
                remedy="Give row positions (start, end), or data with a column of timestamps.",
            )
        else:
            instants = frame.timestamps.view(np.int64)
            inside = (instants >= start) & (instants < end)
        if not inside.any():
            warnings.warn(f"{where} covers no row{_extent(frame)}", DataWarning, stacklevel=3)
        covered |= inside
    return covered


def _ends(span: Span, where: str) -> tuple[bool, int, int]:
    """Whether a span is one of time, and its ends: ns since 1970, else positions."""
    if isinstance(span, str) or not isinstance(span, Sequence) or len(span) != 2:
        raise UsageError(f"{where} is not a pair", remedy="Give each span as (start, end).")
    (timed, start), (also_timed, end) = (_moment(value, where) for value in span)
    if timed != also_timed:
        raise UsageError(f"{where} mixes a row position and a time", remedy="Give two of one sort.")
    if not start < end:
        raise UsageError(
            f"{where} does not end after its start",
            remedy="Give (start, end), the end exclusive.",
        )
    return timed, start, end


def _moment(value: Moment, where: str) -> tuple[bool, int]:
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        if value < 0:
            raise UsageError(
                f"{where} has a negative position", remedy="Count rows from 0 at the start."
            )
        return False, int(value)
    if isinstance(value, np.datetime64) and not np.isnat(value):
        return True, int(value.astype("datetime64[ns]").astype(np.int64))
    if isinstance(value, date):  # a datetime is one too
        value = value.isoformat()
    if isinstance(value, str) and not value.strip().isdigit():
        try:
            times = parse_times(pa.array([value]), place=Place(), name="span").values
            return True, int(times.view(np.int64)[0])
        except DataError as error:
            raise _unreadable(value, where) from error
    raise _unreadable(value, where)


def _unreadable(value: object, where: str) -> UsageError:
    return UsageError(
        f"{where} cannot be read: {value!r} is no time",
        remedy="Give ISO 8601 (2024-01-31T12:00:00Z), datetimes, or row positions as integers.",
    )


def _rows_within(frame: Frame, start: int, end: int) -> Flags:
    positions = np.arange(len(frame.values)) if frame.rows is None else frame.rows
    positions = np.maximum.accumulate(positions)  # -1: the row before
    return (positions >= start) & (positions < end)


def _shown(span: object) -> str:
    if isinstance(span, tuple | list):
        return "(" + ", ".join(str(value) for value in span) + ")"
    return repr(span)


def _extent(frame: Frame) -> str:
    if frame.timestamps is None or not len(frame.timestamps):
        return f": there are {len(frame.values)} rows"
    return f": the data goes from {text_of(frame.timestamps[0])} to {text_of(frame.timestamps[-1])}"
