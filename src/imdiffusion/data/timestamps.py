"""Timestamps of any accepted form -> datetime64[ns] in UTC, and the checks on their order.

Accepted: ISO 8601 text with or without zone (an offset, Z, UTC or GMT), dates and times of Arrow,
and epoch numbers in s, ms, us or ns (see `epochs`). Without a zone means UTC. Rows with several
offsets, as over a change of daylight saving, are exact instants; rows with and without are not.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from imdiffusion.arrays import Floats, Instants, Ints
from imdiffusion.data.columns import Place
from imdiffusion.errors import DataError, DataWarning, UsageError

NANOSECONDS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
SMALLEST = {"ns": 1e16, "us": 1e13, "ms": 1e10}  # of a magnitude, by unit
EARLIEST = 1e8  # s, March 1973: what is earlier is no epoch number of seconds
ELAPSED = 1e3  # s: a column that begins below counts from its own beginning
SHEET_DAYS = (18_264.0, 73_051.0)  # 1950-01-01 and 2100-01-01 as a spreadsheet counts days
_WORDS = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
_ISO = "Write ISO 8601 (2024-01-31T12:00:00Z)"
_UNIT = "name their unit: --unit s, ms, us or ns."


@dataclass(frozen=True, slots=True)
class Counted:
    """How numbers count: in which unit, and whether from their own beginning, not from 1970."""

    unit: str
    elapsed: bool = False


def instants_of(
    column: Any, *, place: Place, name: str, unit: str, before: Counted | None = None
) -> tuple[Instants, Counted]:
    """Epoch numbers of a pyarrow column (T,) as datetime64[ns] (T,), and how they count.

    unit: "auto", or what the caller says. before: how the rows before these counted, where they
    are of one column. Raises DataError naming the row of a number that is no time.
    """
    if pa.types.is_integer(column.type):
        try:
            numbers = column.cast(pa.int64()).to_numpy()
        except pa.ArrowInvalid as error:
            raise too_distant(place, name, None) from error
    else:
        numbers = column.cast(pa.float64(), safe=False).to_numpy()
    finite = np.isfinite(numbers)
    if not finite.all():
        row = int(np.argmin(finite))
        raise DataError(
            place.says(f"{str(numbers[row])!r} is not a timestamp", row=row, column=name),
            remedy=f"{_ISO}, or epoch numbers in s, ms, us or ns.",
        )
    size = np.abs(numbers.astype(np.float64))
    counted = Counted(unit) if unit != "auto" else _one_unit(numbers, size, place, name, before)
    scale = NANOSECONDS[counted.unit]
    distant = size * scale >= 2.0**63
    if distant.any():
        raise too_distant(place, name, int(np.argmax(distant)))
    if numbers.dtype == np.int64:
        return (numbers * scale).view("datetime64[ns]"), counted
    # A float holds 1700000000.1 s only to some 200 ns: digits beyond that are noise, not time.
    spacing = float(np.spacing(size.max(initial=0.0))) * scale
    digit = 10 ** max(0, int(np.ceil(np.log10(max(spacing, 1e-9)))))
    whole = np.floor(numbers)
    part = np.round((numbers - whole) * scale / digit).astype(np.int64) * digit
    return (whole.astype(np.int64) * scale + part).view("datetime64[ns]"), counted


def unit_of(size: float) -> str:
    """The unit that a number of this magnitude is in."""
    return next((unit for unit, least in SMALLEST.items() if size >= least), "s")


def are_days_as_numbers(numbers: Floats) -> bool:
    """Whether all numbers are dates written without marks, as 20240131."""
    year, month, day = numbers // 10_000, numbers // 100 % 100, numbers % 100
    return bool(
        np.all((year >= 1900) & (year <= 2100) & (month >= 1) & (month <= 12))
        and np.all((day >= 1) & (day <= 31) & (numbers % 1 == 0))
    )


def plausible_epoch(numbers: Floats) -> str | None:
    """The unit in which all of these numbers lie in the years 2000 to 2100; None for no unit."""
    low, high = float(numbers.min(initial=np.inf)), float(numbers.max(initial=-np.inf))
    for unit, scale in NANOSECONDS.items():
        if low * scale >= 946_684_800e9 and high * scale < 4_102_444_800e9:
            return unit
    return None


def _one_unit(
    numbers: NDArray[Any],
    size: Floats,
    place: Place,
    name: str,
    before: Counted | None,
) -> Counted:
    """The one way in which all numbers count; DataError where it changes, or for no time at all."""
    if not len(size):
        return before or Counted("s")
    units = list(NANOSECONDS)
    steps = np.searchsorted(sorted(SMALLEST.values()), size, side="right")  # position in `units`
    early = size < EARLIEST
    if before is None:
        elapsed = bool(size.min() < ELAPSED and early.all())
        if early.all() and not elapsed:
            raise _early(numbers, size, place, name)
        before = Counted(units[int(steps[0])], elapsed)
    other = (steps != units.index(before.unit)) | (early != before.elapsed)
    if other.any():
        row = int(np.argmax(other))
        here = "seconds elapsed" if early[row] else f"{_WORDS[units[int(steps[row])]]} since 1970"
        there = "elapsed" if before.elapsed else "since 1970"
        raise DataError(
            place.says(
                f"{numbers[row]} looks like {here}, but other rows like {_WORDS[before.unit]} "
                f"{there}",
                row=row,
                column=name,
            ),
            remedy=f"Write all rows in one unit; if they are, {_UNIT}",
        )
    return before


def _early(numbers: NDArray[Any], size: Floats, place: Place, name: str) -> DataError:
    low, high = SHEET_DAYS
    shown = f"{float(numbers[0]):.10g}"
    if bool(((size >= low) & (size < high)).all()):
        day = np.datetime64("1899-12-30") + int(size[0])
        return DataError(
            place.says(
                f"{shown} looks like a day of a spreadsheet ({day}), not like epoch seconds",
                row=0,
                column=name,
            ),
            remedy=f"{_ISO}: format the column as a date before the export "
            "(pandas: to_datetime(column, unit='D', origin='1899-12-30')). If they are seconds "
            "of 1970, say so: --unit s.",
        )
    if are_days_as_numbers(size):
        return DataError(
            place.says(f"{shown} looks like a date, not like epoch seconds", row=0, column=name),
            remedy=f"{_ISO} (pandas: to_datetime(column, format='%Y%m%d')).",
        )
    day = np.datetime64(int(size[0]), "s").astype("datetime64[D]")
    return DataError(
        place.says(f"{shown} would be {day} as epoch seconds", row=0, column=name),
        remedy=f"{_ISO}, or epoch numbers; if these are right, {_UNIT} If it is no time, leave "
        f"the column out: --ignore-column {name} (ignore_columns=[{name!r}]).",
    )


def too_distant(place: Place, name: str, row: int | None) -> DataError:
    """The error of a timestamp that 64 bits of nanoseconds do not hold."""
    return DataError(
        place.says("a timestamp is outside the years 1678 to 2261", row=row, column=name),
        remedy="Correct it; for epoch numbers, name their unit: --unit s, ms, us or ns.",
    )


_ZONE = r"[T ][0-9:.,]+ ?(?P<zone>[Zz]|[+-]\d\d(?::?\d\d)?)$"
_WORD = r" ?(UTC|GMT)$"
_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
_DATE = r"^(19|20)\d{6}$"  # 20240131 is a day, not the 234th of 1970
_FORMS = "Write ISO 8601 (2024-01-31T12:00:00Z), or epoch numbers in s, ms, us or ns."
_SORT = "Sort the rows by time, or have them sorted with --sort (sort=True)."


@dataclass(frozen=True, slots=True)
class Times:
    """Parsed timestamps: values datetime64[ns] (T,) in UTC, and what they were given in.

    zone is "UTC", a name or an offset, that of the first row; None for none at all. counted: how
    numbers count; None for anything else.
    """

    values: Instants
    zone: str | None = None
    counted: Counted | None = None

    @property
    def frame_zone(self) -> str | None:
        """The zone as a frame says it: None for UTC and for none."""
        return None if self.zone == "UTC" else self.zone


def parse_times(
    column: Any, *, place: Place, name: str, unit: str = "auto", before: Counted | None = None
) -> Times:
    """Parse a pyarrow array of timestamps.

    before: how the numbers in the rows before these counted, of a column that comes in pieces.
    Raises DataError naming the row of a missing, unreadable or too distant timestamp, of one in
    another unit, and the two rows with and without a zone; UsageError for an unknown unit.
    """
    if unit != "auto" and unit not in NANOSECONDS:
        raise UsageError(f"unknown unit {unit!r}", remedy="Use auto, s, ms, us or ns.")
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if _is_text(column.type):
        column = pc.utf8_trim_whitespace(column.cast(pa.string()))
        column = pc.if_else(pc.equal(column, ""), pa.scalar(None, pa.string()), column)
    if column.null_count:
        row = pc.index(column.is_null(), True).as_py()
        raise DataError(
            place.says("the timestamp is missing", row=row, column=name),
            remedy="Give every row a timestamp, or remove the row.",
        )
    if _is_text(column.type):
        return _from_text(column, place, name, unit, before)
    if pa.types.is_temporal(column.type) and not _is_span(column.type):
        return _from_arrow(column, place, name)
    if (
        pa.types.is_integer(column.type)
        or pa.types.is_floating(column.type)
        or pa.types.is_decimal(column.type)
    ):
        return _from_numbers(column, place, name, unit, before)
    raise DataError(
        place.says(f"{column.type} cannot be read as timestamps", column=name), remedy=_FORMS
    )


def text_of(instant: np.datetime64) -> str:
    """An instant as ISO 8601: "2024-01-31T12:00:00.25Z"."""
    text = str(np.datetime_as_string(instant.astype("datetime64[ns]")))
    return text.rstrip("0").rstrip(".") + "Z"


def duration_text(period: np.timedelta64) -> str:
    """A duration for messages: "0.25 s"."""
    return f"{float(period / np.timedelta64(1, 's')):.6g} s"


def check_order(
    times: Instants, *, place: Place, name: str, previous: np.datetime64 | None = None
) -> None:
    """Raise DataError, naming two rows, unless timestamps strictly increase.

    `previous` is the timestamp of the row before the first, where there is one.
    """
    instants = times.view(np.int64)
    if previous is not None:
        instants = np.concatenate(
            [previous.astype("datetime64[ns]").view(np.int64)[None], instants]
        )
        place = place.shifted(-1)
    wrong = np.flatnonzero(instants[1:] <= instants[:-1])
    if not wrong.size:
        return
    row = int(wrong[0])
    before, after = (text_of(at) for at in instants[row : row + 2].view("datetime64[ns]"))
    if before == after:
        what = f"duplicate timestamp {after}, the same as in {place.row(row)}"
        remedy = "Remove one of the two, or keep the last of them with --sort (sort=True)."
    else:
        what = f"unsorted timestamps: {after} comes after {before} in {place.row(row)}"
        remedy = _SORT
    raise DataError(place.says(what, row=row + 1, column=name), remedy=remedy)


def sorted_rows(times: Instants, *, place: Place) -> Ints | None:
    """Rows in the order of time; of rows with one timestamp the last. None: all, as they are.

    Warns with DataWarning where rows are left out.
    """
    if bool(np.all(times[1:] > times[:-1])):
        return None
    order = np.argsort(times, kind="stable")
    last = np.append(times[order][1:] != times[order][:-1], True)
    left_out = len(times) - int(last.sum())
    if left_out:
        example = place.row(int(order[np.flatnonzero(~last)[0]]))
        warnings.warn(
            place.says(
                f"{left_out} rows share their timestamp with a later row and are left out, "
                f"the first is {example}"
            ),
            DataWarning,
            stacklevel=4,
        )
    rows: Ints = order[last]
    return rows


def _is_text(kind: Any) -> bool:
    return bool(
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    )


def _is_span(kind: Any) -> bool:
    return bool(pa.types.is_duration(kind) or pa.types.is_time(kind) or pa.types.is_interval(kind))


def _from_arrow(column: Any, place: Place, name: str) -> Times:
    zone = getattr(column.type, "tz", None)
    try:
        column = column.cast(pa.timestamp("ns", zone))
    except pa.ArrowInvalid as error:
        raise too_distant(place, name, None) from error
    values = column.cast(pa.int64()).to_numpy()
    return Times(values.view("datetime64[ns]"), zone)


def _from_numbers(column: Any, place: Place, name: str, unit: str, before: Counted | None) -> Times:
    values, found = instants_of(column, place=place, name=name, unit=unit, before=before)
    return Times(values, None, found)


def _from_text(column: Any, place: Place, name: str, unit: str, before: Counted | None) -> Times:
    first = column[:1]
    if pc.all(pc.match_substring_regex(first, _NUMBER)).as_py() and not (
        unit == "auto" and pc.all(pc.match_substring_regex(first, _DATE)).as_py()
    ):
        return _from_numbers(_numbers_of_text(column, place, name), place, name, unit, before)
    column = pc.replace_substring_regex(column, _WORD, "Z")
    zones = pc.struct_field(pc.extract_regex(column, _ZONE), "zone")
    zone = _one_zone(zones, place, name)
    try:
        parsed = column.cast(pa.timestamp("ns", zone and "UTC"))
        values = parsed.cast(pa.int64()).to_numpy().view("datetime64[ns]")
    except pa.ArrowInvalid:  # a rarer form of ISO 8601, or no timestamp at all
        values = _from_any_iso(column, place, name)
    return Times(values, zone)


def _numbers_of_text(column: Any, place: Place, name: str) -> Any:
    for kind in (pa.int64(), pa.float64()):
        try:
            return column.cast(kind)
        except pa.ArrowInvalid:
            continue
    row = pc.index(pc.match_substring_regex(column, _NUMBER), False).as_py()
    raise _unreadable(place, name, row, column[row].as_py())


def _one_zone(zones: Any, place: Place, name: str) -> str | None:
    """The zone of the first row: "UTC", "+02:00" or None; DataError where only some have one."""
    found = {text: _zone_name(text) for text in zones.unique().to_pylist()}
    zone = found[zones[0].as_py()] if len(zones) else None
    if len(found) > 1 and None in found.values():
        without = pc.is_null(zones)
        other = pc.index(without, not without[0].as_py()).as_py()
        there = found[zones[other].as_py()]
        raise mixed_zones(zone, there, f"in {place.row(0)}", place, other, name)
    return zone


def mixed_zones(
    one: str | None, other: str | None, where: str, place: Place, row: int, name: str | None
) -> DataError:
    """The error of a row with the zone `other`, where the rows `where` have `one`."""
    said = [repr(zone) if zone else "no zone" for zone in (other, one)]
    return DataError(
        place.says(f"mixed zones: {said[0]} here, {said[1]} {where}", row=row, column=name),
        remedy="Write all timestamps in one zone, best in UTC (2024-01-31T12:00:00Z).",
    )


def _zone_name(text: str | None) -> str | None:
    if text is None:
        return None
    digits = text[1:].replace(":", "").ljust(4, "0")
    return "UTC" if text in "Zz" or digits == "0000" else f"{text[0]}{digits[:2]}:{digits[2:]}"


def _from_any_iso(column: Any, place: Place, name: str) -> Instants:
    epoch, tick = datetime(1970, 1, 1, tzinfo=UTC), timedelta(microseconds=1)
    ticks = np.empty(len(column), dtype=np.int64)
    for row, text in enumerate(column.to_pylist()):
        try:
            when = datetime.fromisoformat(text)
        except ValueError as error:
            raise _unreadable(place, name, row, text) from error
        if not 1678 <= when.year <= 2261:
            raise too_distant(place, name, row)
        aware = when if when.tzinfo else when.replace(tzinfo=UTC)
        ticks[row] = (aware - epoch) // tick
    return (ticks * 1000).view("datetime64[ns]")


def _unreadable(place: Place, name: str, row: int, text: str) -> DataError:
    return DataError(
        place.says(f"{text!r} is not a timestamp", row=row, column=name), remedy=_FORMS
    )
