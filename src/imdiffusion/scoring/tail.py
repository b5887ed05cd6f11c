"""How unusual a residual is for its channel: minus the logarithm of its tail probability.

    evidence(r) = -log P(|residual of a normal row| >= |r|)

empirical for the larger part of the normal rows and exponential beyond. So a unit of evidence means
the same for every channel, and in normal rows its mean is 1, whatever the channel is like.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imdiffusion.arrays import Flags, Floats, Ints, Singles

KNOTS = 33  # points of the empirical part, evenly spaced in evidence
EMPIRICAL = 0.98  # share of normal rows that it covers
FEW_ROWS = 8  # up to so many all channels are looked up at once: a loop over them takes longer


@dataclass(frozen=True, slots=True)
class TailLaws:
    """One law a channel. size (KNOTS, K): |residual| at the evidence of each knot, ascending.

    excess (K,): |residual| beyond the last knot that adds 1 to the evidence.
    """

    size: Singles
    excess: Singles

    @classmethod
    def fit(cls, residuals: Singles, *, least: float) -> TailLaws:
        """From residuals of normal rows (T, K), NaN where there is none.

        least: a residual too small to matter; no tail is shorter, and of a channel without any
        residual it is the unit of all.
        """
        channels = residuals.shape[1]
        size = np.empty((KNOTS, channels), np.float32)
        excess = np.empty(channels, np.float32)
        for channel in range(channels):
            column = np.abs(residuals[:, channel].astype(np.float64))
            size[:, channel], excess[channel] = _law(column[~np.isnan(column)], least)
        return cls(size, excess)

    def evidence(self, residuals: Singles) -> Singles:
        """Residuals (n, K) -> evidence (n, K), at least 0; NaN where there is no residual."""
        sizes = np.abs(residuals)
        if len(sizes) <= FEW_ROWS:
            found = self._within(sizes)
        else:
            found = np.empty(sizes.shape, np.float32)
            for channel in range(sizes.shape[1]):
                found[:, channel] = np.interp(sizes[:, channel], self.size[:, channel], LEVELS)
        beyond = (sizes - self.size[-1]) / self.excess
        np.maximum(beyond, 0.0, out=beyond)
        found += beyond
        return found

    def _within(self, sizes: Singles) -> Singles:
        """What `np.interp` says between the knots of each channel, (n, K), to the last bit."""
        above = np.count_nonzero(sizes[:, None] >= self.size, axis=1)
        knot, channel = np.clip(above - 1, 0, KNOTS - 2), np.arange(sizes.shape[1])
        low, high = (self.size[place, channel].astype(np.float64) for place in (knot, knot + 1))
        apart = np.where(high > low, high - low, 1.0)  # alike: not where a size lies between them
        level = LEVELS[knot]
        found = (LEVELS[knot + 1] - level) / apart * (sizes - low) + level
        found = np.where(above < KNOTS, np.maximum(found, 0.0), LEVELS[-1])
        return np.asarray(found, np.float32)


# Evidence of the knots: 0 to -log(1 - EMPIRICAL).
LEVELS = np.linspace(0.0, -np.log1p(-EMPIRICAL), KNOTS)


def _law(sizes: NDArray[np.float64], least: float) -> tuple[NDArray[np.float64], float]:
    if len(sizes) == 0:
        return least * LEVELS, least
    knots = np.quantile(sizes, -np.expm1(-LEVELS))
    # Of residuals that are often exactly alike the smallest evidence counts, not the largest.
    knots = np.maximum.accumulate(knots) + least * 1e-3 * LEVELS
    top = np.sort(sizes)[-max(3, round((1.0 - EMPIRICAL) * len(sizes))) :]
    return np.asarray(knots, np.float64), max(
        float((top - min(knots[-1], top[0])).mean()), 0.3 * least
    )


# -- runs of rows in one condition: cut out of a whole series, or counted as rows come in
#
# What counts as rows come in takes what stood at the row before (K,) and gives what stands at each
# of the n rows (n, K), so a series in pieces gives what the whole gives.

LONG_AGO = np.int64(2**40)  # "never": more rows than any series has
_BEFORE = -(2**62)


def rows_since(mark: Flags, before: Ints) -> Ints:
    """How many rows ago each of K marks was last set, as of each of n rows; 0 on its own row.

    before (K,): the same as of the row before the first.
    """
    row = np.arange(len(mark))[:, None]
    last = np.maximum.accumulate(np.where(mark, row, _BEFORE), axis=0)
    since: Ints = row - np.maximum(last, -1 - before)
    return since


def count_since(counted: Flags, reset: Flags, before: Ints) -> Ints:
    """How many rows were `counted` since the last `reset`, that row included, as of each row.

    before (K,): the same as of the row before the first.
    """
    total = np.cumsum(counted, axis=0, dtype=np.int64)
    base = np.maximum.accumulate(np.where(reset, total - counted, _BEFORE), axis=0)
    count: Ints = total - np.maximum(base, -before)
    return count


def last_known(values: Floats, observed: Flags, before: Floats) -> tuple[Floats, Floats]:
    """The value that each channel had last before each row (n, K), and after the last one (K,).

    before (K,): the same before the first row; NaN where there was none.
    """
    whole = np.concatenate([before[None], values])
    if observed.all():
        return whole[:-1], whole[-1].copy()
    row = np.arange(len(whole))[:, None]
    place = np.zeros(whole.shape, np.int64)
    np.multiply(row[1:], observed, out=place[1:])
    place = np.maximum.accumulate(place, axis=0)
    filled = np.take_along_axis(whole, place, axis=0)
    return filled[:-1], filled[-1]


def runs_of(flags: Flags) -> tuple[Ints, Ints]:
    """(first rows, lengths) of the runs of True in flags (T,)."""
    edge = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    pairs = edge.reshape(-1, 2)
    return pairs[:, 0], pairs[:, 1] - pairs[:, 0]


def runs_of_values(values: Floats) -> tuple[Ints, Ints]:
    """(first places, lengths) of the runs of one value in values (N,) without NaN."""
    first = np.concatenate([[0], np.flatnonzero(values[1:] != values[:-1]) + 1])
    return first, np.diff(np.concatenate([first, [len(values)]]))


# -- how long a run of rows may be before it is news: the tail of run lengths, from normal rows
#
# A run is a stretch of rows in one condition: a channel missing, or repeating one value. What is
# asked is the length that a stated share of all rows lies beyond: a run of L rows has L - m rows
# beyond m. Past what training shows, runs are taken to end at every row with one chance, as those
# of a process without memory do; that chance is not known exactly, and the share is averaged over
# what it may be (a Beta law), so few runs make a long wait and many a short one. The chance is read
# off the largest runs for which one chance is believable, so that a gap of every night, which is
# always as long, is not stretched by the short gaps of the day, nor the other way round.

LEAST_RUNS = 8  # fewer say nothing about the chance at which runs end
# Runs set aside as faults of the training rows: so many at most, and so large a share of the rows.
MOST_ASIDE = 3
SHARE_ASIDE = 0.025
SHARE_ALONE = 0.1  # of one run by itself: a stuck day of two weeks
LEAST_ASIDE = 10  # rows; shorter ones do no harm
FAR = 3.0  # times the length that one row in a thousand such trainings would lie beyond
RARE = 0.01  # of one row in such a training: where two readings of a tail are compared
MARGIN = 0.1  # beyond the longest run of training, as a share of it

FIELDS = ("start", "unit", "weight", "going", "ending", "floor")


@dataclass(frozen=True, slots=True)
class RunTail:
    """What is known of the run lengths of K channels: arrays (K,), in rows.

    start: beyond this length the tail is extrapolated. unit: rows that count as one step there.
    weight: runs beyond `start` as a share of the rows, times `unit`. going, ending: the Beta law of
    the chance that a run goes on for one more step. floor: the least limit, a margin beyond
    training; inf where no run is ever news.
    """

    start: Floats
    unit: Floats
    weight: Floats
    going: Floats
    ending: Floats
    floor: Floats

    def limit(self, rate: float) -> Floats:
        """The run length (K,) that a share `rate` of the rows lies beyond, at least the floor."""
        steps = np.array([_steps(float(rate), *row) for row in self._law()], np.float64)
        found: Floats = np.maximum(self.floor, self.start + self.unit * steps)
        return found

    def _law(self) -> list[tuple[float, float, float]]:
        return list(
            zip(self.weight.tolist(), self.going.tolist(), self.ending.tolist(), strict=True)
        )

    def to_array(self) -> Floats:
        """(6, K): the fields in the order of `FIELDS`."""
        return np.stack([getattr(self, name) for name in FIELDS])

    @classmethod
    def from_array(cls, rows: Floats) -> RunTail:
        """What `to_array` gave."""
        return cls(*np.array(rows, np.float64))


Fit = tuple[float, float, float, float, float, float]  # one channel of a RunTail
NEVER: Fit = (0.0, 1.0, 0.0, 1.0, 12.0, math.inf)  # no run is news
AT_ONCE: Fit = (0.0, 1.0, 0.0, 1.0, 12.0, 0.0)  # every run is


def stack(fits: list[Fit]) -> RunTail:
    """One tail of K channels from K fits."""
    return RunTail.from_array(np.array(fits, np.float64).reshape(-1, len(FIELDS)).T)


def fit_tail(
    lengths: Ints, ended: Flags, rows: int, *, margin: int, held: bool = False
) -> tuple[Fit, list[int]]:
    """The tail of runs (N,), and which of them were set aside as faults of the training rows.

    ended (N,): False for a run that the last row cut off. rows: of which the runs are a part.
    margin: rows beyond the longest run of training that are never news. held: runs may be whole
    numbers of one holding time, as of a sensor that is read every ten rows.
    """
    order = np.argsort(-lengths, kind="stable")
    for number in range(min(MOST_ASIDE, len(order)), 0, -1):
        far = order[:number]
        if _may_go(lengths[far], rows):
            rest = np.delete(np.arange(len(lengths)), far)
            fit = _fit(lengths[rest], ended[rest], rows, margin, held)
            usual = _limit(fit, 0.001 / rows)
            if lengths[far].min() >= FAR * usual:
                return fit, sorted(far.tolist())
    return _fit(lengths, ended, rows, margin, held), []


def _may_go(lengths: Ints, rows: int) -> bool:
    share = SHARE_ALONE if len(lengths) == 1 else SHARE_ASIDE
    return bool(lengths.min() >= LEAST_ASIDE and lengths.sum() <= share * rows)


def _fit(lengths: Ints, ended: Flags, rows: int, margin: int, held: bool) -> Fit:
    if not len(lengths):
        return (0.0, 1.0, 1.0 / rows, *_chance(0, 0.0), float(margin))
    hold = _holding_time(lengths[ended]) if held else None
    longest = float(lengths.max())
    alike = int((lengths >= longest / 2).sum())
    if hold is not None:
        # One holding time is sure; what goes on is a reading equal to the one before.
        steps = np.maximum(np.round(lengths / hold), 1.0)
        law = _chance(len(steps), float(steps.sum() - len(steps)))
        unit = (1.0 + MARGIN) * hold
        return (0.0, unit, unit * len(steps) / rows, *law, longest + max(margin, MARGIN * longest))
    floor = longest + max(margin, (MARGIN + 1.0 / alike) * longest)
    fits = []
    for start, number, going in _believable(lengths, ended):
        weight = (number + 1.0) / rows
        fits.append((start, 1.0, weight, *_chance(number, going), floor))
    return fits[0] if len(fits) == 1 else longer(fits[0], fits[1], rows)


def longer(one: Fit, other: Fit, rows: int) -> Fit:
    """Of two tails the one with the longer runs, far out in such a training of `rows` rows."""
    return max(one, other, key=lambda fit: _limit(fit, RARE / rows))


def _chance(number: int, going: float) -> tuple[float, float]:
    """The Beta law of going on: `number` runs ended and `going` times one went on.

    With no run at all, runs are taken to be short: half of them end at every row.
    """
    ending = number + 12.0 / (1.0 + number)
    return ending * (going + 1.0) / (number + 1.0), ending


def _believable(lengths: Ints, ended: Flags) -> list[tuple[float, int, float]]:
    """(start, runs that ended beyond it, times one went on beyond it): the most runs that fit.

    And the longer half of these, which tells where the tail is heavier than it seems.
    """
    order = np.argsort(-lengths, kind="stable")
    lengths, ended = lengths[order], ended[order]
    number = len(lengths)
    found: list[tuple[float, int, float]] = []
    while True:
        start = float(lengths[number - 1] - 1)
        beyond = lengths > start
        excess = (lengths[beyond] - start).astype(np.float64)
        whole = excess[ended[beyond]]
        last = number <= LEAST_RUNS
        if found or last or _has_no_memory(whole):
            found.append((start, len(whole), float(excess.sum() - len(whole))))
        if last or len(found) == 2:
            return found
        number = max(number // 2, LEAST_RUNS)


def _has_no_memory(excess: Floats) -> bool:
    """Whether spread and median of excesses are what one chance of ending at every row makes."""
    if len(excess) < 2:
        return False
    mean, spare = float(excess.mean()), 1.0 / math.sqrt(len(excess))
    expected = mean * (mean - 1.0)  # q / (1 - q)^2 with 1 - q = 1 / mean
    ratio = (float(excess.var()) + 0.01) / (expected + 0.01)
    usual = (1.0 + 3.0 * spare) ** -2 <= ratio <= (1.0 + 1.5 * spare) ** 2
    # Short gaps of the day and long ones of the night can have the spread of one law, but then the
    # median lies with one or the other; it is a whole row, so up to one too large.
    middle, spare = float(np.median(excess)), 1.6 * spare * mean
    return usual and abs(middle - math.log(2.0) * mean - 0.5) <= spare + 0.5


def _holding_time(lengths: Ints) -> float | None:
    """The rows for which one reading is held, where nearly all runs are whole numbers of it."""
    if len(lengths) < LEAST_RUNS:
        return None
    hold = float(np.median(lengths))
    if hold < 5:
        return None
    whole = np.round(lengths / hold)
    near = (whole >= 1) & (np.abs(lengths - whole * hold) <= max(1.0, MARGIN * hold))
    if near.mean() < 0.9 or (near & (whole == 1)).mean() < 0.5:
        return None
    return hold


def _limit(fit: Fit, rate: float) -> float:
    start, unit, weight, going, ending, floor = fit
    return max(floor, start + unit * _steps(rate, weight, going, ending))


def _steps(rate: float, weight: float, going: float, ending: float) -> float:
    """Steps beyond which a share `rate` of the rows lies: weight * E[q^steps / (1 - q)] = rate."""
    if weight <= 0.0:
        return 0.0
    base = math.lgamma(going) + math.lgamma(ending) - math.lgamma(going + ending)
    ask = math.log(rate) - math.log(weight) + base

    def beyond(steps: float) -> float:
        top = math.lgamma(going + steps) + math.lgamma(ending - 1.0)
        return top - math.lgamma(going + steps + ending - 1.0)

    low, high = 0.0, 1.0
    if beyond(low) <= ask:
        return 0.0
    while beyond(high) > ask and high < 1e12:
        low, high = high, 2.0 * high
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if beyond(middle) > ask else (low, middle)
    return high
