"""Fewer rows for the page where a series is too long to open quickly.

Rows near events stay as they are; elsewhere a bucket of rows becomes two, its lowest and its
highest value, so that no spike is lost.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imdiffusion.arrays import Flags, Ints, Reals


@dataclass(frozen=True, slots=True)
class Thinning:
    """Which rows of T become which of the page: `starts` of buckets, in order."""

    rows: int  # T
    starts: Ints  # first row of each bucket
    coarsest: int  # rows of the largest bucket; 1 = nothing is thinned

    @property
    def pair(self) -> Flags:
        """Buckets that give two rows."""
        return np.diff(self.starts, append=self.rows) > 1

    def positions(self) -> Ints:
        """The row of T that each row of the page stands at."""
        size = np.diff(self.starts, append=self.rows)
        return self._joined(self.starts, self.starts + size // 2)

    def extremes(self, values: Reals) -> Reals:
        """Lowest then highest value of each bucket; single rows as they are."""
        if self.coarsest == 1:
            return values
        low = np.fmin.reduceat(values, self.starts)
        return self._joined(low, np.fmax.reduceat(values, self.starts))

    def lowest(self, values: Reals) -> Reals:
        """The lowest value of each bucket, in both of its rows."""
        if self.coarsest == 1:
            return values
        low = np.fmin.reduceat(values, self.starts)
        return self._joined(low, low)

    def highest(self, values: Reals) -> Reals:
        """The highest value of each bucket, in both of its rows."""
        if self.coarsest == 1:
            return values
        high = np.fmax.reduceat(values, self.starts)
        return self._joined(high, high)

    def _joined(self, first: NDArray[Any], second: NDArray[Any]) -> NDArray[Any]:
        pair = self.pair
        place = np.cumsum(np.where(pair, 2, 1)) - np.where(pair, 2, 1)
        joined = np.empty(len(first) + int(pair.sum()), dtype=first.dtype)
        joined[place] = first
        joined[place[pair] + 1] = second[pair]
        return joined


def thinning(rows: int, budget: int, events: Iterable[tuple[int, int]]) -> Thinning:
    """How to show `rows` rows in about `budget`, sparing `events` (start, end) and their margins.

    Where the events alone would take more than half the budget they are thinned as well.
    """
    if rows <= budget:
        return Thinning(rows, np.arange(rows, dtype=np.int64), 1)
    near = np.zeros(rows, dtype=np.bool_)
    for start, end in events:
        margin = max(60, end - start)
        near[max(0, start - margin) : end + margin] = True
    if int(near.sum()) > budget // 2:
        near[:] = False
    quiet = rows - int(near.sum())
    size = max(2, -(-2 * quiet // max(1, budget - (rows - quiet))))
    # a bucket starts at every row near an event, where a quiet run starts, and every `size` rows
    row = np.arange(rows, dtype=np.int64)
    run_start = np.maximum.accumulate(np.where(near | np.roll(near, 1), row, 0))
    starts = row[near | ((row - run_start) % size == 0)]
    return Thinning(rows, starts, size)
