"""Label-free thresholds, fitted on held-out normal scores.

A rule is a function `(scores, *, alarm_rate) -> float`: the value that a normal score exceeds
with probability `alarm_rate`. Scores are divided by it, so above 1 is anomalous everywhere.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imdiffusion.durations import DAY_NS
from imdiffusion.errors import DataError

# Peaks over threshold needs a tail to fit: this share of the scores, and this many at least.
TAIL_SHARE = 0.1
TAIL_LEAST = 20
# A shape outside this range comes from too few peaks, not from the data.
SHAPE_RANGE = (-0.5, 0.5)
# Far below what normal rows of any measured series say, so that a score in units of it stays finite
# in single precision too.
LEAST = 1e-12


def _finite(scores: NDArray[np.floating]) -> NDArray[np.float64]:
    known = np.asarray(scores, np.float64)
    known = known[np.isfinite(known)]
    if known.size == 0:
        raise DataError(
            "no held-out row has a score, so no threshold can be fitted",
            remedy="Give training data whose last rows have observed values.",
        )
    finite: NDArray[np.float64] = known
    return finite


def quantile(scores: NDArray[np.floating], *, alarm_rate: float) -> float:
    """The (1 - alarm_rate) quantile of the scores (n,).

    With fewer than 1 / alarm_rate scores this is the largest one. Raises DataError if no score
    is finite.
    """
    return _positive(float(np.quantile(_finite(scores), 1.0 - alarm_rate, method="higher")))


def peaks_over_threshold(scores: NDArray[np.floating], *, alarm_rate: float) -> float:
    """Extreme-value threshold: a generalised Pareto tail beyond a high quantile (n,) -> float.

    Excesses over u follow a generalised Pareto law (Pickands 1975; Siffer et al. 2017), fitted by
    probability-weighted moments (Hosking and Wallis 1987). Rates the scores themselves can show,
    and tails too short to fit, fall back to the quantile. Raises DataError if no score is finite.
    """
    return _Peaks.of(scores).threshold(alarm_rate)


@dataclass(frozen=True, slots=True)
class _Peaks:
    """Sorted scores (n,), the number of their peaks, and the Pareto law of these beyond a level:
    None where they are no tail to fit.
    """

    known: NDArray[np.float64]
    peaks: int
    law: tuple[float, float, float] | None  # level, shape, spread

    @classmethod
    def of(cls, scores: NDArray[np.floating]) -> _Peaks:
        known = np.sort(_finite(scores))
        peaks = max(TAIL_LEAST, int(TAIL_SHARE * known.size))
        if known.size < 2 * TAIL_LEAST:
            return cls(known, peaks, None)
        level = known[-peaks - 1]
        excess = known[-peaks:] - level
        mean = excess.mean()
        rank = np.arange(peaks, 0, -1)
        weighted = float(((rank - 0.65) / peaks * excess).mean())
        if mean <= 0 or mean <= 2 * weighted:
            return cls(known, peaks, None)
        shape = float(np.clip(2.0 - mean / (mean - 2 * weighted), *SHAPE_RANGE))
        return cls(known, peaks, (float(level), shape, float(mean * (1.0 - shape))))

    def threshold(self, rate: float) -> float:
        if self.law is None or rate * self.known.size >= self.peaks:
            return quantile(self.known, alarm_rate=rate)
        level, shape, spread = self.law
        ratio = self.peaks / (rate * self.known.size)
        reach = np.log(ratio) if abs(shape) < 1e-6 else np.expm1(shape * np.log(ratio)) / shape
        return _positive(float(level + spread * reach))


def thresholds_at(
    rule: Callable[..., float], scores: NDArray[np.floating], rates: NDArray[np.float64]
) -> NDArray[np.float64]:
    """What a rule says of scores (n,) at each of many rates (R,). A tail is fitted once for all."""
    if rule is peaks_over_threshold:
        tail = _Peaks.of(scores)
        return np.array([tail.threshold(float(rate)) for rate in rates])
    return np.array([rule(scores, alarm_rate=float(rate)) for rate in rates])


def _positive(threshold: float) -> float:
    """A perfect fit has scores of zero; any later error at all is then above the threshold."""
    return max(threshold, LEAST)


# -- an alert budget: so many merged events a day at most, on normal rows, as an alarm rate
#
# A person wants "one alert a week", not "one row in a thousand": an event has many rows, and a day
# has as many rows as the sampling period makes. Both are read off held-out normal scores, without
# labels.

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
