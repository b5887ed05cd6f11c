"""Training rows laid out by day and time of day, and what is usual at each time, robustly.

A layout holds one value for each slot of a day, channel and day, the median of its rows. What is
usual is told by medians over days, at one of three levels, each of which leans on the one before:

    day       the median m of all days
    workday   workdays: the median of {m, the workdays}; weekends and holidays the like
    weekday   each weekday: the median of {its parent in the row above, the days of that weekday}

The parent counts as one more day. So two Saturdays that agree against it are believed as far as
the milder of them goes, two that disagree about its sign are not, and one odd day of three or more
moves a median by one rank.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imdiffusion.arrays import Flags, Floats, Ints
from imdiffusion.data.calendar import HOLIDAY, Calendar
from imdiffusion.durations import DAY_NS, MINUTE_NS

LEVELS = ("none", "day", "workday", "weekday")
NONE, DAY, WORKDAY, WEEKDAY = range(4)
# Kind of day -> column of a table at each level but the first.
WORK, FREE = 0, 1
# Minutes of the slots that are tried, coarse to fine, by the finest; each divides the one before.
# Below a minute there are too few days for as many slots; above an hour rows are slots.
WIDTHS = {
    1: (60, 15, 5, 1), 2: (60, 10, 2), 5: (60, 15, 5), 10: (60, 10), 15: (60, 15), 30: (60, 30),
    60: (60,), 120: (120,), 180: (180,), 240: (240,), 360: (360,), 480: (480,), 720: (720,),
    1440: (1440,),
}  # fmt: skip


def columns(level: int, weekend: frozenset[int]) -> Ints:
    """Of a table at this level, the column (8,) of each kind of day."""
    if level == WORKDAY:
        return np.array([*(FREE if day in weekend else WORK for day in range(7)), 2])
    return np.arange(8) if level == WEEKDAY else np.zeros(8, dtype=np.int64)


def slot_widths(period_ns: int) -> tuple[int, ...]:
    """Widths of slots in minutes, coarse to fine, for rows this far apart; () beyond a day."""
    for finest, widths in WIDTHS.items():
        if finest * MINUTE_NS >= 0.99 * period_ns:  # a clock that is a little slow keeps its slots
            return widths
    return ()


@dataclass(frozen=True, slots=True)
class Layout:
    """Where each row stands: its day, 0 to D - 1 of the days with rows, and its time of day.

    day (T,), time (T,) ns since local midnight, days (D,) since 1970, kinds (D,) of day, widths of
    slots in minutes, coarse to fine.
    """

    day: Ints
    time: Ints
    days: Ints
    kinds: Ints
    widths: tuple[int, ...]

    @classmethod
    def of(cls, timestamps: NDArray[np.datetime64], calendar: Calendar) -> Layout:
        """Of timestamps (T,) in UTC, in the order of time."""
        local_day, time = calendar.days(timestamps)
        days, day = np.unique(local_day, return_inverse=True)
        gaps = np.diff(timestamps.astype("datetime64[ns]").view(np.int64))
        period = int(np.median(gaps)) if gaps.size else DAY_NS
        return cls(day, time, days, calendar.kinds(days), slot_widths(period))

    def slots(self, width: int) -> int:
        """How many slots of `width` minutes a day has."""
        return DAY_NS // (width * MINUTE_NS)

    def slot(self, width: int) -> Ints:
        """The slot (T,) of each row."""
        return self.time // (width * MINUTE_NS)

    def cube(self, values: Floats, observed: Flags, *, share: float = 0.5) -> Floats:
        """Values (T, K) -> (S, K, D) at the finest width, NaN where nothing was observed.

        Of several rows in a slot their quantile `share`. Of an hour that a clock shows twice, the
        second pass counts.
        """
        slots, channels, days = self.slots(self.widths[-1]), values.shape[1], len(self.days)
        slot = self.slot(self.widths[-1])
        cell = self.day * slots + slot
        starts = np.flatnonzero(np.diff(cell, prepend=-1) != 0)
        rank = np.arange(len(cell)) - np.repeat(starts, np.diff(starts, append=len(cell)))
        depth = int(rank.max(initial=0)) + 1
        cube = np.full((slots, channels, days, depth), np.nan)
        cube[slot, :, self.day, rank] = np.where(observed, values, np.nan)
        return cube[..., 0] if depth == 1 else quantile_of_last(cube, share)


def coarser(cube: Floats, ratio: int) -> Floats:
    """(S, K, D) -> (S / ratio, K, D): the median of neighbouring slots."""
    slots, channels, days = cube.shape
    if ratio == 1:
        return cube
    parts = cube.reshape(slots // ratio, ratio, channels, days)
    return quantile_of_last(np.ascontiguousarray(np.moveaxis(parts, 1, -1)), 0.5)


def quantile_of_last(values: Floats, share: float) -> Floats:
    """The quantile over the last axis of what is not NaN; NaN where nothing is."""
    if values.shape[-1] == 0:
        return np.full(values.shape[:-1], np.nan)
    ordered = np.sort(values, axis=-1)  # NaN goes last
    place = share * (values.shape[-1] - np.isnan(ordered).sum(axis=-1) - 1)[..., None]
    low = np.floor(place).astype(np.int64)  # -1, a NaN, where there is nothing
    below: Floats = np.take_along_axis(ordered, low, axis=-1)[..., 0]
    above = np.take_along_axis(ordered, np.ceil(place).astype(np.int64), axis=-1)[..., 0]
    part = (place - low)[..., 0]
    return below if not part.any() else below + part * (above - below)


def usual(cube: Floats, kinds: Ints, level: int, weekend: frozenset[int]) -> Floats:
    """What is usual at each slot: cube (..., D) and kinds (D,) -> (..., columns of the level).

    NaN where no day has a value. At the level "none", the cube's own slots are not told apart by
    it: the caller lays them along the last axis.
    """
    every = quantile_of_last(cube, 0.5)
    if level <= DAY:
        return every[..., None]
    free = np.isin(kinds, list(weekend))
    holiday = kinds == HOLIDAY
    work = _leaning(every, cube[..., ~free & ~holiday])
    rest = _leaning(every, cube[..., free])
    feast = _leaning(rest, cube[..., holiday])
    if level == WORKDAY:
        return np.stack([work, rest, feast], axis=-1)
    each = [_leaning(rest if day in weekend else work, cube[..., kinds == day]) for day in range(7)]
    return np.stack([*each, feast], axis=-1)


def _leaning(parent: Floats, days: Floats) -> Floats:
    return quantile_of_last(np.concatenate([parent[..., None], days], axis=-1), 0.5)


def folds(groups: Ints, most: int) -> Ints:
    """Days (D,) of ascending groups (a week, say) -> the fold of each, `most` folds at most."""
    _, place = np.unique(groups, return_inverse=True)
    count = int(place.max(initial=0)) + 1
    return place if count <= most else place * most // count


def held_out(cube: Floats, kinds: Ints, fold: Ints, level: int, weekend: frozenset[int]) -> Floats:
    """What the days of the other folds say of each day: cube (..., D) -> (..., D)."""
    said: Floats = np.full(cube.shape, np.nan)
    for out in np.unique(fold):
        rest, own = fold != out, fold == out
        table = usual(cube[..., rest], kinds[rest], level, weekend)
        said[..., own] = table[..., columns(level, weekend)[kinds[own]]]
    return said


FEW_DAYS = 0.3  # of the error, divided by the days: what chance may make of few days


def clearly_less(
    before: Floats, after: Floats, *, share: float, sure: float, few: float = FEW_DAYS
) -> Flags:
    """Whether held-out errors by day (..., D) fell: by a share, and by `sure` standard errors.

    The share that is asked for grows as days become few: of two days, chance makes two alike.
    """
    fall: Floats = before - after
    known = np.isfinite(fall)
    count = known.sum(axis=-1)
    safe = np.maximum(count, 1)
    fall = np.where(known, fall, 0.0)
    mean = fall.sum(axis=-1) / safe
    spread = np.sqrt((np.where(known, fall - mean[..., None], 0.0) ** 2).sum(axis=-1) / safe)
    error = spread / np.sqrt(np.maximum(count - 1, 1))
    level = np.where(known, before, 0.0).sum(axis=-1) / safe
    asked = (share + few / safe) * level
    less: Any = (count >= 2) & (mean > asked) & (mean > sure * error)
    return np.asarray(less, dtype=np.bool_)


# -- which cycle a channel has, and how fine its slots are: chosen by the error of days left out
#
# Days (weeks, from two weeks on) are left out in turn; a cycle or a finer slot is taken where the
# error of what was left out falls clearly. Errors are absolute, so that an odd day weighs as one
# day and not as its square, and an absurd value counts as one just outside the usual range.

WEEK = 7
# The most folds of days or weeks that are left out in turn.
DAY_FOLDS, WEEK_FOLDS, WIDTH_FOLDS = 7, 6, 4
LEAST_FALL = 0.02  # of the held-out error, for a cycle or a finer slot
SURE = 2.0  # standard errors over days, for a channel's cycle
SURE_OF_MANY = 3.0  # the same where each of a channel's many slots is asked
HARD = 1.5  # a slot whose error is so many times the usual is asked whether finer slots help
FAR = 10.0  # spreads outside the range of what recurs: where a value counts as absurd
# A short job shows where, in one slot, the error falls by so many spreads on so large a share of
# at least so many days.
JOB_FALL, JOB_DAYS, JOB_LEAST = 3.0, 0.8, 5


@dataclass(frozen=True, slots=True)
class Choice:
    """level (K,): place in `cycles.LEVELS`. sparse (K,): whether only some slots tell of it."""

    level: Ints
    sparse: Flags


def bounded(cube: Floats) -> Floats:
    """The cube (S, K, D) with absurd values drawn in to a little outside of what recurs daily."""
    recurs = quantile_of_last(cube, 0.5).T  # (K, S)
    low, high = (quantile_of_last(recurs, share)[:, None] for share in (0.0, 1.0))
    return np.clip(cube, low - FAR, high + FAR)


def choose_levels(layout: Layout, cube: Floats, weekend: frozenset[int], *, weeks: bool) -> Choice:
    """The cycle of each channel, from a bounded cube (S, K, D).

    A time of day is tried on days left out, a week, with two weeks of rows, on weeks left out,
    both by the mean over the whole day at the second coarsest width; a short job by single slots.
    """
    width = layout.widths[min(1, len(layout.widths) - 1)]
    flat = coarser(cube, width // layout.widths[-1]).transpose(1, 0, 2)  # (K, S, D)
    kinds, fold = layout.kinds, folds(layout.days, DAY_FOLDS)
    chosen = np.full(len(flat), NONE)
    if flat.shape[1] > 1:  # one slot a day has no time of day
        error = _day_error(flat, constant(flat, fold))
        new = _day_error(flat, held_out(flat, kinds, fold, DAY, weekend))
        chosen[clearly_less(error, new, share=LEAST_FALL, sure=SURE)] = DAY
    if weeks:
        fold = folds((layout.days - layout.days[0]) // WEEK, WEEK_FOLDS)
        error = _day_error(flat, constant(flat, fold))
        daily = _day_error(flat, held_out(flat, kinds, fold, DAY, weekend))
        error = np.where((chosen == DAY)[:, None], daily, error)
        for level in (WORKDAY, WEEKDAY):
            new = _day_error(flat, held_out(flat, kinds, fold, level, weekend))
            better = clearly_less(error, new, share=LEAST_FALL, sure=SURE)
            chosen[better] = level
            error = np.where(better[:, None], new, error)
    sparse = np.zeros(len(flat), dtype=np.bool_)
    rest = np.flatnonzero(chosen == NONE)
    if len(layout.days) >= JOB_LEAST and rest.size and len(cube) > 1:
        sparse[rest] = _has_jobs(cube[:, rest], kinds, folds(layout.days, DAY_FOLDS), weekend)
    return Choice(np.where(sparse, DAY, chosen), sparse)


def _has_jobs(cube: Floats, kinds: Ints, fold: Ints, weekend: frozenset[int]) -> Flags:
    """Whether in any slot of a channel (K,) something recurs that a constant does not tell."""
    flat = np.ascontiguousarray(cube.transpose(1, 0, 2))
    before = np.abs(flat - constant(flat, fold))
    fall = before - np.abs(flat - held_out(flat, kinds, fold, DAY, weekend))
    spread = quantile_of_last(before.reshape(len(flat), -1), 0.6827)[:, None]
    often = np.isfinite(fall).sum(axis=2) >= JOB_LEAST
    most = quantile_of_last(fall, 1 - JOB_DAYS) > JOB_FALL * np.maximum(spread, 1e-9)
    return np.asarray((often & most).any(axis=1), dtype=np.bool_)


def constant(flat: Floats, fold: Ints) -> Floats:
    """What is said of each day where no cycle is known: the median of the other folds."""
    said = np.empty((flat.shape[0], 1, flat.shape[2]))
    for out in np.unique(fold):
        rest = flat[..., fold != out].reshape(len(flat), -1)
        said[..., fold == out] = quantile_of_last(rest, 0.5)[:, None, None]
    return said


def _day_error(flat: Floats, said: Floats) -> Floats:
    """Mean absolute error of each day: (K, S, D) -> (K, D), NaN for a day without a value."""
    return mean_known(np.abs(flat - said), axis=1)


def mean_known(values: Floats, axis: int) -> Floats:
    """The mean over an axis of what is finite; NaN where nothing is."""
    known = np.isfinite(values)
    total = np.where(known, values, 0.0).sum(axis=axis)
    count = known.sum(axis=axis)
    mean: Floats = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return mean


def choose_depths(
    layout: Layout, cubes: list[Floats], level: int, sparse: Flags, weekend: frozenset[int]
) -> Ints:
    """By which width each finest slot is told, (S, K): a place in `cubes`, bounded, coarse to fine.

    A slot is split where its held-out error falls; it is asked where the slots around were split
    before, or its error is large. Of a sparse channel, slots begin as -1: told by a constant.
    """
    kinds, fold = layout.kinds, folds(layout.days, WIDTH_FOLDS)
    fine = cubes[-1]
    slots, channels, days = fine.shape
    depth = np.broadcast_to(np.where(sparse, -1, 0), (slots, channels)).copy()
    said = held_out(cubes[0], kinds, fold, level, weekend)
    error = np.abs(fine - np.repeat(said, slots // len(said), axis=0))
    if sparse.any():
        few = np.ascontiguousarray(fine[:, sparse].transpose(1, 0, 2))
        error[:, sparse] = np.abs(few - constant(few, fold)).transpose(1, 0, 2)
    for place in range(len(cubes)):
        parents = len(cubes[max(place - 1, 0)])
        parts, rows = len(cubes[place]) // parents, slots // parents
        now = mean_known(error.reshape(parents, rows, channels, days), axis=1)
        asked = (depth == place - 1).reshape(parents, rows, channels)[:, 0]
        if place:
            size = mean_known(now, axis=2)
            asked = asked | (size > HARD * quantile_of_last(size.T, 0.5))
        parent, channel = np.nonzero(asked)
        pieces = cubes[place].reshape(parents, parts, channels, days)[parent, :, channel]
        said = held_out(pieces, kinds, fold, level, weekend)  # (asked, parts, D)
        target = fine.reshape(parents, rows, channels, days)[parent, :, channel]
        new = np.abs(target - np.repeat(said, rows // parts, axis=1))
        before, after = now[parent, channel], mean_known(new, axis=1)
        better = clearly_less(before, after, share=LEAST_FALL, sure=SURE_OF_MANY)
        won, of = parent[better], channel[better]
        error.reshape(parents, rows, channels, days)[won, :, of] = new[better]
        depth.reshape(parents, rows, channels)[won, :, of] = place
    return depth
