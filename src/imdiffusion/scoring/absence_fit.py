"""What normal rows say of absence: how long each channel is missing, still and quiet by nature."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from imdiffusion.scoring import quiet, run_tail
from imdiffusion.scoring.constant import Departure, find_constants
from imdiffusion.scoring.quiet import RangeTail
from imdiffusion.scoring.run_length import runs_of, runs_of_values
from imdiffusion.scoring.run_tail import RunTail, fit_tail

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]

MISSING_MARGIN = 2  # rows beyond training that are never news
FROZEN_MARGIN = 4  # values; a collector hands the same reading out two or three times now and then
# A value at which a channel rests (0 of an error counter) has run lengths of its own, where it has
# so many runs, as have the other values, and they are so many times as long.
LEAST_RESTS = 8
REST_LONGER = 4.0


class SetAside(NamedTuple):
    """A stretch of training rows that was taken for a fault: it taught nothing.

    row: its first; channel; value there, NaN where it was missing; rows: how many; kind: the code
    of what it would have been (`absence.KINDS`).
    """

    row: int
    channel: int
    value: float
    rows: int
    kind: int


@dataclass(frozen=True, slots=True)
class Habits:
    """What fitting learns of K channels.

    live (K,): it had a value at all. constant (K,): its only value, else NaN. rest (K,): the value
    at which it rests, else NaN. all_missing: of one channel, for rows without any value.
    """

    live: Flags
    constant: Floats
    rest: Floats
    missing: RunTail
    frozen: RunTail
    resting: RunTail
    quiet: RangeTail
    all_missing: RunTail
    set_aside: tuple[SetAside, ...]


def learn(values: Floats, observed: Flags, kinds: tuple[int, int, int, int]) -> Habits:
    """Habits of values, observed (T, K); kinds: the codes of missing, frozen, quiet, left."""
    missing_kind, frozen_kind, quiet_kind, left_kind = kinds
    live = observed.any(axis=0)
    constant, departures = find_constants(values, observed)
    aside = [_left(one, left_kind) for one in departures]
    rest = np.full(len(live), np.nan)
    missing, frozen, resting, still = [], [], [], []
    for k in range(len(live)):
        gaps, stretches = _gaps(observed[:, k], MISSING_MARGIN)
        missing.append(gaps)
        aside += [SetAside(row, k, np.nan, count, missing_kind) for row, count in stretches]
        rows = np.flatnonzero(observed[:, k])
        if not live[k] or not np.isnan(constant[k]):
            frozen.append(run_tail.NEVER)
            resting.append(run_tail.NEVER)
            still.append(quiet.UNSEEN)
            continue
        own = values[rows, k]
        same = _Repeats(own)
        rest[k] = same.rest
        frozen.append(same.usual)
        resting.append(same.resting)
        aside += [
            SetAside(int(rows[place]), k, float(own[place]), count, frozen_kind)
            for place, count in same.aside
        ]
        left = np.flatnonzero(same.kept)
        fit, places = quiet.fit_ranges(own[left])
        still.append(fit)
        aside += [
            SetAside(int(rows[left[place]]), k, float(own[left[place]]), quiet.WIDTH, quiet_kind)
            for place in places
        ]
    whole, _ = _gaps(observed[:, live].any(axis=1), MISSING_MARGIN)
    return Habits(
        live,
        constant,
        rest,
        run_tail.stack(missing),
        run_tail.stack(frozen),
        run_tail.stack(resting),
        quiet.stack(still),
        run_tail.stack([whole]),
        tuple(sorted(aside, key=lambda one: one[:2])),
    )


def _left(one: Departure, kind: int) -> SetAside:
    return SetAside(one.first, one.channel, one.value, one.rows, kind)


def _gaps(present: Flags, margin: int) -> tuple[run_tail.Fit, list[tuple[int, int]]]:
    """The tail of one channel's gaps; (first row, rows) of those set aside.

    Rows before its first value are no gap: it was not there yet.
    """
    if not present.any():
        return run_tail.NEVER, []
    begin = int(present.argmax())
    first, length = runs_of(~present[begin:])
    rows = len(present) - begin
    fit, far = fit_tail(length, first + length < rows, rows, margin=margin)
    return fit, [(begin + int(first[i]), int(length[i])) for i in far]


class _Repeats:
    """How often one channel (N,) of several values repeats a value.

    usual, resting: the tails; rest: the value at which it rests, else NaN; aside: (first place,
    values) of what was set aside; kept (N,): the places that were not.
    """

    def __init__(self, values: Floats) -> None:
        self.rest, self.resting = float("nan"), run_tail.NEVER
        self.kept = np.ones(len(values), bool)
        self.aside: list[tuple[int, int]] = []
        first, length = runs_of_values(values)
        ended = first + length < len(values)
        at_rest = _at_rest(values[first], length)
        if at_rest.any():
            self.rest = float(values[first[at_rest.argmax()]])
            self.resting = self._fit(first[at_rest], length[at_rest], ended[at_rest])
        self.usual = self._fit(first[~at_rest], length[~at_rest], ended[~at_rest])

    def _fit(self, first: Ints, length: Ints, ended: Flags) -> run_tail.Fit:
        rows = len(self.kept)
        fit, far = fit_tail(length, ended, rows, margin=FROZEN_MARGIN, held=True)
        for i in far:
            place, count = int(first[i]), int(length[i])
            self.aside.append((place, count))
            self.kept[place + 1 : place + count] = False
        return fit


def _at_rest(value: Floats, length: Ints) -> Flags:
    """Which runs are at the value where the channel rests: the one with the most rows."""
    distinct, which, runs = np.unique(value, return_inverse=True, return_counts=True)
    rows = np.bincount(which, weights=length, minlength=len(distinct))
    rows[runs < LEAST_RESTS] = 0.0
    chosen = int(rows.argmax())
    mine: Flags = which == chosen
    others = len(value) - int(mine.sum())
    if rows[chosen] == 0.0 or others < LEAST_RESTS:
        return np.zeros(len(value), bool)
    if length[mine].mean() < REST_LONGER * length[~mine].mean():
        return np.zeros(len(value), bool)
    return mine
