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

from imdiffusion.arrays import Instants, Ints
from imdiffusion.data.epochs import NANOSECONDS, Counted, instants_of, too_distant
from imdiffusion.data.place import Place
from imdiffusion.errors import DataError, DataWarning, UsageError

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
