"""Variance far below normal: how little a channel has moved over its last values.

What is looked at is the range (largest less smallest) of the last 32 values. It needs no sum, so a
series in pieces gives what the whole gives to the last bit, and near its low end it falls like a
power: its log has an exponential tail, which is extrapolated past training.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from imdiffusion.arrays import Floats
from imdiffusion.scoring.tail import LEAST_RUNS, MOST_ASIDE

WIDTH = 32  # values; a power of two
LEAST_VALUES = 10 * WIDTH
LEAST_DISTINCT = 50  # a channel of fewer values is a state, which may rest
NEARER = np.log(2.0)  # the range is below half the smallest of training before it is news
FAR_BELOW = np.log(10.0)  # a block this far under the next is a fault of the training rows
SPELL = 4  # blocks
RARE = 1e-6  # of the rows: where two readings of a tail are compared

FIELDS = ("usual", "start", "excess", "number", "blocks", "least")


@dataclass(frozen=True, slots=True)
class RangeTail:
    """What is known of the ranges of K channels, as -log of the range: arrays (K,).

    usual: of the median range; NaN where the channel is not looked at. start, excess, number,
    blocks: `number` of `blocks` blocks of 32 values came above `start`, by `excess` together.
    least: the least limit.
    """

    usual: Floats
    start: Floats
    excess: Floats
    number: Floats
    blocks: Floats
    least: Floats

    def limit(self, rate: float) -> Floats:
        """The -log range (K,) that a share `rate` of the rows comes above at most."""
        ratio = np.maximum(self.number / (self.blocks * rate), 1.0)
        beyond = self.excess * (ratio ** (1.0 / self.number) - 1.0)
        found: Floats = np.maximum(self.least, self.start + beyond)
        return found

    def to_array(self) -> Floats:
        """(6, K): the fields in the order of `FIELDS`."""
        return np.stack([getattr(self, name) for name in FIELDS])

    @classmethod
    def from_array(cls, rows: Floats) -> RangeTail:
        """What `to_array` gave."""
        return cls(*np.array(rows, np.float64))


Fit = tuple[float, float, float, float, float, float]  # one channel of a RangeTail
UNSEEN: Fit = (float("nan"), 0.0, 0.0, 1.0, 1.0, 0.0)


def stack(fits: list[Fit]) -> RangeTail:
    """One tail of K channels from K fits."""
    return RangeTail.from_array(np.array(fits, np.float64).reshape(-1, len(FIELDS)).T)


def ranges(values: Floats) -> Floats:
    """The range of each window of 32 values: (n + 31, K) -> (n, K), NaN where one of them is."""
    high = low = values
    span = 1
    while span < WIDTH:
        high = np.maximum(high[:-span], high[span:])
        low = np.minimum(low[:-span], low[span:])
        span *= 2
    return high - low


def fit_ranges(values: Floats) -> tuple[Fit, list[int]]:
    """The tail of one channel's values (N,), and the places of windows that were set aside.

    Not looked at (`UNSEEN`): a channel of few values, one of few distinct ones, and one that
    normally rests at one value for a whole window, for such a channel may also nearly rest.
    """
    if len(values) < LEAST_VALUES or len(np.unique(values[:5000])) < LEAST_DISTINCT:
        return UNSEEN, []
    moved = ranges(values[:, None])[:, 0]
    if not moved.min() > 0.0 or not np.isfinite(moved.max()):
        return UNSEEN, []
    still = -np.log(moved)
    count = len(still) // WIDTH
    blocks = still[: count * WIDTH].reshape(count, WIDTH)
    peak = blocks.max(axis=1)
    order = np.argsort(-peak, kind="stable")
    aside = _aside(peak[order])
    places = order[:aside] * WIDTH + blocks[order[:aside]].argmax(axis=1)
    kept = np.delete(peak, order[:aside])
    least = float(kept.max()) + float(NEARER)
    usual = float(-np.log(np.median(moved)))
    # What wanders slowly is low in many windows of one spell: longer blocks tell spells apart.
    spells = kept[: len(kept) // SPELL * SPELL].reshape(-1, SPELL).max(axis=1)
    fits: list[Fit] = []
    for maxima in (kept, spells) if len(spells) > LEAST_RUNS else (kept,):
        start, excess, number = _exponential(np.sort(maxima)[::-1])
        fits.append((usual, start, excess, float(number), float(len(maxima)), least))
    limits = [float(stack([fit]).limit(RARE)[0]) for fit in fits]
    return fits[int(np.argmax(limits))], sorted(places.tolist())


def _aside(peak: Floats) -> int:
    """How many of the largest block maxima, in falling order, stand far above all the others."""
    for number in range(min(2 * MOST_ASIDE, len(peak) - LEAST_RUNS), 0, -1):
        if peak[number - 1] - peak[number] >= FAR_BELOW:
            return number
    return 0


def _exponential(peak: Floats) -> tuple[float, float, int]:
    """(start, sum of excesses, their number) of the most maxima that look exponential."""
    number = len(peak) // 2
    while True:
        start = float(peak[number])
        excess = peak[:number] - start
        mean = float(excess.mean())
        ratio = float(excess.var()) / max(mean**2, 1e-12)
        spare = 1.0 / np.sqrt(number)
        fits = (1.0 + 3.0 * spare) ** -2 <= ratio <= (1.0 + 1.5 * spare) ** 2
        if fits or number <= LEAST_RUNS:
            return start, float(excess.sum()), number
        number = max(number // 2, min(LEAST_RUNS, number))
