"""What is usual at this time of day and of week: expected value and unit of every channel.

A profile is fitted on training rows and their timestamps. It says, of any timestamp, what each
channel usually is then (`expected`) and how far it usually is from that (`spread`), so that a load
that is usual at noon is unusual at night, and an hour that is always rough has its own unit. It is
switched on for a channel only where it lowers the error of days that were left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imdiffusion.data.calendar import DAY_NS, HOLIDAY, WEEKDAYS, Calendar
from imdiffusion.errors import DataError, ModelError
from imdiffusion.scoring.cycles import (
    DAY,
    LEVELS,
    MINUTE_NS,
    NONE,
    Bools,
    Floats,
    Integers,
    Layout,
    columns,
)
from imdiffusion.scoring.profile_fit import Table, fit_tables, unit_of_all

Instants = NDArray[np.datetime64]
LEAST_DAYS = 2
LEAST_WEEKS_DAYS = 14
MOST_DAYS = 364  # a year's holidays; what was usual before may no longer be
STEP = 4.0  # units between two slots from which a step is an edge
APART = 1.0  # units by which a day differs from the others of the week to be named as the reason


@dataclass(frozen=True, slots=True)
class CalendarProfile:
    """The course of each channel over the day, the working week or the week.

    calendar: zone and holidays. reason: why no channel has a course, "" where one has.
    level (K,): place in `cycles.LEVELS`. slots, unit_slots (K,): how many slots of a day the
    centre and the unit have. centre, unit: the channels' tables (columns of the level, slots) one
    after the other; a channel without a course has one centre, 0, and one unit.
    """

    calendar: Calendar
    reason: str
    level: Integers
    slots: Integers
    unit_slots: Integers
    centre: Floats
    unit: Floats

    @classmethod
    def fit(
        cls, timestamps: Instants, values: Floats, observed: Bools, *, timezone: str = "UTC",
        country: str | None = None,
    ) -> CalendarProfile:  # fmt: skip
        """Fit on training rows.

        timestamps datetime64[ns] (T,) in UTC and in order; values float64 (T, K), each channel
        robustly standardised (centre 0, spread 1); observed bool (T, K). A time of day needs two
        local days, a week two weeks; what they do not show is switched off, and `reason` says why.

        Raises DataError for shapes that do not fit or timestamps out of order, ConfigError for an
        unknown zone or country, MissingExtraError for a country without the package `holidays`.
        """
        return cls.fit_cross_fitted(
            timestamps, values, observed, timezone=timezone, country=country
        )[0]

    @classmethod
    def fit_cross_fitted(
        cls, timestamps: Instants, values: Floats, observed: Bools, *, timezone: str = "UTC",
        country: str | None = None,
    ) -> tuple[CalendarProfile, Floats]:  # fmt: skip
        """As `fit`, and the residuals (T, K) of the training rows, for calibration.

        Each row is measured against what other days say, as new rows will be: the rows that a
        profile was fitted on lie too close to it. In units, NaN where not observed or off. Rows
        before the last year's are measured against that year, which alone is fitted on.
        """
        _check(timestamps, values, observed)
        calendar = Calendar(timezone, country)
        reason = _too_short(timestamps, calendar)
        tables: list[Table | None] = [None] * values.shape[1]
        residual = np.full(values.shape, np.nan)
        late = _last(timestamps, MOST_DAYS)
        if not reason:
            weeks = _span_days(timestamps, calendar) >= LEAST_WEEKS_DAYS
            layout = Layout.of(timestamps[late:], calendar)
            tables, residual[late:] = fit_tables(
                layout, values[late:], observed[late:], calendar.weekend, weeks=weeks
            )
            if not any(tables):
                tried = "day or of week" if weeks else "day"
                reason = f"the error of days left out does not fall clearly by the time of {tried}"
        profile = cls._of_tables(calendar, reason, tables, values, observed)
        residual[late:] /= profile.spread(timestamps[late:])
        residual[:late] = profile.residual(timestamps[:late], values[:late], observed[:late])
        return profile, residual

    @classmethod
    def _of_tables(
        cls, calendar: Calendar, reason: str, tables: list[Table | None], values: Floats,
        observed: Bools,
    ) -> CalendarProfile:  # fmt: skip
        rest = unit_of_all(np.where(observed, np.abs(values), np.nan))
        whole = [
            Table(NONE, np.zeros((1, 1)), np.array([[rest[k]]])) if table is None else table
            for k, table in enumerate(tables)
        ]
        return cls(
            calendar,
            reason,
            np.array([table.level for table in whole], dtype=np.int64),
            np.array([table.centre.shape[1] for table in whole], dtype=np.int64),
            np.array([table.unit.shape[1] for table in whole], dtype=np.int64),
            np.concatenate([np.zeros(0), *(table.centre.ravel() for table in whole)]),
            np.concatenate([np.zeros(0), *(table.unit.ravel() for table in whole)]),
        )

    @property
    def on(self) -> Bools:
        """Whether the calendar lowers the held-out error of a channel, (K,)."""
        return np.asarray(self.level != NONE, dtype=np.bool_)

    def expected(self, timestamps: Instants) -> Floats:
        """What each channel usually is at timestamps (n,) in UTC: (n, K); 0 where off."""
        return self._expected(*self.calendar.days(timestamps))

    def course(self, timestamps: Instants) -> Floats:
        """`expected` without the steps between slots that come of slots alone: (n, K).

        A step of less than one unit is drawn out to a line from the middle of one slot to that of
        the next; a larger one is an edge of what happens then, and stays one.
        """
        found = self.expected(timestamps)
        times = timestamps.astype("datetime64[ns]").astype(np.int64)
        local = self.calendar.days(timestamps)[1]
        unit = self.spread(timestamps)
        for slots in np.unique(self.slots[self.on]).tolist():
            width = DAY_NS // slots
            alike = self.on & (self.slots == slots)
            before, after = (
                self.expected((times + side).view("datetime64[ns]"))[:, alike]
                for side in (-width // 2, width // 2)
            )
            share = ((local + width // 2) % width / width)[:, None]
            small = np.abs(after - before) <= STEP * unit[:, alike]
            line = before * (1.0 - share) + after * share
            found[:, alike] = np.where(small, line, found[:, alike])
        return found

    def spread(self, timestamps: Instants) -> Floats:
        """How far each channel usually is from `expected`, one standard deviation: (n, K) > 0."""
        return self._spread(self.calendar.days(timestamps)[1])

    def _expected(self, day: Integers, time: Integers) -> Floats:
        kinds = self.calendar.kinds(day)
        column = [columns(level, self.calendar.weekend)[kinds] for level in range(len(LEVELS))]
        return _looked_up(self.centre, self._starts(), self.slots, self.level, time, column)

    def _spread(self, time: Integers) -> Floats:
        starts, alike = np.cumsum(self.unit_slots) - self.unit_slots, np.zeros_like(self.level)
        column = [np.zeros(len(time), dtype=np.int64)]
        return _looked_up(self.unit, starts, self.unit_slots, alike, time, column)

    def residual(self, timestamps: Instants, values: Floats, observed: Bools) -> Floats:
        """(value - expected) / spread, (n, K); NaN where not observed or off.

        values as in `fit`. A timestamp's row hangs on that row alone.
        """
        _check(timestamps, values, observed, len(self.level))
        day, time = self.calendar.days(timestamps)
        left = (values - self._expected(day, time)) / self._spread(time)
        return np.where(observed & self.on, left, np.nan)

    def describe(self, timestamp: np.datetime64) -> str:
        """What makes the time what it is, for "unusual ...": "for a Saturday", "for 02:15".

        The kind of day where it differs from the rest of the week at that time, in any channel
        by one unit; otherwise the time of day; "" where no cycle is on.
        """
        if not self.on.any():
            return ""
        at = np.array([timestamp], dtype="datetime64[ns]")
        days, times = self.calendar.days(at)
        kind = int(self.calendar.kinds(days)[0])
        weekly = np.flatnonzero(self.level > DAY)
        starts = self._starts()
        for k in weekly.tolist():
            place = columns(int(self.level[k]), self.calendar.weekend)
            slots = int(self.slots[k])
            table = self.centre[starts[k] :][: (int(place.max()) + 1) * slots].reshape(-1, slots)
            week = table[place[:HOLIDAY], int(times[0]) * slots // DAY_NS]
            own = table[place[kind], int(times[0]) * slots // DAY_NS]
            if abs(own - np.median(week)) > APART * self.spread(at)[0, k]:
                name = self.calendar.holiday(int(days[0]))
                return f"for a holiday ({name})" if name else f"for a {WEEKDAYS[kind]}"
        minute = int(times[0]) // MINUTE_NS
        if bool(np.all(self.slots[self.on] == 1)):
            return f"for a {WEEKDAYS[int((days[0] + 3) % 7)]}"
        return f"for {minute // 60:02d}:{minute % 60:02d}"

    def to_dict(self) -> dict[str, Any]:
        """Arrays and JSON facts, which `from_dict` takes back exactly."""
        state = {field.name: getattr(self, field.name) for field in fields(self)}
        del state["calendar"]
        return {**state, "timezone": self.calendar.timezone, "country": self.calendar.country}

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> CalendarProfile:
        """The profile of a state; ModelError where a part of it is missing."""
        names = [field.name for field in fields(cls) if field.name != "calendar"]
        absent = sorted({*names, "timezone", "country"} - set(state))
        if absent:
            raise ModelError(
                f"the calendar profile lacks {', '.join(absent)}",
                remedy="Save the model again with this version, or fit it again.",
            )
        return cls(
            Calendar(state["timezone"], state["country"]), **{name: state[name] for name in names}
        )

    def _starts(self) -> Integers:
        """Where each channel's table begins in `centre`, (K,)."""
        width = np.array([_width(level) for level in range(len(LEVELS))])
        sizes = self.slots * width[self.level]
        return np.asarray(np.cumsum(sizes) - sizes, dtype=np.int64)


def _width(level: int) -> int:
    return int(columns(level, frozenset((5, 6))).max()) + 1


def _looked_up(
    table: Floats, starts: Integers, slots: Integers, level: Integers, time: Integers,
    column: list[Integers],
) -> Floats:  # fmt: skip
    """Values (n, K) of flat tables at times of day (n,), one look for each shape of table."""
    found = np.empty((len(time), len(starts)))
    for width, count in sorted(set(zip(level.tolist(), slots.tolist(), strict=True))):
        mine = np.flatnonzero((level == width) & (slots == count))
        place = column[width] * count + time // (DAY_NS // count)
        found[:, mine] = table[starts[mine] + place[:, None]]
    return found


def _last(timestamps: Instants, days: int) -> int:
    """The first row of the last `days` days."""
    if not len(timestamps):
        return 0
    start = timestamps[-1] - np.timedelta64(days, "D")
    return int(np.searchsorted(timestamps, start, side="right"))


def _span_days(timestamps: Instants, calendar: Calendar) -> float:
    """Local days from the first row to the end of the last."""
    local = calendar.local(timestamps)
    if len(local) < 2:
        return 0.0
    return float(local[-1] - local[0] + np.median(np.diff(local))) / DAY_NS


def _too_short(timestamps: Instants, calendar: Calendar) -> str:
    if len(timestamps) == 0:
        return "there are no rows"
    layout = Layout.of(timestamps, calendar)
    if not layout.widths:
        return "rows are more than a day apart"
    days = _span_days(timestamps, calendar)
    if days < LEAST_DAYS:
        return f"the rows span {days:.3g} days, and a time of day shows in {LEAST_DAYS} at least"
    return ""


def _check(timestamps: Instants, values: Floats, observed: Bools, channels: int = -1) -> None:
    """Raise DataError unless the three belong together."""
    shape = values.shape
    wrong = len(shape) != 2 or observed.shape != shape or timestamps.shape != shape[:1]
    if wrong or channels not in (-1, shape[1]):
        of = "" if channels == -1 else f", fitted on {channels} channels"
        raise DataError(
            f"timestamps {timestamps.shape}, values {shape} and observed {observed.shape} do not "
            f"belong together{of}",
            remedy="Give timestamps (n,), and values and observed (n, K).",
        )
    if bool(np.any(np.diff(timestamps) <= np.timedelta64(0))):
        raise DataError("the timestamps are out of order", remedy="Sort the rows by time.")
