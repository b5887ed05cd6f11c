"""How likely a discrete channel is to change at a row: lists of rules, one for each state it is in.

A rule is "where this holds, it changes in that share of the rows"; the first rule that holds
speaks, and where none does a base rate. What may hold: another channel entered a state or moved far
within the last rows, another channel is in a state, a measurement is low or high, any channel
changed within the last 4, 16 or 64 rows. Rules are taken greedily, each the one that says most
(binomial likelihood) of the rows that those before it have left.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from imdiffusion.arrays import Flags, Floats, Ints

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
