"""How a calendar profile is fitted: the tables of its channels, and what a residual's size is.

Residuals are cross-fitted: a row is measured against what other days say of its time, as a new row
will be. A unit of its own for a time of day is taken where it makes the residuals of days left out
clearly more likely.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from imdiffusion.arrays import Flags, Floats, Ints
from imdiffusion.scoring.cycles import (
    DAY,
    NONE,
    SURE,
    WEEK,
    Layout,
    bounded,
    choose_depths,
    choose_levels,
    clearly_less,
    coarser,
    columns,
    folds,
    mean_known,
    quantile_of_last,
    usual,
)

RESIDUAL_FOLDS = 14  # half as many from four weeks on, when each leaves enough days
ONE_SIGMA = 0.6827  # quantile of a size that is one standard deviation of a normal variable
PRIOR_DAYS = 3.0  # how many days the unit of all hours counts for in the unit of one
LEAST_UNIT = 0.05  # standard deviations: what is smaller is not trusted
LEAST_SHARE = 0.25  # of the unit of all hours
FARTHEST = 10.0  # units: what lies farther tells no more of what the unit is


@dataclass(frozen=True, slots=True)
class Table:
    """One channel's course: centre (columns of its level, slots), unit (1, slots of its own)."""

    level: int
    centre: Floats
    unit: Floats


@dataclass(frozen=True, slots=True)
class _Group:
    """The channels of one level: cubes (S, K, D), coarse to fine, and each slot's width."""

    level: int
    channels: Ints
    cubes: list[Floats]
    depth: Ints  # (S, K) place of the width that each finest slot is told by, -1 for none


def fit_tables(
    layout: Layout, values: Floats, observed: Flags, weekend: frozenset[int], *, weeks: bool
) -> tuple[list[Table | None], Floats]:  # fmt: skip
    """The tables of the channels, None where none has a cycle, and cross-fitted residuals.

    values, observed (T, K), whose rows `layout` knows. weeks: whether a week may be tried.

    The residuals (T, K), in standardised units: each training row less what other days say of it;
    NaN where nothing was observed or there is no cycle.
    """
    apart = folds(layout.days, RESIDUAL_FOLDS // (1 + (len(layout.days) > 4 * WEEK)))
    residual = np.full(values.shape, np.nan)
    tables: list[Table | None] = [None] * values.shape[1]
    slot = layout.slot(layout.widths[-1])
    limited = bounded(layout.cube(values, observed))
    choice = choose_levels(layout, limited, weekend, weeks=weeks)
    for level in np.unique(choice.level[choice.level != NONE]).tolist():
        channels = np.flatnonzero(choice.level == level)
        own = np.ascontiguousarray(limited[:, channels])
        cubes = [coarser(own, width // layout.widths[-1]) for width in layout.widths]
        depth = choose_depths(layout, cubes, level, choice.sparse[channels], weekend)
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
            every = layout.widths[max(int(depth[:, place].max()), 0)] // layout.widths[-1]
            tables[channel] = Table(level, whole[::every, place].T.copy(), units[place])
    return tables, residual


def _course(group: _Group, kinds: Ints, days: Flags, weekend: frozenset[int]) -> Floats:
    """What these days (D,) say of every finest slot: (S, K, columns of the level)."""
    slots, channels = group.depth.shape
    width = int(columns(group.level, weekend).max()) + 1 if group.level > DAY else 1
    course = np.full((slots, channels, width), np.nan)
    for place, cube in enumerate(group.cubes):
        rows = slots // len(cube)
        mine = (group.depth == place).reshape(len(cube), rows, channels)
        at, of = np.nonzero(mine.any(axis=1))
        said = usual(cube[at, of][:, days], kinds[days], group.level, weekend)
        view = course.reshape(len(cube), rows, channels, width)
        view[at, :, of] = np.where(mine[at, :, of][..., None], said[:, None], view[at, :, of])
    untold = np.isnan(course)  # a slot of a sparse channel, or one that no day has shown
    few = np.flatnonzero(untold.any(axis=(0, 2)))
    if not few.size:
        return course
    every = group.cubes[-1][:, few][..., days].transpose(1, 0, 2).reshape(len(few), -1)
    flat = np.nan_to_num(quantile_of_last(every, 0.5))[:, None]
    course[:, few] = np.where(untold[:, few], flat, course[:, few])
    return course


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
    far = np.minimum(own / unit[..., None, None], FARTHEST)
    cost = np.log(unit / LEAST_UNIT)[..., None, None] + far
    return mean_known(cost.reshape(len(cube), -1, cube.shape[2]), axis=1)
