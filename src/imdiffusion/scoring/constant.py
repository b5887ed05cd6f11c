"""Channels that had one value only in normal rows, and whether a value is another than that."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from imdiffusion.arrays import Flags, Floats, Ints
from imdiffusion.scoring import tail
from imdiffusion.scoring.tail import LEAST_RUNS, RunTail, fit_tail, runs_of

MOST_INCIDENTS = 3  # at so many times in the training rows something may have been at fault
HABIT_SHARE = 0.2  # of the channels do it: then the others will
_TIMES = 50  # into which the training rows are divided


def is_habit(starts: list[Ints], rows: int) -> bool:
    """Whether runs that begin at `starts`, one array for each channel, are a habit of them all.

    rows: of training. What begins in many channels at one time is one incident.
    """
    some = [first for first in starts if len(first)]
    if not some or len(some) < HABIT_SHARE * len(starts):
        return False
    times = np.concatenate(some) * _TIMES // max(rows, 1)
    return len(np.unique(times)) > MOST_INCIDENTS


LEAST_VALUES = 30  # fewer equal values do not make a constant
# What arithmetic in float64 does to the last bits of a number. Beside zero there is no size to
# compare with: there it is what numbers of about a hundred leave over where they cancel.
RELATIVE, ABSOLUTE = 1e-12, 1e-14
SHARE_AWAY = 0.02  # of its values a channel may be elsewhere and still count as constant
LEFT_MARGIN = 2  # rows; where leaving is a habit


@dataclass(frozen=True, slots=True)
class Stretch:
    """Training rows from `first` on in which a channel had other values, `rows` of them."""

    first: int
    channel: int
    value: float
    rows: int


@dataclass(slots=True)
class Constants:
    """constant (K,): the only value of each channel, NaN where it had several.

    left: how long a channel may be elsewhere before it is news; 0 where one row is. aside: the
    stretches that taught nothing.
    """

    constant: Floats
    left: RunTail
    aside: list[Stretch] = field(default_factory=list)


def elsewhere(values: Floats, constant: Floats | float) -> Flags:
    """Which values are more than rounding away from the constant; False beside NaN."""
    size = np.abs(constant)
    apart: Flags = np.abs(values - constant) > np.where(
        size > ABSOLUTE, RELATIVE * size, 2 * ABSOLUTE
    )
    return apart


def find_constants(values: Floats, observed: Flags) -> Constants:
    """The constants among channels values, observed (T, K).

    A channel that was elsewhere in one stretch, 2 % of its values at most, is constant with that
    stretch set aside. One that was elsewhere two to seven times has the habit, and news is that it
    stays away for longer than is usual for its like; so is it of all of them where leaving is
    common among them.
    """
    own = {k: one for k in range(values.shape[1]) if (one := _Own.of(values, observed, k))}
    found = Constants(
        np.array([own[k].constant if k in own else np.nan for k in range(values.shape[1])]),
        RunTail.from_array(np.zeros((len(tail.FIELDS), 0))),
    )
    all_leave = is_habit([one.rows[one.first] for one in own.values()], len(values))
    habit = [k for k, one in own.items() if all_leave or len(one.first) > 1]
    usual = _usual([own[k] for k in habit])
    once = [own[k] for k in own if k not in set(habit)]
    found.aside = [stretch for one in once for stretch in one.stretches()]
    at_once = dict.fromkeys(own, tail.AT_ONCE)
    fits = {**at_once, **dict.fromkeys(habit, usual)}
    found.left = tail.stack([fits.get(k, tail.NEVER) for k in range(values.shape[1])])
    return found


class _Own:
    """One nearly constant channel: its constant, its rows, values, and runs elsewhere."""

    def __init__(self, channel: int, rows: Ints, values: Floats) -> None:
        self.channel, self.rows, self.values = channel, rows, values
        self.constant = float(np.median(values))
        self.first, self.length = runs_of(elsewhere(values, self.constant))

    @classmethod
    def of(cls, values: Floats, observed: Flags, channel: int) -> _Own | None:
        """None where the channel is not nearly constant."""
        rows = np.flatnonzero(observed[:, channel])
        if len(rows) < LEAST_VALUES:
            return None
        one = cls(channel, rows, values[rows, channel])
        most = max(1.0, SHARE_AWAY * len(rows))
        if one.length.sum() > most:
            return None
        if len(one.first) > 1 and one.first[-1] + one.length[-1] - one.first[0] <= most:
            # To and fro within one fault.
            one.length = one.first[-1:] + one.length[-1:] - one.first[:1]
            one.first = one.first[:1]
        return one if len(one.first) < LEAST_RUNS else None

    def stretches(self) -> list[Stretch]:
        """What is set aside if leaving is not a habit."""
        return [
            Stretch(int(self.rows[at]), self.channel, float(self.values[at]), count)
            for at, count in zip(self.first.tolist(), self.length.tolist(), strict=True)
        ]


def _usual(channels: list[_Own]) -> tail.Fit:
    """How long channels that leave now and then stay away, from all of them together."""
    if not channels:
        return tail.AT_ONCE
    length = np.concatenate([one.length for one in channels])
    ended = np.concatenate([one.first + one.length < len(one.rows) for one in channels])
    rows = sum(len(one.rows) for one in channels)
    return fit_tail(length, ended, rows, margin=LEFT_MARGIN)[0]
