"""An alert budget: so many merged events a day at most, on normal rows, as an alarm rate.

A person wants "one alert a week", not "one row in a thousand": an event has many rows, and a day
has as many rows as the sampling period makes. Both are read off held-out normal scores, without
labels.
"""

from __future__ import annotations

from bisect import bisect_right

import numpy as np
from numpy.typing import NDArray

from imdiffusion.durations import DAY_NS

# Fewer events than this say little about how many rows an event has, so at least so many are
# looked at; a budget that allows fewer in the rows at hand is then scaled down from them.
LEAST_EVENTS = 5
RATES = (1e-9, 0.5)  # what `alarm_rate` may be


class _Runs:
    """Rows switched on one by one, and how many events they make."""

    def __init__(self, merge_gap: int, min_length: int) -> None:
        self._near, self._least = merge_gap + 1, min_length
        self._first: list[int] = []
        self._last: list[int] = []
        self.events = 0

    def add(self, row: int) -> None:
        """Switch a row on: it lies in a run, prolongs one, joins two, or begins one."""
        place = bisect_right(self._first, row) - 1
        first = last = row
        low, high = place + 1, place + 1  # the runs [low, high) are replaced by one
        if place >= 0 and row - self._last[place] <= self._near:
            low, first, last = place, self._first[place], max(row, self._last[place])
        if high < len(self._first) and self._first[high] - row <= self._near:
            last, high = self._last[high], high + 1
        for old in range(low, high):
            self.events -= self._counts(self._first[old], self._last[old])
        self._first[low:high], self._last[low:high] = [first], [last]
        self.events += self._counts(first, last)

    def _counts(self, first: int, last: int) -> int:
        return int(last - first + 1 >= self._least)


def level_within(
    scores: NDArray[np.floating], *, events: float, merge_gap: int, min_length: int
) -> float:
    """The lowest level that scores (T,) exceed in at most `events` merged events.

    Rows are in the order of time, NaN is quiet. No higher level has more events either. -inf where
    the budget is never used up.
    """
    known = np.flatnonzero(np.isfinite(scores))
    order = known[np.argsort(-scores[known], kind="stable")]
    runs = _Runs(merge_gap, min_length)
    for value, rows in _equal(scores, order):
        for row in rows:
            runs.add(row)
        if runs.events > events:
            return value
    return float("-inf")


def _equal(scores: NDArray[np.floating], order: NDArray[np.int64]) -> list[tuple[float, list[int]]]:
    """(score, its rows) for every distinct score, the highest first."""
    values = scores[order]
    cuts = np.flatnonzero(values[1:] != values[:-1]) + 1
    return [(float(scores[rows[0]]), rows.tolist()) for rows in np.split(order, cuts) if len(rows)]


def rate_within(
    scores: NDArray[np.floating],
    *,
    alarms_per_day: float,
    period_ns: int,
    merge_gap: int,
    min_length: int,
) -> float:
    """The `alarm_rate` at which normal rows make `alarms_per_day` merged events at most.

    scores (T,): of held-out normal rows in the order of time, `period_ns` apart. Where the budget
    allows fewer than `LEAST_EVENTS` in these rows, the rate is that of so many, scaled down.
    """
    known = int(np.isfinite(scores).sum())
    allowed = alarms_per_day * len(scores) * period_ns / DAY_NS
    looked = max(allowed, LEAST_EVENTS)
    level = level_within(scores, events=looked, merge_gap=merge_gap, min_length=min_length)
    rows = int((scores > level).sum())
    # At the lowest level events join until the budget is never used up: half of the rows at most.
    rate = rows / max(known, 1) * min(1.0, allowed / looked)
    return float(np.clip(rate, *RATES))
