"""One timestamp -> nanoseconds since the epoch, for rows that come one by one.

The forms are those of `data.timestamps`. Unlike a file, which is one piece and has one unit and one
zone, each row is read for itself: a stream has no first row that the others could follow, and a
number before 1973 is taken at its word.
"""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa

from imdiffusion.data.epochs import NANOSECONDS, unit_of
from imdiffusion.data.place import Place
from imdiffusion.data.timestamps import parse_times
from imdiffusion.durations import DAY_S, SECOND_NS
from imdiffusion.errors import DataError

UNITS = ("auto", *NANOSECONDS)
# The usual form, read without Arrow; any other takes the general way.
_ISO = re.compile(
    r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(?:Z|z|([+-]\d\d):?(\d\d))?"
)
_WHOLE = re.compile(r"[+-]?\d{1,19}")
_DAY = re.compile(r"(19|20)\d{6}")  # 20240131 is a day, unless a unit says that it is a number
_LONGEST = 100  # characters: what was read is remembered, and must not fill the memory
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_YEARS = (1678, 2261)  # what 64 bits of nanoseconds hold


def instant_of(value: object, unit: str = "auto") -> int:
    """Nanoseconds since the epoch, UTC, of ISO 8601 text or of a number in `unit`.

    Without a zone means UTC; "auto" goes by the number's own magnitude. Raises DataError.
    """
    if isinstance(value, str):
        if len(value) > _LONGEST:
            raise DataError(f"the timestamp has {len(value)} characters")
        return _of_text(value, unit)
    if isinstance(value, bool) or not isinstance(value, int | float):
        shown = "missing" if value is None else f"{str(value)[:60]!r}, no timestamp"
        raise DataError(f"the timestamp is {shown}")
    if isinstance(value, int):
        return _of_whole(value, unit)
    return _general(pa.array([value]), unit)


def _of_whole(value: int, unit: str) -> int:
    size = float(abs(value))  # as `parse_times` has it, so that the same number is the same time
    if unit == "auto":
        unit = unit_of(size)
    if size * NANOSECONDS[unit] >= 2.0**63:
        raise DataError("the timestamp is outside the years 1678 to 2261")
    return value * NANOSECONDS[unit]


@lru_cache(maxsize=4096)  # rows of one time come together: many entities, or many channels
def _of_text(text: str, unit: str) -> int:
    found = _ISO.fullmatch(text)
    if found is None:
        if _WHOLE.fullmatch(text) and not (unit == "auto" and _DAY.fullmatch(text)):
            return _of_whole(int(text), unit)
        return _general(pa.array([text]), unit)
    day, clock, fraction, hours, minutes = found.groups()
    zone = f"{hours}:{minutes}" if hours else "+00:00"
    try:
        when = datetime.fromisoformat(f"{day}T{clock}{zone}")
    except ValueError as error:
        raise DataError(f"{text!r} is not a timestamp: {error}") from error
    if not _YEARS[0] <= when.year <= _YEARS[1]:
        raise DataError(f"the timestamp {text!r} is outside the years 1678 to 2261")
    span = when - _EPOCH
    return (span.days * DAY_S + span.seconds) * SECOND_NS + int((fraction or "0").ljust(9, "0"))


def _general(column: Any, unit: str) -> int:
    value = column[0].as_py()
    if unit == "auto" and not (isinstance(value, str) and _DAY.fullmatch(value)):
        with suppress(ValueError):  # text that is no number has no unit
            unit = unit_of(abs(float(value)))
    try:
        times = parse_times(column, place=Place(), name="timestamp", unit=unit)
    except DataError as error:
        # The row is named by the caller, in the words of its source.
        raise DataError(error.what.partition(": ")[2] or error.what) from error
    return int(times.values.astype("datetime64[ns]").view(np.int64)[0])
