"""What is usual at this time of day and of week: expected value and unit of every channel.

A profile is fitted on training rows and their timestamps. It says, of any timestamp, what each
channel usually is then (`expected`) and how far it usually is from that (`spread`), so that a load
that is usual at noon is unusual at night, and an hour that is always rough has its own unit. It is
switched on for a channel only where it lowers the error of days that were left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from imdiffusion.arrays import Flags, Floats, Instants, Ints
from imdiffusion.data.calendar import HOLIDAY, WEEKDAYS, Calendar
from imdiffusion.durations import DAY_NS, MINUTE_NS
from imdiffusion.errors import DataError, ModelError
from imdiffusion.scoring.cycles import DAY, LEVELS, NONE, Layout, columns
from imdiffusion.scoring.profile_fit import Table, fit_tables, unit_of_all

LEAST_DAYS = 2
LEAST_WEEKS_DAYS = 14
MOST_DAYS = 364  # a year's holidays; what was usual before may no longer be
# Units between two slots: up to so many a step comes of the slots alone, beyond so many it is an
# edge.
SMALL, STEP = 1.0, 4.0
STEEPER = 5.0  # times as steep as a step beside it: of the same slope still
EARLY = 0.05  # of a period: rows that jitter about the beginning of a slot lie there
LONGEST_NS = 30 * MINUTE_NS  # half of the longest slot that is tried where rows are finer
APART = 1.0  # units by which a day differs from the others of the week to be named as the reason


@dataclass(frozen=True, slots=True)
class CalendarProfile:
    """The course of each channel over the day, the working week or the week.

    calendar: zone and holidays. reason: why no channel has a course, "" where one has.
    level (K,): place in `cycles.LEVELS`. slots, unit_slots (K,): how many slots of a day the
    centre and the unit have. centre, unit: the channels' tables (columns of the level, slots) one
    after the other; a channel without a course has one centre, 0, and one unit. shift: how much
    later, in ns, than the middle of a slot its rows lie on average; of hourly rows at full hours,
    minus half an hour.
    """

    calendar: Calendar
    reason: str
    level: Ints
    slots: Ints
    unit_slots: Ints
    centre: Floats
    unit: Floats
    shift: int = 0
    _first: Ints = field(init=False, repr=False)  # of the slots told alike, for each of centre
    _after: Ints = field(init=False, repr=False)  # and the one after them

    def __post_init__(self) -> None:
        for name, found in zip(("_first", "_after"), self._alike(), strict=True):
            object.__setattr__(self, name, found)

    @classmethod
    def fit(
        cls, timestamps: Instants, values: Floats, observed: Flags, *, timezone: str = "UTC",
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
        cls, timestamps: Instants, values: Floats, observed: Flags, *, timezone: str = "UTC",
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
        profile = cls._of_tables(
            calendar, reason, tables, values, observed, _shift(timestamps, calendar)
        )
        residual[late:] /= profile.spread(timestamps[late:])
        residual[:late] = profile.residual(timestamps[:late], values[:late], observed[:late])
        return profile, residual

    @classmethod
    def _of_tables(
        cls, calendar: Calendar, reason: str, tables: list[Table | None], values: Floats,
        observed: Flags, shift: int,
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
            shift,
        )

    @property
    def on(self) -> Flags:
        """Whether the calendar lowers the held-out error of a channel, (K,)."""
        return np.asarray(self.level != NONE, dtype=np.bool_)

    def expected(self, timestamps: Instants) -> Floats:
        """What each channel usually is at timestamps (n,) in UTC: (n, K); 0 where off."""
        return self._expected(*self.calendar.days(timestamps))

    def course(self, timestamps: Instants) -> Floats:
        """`expected` without the steps between slots that come of slots alone: (n, K).

        Such a step is drawn out to a line, from the middle of the rows that are told alike before
        it to the middle of those after it. An hour that was not split is told alike as a whole,
        however fine the slots of other hours are. A step is taken for one of slots where it is
        small, and where it is not large and part of a slope: a step beside it goes the same way,
        nearly as steeply. Others are edges of what happens then, and stay.
        """
        day, time = self.calendar.days(timestamps)
        kinds = np.stack([self.calendar.kinds(day + side) for side in range(-3, 4)], axis=1)
        today = np.full((len(day), len(self.slots)), 3, dtype=np.int64)
        own = self._place(kinds, today, time[:, None] * self.slots // DAY_NS)
        at: Floats = (time[:, None] - self.shift) * (self.slots / DAY_NS)  # rows' own middle
        late = np.asarray(at >= (self._first[own] + self._after[own]) / 2)
        day_of, other = self._beside(kinds, today, own, late)
        halves = [self._rows(place) / 2 for place in (own, other)]
        step = self.centre[other] - self.centre[own]
        slope = step / (halves[0] + halves[1])
        unit = self._spread(time)
        drawn: Flags = np.abs(step) <= SMALL * unit
        for begun, place, side in ((day_of, other, late), (today, own, ~late)):
            _, beyond = self._beside(kinds, begun, place, side)
            apart = (self._rows(beyond) + self._rows(place)) / 2
            turned = np.where(side == late, 1.0, -1.0)
            steep = turned * (self.centre[beyond] - self.centre[place]) / apart
            drawn |= (steep * slope > 0) & (np.abs(slope) <= STEEPER * np.abs(steep))
        drawn &= (np.abs(step) <= STEP * unit) & self.on
        mine, theirs = (np.minimum(half, self._longest()) for half in halves)
        inwards = np.where(late, self._after[own] - at, at - self._first[own])
        line = self.centre[own] + step * np.maximum(mine - inwards, 0.0) / (mine + theirs)
        return np.asarray(np.where(drawn, line, self.centre[own]))

    def _rows(self, place: Ints) -> Ints:
        """How many slots are told as these are."""
        return np.asarray(self._after[place] - self._first[place])

    def _beside(self, kinds: Ints, day: Ints, place: Ints, after: Flags) -> tuple[Ints, Ints]:
        """The slot after (before) those that are told like slots (n, K) of days: its day, place."""
        slot: Ints = np.where(after, self._after[place], self._first[place] - 1)
        whole: Ints = day + slot // self.slots
        return whole, self._place(kinds, whole, slot % self.slots)

    def _longest(self) -> Floats:
        """The longest way that a line goes into what is told alike, in slots: (K,)."""
        return np.asarray(np.maximum(0.5, self.slots * (LONGEST_NS / DAY_NS)))

    def _place(self, kinds: Ints, day: Ints, slot: Ints) -> Ints:
        """Where in `centre` the slots (n, K) of days stand: day (n, K) is a column of kinds."""
        table = np.stack([columns(level, self.calendar.weekend) for level in range(len(LEVELS))])
        kind = np.take_along_axis(kinds, day, axis=1)
        return np.asarray(self._starts() + table[self.level, kind] * self.slots + slot)

    def _alike(self) -> tuple[Ints, Ints]:
        """Of each entry of `centre`, the first slot that is told as it is, and the one after."""
        first, after = (np.zeros(len(self.centre), dtype=np.int64) for _ in range(2))
        starts = self._starts()
        for k, slots in enumerate(self.slots.tolist()):
            size = _width(int(self.level[k])) * slots
            table = self.centre[starts[k] : starts[k] + size].reshape(-1, slots)
            new = np.ones((len(table), slots + 1), dtype=np.bool_)
            new[:, 1:-1] = table[:, 1:] != table[:, :-1]
            place = np.where(new, np.arange(slots + 1), 0)
            begun = np.maximum.accumulate(place, axis=1)[:, :-1]
            ends = np.where(new, np.arange(slots + 1), slots)[:, ::-1]
            ended = np.minimum.accumulate(ends, axis=1)[:, ::-1][:, 1:]
            first[starts[k] : starts[k] + size] = begun.ravel()
            after[starts[k] : starts[k] + size] = ended.ravel()
        return first, after

    def spread(self, timestamps: Instants) -> Floats:
        """How far each channel usually is from `expected`, one standard deviation: (n, K) > 0."""
        return self._spread(self.calendar.days(timestamps)[1])

    def _expected(self, day: Ints, time: Ints) -> Floats:
        kinds = self.calendar.kinds(day)
        column = [columns(level, self.calendar.weekend)[kinds] for level in range(len(LEVELS))]
        return _looked_up(self.centre, self._starts(), self.slots, self.level, time, column)

    def _spread(self, time: Ints) -> Floats:
        starts, alike = np.cumsum(self.unit_slots) - self.unit_slots, np.zeros_like(self.level)
        column = [np.zeros(len(time), dtype=np.int64)]
        return _looked_up(self.unit, starts, self.unit_slots, alike, time, column)

    def residual(self, timestamps: Instants, values: Floats, observed: Flags) -> Floats:
        """(value - expected) / spread, (n, K); NaN where not observed or off.

        values as in `fit`. A timestamp's row depends on that row alone.
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
        state = {one.name: getattr(self, one.name) for one in fields(self) if one.init}
        del state["calendar"]
        return {**state, "timezone": self.calendar.timezone, "country": self.calendar.country}

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> CalendarProfile:
        """The profile of a state; ModelError where a part of it is missing."""
        state = {"shift": 0, **state}  # of models saved before it was told
        names = [one.name for one in fields(cls) if one.init and one.name != "calendar"]
        absent = sorted({*names, "timezone", "country"} - set(state))
        if absent:
            raise ModelError(
                f"the calendar profile lacks {', '.join(absent)}",
                remedy="Save the model again with this version, or fit it again.",
            )
        return cls(
            Calendar(state["timezone"], state["country"]), **{name: state[name] for name in names}
        )

    def _starts(self) -> Ints:
        """Where each channel's table begins in `centre`, (K,)."""
        width = np.array([_width(level) for level in range(len(LEVELS))])
        sizes = self.slots * width[self.level]
        return np.asarray(np.cumsum(sizes) - sizes, dtype=np.int64)


def _width(level: int) -> int:
    return int(columns(level, frozenset((5, 6))).max()) + 1


def _looked_up(
    table: Floats, starts: Ints, slots: Ints, level: Ints, time: Ints,
    column: list[Ints],
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


def _shift(timestamps: Instants, calendar: Calendar) -> int:
    """Mean time of the rows of a slot less its middle, ns: the same for slots of all widths."""
    local = calendar.local(timestamps)
    if len(local) < 2:
        return 0
    period = int(np.median(np.diff(local)))
    turn = (local % period) * (2 * np.pi / period)
    phase = float(np.angle(np.exp(1j * turn).mean())) / (2 * np.pi)  # a mean on the circle
    if phase < -EARLY:
        phase += 1.0
    return round((phase - 0.5) * period)


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


def _check(timestamps: Instants, values: Floats, observed: Flags, channels: int = -1) -> None:
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
