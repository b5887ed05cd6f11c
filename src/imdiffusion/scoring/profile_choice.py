"""Which cycle a channel has, and how fine its slots are: chosen by the error of days left out.

Days (weeks, from two weeks on) are left out in turn; a cycle or a finer slot is taken where the
error of what was left out falls clearly. Errors are absolute, so that an odd day weighs as one day
and not as its square, and an absurd value counts as one just outside the usual range.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from imdiffusion.arrays import Flags, Floats, Ints
from imdiffusion.scoring.cycles import (
    DAY,
    NONE,
    WEEKDAY,
    WORKDAY,
    Layout,
    clearly_less,
    coarser,
    folds,
    held_out,
    quantile_of_last,
)

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
