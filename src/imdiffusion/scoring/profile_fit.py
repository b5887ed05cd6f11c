"""How a calendar profile is fitted: which cycle, how fine, and what a residual's size is.

Every choice is made by held-out error: days (weeks, from two weeks on) are left out in turn, and a
cycle, a finer slot or a unit of its own is taken where the error of the days left out falls
clearly. Errors are absolute, so an odd day weighs as one day, not as its square.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from imdiffusion.scoring.cycles import (
    DAY,
    NONE,
    WEEKDAY,
    WORKDAY,
    Bools,
    Floats,
    Integers,
    Layout,
    clearly_less,
    coarser,
    columns,
    folds,
    held_out,
    quantile_of_last,
    usual,
)

WEEK = 7
# The most folds of days or weeks that are left out in turn.
DAY_FOLDS, WEEK_FOLDS, WIDTH_FOLDS = 7, 6, 4
RESIDUAL_FOLDS = 14  # half as many from four weeks on, when each leaves enough days
LEAST_FALL = 0.02  # of the held-out error, for a cycle or a finer slot
SURE = 2.0  # standard errors over days, for a channel's cycle
SURE_OF_MANY = 3.0  # the same where each of a channel's many slots is asked
HARD = 1.5  # a slot whose error is so many times the usual is asked whether finer slots help
ONE_SIGMA = 0.6827  # quantile of a size that is one standard deviation of a normal variable
PRIOR_DAYS = 3.0  # how many days the unit of all hours counts for in the unit of one
LEAST_UNIT = 0.05  # standard deviations: what is smaller is not trusted
LEAST_SHARE = 0.25  # of the unit of all hours


@dataclass(frozen=True, slots=True)
class Table:
    """One channel's course: values (columns of its level, slots of a day)."""

    level: int
    centre: Floats
    unit: Floats


@dataclass(frozen=True, slots=True)
class _Group:
    """The channels of one level: cubes (S, K, D), coarse to fine, and each slot's width."""

    level: int
    channels: Integers
    cubes: list[Floats]
    depth: Integers  # (S, K) place of the width that each finest slot is told by


def choose_levels(
    layout: Layout, cube: Floats, weekend: frozenset[int], *, weeks: bool
) -> Integers:
    """The level (K,) of each channel, by held-out error at the second coarsest width.

    A time of day is tried on days left out, a week, with two weeks of rows, on weeks left out.
    """
    width = layout.widths[min(1, len(layout.widths) - 1)]
    flat = coarser(cube, width // layout.widths[-1]).transpose(1, 0, 2)  # (K, S, D)
    kinds, fold = layout.kinds, folds(layout.days, DAY_FOLDS)
    chosen = np.full(len(flat), NONE)
    if flat.shape[1] > 1:  # one slot a day has no time of day
        error = _day_error(flat, _constant(flat, fold))
        said = held_out(flat, kinds, fold, DAY, weekend)
        new = _day_error(flat, said)
        chosen[clearly_less(error, new, share=LEAST_FALL, sure=SURE)] = DAY
    if not weeks:
        return chosen
    fold = folds((layout.days - layout.days[0]) // WEEK, WEEK_FOLDS)
    error = _day_error(flat, _constant(flat, fold))
    daily = _day_error(flat, held_out(flat, kinds, fold, DAY, weekend))
    error = np.where((chosen == DAY)[:, None], daily, error)
    for level in (WORKDAY, WEEKDAY):
        new = _day_error(flat, held_out(flat, kinds, fold, level, weekend))
        better = clearly_less(error, new, share=LEAST_FALL, sure=SURE)
        chosen[better] = level
        error = np.where(better[:, None], new, error)
    return chosen


def fit_tables(
    layout: Layout, cube: Floats, values: Floats, observed: Bools, levels: Integers,
    weekend: frozenset[int],
) -> tuple[list[Table | None], Floats]:  # fmt: skip
    """The tables of the channels, None where the level is "none", and cross-fitted residuals.

    The residuals (T, K), in standardised units: each training row less what other days say of it;
    NaN where nothing was observed or the level is "none".
    """
    fold = folds(layout.days, WIDTH_FOLDS)
    apart = folds(layout.days, RESIDUAL_FOLDS // (1 + (len(layout.days) > 4 * WEEK)))
    residual = np.full(values.shape, np.nan)
    tables: list[Table | None] = [None] * values.shape[1]
    slot = layout.slot(layout.widths[-1])
    for level in np.unique(levels[levels != NONE]).tolist():
        channels = np.flatnonzero(levels == level)
        own = np.ascontiguousarray(cube[:, channels])
        cubes = [coarser(own, width // layout.widths[-1]) for width in layout.widths]
        depth = _depths(cubes, layout.kinds, fold, level, weekend)
        group = _Group(level, channels, cubes, depth)
        said = np.empty(own.shape)
        for out in np.unique(apart):
            part = _course(group, layout.kinds, apart != out, weekend)
            days = np.flatnonzero(apart == out)
            said[..., days] = part[..., columns(level, weekend)[layout.kinds[days]]]
        left = values[:, channels] - said[slot, :, layout.day]
        residual[:, channels] = np.where(observed[:, channels], left, np.nan)
        whole = _course(group, layout.kinds, np.ones(len(layout.days), dtype=np.bool_), weekend)
        units = _units(layout, np.abs(residual[:, channels]))
        for place, channel in enumerate(channels.tolist()):
            every = layout.widths[int(depth[:, place].max())] // layout.widths[-1]
            tables[channel] = Table(level, whole[::every, place].T.copy(), units[place])
    return tables, residual


def _constant(flat: Floats, fold: Integers) -> Floats:
    """What is said of each day where no cycle is known: the median of the other folds."""
    said = np.empty((flat.shape[0], 1, flat.shape[2]))
    for out in np.unique(fold):
        rest = flat[..., fold != out].reshape(len(flat), -1)
        said[..., fold == out] = quantile_of_last(rest, 0.5)[:, None, None]
    return said


def _day_error(flat: Floats, said: Floats) -> Floats:
    """Mean absolute error of each day: (K, S, D) -> (K, D), NaN for a day without a value."""
    return _mean(np.abs(flat - said), axis=1)


def _mean(values: Floats, axis: int) -> Floats:
    known = np.isfinite(values)
    total = np.where(known, values, 0.0).sum(axis=axis)
    count = known.sum(axis=axis)
    mean: Floats = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return mean


def _depths(
    cubes: list[Floats], kinds: Integers, fold: Integers, level: int, weekend: frozenset[int]
) -> Integers:
    """Which width tells each finest slot (S, K): a slot is split where its held-out error falls."""
    fine = cubes[-1]
    slots, channels, _ = fine.shape
    depth = np.zeros((slots, channels), dtype=np.int64)
    said = held_out(cubes[0], kinds, fold, level, weekend)
    error = np.abs(fine - np.repeat(said, slots // len(said), axis=0))
    for place in range(1, len(cubes)):
        parents, parts = len(cubes[place - 1]), len(cubes[place]) // len(cubes[place - 1])
        rows = slots // parents  # finest slots of a parent
        now = _mean(error.reshape(parents, rows, *error.shape[1:]), axis=1)  # (parents, K, D)
        level_of = _mean(now, axis=2)
        asked = level_of > HARD * quantile_of_last(level_of.T, 0.5)
        asked |= (depth == place - 1).reshape(parents, rows, channels)[:, 0]
        parent, channel = np.nonzero(asked)
        pieces = cubes[place].reshape(parents, parts, channels, -1)[parent, :, channel]
        said = held_out(pieces, kinds, fold, level, weekend)  # (G, parts, D)
        target = fine.reshape(parents, rows, channels, -1)[parent, :, channel]
        new = np.abs(target - np.repeat(said, rows // parts, axis=1))
        better = clearly_less(
            now[parent, channel], _mean(new, axis=1), share=LEAST_FALL, sure=SURE_OF_MANY
        )
        won, of = parent[better], channel[better]
        error.reshape(parents, rows, channels, -1)[won, :, of] = new[better]
        depth.reshape(parents, rows, channels)[won, :, of] = place
    return depth


def _course(group: _Group, kinds: Integers, days: Bools, weekend: frozenset[int]) -> Floats:
    """What these days (D,) say of every finest slot: (S, K, columns of the level)."""
    slots, channels = group.depth.shape
    width = int(columns(group.level, weekend).max()) + 1 if group.level > DAY else 1
    course = np.empty((slots, channels, width))
    for place, cube in enumerate(group.cubes):
        rows = slots // len(cube)
        mine = (group.depth == place).reshape(len(cube), rows, channels)
        at, of = np.nonzero(mine.any(axis=1))
        said = usual(cube[at, of][:, days], kinds[days], group.level, weekend)
        view = course.reshape(len(cube), rows, channels, width)
        view[at, :, of] = np.where(mine[at, :, of][..., None], said[:, None], view[at, :, of])
    # A time of day that no day has shown is told by the usual one of its channel.
    level = quantile_of_last(course.transpose(1, 2, 0), 0.5)
    return np.where(np.isnan(course), np.nan_to_num(level), course)


def _units(layout: Layout, size: Floats) -> list[Floats]:
    """Each channel's unit by time of day, (1, slots): sizes (T, K) of cross-fitted residuals.

    Of all hours together, then of ever finer slots, as long as each makes the sizes of days left
    out clearly more likely (of Laplace's law).
    """
    cube = layout.cube(size, np.isfinite(size), share=ONE_SIGMA).transpose(1, 0, 2)  # (K, S, D)
    cube = np.ascontiguousarray(cube)
    half = folds(layout.days, RESIDUAL_FOLDS) % 2 == 1
    parts = [(~half, half), (half, ~half)] if half.any() else []
    whole = [unit_of_all(cube[..., own].reshape(len(cube), -1).T) for own, _ in parts]
    every = unit_of_all(cube.reshape(len(cube), -1).T)
    best = [unit.reshape(1, 1) for unit in every]
    asked = np.arange(len(cube))
    cost = np.full((len(cube), cube.shape[2]), np.nan)
    for slots in (1, *(layout.slots(width) for width in layout.widths)):
        new = np.full((len(asked), cube.shape[2]), np.nan)
        for (own, out), of_all in zip(parts, whole, strict=True):
            unit = _unit(cube[asked][..., own], slots, of_all[asked])
            new[:, out] = _unlikely(cube[asked][..., out], unit)
        if slots == 1:  # where every channel begins
            cost = new
            continue
        better = clearly_less(cost[asked], new, share=0.0, sure=SURE, few=0.0)
        asked = asked[better]
        if not asked.size:
            break
        cost[asked] = new[better]
        for k, unit in zip(asked, _unit(cube[asked], slots, every[asked]), strict=True):
            best[k] = unit[None]
    return best


def unit_of_all(size: Floats) -> Floats:
    """One unit of each channel (K,), from sizes (..., K): robust, floored."""
    flat = np.ascontiguousarray(np.moveaxis(size, -1, 0)).reshape(size.shape[-1], -1)
    unit = quantile_of_last(flat, ONE_SIGMA)
    return np.maximum(np.nan_to_num(unit, nan=1.0), LEAST_UNIT)


def _unit(cube: Floats, slots: int, whole: Floats) -> Floats:
    """The unit of each of `slots` slots, (K, slots), drawn towards that of the whole day (K,)."""
    channels, _, days = cube.shape
    if slots == 1:
        return whole[:, None]
    own = quantile_of_last(cube.reshape(channels, slots, -1), ONE_SIGMA)
    own = np.where(np.isnan(own), whole[:, None], own)
    own = np.maximum(own, LEAST_SHARE * whole[:, None])
    drawn = days * np.log(own) + PRIOR_DAYS * np.log(whole[:, None])
    unit: Floats = np.maximum(np.exp(drawn / (days + PRIOR_DAYS)), LEAST_UNIT)
    return unit


def _unlikely(cube: Floats, unit: Floats) -> Floats:
    """How unlikely the sizes (K, S, D) are by units (K, slots): one number a day (K, D), >= 0."""
    own = cube.reshape(len(cube), unit.shape[1], -1, cube.shape[2])
    cost = np.log(unit / LEAST_UNIT)[..., None, None] + own / unit[..., None, None]
    return _mean(cost.reshape(len(cube), -1, cube.shape[2]), axis=1)
