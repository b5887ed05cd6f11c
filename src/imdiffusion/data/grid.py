"""An even rhythm: how many periods lie between rows, in spite of jitter and drift; gaps filled."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import TypeAlias

import numpy as np
import pyarrow as pa

from imdiffusion.arrays import Flags, Floats, Ints
from imdiffusion.data.columns import Place
from imdiffusion.data.frame import Frame
from imdiffusion.data.timestamps import duration_text, parse_times, text_of
from imdiffusion.errors import DataError, DataWarning, UsageError

# Share of a row's offset that moves the grid. It lets the grid follow a clock that drifts, by up
# to 5 % of a period a row, and averages jitter over some ten rows.
FOLLOW = 0.1
_PHASE_ROWS = 32  # rows whose mean offset says where the grid lies, at the start and after a gap
_CLEAR = 0.3  # how far they must agree (1 = all have one offset)


@dataclass(frozen=True, slots=True)
class Walk:
    """steps[i] >= 1 slots from row i to row i + 1, (T - 1,); `odd` steps are not one clear slot."""

    steps: Ints
    odd: int


def walk(gaps: Floats) -> Walk:
    """Slots between neighbours whose distances, in periods, are `gaps` (T - 1,).

    Each row goes to the nearest slot of a grid of one period that follows the rows: slot numbers
    always grow, however close two rows are. Small drift never adds up to a slot.
    """
    if bool(np.all(np.abs(gaps - 1) <= FOLLOW / 2)):  # what the loop below would find
        return Walk(np.ones(len(gaps), dtype=np.int64), 0)
    steps = np.empty(len(gaps), dtype=np.int64)
    odd = 0
    lag = _lag(gaps, 0, 0.0)  # how far, in periods, the last row lies behind its slot
    for row, gap in enumerate(gaps.tolist()):
        position = lag + gap
        step = int(position + 0.5)
        odd += step != 1
        step = max(step, 1)
        steps[row] = step
        lag = min(max(position - step, -0.5), 0.5) * (1 - FOLLOW)
        if step > 1:  # after a gap the rows may lie elsewhere between the slots
            lag = _lag(gaps, row + 1, lag)
    return Walk(steps, odd)


def _lag(gaps: Floats, row: int, otherwise: float) -> float:
    """Offset of `row` from the grid that the rows after it suggest, by their circular mean."""
    offsets = np.cumsum(gaps[row : row + _PHASE_ROWS - 1])
    mean = (1 + np.exp(2j * np.pi * offsets).sum()) / (1 + len(offsets))
    if len(offsets) < 2 or abs(mean) < _CLEAR:
        return otherwise
    return -float(np.angle(mean)) / (2 * np.pi)


def spread(
    instants: Ints,
    put_in: Ints,
    *,
    skip: int,
    longest: Ints,
) -> tuple[Ints, Ints]:
    """Put `put_in[i]` rows between rows i and i + 1, evenly in time but no further apart than
    `longest[i]` ns; leave out the first `skip`.

    Returns, for each row that comes out, the row it was (counted after the skipped ones; -1 for
    one put in) and its time in ns.
    """
    before = np.repeat(np.arange(len(put_in)), put_in + 1)  # row at or before each row out
    first = np.concatenate([[0], np.cumsum(put_in + 1)])  # row out of each row
    inside = np.arange(len(before)) - first[before]
    spacing = np.minimum(np.diff(instants) // (put_in + 1), longest)
    times = np.append(instants[before] + inside * spacing[before], instants[-1])
    source = np.append(np.where(inside == 0, before, -1), len(instants) - 1)
    source = np.where(source >= 0, source - skip, -1)
    return source[skip:], times[skip:]


def regularize(
    frame: Frame,
    *,
    max_gap_rows: int = 10_000,
    period: np.timedelta64 | None = None,
    after: np.datetime64 | None = None,
) -> Frame:
    """Give the rows an even rhythm: jitter snaps to the period, gaps become unobserved rows.

    Every row takes the nearest slot of a grid of `period` (default: the median) that follows the
    rows, so that drift never becomes a gap; the caller's rows all stay, with the timestamps they
    had. Empty slots become unobserved rows with `rows` = -1, at most `max_gap_rows` a gap: of a
    longer one its first slots, so that rows still come every `period`. `after` is the timestamp of
    the row before the first: a gap between the two is filled as well.

    A frame without timestamps or gaps comes back as the same object, and so does one without a
    rhythm, more than half of whose steps are not the median one, and one whose gaps would take
    more rows than there are (and than `max_gap_rows`): however long a gap, the memory is bounded.
    Warns with DataWarning of gaps, and where none is filled.
    """
    given = period is not None
    period = frame.period if period is None else period
    if frame.timestamps is None or period is None:
        return frame
    instants = frame.timestamps.view(np.int64)
    if after is not None:
        start = after.astype("datetime64[ns]").view(np.int64)
        instants = np.concatenate([np.array([start]), instants])
    if len(instants) < 2:
        return frame
    period = period.astype("timedelta64[ns]")
    walked = walk(np.diff(instants) / float(period.view(np.int64)))
    missing = walked.steps - 1
    if not missing.any():
        return frame
    put_in = np.minimum(missing, max_gap_rows)
    arrhythmic = walked.odd > len(missing) / 2 and not given
    filled = not arrhythmic and int(put_in.sum()) <= max(len(frame), max_gap_rows)
    _say(frame, missing, put_in, period, arrhythmic=arrhythmic, filled=filled)
    if not filled:
        return frame
    source, times = spread(
        instants,
        put_in,
        skip=0 if after is None else 1,
        longest=np.where(missing > put_in, int(period.view(np.int64)), np.iinfo(np.int64).max),
    )
    return _spread_frame(frame, source, times)


def _say(
    frame: Frame,
    missing: Ints,
    put_in: Ints,
    period: np.timedelta64,
    *,
    arrhythmic: bool,
    filled: bool,
) -> None:
    """Say with DataWarning which gaps are filled, or why none is."""
    whose = f" of {frame.entity!r}" if frame.entity else ""
    rhythm, total = duration_text(period), int(put_in.sum())
    gaps, cut = np.count_nonzero(missing), int((missing > put_in).sum())
    if filled:
        what = (
            f"{gaps} gap{'s' if gaps > 1 else ''} in the timestamps{whose}: {total} "
            f"row{'s' if total > 1 else ''} without observations put in (period {rhythm})"
        )
        if cut:
            each = int(put_in.max())
            what += f"; {cut} gaps are longer and were cut to {each} rows"
    else:
        why = (
            "have no regular rhythm"
            if arrhythmic
            else f"have gaps of {total} rows, too many to fill beside {len(frame)} rows"
        )
        what = (
            f"the timestamps{whose} {why} (median period {rhythm}): rows are taken one after the "
            "other, gaps are not filled"
        )
    warnings.warn(what, DataWarning, stacklevel=3)


def _spread_frame(frame: Frame, source: Ints, times: Ints) -> Frame:
    """The frame with row source[i] of it at row i, or nothing where that is -1."""
    given = source >= 0
    values = np.full((len(source), frame.width), np.nan, dtype=frame.values.dtype)
    values[given] = frame.values
    observed = np.zeros(values.shape, dtype=np.bool_)
    observed[given] = frame.observed
    rows = source if frame.rows is None else np.where(given, frame.rows[source], -1)
    return replace(
        frame,
        values=values,
        observed=observed,
        timestamps=times.view("datetime64[ns]"),
        rows=rows,
    )


# -- spans of time or of row positions -> the rows they cover

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
