"""How high a stream of errors has been of late: the unit of a view that follows its past."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from imdiffusion.arrays import Singles
from imdiffusion.saved_state import State

RECENT_ROWS = 2000
RECENT_QUANTILE = 0.9  # of the past, as its median lets one expect it
EVERY = 50  # rows between two looks back
KNOTS = 101  # quantiles of held-out rows that stand for the past before the first row


class RecentQuantile:
    """The .9 quantile that the 2,000 rows before would have without faults, of each of S streams.

    Again every 50 rows: their median, times the .9 quantile of normal rows by its own median. So
    faults in the past do not raise it while they are less than half of the past; the quantile
    itself they would raise from a tenth on.

    knots (KNOTS,): evenly spaced quantiles of normal rows, which fill the past at the start. What
    comes out depends on the rows alone, not on the runs they arrive in. NaN is left out; where
    nothing else is left, what stood before stands.
    """

    def __init__(self, knots: Singles) -> None:
        self._knots = np.asarray(knots, np.float32).tobytes()
        self._lift = _lift(self._knots)
        self._past: Singles | None = None  # (RECENT_ROWS, S)
        self._new: list[Singles] = []
        self._count = 0
        self._level: Singles | None = None

    def standing(self, streams: int) -> Singles:
        """What stands before the next row of each of S streams: (S,)."""
        if self._past is None or self._level is None:
            self._past, self._level = _start(self._knots, streams)
        return self._level

    def to_state(self) -> State:
        """The rows and levels it goes on from; no arrays before the first row."""
        if self._past is None or self._level is None:
            return State("running level")
        new = np.concatenate(self._new) if self._new else self._past[:0]
        arrays = {"past": self._past, "level": self._level, "new": new}
        return State("running level", arrays=arrays)

    @classmethod
    def from_state(cls, state: State, like: RecentQuantile) -> RecentQuantile:
        """Go on from a state; see `saved_state`. Raises ModelError."""
        level = cls(np.frombuffer(like._knots, np.float32))
        if state.check("running level").arrays:
            level._past, level._level, new = (
                state.array(name, np.float32) for name in ("past", "level", "new")
            )
            level._new, level._count = ([new] if len(new) else []), len(new)
        return level

    def push(self, run: Singles) -> Singles:
        """Errors (n, S) of the next rows -> what stands before each of them (n, S)."""
        self._level = self.standing(run.shape[1])
        out, start = np.empty_like(run), 0
        while start < len(run):
            stop = min(len(run), start + EVERY - self._count)
            out[start:stop] = self._level
            self._new.append(run[start:stop])
            self._count += stop - start
            start = stop
            if self._count == EVERY and self._past is not None:
                self._past = np.concatenate([self._past[EVERY:], *self._new])
                self._new, self._count = [], 0
                self._level = _high(self._past, self._lift, self._level)
        return out


def _spread(knots: Singles) -> NDArray[np.float64]:
    """RECENT_ROWS numbers of which these are the quantiles."""
    return np.interp(np.linspace(0, 1, RECENT_ROWS), np.linspace(0, 1, len(knots)), knots)


# Of one model, whatever it scores: worked out once.
@lru_cache(maxsize=256)
def _lift(knots: bytes) -> float:
    """The .9 quantile by the median of the rows that these knots stand for."""
    median, high = np.quantile(_spread(np.frombuffer(knots, np.float32)), [0.5, RECENT_QUANTILE])
    return float(high / median) if median > 0 else 1.0


@lru_cache(maxsize=256)
def _start(knots: bytes, streams: int) -> tuple[Singles, Singles]:
    """The past (RECENT_ROWS, S) before the first row, and its level (S,)."""
    rows = _spread(np.frombuffer(knots, np.float32))
    # Shuffled, for the past leaves in order and must stay the same law while it does.
    first = np.random.default_rng(0).permutation(rows).astype(np.float32)
    past = np.repeat(first[:, None], streams, axis=1)
    level = _high(past, _lift(knots), np.zeros(streams, np.float32))
    for shared in (past, level):
        shared.setflags(write=False)
    return past, level


def _high(past: Singles, lift: float, before: Singles) -> Singles:
    """Of each column, without NaN; where a column has nothing else, what was there before."""
    if not np.isnan(past).any():
        level: Singles = (lift * np.median(past, axis=0)).astype(np.float32)
        return level
    columns = zip(past.T, before, strict=True)
    kept = [
        lift * np.median(known) if (known := one[~np.isnan(one)]).size else last
        for one, last in columns
    ]
    return np.array(kept, np.float32)
