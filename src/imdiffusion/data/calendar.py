"""Instants as people count them: local days, times of day, weekdays, weekends and holidays.

Everything is a function of the timestamp, the zone and the country alone, so that pieces of a
series and a series that arrives live are told the same as the whole. The one file that imports
the package `holidays`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np

from imdiffusion.arrays import Instants, Ints
from imdiffusion.durations import DAY_NS, DAY_S, SECOND_NS
from imdiffusion.errors import ConfigError, MissingExtraError

HOLIDAY = 7  # the kind of day after Monday, 0, to Sunday, 6
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_DATE = date(1970, 1, 1)
_OFFSET = re.compile(r"([+-])(\d\d):?(\d\d)$")


@dataclass(frozen=True, slots=True)
class Calendar:
    """A zone, and a country whose holidays count.

    timezone: a name of the IANA database ("Europe/Berlin") or an offset ("+02:00").
    country: an ISO 3166 code, a part of a country behind a dash ("DE", "DE-BY"); None: no holidays,
    and the weekend is Saturday and Sunday.

    Raises ConfigError for an unknown zone or country, MissingExtraError where a country is named
    and the package `holidays` is absent.

    >>> summer = np.array(["2026-07-04T22:30"], dtype="datetime64[ns]")
    >>> day, time = Calendar("Europe/Berlin").days(summer)
    >>> day.astype("datetime64[D]").astype(str).tolist(), (time // 60_000_000_000).tolist()
    (['2026-07-05'], [30])
    """

    timezone: str = "UTC"
    country: str | None = None

    def __post_init__(self) -> None:
        _zone(self.timezone)
        if self.country is not None:
            _country(self.country)

    @property
    def weekend(self) -> frozenset[int]:
        """The weekdays of the weekend, Monday = 0."""
        return frozenset((5, 6)) if self.country is None else _country(self.country)

    def local(self, timestamps: Instants) -> Ints:
        """What a clock on the wall shows: ns since 1970 there (n,), of instants in UTC (n,).

        In autumn an hour comes twice, in spring one never comes.
        """
        instants = timestamps.astype("datetime64[ns]").view(np.int64)
        seconds = instants // SECOND_NS
        return instants + _offsets(_zone(self.timezone), seconds) * SECOND_NS

    def days(self, timestamps: Instants) -> tuple[Ints, Ints]:
        """The local day (n,), days since 1970, and the time of that day (n,), ns since midnight."""
        local = self.local(timestamps)
        day = local // DAY_NS
        return day, local - day * DAY_NS

    def kinds(self, days: Ints) -> Ints:
        """The kind of each day (n,): 0 Monday to 6 Sunday, `HOLIDAY` whatever the weekday."""
        kinds = (days + 3) % 7  # 1970 began on a Thursday
        if self.country is None:
            return kinds
        unique, place = np.unique(days, return_inverse=True)
        free = np.array([self.holiday(int(day)) is not None for day in unique], dtype=np.bool_)
        return np.where(free[place], HOLIDAY, kinds)

    def holiday(self, day: int) -> str | None:
        """The name of the holiday on a local day, days since 1970; None where there is none."""
        if self.country is None:
            return None
        when = _EPOCH_DATE + timedelta(days=day)
        return _holidays(self.country, when.year).get(when)


@lru_cache(maxsize=64)
def _zone(name: str) -> tzinfo:
    offset = _OFFSET.match(name)
    if offset:
        sign = -1 if offset[1] == "-" else 1
        span = timedelta(hours=int(offset[2]), minutes=int(offset[3]))
        if span < timedelta(days=1):
            return timezone(sign * span)
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:  # OSError: the name of a folder
        raise ConfigError(
            f"timezone = {name!r} is not known here",
            remedy='Name a zone of the IANA database, such as "Europe/Berlin", or an offset, such '
            'as "+02:00"; a system without that database needs the package tzdata.',
        ) from error


def _offsets(zone: tzinfo, seconds: Ints) -> Ints:
    """Seconds east of UTC (n,) at each second since 1970.

    Python is asked at both ends of each day alone; on the days between whose ends the offset
    changes, the second of the change is found by bisection.
    """
    days = seconds // DAY_S
    unique, place = np.unique(days, return_inverse=True)
    first = np.array([_offset(zone, int(day) * DAY_S) for day in unique], dtype=np.int64)
    last = np.array([_offset(zone, int(day + 1) * DAY_S - 1) for day in unique], dtype=np.int64)
    offsets = first[place] if unique.size else np.zeros(0, dtype=np.int64)
    for row in np.flatnonzero(first != last).tolist():
        low, high = int(unique[row]) * DAY_S, int(unique[row] + 1) * DAY_S - 1
        while high - low > 1:
            middle = (low + high) // 2
            if _offset(zone, middle) == first[row]:
                low = middle
            else:
                high = middle
        offsets[(place == row) & (seconds >= high)] = last[row]
    return offsets


def _offset(zone: tzinfo, second: int) -> int:
    span = (_EPOCH + timedelta(seconds=second)).astimezone(zone).utcoffset()
    return 0 if span is None else int(span.total_seconds())


@lru_cache(maxsize=64)
def _country(code: str) -> frozenset[int]:
    """The weekdays of a country's weekend; ConfigError for an unknown country."""
    return frozenset(_made(code, 2026).weekend)


@lru_cache(maxsize=1024)
def _holidays(code: str, year: int) -> dict[date, str]:
    return dict(_made(code, year).items())


def _made(code: str, year: int) -> Any:
    try:
        import holidays
    except ImportError as error:
        raise MissingExtraError("holidays", extra="calendar") from error
    country, _, part = code.partition("-")
    try:
        return holidays.country_holidays(  # in one language, whatever that of the machine is
            country, subdiv=part or None, years=year, expand=False, language="en_US"
        )
    except NotImplementedError as error:  # what the package raises for an unknown country or part
        raise ConfigError(
            f"country = {code!r} is not known to the package holidays",
            remedy='Name an ISO 3166 code, such as "DE", or a part of a country, such as "DE-BY".',
        ) from error
