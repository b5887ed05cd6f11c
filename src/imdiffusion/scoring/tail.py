"""How unusual a residual is for its channel: minus the logarithm of its tail probability.

    evidence(r) = -log P(|residual of a normal row| >= |r|)

empirical for the larger part of the normal rows and exponential beyond. So a unit of evidence means
the same for every channel, and in normal rows its mean is 1, whatever the channel is like.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imdiffusion.arrays import Singles

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
