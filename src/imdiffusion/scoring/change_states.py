"""States that are hardly ever seen together: pairs of them in two channels, and what follows what.

    together   log(E / (n + 1/2)): the pair was entered n times, where two channels that know
               nothing of each other would have entered it E times
    after      log(N / (n + 1/2)): of N times that a channel left the first state, it went to the
               second n times
    novel      a flag has a third value: log(2 (N + 1)), N times that it entered one of its two

Counted are times that a state was entered, not rows: rows of one stay say the same thing.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from imdiffusion.arrays import Floats
from imdiffusion.scoring.change_rows import Alphabet, Step

NEWS = 64  # rows for which a state is news
LEAST_SIZE = 1.0  # what is less is not told
LEAST_ENTRIES = 4  # of both values of a flag, or a third is negligible
CHUNK = 4_096  # rows that are looked at together
MOST_PAIRS = 400_000  # and pairs of channels in them


@dataclass(frozen=True, slots=True)
class Entries:
    """Sums over rows: how many, how often each state was there and was entered (S,), how often two
    states came together (S, S), and how often one was followed by another.
    """

    rows: float
    there: Floats
    entered: Floats
    pair: Floats
    followed: Floats

    @classmethod
    def of(cls, alphabet: Alphabet, step: Step) -> Entries:
        """Of some rows."""
        total = np.zeros((2, int(alphabet.first[-1])))
        pair, followed = np.zeros((2, total.shape[1], total.shape[1]))
        for start in range(0, len(step), CHUNK):
            part = step.rows(slice(start, start + CHUNK))
            new = part.since == 0
            there = alphabet.spread(part.now).astype(np.float32)
            entered = alphabet.spread(np.where(new, part.now, -1)).astype(np.float32)
            left = alphabet.spread(np.where(new, part.before, -1)).astype(np.float32)
            total += np.stack([there.sum(axis=0), entered.sum(axis=0)])
            mixed = entered.T @ there
            pair += mixed + mixed.T - entered.T @ entered
            followed += left.T @ entered
        return cls(float(len(step)), total[0], total[1], pair, followed)

    def __add__(self, other: Entries) -> Entries:
        return Entries(*(getattr(self, n) + getattr(other, n) for n in self.__slots__))

    def __sub__(self, other: Entries) -> Entries:
        return Entries(*(getattr(self, n) - getattr(other, n) for n in self.__slots__))

    def surprises(self, alphabet: Alphabet) -> StateSurprises:
        """What they say of states to come."""
        share = self.there / max(self.rows, 1.0)
        expected = np.outer(share, self.entered)
        together = _size(expected + expected.T, self.pair)
        after = np.zeros_like(together)
        novel = np.zeros(len(alphabet.channel))
        for k, (start, stop) in enumerate(pairwise(alphabet.first.tolist())):
            own = slice(start, stop)
            left = self.followed[own, own]
            after[own, own] = _size(left.sum(axis=1, keepdims=True), left)
            together[own, own] = 0.0
            entered = self.entered[own]
            if len(entered) == 2 and entered.min() >= LEAST_ENTRIES:
                novel[k] = np.log(2.0 * (entered.sum() + 1.0))
        return StateSurprises(together, after, novel)


def _size(expected: Floats, seen: Floats) -> Floats:
    size = np.log(np.maximum(expected, 1e-9) / (seen + 0.5))
    return np.asarray(np.where(size >= LEAST_SIZE, size, 0.0))


@dataclass(frozen=True, slots=True)
class StateSurprises:
    """together (S, S): of two states of two channels at once; after (S, S): of the second state of
    a channel after the first; novel (C,): of a third value. An enumeration may have further values:
    it is a measurement to the views, and they see these.
    """

    together: Floats
    after: Floats
    novel: Floats

    def above(self, least: float) -> StateSurprises:
        """The same without those up to `least`: fewer rows to look at."""
        return StateSurprises(
            np.where(self.together > least, self.together, 0.0), self.after, self.novel
        )

    def of(self, alphabet: Alphabet, step: Step) -> Floats:
        """How unusual each channel's state is in each row (n, C), while it is news."""
        first, last = alphabet.first[:-1], len(self.together)
        fresh = (step.since < NEWS) & ~step.lost
        found = np.where(fresh & (step.now < 0) & step.known, self.novel, 0.0)
        rows = np.flatnonzero(fresh.any(axis=1))
        state = np.where(step.lost, -1, step.now)  # its state now is unknown
        there = alphabet.spread(state[rows]).astype(np.float32)
        rows = rows[((there @ (self.together > 0.0).astype(np.float32)) * there).any(axis=1)]
        whole = np.pad(self.together, (0, 1))  # the last: in no known state
        place = np.where(state >= 0, state + first, last)
        count = max(1, MOST_PAIRS // max(1, place.shape[1] ** 2))
        for start in range(0, len(rows), count):
            some = rows[start : start + count]
            size = whole[place[some][:, :, None], place[some][:, None, :]]
            size *= fresh[some][:, :, None] | fresh[some][:, None, :]
            found[some] = np.maximum(found[some], size.max(axis=2))
        row, channel = np.nonzero(step.changed & (step.now >= 0) & (step.before >= 0))
        was, now = (one[row, channel] + first[channel] for one in (step.before, step.now))
        found[row, channel] = np.maximum(found[row, channel], self.after[was, now])
        return found
