"""Label-free thresholds, fitted on held-out normal scores.

A rule is a function `(scores, *, alarm_rate) -> float`: the value that a normal score exceeds
with probability `alarm_rate`. Scores are divided by it, so above 1 is anomalous everywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

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
