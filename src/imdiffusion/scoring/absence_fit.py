"""What normal rows say of absence: how long each channel is missing, still and quiet by nature."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from imdiffusion.arrays import Flags, Floats, Ints
from imdiffusion.data.calendar import in_words
from imdiffusion.scoring import quiet, tail
from imdiffusion.scoring.constant import find_constants, is_habit
from imdiffusion.scoring.quiet import RangeTail
from imdiffusion.scoring.tail import LEAST_RUNS, RunTail, fit_tail, runs_of, runs_of_values

NOTHING, MISSING, FROZEN, QUIET, LEFT_CONSTANT = range(5)
# Name and words of every kind, by its code.
KINDS: dict[int, tuple[str, str]] = {
    NOTHING: ("nothing", "as normal for"),
    MISSING: ("missing", "missing for"),
    FROZEN: ("frozen", "frozen at one value for"),
    QUIET: ("quiet", "far quieter than normal for"),
    LEFT_CONSTANT: ("left_constant", "away from its constant value for"),
}


def describe(kind: int, since_rows: int, period: float | None) -> str:
    """Words for an event: what a channel is, and for how long as of a row of it.

    since_rows: `since` of that row. period: seconds from row to row, None where unknown.

    >>> describe(MISSING, 33, 60.0)
    'missing for 34 rows (34 min)'
    """
    rows = since_rows + 1
    text = f"{KINDS[kind][1]} {rows} row{'' if rows == 1 else 's'}"
    return text if period is None else f"{text} ({in_words(rows * period)})"


MANY_GAPS = 60  # from so many on, a channel says enough about its gaps by itself
ALIKE = 1.5  # two groups of channels have one law of gaps if no one's are so many times as long
MISSING_MARGIN = 2  # rows beyond training that are never news
FROZEN_MARGIN = 4  # values; a collector hands the same reading out two or three times now and then
# A value at which a channel rests (0 of an error counter) has run lengths of its own, as have the
# other values, where they are so many times as long; with few runs more is asked.
LEAST_RESTS = 2
REST_LONGER = 2.0


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

    live (K,): it had a value at all. constant (K,): its only value, else NaN; left: how long it may
    be elsewhere. rest (K,): the value at which it rests, else NaN. all_missing: of one channel, for
    rows without any value.
    """

    live: Flags
    constant: Floats
    left: RunTail
    rest: Floats
    missing: RunTail
    frozen: RunTail
    resting: RunTail
    quiet: RangeTail
    all_missing: RunTail
    set_aside: tuple[SetAside, ...]


def learn(values: Floats, observed: Flags) -> Habits:
    """Habits of values, observed (T, K), where only finite values are observed."""
    live: Flags = np.logical_or.reduce(observed, axis=0)
    constants = find_constants(values, observed)
    constant = constants.constant
    aside = [SetAside(d.first, d.channel, d.value, d.rows, LEFT_CONSTANT) for d in constants.aside]
    missing, stretches = _missing(observed)
    aside += stretches
    rest = np.full(len(live), np.nan)
    frozen, resting, still = [], [], []
    for k in range(len(live)):
        moves = bool(live[k]) and bool(np.isnan(constant[k]))
        one = _Moves(k, values[:, k], observed[:, k]) if moves else _Moves.none(k)
        frozen.append(one.frozen)
        resting.append(one.resting)
        still.append(one.quiet)
        rest[k] = one.rest
        aside += one.aside
    present: Flags = np.logical_or.reduce(observed[:, live], axis=1)
    whole, _ = _missing(present[:, None])
    return Habits(
        live,
        constant,
        constants.left,
        rest,
        tail.stack(missing),
        tail.stack(frozen),
        tail.stack(resting),
        quiet.stack(still),
        tail.stack(whole),
        tuple(sorted(aside, key=lambda one: one[:2])),
    )


def _missing(observed: Flags) -> tuple[list[tail.Fit], list[SetAside]]:
    """The tail of each channel's gaps, observed (T, K), and the gaps set aside.

    Channels of no or few gaps are taken together where gaps now and then are a habit among them.
    So are those of some gaps, unless a channel's own are longer than those of the others: fifteen
    gaps do not show how heavy their tail is, those of forty channels do.
    """
    gaps = [_Gaps.of(k, observed[:, k]) for k in range(observed.shape[1])]
    few = [one for one in gaps if one.rows and len(one.first) < LEAST_RUNS]
    some = [one for one in gaps if LEAST_RUNS <= len(one.first) < MANY_GAPS]
    usual = _usual_length(some)
    fits: dict[int, tail.Fit] = {}
    aside: list[SetAside] = []
    if is_habit([one.first for one in few], len(observed)):
        alike = usual / ALIKE <= _usual_length(few) <= usual * ALIKE
        fit, aside = _fit_gaps(few + some if alike else few)
        fits = {one.channel: fit for one in few}
        aside = [one for one in aside if one.channel in fits]
    # That a channel has no gap, its like say with it: the more of them, the sooner one is news.
    none = sum(one.rows for one in few) // (1 + sum(len(one.first) for one in few))
    for one in gaps:
        if one.rows and one.channel not in fits:
            fits[one.channel], found = _fit_gaps([one], rows=none if not len(one.first) else None)
            aside += found
    if len(some) > 1:
        shared, _ = _fit_gaps(some)
        for one in some:
            alike = one.length.mean() <= (1.0 + 2.0 / len(one.length) ** 0.5) * usual
            own = fits[one.channel]
            fits[one.channel] = shared if alike else tail.longer(shared, own, one.rows)
    return [fits.get(one.channel, tail.NEVER) for one in gaps], aside


def _usual_length(group: list[_Gaps]) -> float:
    """The mean length of the gaps of some channels; 0 where there are none."""
    count = sum(len(one.length) for one in group)
    return float(sum(one.length.sum() for one in group)) / max(count, 1)


def _fit_gaps(group: list[_Gaps], rows: int | None = None) -> tuple[tail.Fit, list[SetAside]]:
    """The tail of the gaps of some channels together, and those set aside. rows: else their own."""
    length = np.concatenate([one.length for one in group])
    ended = np.concatenate([one.ended for one in group])
    first = np.concatenate([one.first for one in group])
    owner = np.concatenate([np.full(len(one.first), one.channel) for one in group])
    rows = rows or sum(one.rows for one in group)
    fit, far = fit_tail(length, ended, rows, margin=MISSING_MARGIN)
    return fit, [
        SetAside(int(first[i]), int(owner[i]), np.nan, int(length[i]), MISSING) for i in far
    ]


class _Gaps(NamedTuple):
    """The gaps of one channel, among its `rows` from its first value on."""

    channel: int
    first: Ints
    length: Ints
    ended: Flags
    rows: int

    @classmethod
    def of(cls, channel: int, present: Flags) -> _Gaps:
        """Rows before the first value are no gap: the channel was not there yet."""
        begin = int(present.argmax())
        first, length = runs_of(~present[begin:])
        rows = len(present) - begin if present.any() else 0
        return cls(channel, begin + first, length, first + length < rows, rows)


class _Moves:
    """How one channel of several values (T,) repeats them, and how far it moves.

    frozen, resting, quiet: the tails; rest: the value at which it rests, else NaN; aside: what was
    set aside.
    """

    def __init__(self, channel: int, values: Floats, observed: Flags) -> None:
        self.rest, self.resting = float("nan"), tail.NEVER
        self.aside: list[SetAside] = []
        self._channel, self._rows = channel, np.flatnonzero(observed)
        self._values = values[self._rows]
        self._kept = np.ones(len(self._values), bool)
        first, length = runs_of_values(self._values)
        at_rest = _at_rest(self._values[first], length)
        if at_rest.any():
            self.rest = float(self._values[first[at_rest.argmax()]])
            self.resting = self._repeats(first[at_rest], length[at_rest], held=False)
        self.frozen = self._repeats(first[~at_rest], length[~at_rest], held=True)
        left = np.flatnonzero(self._kept)
        self.quiet, far = quiet.fit_ranges(self._values[left])
        for window in far:
            self._set_aside(int(left[window]), quiet.WIDTH, QUIET)

    @classmethod
    def none(cls, channel: int) -> _Moves:
        """Of a channel that never moves, or never came: neither frozen nor quiet is ever news."""
        one = cls.__new__(cls)
        one.rest, one.aside = float("nan"), []
        one.frozen, one.resting, one.quiet = tail.NEVER, tail.NEVER, quiet.UNSEEN
        return one

    def _repeats(self, first: Ints, length: Ints, *, held: bool) -> tail.Fit:
        count = len(self._values)
        ended = first + length < count
        fit, far = fit_tail(length, ended, count, margin=FROZEN_MARGIN, held=held)
        for i in far:
            self._set_aside(int(first[i]), int(length[i]), FROZEN)
            self._kept[first[i] + 1 : first[i] + length[i]] = False
        return fit

    def _set_aside(self, place: int, count: int, kind: int) -> None:
        row, value = int(self._rows[place]), float(self._values[place])
        self.aside.append(SetAside(row, self._channel, value, count, kind))


def _at_rest(value: Floats, length: Ints) -> Flags:
    """Which runs are at the value where the channel rests: the one with the most rows."""
    distinct, which, runs = np.unique(value, return_inverse=True, return_counts=True)
    rows = np.bincount(which, weights=length, minlength=len(distinct))
    rows[runs < LEAST_RESTS] = 0.0
    chosen = int(rows.argmax())
    mine: Flags = which == chosen
    fewer = min(int(mine.sum()), int((~mine).sum()))
    if rows[chosen] == 0.0 or fewer < LEAST_RESTS:
        return np.zeros(len(value), bool)
    longer = REST_LONGER * (1.0 + LEAST_RUNS / fewer)
    if length[mine].mean() < longer * length[~mine].mean():
        return np.zeros(len(value), bool)
    return mine
