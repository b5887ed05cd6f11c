"""Rows as the rules of changes see them: states of discrete channels, and what may explain them.

A channel is discrete that has 2 to 8 values: a flag, an enumeration, a count near zero. What may
explain its change (`scoring.change_rules`) are features of a row, yes or no: for each state of
every discrete channel whether it was entered within the last 4 rows, and whether it stood in the
row before; for each discrete channel whether it changed within 4, 16 or 64 rows before this one;
and for each measurement whether within 4 rows before this one it moved far, and whether in the row
before it was low, or high. What a measurement does in the same row is what a change does to it, not
what explains it: else a faulty measurement would be blamed on the command that it should follow.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from imdiffusion.arrays import Arrays, Flags, Floats, Ints
from imdiffusion.saved_state import State
from imdiffusion.scoring.run_length import LONG_AGO, last_known, rows_since

MOST_LEVELS = 8
RECENT = 4  # rows within which one change is taken to follow another
AGO = (4, 16, 64)  # "changed within so many rows"
FAR_MOVE = 0.98  # quantile of a measurement's moves from row to row
LOW, HIGH = 0.1, 0.9  # quantiles between which a measurement is neither
SAME = 1e-6  # of a value: what rounding does to it


@dataclass(frozen=True, slots=True)
class Alphabet:
    """The discrete channels (C,) among K, their levels (C, 8), inf where there are fewer.

    measured: the other channels that moved. first (C + 1,): where each channel's states begin among
    the S states of all. move, low, high: what is a far move, low and high of each measured channel.
    gap (C + M,): rows between two values that are usual, of discrete channels, then measured ones.
    """

    channel: Ints
    levels: Floats
    measured: Ints
    move: Floats
    low: Floats
    high: Floats
    gap: Ints
    first: Ints

    @classmethod
    def fit(cls, values: Floats, observed: Flags) -> Alphabet:
        """From normal rows (T, K)."""
        channel, levels, measured, cuts = [], [], [], []
        gap: tuple[list[int], list[int]] = ([], [])
        for k in range(values.shape[1]):
            rows = np.flatnonzero(observed[:, k])
            seen = values[rows, k]
            if len(seen) < 2 or not (seen != seen[0]).any():
                continue
            if np.ptp(seen) <= SAME * (1.0 + np.abs(seen).max()):
                continue  # rounding
            known = np.unique(seen[:1000])
            if len(known) <= MOST_LEVELS:
                known = np.unique(seen)
            if len(known) > MOST_LEVELS:
                measured.append(k)
                cuts.append(_cuts(seen))
                gap[1].append(int(np.median(np.diff(rows))))
                continue
            channel.append(k)
            levels.append(np.pad(known, (0, MOST_LEVELS - len(known)), constant_values=np.inf))
            gap[0].append(int(np.median(np.diff(rows))))
        move, low, high = np.array(cuts, np.float64).reshape(-1, 3).T
        return cls(
            np.array(channel, np.int64),
            np.array(levels, np.float64).reshape(-1, MOST_LEVELS),
            np.array(measured, np.int64),
            *(move, low, high),
            np.array([*gap[0], *gap[1]], np.int64),
            np.cumsum([0, *(int(np.isfinite(one).sum()) for one in levels)]),
        )

    @property
    def most_states(self) -> int:
        """Of any channel."""
        return int(np.diff(self.first).max(initial=0))

    @property
    def sources(self) -> Ints:
        """Of which channel each feature of a row is (F,): a place as in `gap`."""
        discrete, measured = np.arange(len(self.channel)), np.arange(len(self.measured))
        states = np.repeat(discrete, np.diff(self.first))
        parts = (states, states, np.tile(measured, 3) + len(discrete), np.tile(discrete, len(AGO)))
        return np.concatenate(parts)

    def spread(self, states: Ints) -> Flags:
        """States (n, C) as a column for each of all states (n, S)."""
        found = np.zeros((len(states), int(self.first[-1]) + 1), bool)
        place = np.where(states >= 0, states + self.first[:-1], self.first[-1])
        found[np.arange(len(states))[:, None], place] = True
        return found[:, :-1]

    def states(self, values: Floats) -> Ints:
        """Values (n, C) -> places among the levels; -1 for another value, or none."""
        found = np.full(values.shape, -1, np.int64)
        for place in range(self.most_states):
            level = self.levels[:, place]
            there = np.isfinite(level)
            near = np.abs(values - np.where(there, level, 0.0)) <= SAME * (1.0 + np.abs(level))
            found[near & there] = place
        return found


def _cuts(seen: Floats) -> tuple[float, float, float]:
    moves = np.abs(np.diff(seen))
    low, high = np.quantile(seen, [LOW, HIGH])
    return float(np.quantile(moves, FAR_MOVE)), float(low), float(high)


@dataclass(frozen=True, slots=True)
class Step:
    """n rows as the rules see them: features (n, F); changed and judged (n, C), the latter where a
    change could be seen; before and now (n, C), the states; known (n, C), whether there was a value
    by then; since (n, C), rows since the channel entered its state; stale (n, C + M), channels that
    came later than usual within the last 4 rows, and lost (n, C), those that are away now.
    """

    features: Flags
    changed: Flags
    judged: Flags
    before: Ints
    now: Ints
    known: Flags
    since: Ints
    stale: Flags
    lost: Flags

    def __len__(self) -> int:
        return len(self.changed)

    def rows(self, some: slice) -> Step:
        """Some of them."""
        return Step(*(getattr(self, name)[some] for name in self.__slots__))


class Walk:
    """Consecutive rows in, in pieces of any size; what the rules see of them out."""

    def __init__(self, alphabet: Alphabet) -> None:
        self._alphabet = alphabet
        channels, measured = len(alphabet.channel), len(alphabet.measured)
        self._state: Arrays = {
            "last": np.full(channels, np.nan),  # value
            "reading": np.full(measured, np.nan),
            "now": np.full(channels, -1, np.int64),
            "missing": np.zeros(channels + measured, np.int64),
            "stale": np.zeros((RECENT - 1, channels + measured), bool),
            "since": np.full(channels, LONG_AGO),
            "entered": np.zeros((RECENT - 1, int(alphabet.first[-1])), bool),
            "moved": np.zeros((RECENT, measured), bool),
            "level": np.zeros((1, 2 * measured), bool),
        }

    def to_state(self) -> State:
        """What it knows of the last rows."""
        return State("change rows", arrays=dict(self._state))

    @classmethod
    def from_state(cls, state: State, like: Walk) -> Walk:
        """Go on from a state; see `saved_state`. Raises ModelError."""
        walk = cls(like._alphabet)
        walk._state = state.check("change rows").like(walk._state)
        return walk

    def push(self, values: Floats, observed: Flags) -> Step:
        """The next rows: values and observed (n, K)."""
        alphabet, held = self._alphabet, self._state
        seen, own = observed[:, alphabet.channel], values[:, alphabet.channel]
        last, held["last"] = last_known(own, seen, held["last"])
        value = np.where(seen, own, last)
        was = ~np.isnan(last)
        changed = seen & was & (own != last)
        there = np.concatenate([seen, observed[:, alphabet.measured]], axis=1)
        missing = rows_since(there, held["missing"])
        gap = np.concatenate([held["missing"][None], missing[:-1]])[:, : seen.shape[1]] + 1
        held["missing"] = missing[-1].copy()
        late = missing >= alphabet.gap
        stale, lost = self._within("stale", late), late[:, : seen.shape[1]]
        judged = seen & was & (gap <= alphabet.gap[: seen.shape[1]])
        since = rows_since(changed | (seen & ~was), held["since"])
        ago = np.concatenate([held["since"][None], since[:-1]])
        held["since"] = since[-1].copy()
        now = alphabet.states(value)
        before = np.concatenate([held["now"][None], now[:-1]])
        held["now"] = now[-1].copy()
        features = self._features(values, observed, now, before, changed, ago)
        known = ~np.isnan(value)
        return Step(
            *(features, changed & judged, judged, before, now, known, since, stale, lost),
        )

    def _features(
        self, values: Floats, observed: Flags, now: Ints, before: Ints, changed: Flags, ago: Ints
    ) -> Flags:
        alphabet, held = self._alphabet, self._state
        there, reading = observed[:, alphabet.measured], values[:, alphabet.measured]
        earlier, held["reading"] = last_known(reading, there, held["reading"])
        with np.errstate(invalid="ignore"):
            moved = there & (np.abs(reading - earlier) > alphabet.move)
        entered = self._within("entered", alphabet.spread(np.where(changed, now, -1)))
        moved = self._within("moved", moved)[:-1]
        low, high = there & (reading < alphabet.low), there & (reading > alphabet.high)
        level = np.concatenate([held["level"], np.concatenate([low, high], axis=1)])
        held["level"] = level[-1:].copy()
        lately = [ago < rows for rows in AGO]
        return np.concatenate(
            [entered, alphabet.spread(before), moved, level[:-1], *lately], axis=1
        )

    def _within(self, name: str, events: Flags) -> Flags:
        """Whether there was an event within the last 4 rows: of each row, and where more rows are
        held than that takes, of those before.
        """
        whole: Flags = np.concatenate([self._state[name], events])
        self._state[name] = whole[len(events) :].copy()
        found: Flags = whole[RECENT - 1 :].copy()
        for back in range(1, RECENT):
            found |= whole[RECENT - 1 - back : len(whole) - back]
        return found
