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

from imdiffusion.arrays import Flags, Floats, Instants, Ints, Reals
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


# -- the rhythm of training rows: after how many rows they repeat themselves; spans of time in words
#
# A channel repeats itself every P rows where its autocorrelation r has a peak there and at two and
# three times P, with a trough between, all of them clear:
#
#     r(P), r(2P), r(3P) >= CLEAR,   r(P / 2) <= r(P) - CLEAR,   r(3P / 2) <= r(2P) - CLEAR
#
# A slow course without a rhythm has a high r and no such peaks. No labels and no timestamps are
# used.

CLEAR = 0.3  # of an autocorrelation: a rhythm that tells less of a channel is passed over
LEAST_ROWS = 1_000  # fewer rows are too few to tell a rhythm from a slow course
LEAST_CYCLES = 6
MOST_ROWS = 200_000  # the last of the rows say it
SHORTEST = 4  # rows
ALIKE = 0.1  # channels whose peaks are no farther apart than so large a share have one rhythm


@dataclass(frozen=True, slots=True)
class Rhythm:
    """Rows after which training repeats itself, and how many channels do."""

    rows: int
    channels: int


def rhythm_of(values: Reals, observed: Flags) -> Rhythm | None:
    """The rhythm that most channels of rows (T, K) have; None where no channel has a clear one.

    Of less than `LEAST_ROWS` rows, or `LEAST_CYCLES` cycles, nothing is said.

    Examples
    --------
    >>> day = np.sin(2 * np.pi * np.arange(4_000) / 288)[:, None]
    >>> rhythm_of(day, np.ones(day.shape, bool))
    Rhythm(rows=288, channels=1)
    """
    values, observed = values[-MOST_ROWS:], observed[-MOST_ROWS:]
    if len(values) < LEAST_ROWS:
        return None
    found = [
        period
        for column, seen in zip(values.T, observed.T, strict=True)
        if (period := _period(column, seen)) is not None
    ]
    if not found:
        return None
    periods = np.array(found)
    near = np.abs(periods[:, None] / periods - 1.0) <= ALIKE
    most = int(near.sum(axis=1).argmax())
    return Rhythm(int(np.median(periods[near[most]])), int(near[most].sum()))


def _period(column: Reals, seen: Flags) -> int | None:
    if seen.mean() < 0.5:
        return None
    centred = np.where(seen, column - np.median(column[seen]), 0.0).astype(np.float64)
    centred -= centred.mean()
    r = _autocorrelation(centred, len(centred) // LEAST_CYCLES * 3)
    if r is None:
        return None
    last = len(r) // 3
    trough = np.minimum.accumulate(r)
    clear = np.flatnonzero((r[:last] >= CLEAR) & (r[:last] - trough[:last] >= CLEAR))
    clear = clear[clear >= SHORTEST]
    # The first stretch of lags that are clear holds the peak: the others are its multiples.
    while len(clear):
        stop = np.flatnonzero(np.diff(clear) > 1)
        stretch = clear[: stop[0] + 1] if len(stop) else clear
        peak = int(stretch[r[stretch].argmax()])
        if peak < last - 1 and _repeats(r, peak):
            return peak
        clear = clear[len(stretch) :]
    return None


def _repeats(r: Reals, peak: int) -> bool:
    side = max(1, peak // 10)

    def near(lag: int) -> Reals:
        return r[lag - side : lag + side + 1]

    twice, thrice = near(2 * peak).max(initial=-1.0), near(3 * peak - side).max(initial=-1.0)
    between, after = near(peak // 2).min(), near(3 * peak // 2).min()
    return bool(
        min(twice, thrice) >= CLEAR and r[peak] - between >= CLEAR and twice - after >= CLEAR
    )


def _autocorrelation(centred: Floats, lags: int) -> Floats | None:
    """Of values (T,) whose mean is 0, at lags 0 to lags - 1; None of a constant."""
    size = 1 << (2 * len(centred) - 1).bit_length()
    power = np.fft.irfft(np.square(np.abs(np.fft.rfft(centred, size))), size)[:lags]
    if power[0] <= 0.0:
        return None
    # A sum over fewer rows is not a smaller correlation.
    return np.asarray(power / power[0] * (len(centred) / (len(centred) - np.arange(lags))))


def in_words(seconds: float) -> str:
    """A span of time as a person says it.

    >>> in_words(5400), in_words(360_000)
    ('90 min', '4.17 d')
    """
    for unit, size in (("d", 86_400.0), ("h", 3_600.0), ("min", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"
