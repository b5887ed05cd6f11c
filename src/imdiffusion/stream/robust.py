"""Centre, scale and threshold of rows among which a few are outliers."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

NORMAL = 1.4826  # the standard deviation of a normal law, in median deviations
ROUNDING = 1e-9  # of its value: a channel that moves by less stands still
SMALLEST = 1e-6  # score; the logarithm of none would be infinite
LEAST_SPREAD = 0.1  # of the logarithms of scores: no series is as even as that

Floats = NDArray[np.float64]
Rows = NDArray[np.floating]


def centre_and_scale(rows: Rows) -> tuple[Floats, Floats]:
    """Median and median deviation of each channel of rows (n, K), as of a normal law.

    A channel that hardly moves has its standard deviation instead, or else the size of its value.
    """
    width = rows.shape[1]
    centre, scale = np.full(width, np.nan), np.full(width, np.nan)
    for k in range(width):
        seen = rows[~np.isnan(rows[:, k]), k]
        if not seen.size:
            continue
        centre[k] = np.median(seen)
        size = abs(float(centre[k]))
        for spread in (NORMAL * float(np.median(np.abs(seen - centre[k]))), float(np.std(seen))):
            if spread > ROUNDING * size:
                scale[k] = spread
                break
        else:
            scale[k] = size or 1.0
    return centre, scale


def threshold_of(scores: Floats, alarm_rate: float) -> float:
    """What a score exceeds with probability `alarm_rate` if its logarithm is normal."""
    known = np.log(np.maximum(scores[np.isfinite(scores)], SMALLEST))
    if not known.size:
        return 1.0
    middle = float(np.median(known))
    spread = NORMAL * float(np.median(np.abs(known - middle)))
    return math.exp(middle + NormalDist().inv_cdf(1.0 - alarm_rate) * max(spread, LEAST_SPREAD))
