"""Rows as the rules of changes see them: states of discrete channels, and what may explain them.

A channel is discrete that has 2 to 8 values: a flag, an enumeration, a count near zero. What may
explain its change (`RuleLists`) are features of a row, yes or no: for each state of
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
from imdiffusion.scoring.tail import LONG_AGO, last_known, rows_since

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


# -- how likely a discrete channel is to change at a row: a list of rules for each state
#
# A rule is "where this holds, it changes in that share of the rows"; the first rule that holds
# speaks, and where none does a base rate. What may hold: another channel entered a state or moved
# far within the last rows, another channel is in a state, a measurement is low or high, any channel
# changed within the last 4, 16 or 64 rows. Rules are taken greedily, each the one that says most
# (binomial likelihood) of the rows that those before it have left.

MOST_RULES = 6
LEAST_HOLDS = 4  # rows in which a rule held, or it is none
GAIN = 4.0  # log likelihood that a rule adds, at least, beyond what the best of many adds by chance
CHUNK = 4_096  # rows that are counted together
PRIOR = 0.5  # changes, in one row, before any was seen


@dataclass(frozen=True, slots=True)
class RuleLists:
    """Rules of C channels of at most L states: column (C, L, R), the feature of each rule, -1 for
    none; hazard (C, L, R + 1), its share of changes, and last the base rate.
    """

    column: Ints
    hazard: Floats

    def needs(self, sources: Ints, count: int) -> Flags:
        """Of which of `count` channels the rules of each read a feature (C, count).

        sources (F,): of which channel a feature is.
        """
        found = np.zeros((len(self.column), count), bool)
        channel, _, _ = used = np.nonzero(self.column >= 0)
        found[channel, sources[self.column[used]]] = True
        return found

    def of(self, features: Flags, state: Ints) -> Floats:
        """The chance of a change (n, C), by features (n, F) and the state (n, C) that a channel was
        in; where that is none (-1) or none that was known, one half.
        """
        which = np.arange(state.shape[1])
        known = (state >= 0) & (state < self.column.shape[1])
        own = np.where(known, state, 0)
        column, hazard = self.column[which, own], self.hazard[which, own]
        row = np.arange(len(state))[:, None, None]
        holds = np.ones((*state.shape, column.shape[2] + 1), bool)
        holds[:, :, :-1] = features[row, column] & (column >= 0)
        found = np.take_along_axis(hazard, holds.argmax(axis=2)[:, :, None], axis=2)[:, :, 0]
        return np.where(known, found, 0.5)


@dataclass(frozen=True, slots=True)
class Counts:
    """Of each list of rules, C times L of them: rows in which each feature held, and changes among
    these (lists, F). Sums over rows, so those of some can be taken from those of all.
    """

    held: Floats
    moved: Floats

    @classmethod
    def of(cls, features: Flags, changed: Flags, lists: Ints, count: int) -> Counts:
        """From rows: features (n, F), changed (n, C), lists (n, C) as `lists_of` gives them."""
        held, moved = np.zeros((2, count, features.shape[1]))
        for start in range(0, len(features), CHUNK):
            rows = slice(start, start + CHUNK)
            belongs = np.zeros((count + 1, len(features[rows])), np.float32)
            belongs[lists[rows].T, np.arange(belongs.shape[1])] = 1.0
            held += belongs[:-1] @ features[rows].astype(np.float32)
        row, channel = np.nonzero(changed & (lists >= 0))
        mine = lists[row, channel]
        for which in np.unique(mine):
            moved[which] = features[row[mine == which]].sum(axis=0)
        return cls(held, moved)

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.held + other.held, self.moved + other.moved)

    def __sub__(self, other: Counts) -> Counts:
        return Counts(self.held - other.held, self.moved - other.moved)


def lists_of(judged: Flags, state: Ints, states: int) -> Ints:
    """Which list a row of a channel belongs to (T, C): -1 where it is not judged, or in no known
    state. states: L.
    """
    own = np.arange(state.shape[1]) * states + state
    return np.where(judged & (state >= 0), own, -1)


def fit_rules(
    features: Flags, changed: Flags, lists: Ints, counts: Counts, own: list[slice], states: int
) -> RuleLists:
    """Lists from rows: features (T, F), changed (T, C), the list of each (T, C), and their counts.

    own: the columns of each channel's own entering of states, which are no cause of it. states: L.
    """
    channels = lists.shape[1]
    column = np.full((channels, states, MOST_RULES), -1, np.int64)
    hazard = np.full((channels, states, MOST_RULES + 1), 0.5)
    for which in range(channels * states):
        k, one = divmod(which, states)
        rows = np.flatnonzero(lists[:, k] == which)
        tally = _Tally(counts.held[which], counts.moved[which], own[k])
        tally.learn(features, rows, changed[rows, k], column[k, one], hazard[k, one])
    used = int((column >= 0).any(axis=(0, 1)).sum())  # none is skipped
    return RuleLists(column[..., :used], np.delete(hazard, slice(used, MOST_RULES), axis=2))


class _Tally:
    """The rows of one list that its rules have left: in how many each feature held (F,), and how
    many changes there were among them. own: columns that are no cause.
    """

    def __init__(self, held: Floats, moved: Floats, own: slice) -> None:
        self.held, self.moved, self.own = held.copy(), moved.copy(), own

    def learn(
        self, features: Flags, rows: Ints, changed: Flags, column: Ints, hazard: Floats
    ) -> None:
        """Fill in the rules (R,) and rates (R + 1,) from rows (N,) and their changes (N,)."""
        least = GAIN + np.log(features.shape[1])
        for place in range(MOST_RULES):
            best, gain = self._best(float(len(rows)), float(changed.sum()))
            if gain < least:
                break
            column[place] = best
            hazard[place] = (self.moved[best] + PRIOR) / (self.held[best] + 1.0)
            covered = features[rows, best]
            for total, gone in ((self.held, covered), (self.moved, covered & changed)):
                total -= features[rows[gone]].sum(axis=0, dtype=np.int64)
            rows, changed = rows[~covered], changed[~covered]
        hazard[-1] = (float(changed.sum()) + PRIOR) / (len(rows) + 1.0)

    def _best(self, rows: float, changes: float) -> tuple[int, float]:
        """The feature whose rows differ most from the others, and the log likelihood it adds."""
        if changes == 0.0:
            return 0, 0.0
        gain = (
            _likelihood(self.moved, self.held)
            + _likelihood(changes - self.moved, rows - self.held)
            - _likelihood(np.array(changes), np.array(rows))
        )
        gain[self.held < LEAST_HOLDS] = 0.0
        gain[self.own] = 0.0
        best = int(gain.argmax())
        return best, float(gain[best])


def _likelihood(count: Floats, number: Floats) -> Floats:
    """Largest log likelihood of `count` changes in `number` rows."""
    number = np.maximum(number, 1.0)
    share = np.clip(count / number, 1e-12, 1.0 - 1e-12)
    found: Floats = count * np.log(share) + (number - count) * np.log1p(-share)
    return found
