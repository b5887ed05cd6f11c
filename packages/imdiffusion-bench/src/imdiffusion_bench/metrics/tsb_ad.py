"""VUS-PR as TSB-AD has it (Liu and Paparrizos, NeurIPS 2024), written from its definition.

It differs from `range_based` in five ways: the largest buffer W is the period of the first channel
(`window_of`) instead of a constant; both slopes of a segment have W // 2 rows; segments whose
slopes meet count as one for the share of segments that were met; what is right among the slopes
counts as positive only where it was flagged,

    TP = sum(a y),  P = sum(label) + sum(a y outside the segments) / 2
    precision = TP / sum(a),  recall = min(TP / P, 1) x share of the soft segments that a meets

and the area is that of steps, each recall gained at the precision there. Rows of equal score enter
together, at 250 even ranks of the score (TSB-AD's version "opt"). VUS is the mean over the buffers
0, 1, ... W.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from imdiffusion_bench.metrics.segments import (
    Flags,
    Floats,
    check_lengths,
    no_score_lowest,
    segments,
)

THRESHOLDS = 250
_MOST_ROWS, _MOST_LAG = 20_000, 400
_SHORTEST, _LONGEST, _OTHERWISE = 3, 300, 125  # of a period, counted from _SHORTEST


def window_of(channel: Floats) -> int:
    """The period of a series (T,) in rows: the highest local maximum of its autocorrelation.

    Lags 3 to 400 of the first 20,000 rows; 125 where there is no maximum, or the highest one lies
    below lag 6 or above lag 303.
    """
    x = np.asarray(channel, np.float64)[:_MOST_ROWS]
    apart = x - x.mean() if len(x) else x
    power = np.square(np.abs(np.fft.rfft(apart, 2 * len(x) + 1))) if len(x) else apart
    covariance = np.fft.irfft(power, 2 * len(x) + 1)[: len(x)] if len(x) else apart
    if not len(x) or not covariance[0] > np.finfo(np.float64).tiny or not np.ptp(x) > 0:
        return _OTHERWISE
    lagged = covariance[_SHORTEST : _MOST_LAG + 1]
    inner = lagged[1:-1]
    peaks = np.flatnonzero((inner > lagged[:-2]) & (inner > lagged[2:])) + 1
    if not len(peaks):
        return _OTHERWISE
    best = int(peaks[np.argmax(lagged[peaks])])
    return best + _SHORTEST if _SHORTEST <= best <= _LONGEST else _OTHERWISE


def vus_pr(label: Flags, score: Floats, window: int) -> float:
    """The volume for buffers 0 to `window` rows; label bool (T,), score (T,), NaN ranks lowest.

    Raises DataError for shapes that differ and for a label without an anomaly.
    """
    check_lengths(label, score)
    ranked = no_score_lowest(score)
    order = np.argsort(-ranked, kind="stable")
    level = ranked[order][np.linspace(0, len(ranked) - 1, THRESHOLDS).astype(np.int64)]
    # All rows of equal score are flagged together: how many are at or above each level.
    flagged = np.searchsorted(-ranked[order], -level, side="right")
    runs = segments(label)
    areas = [_area(label, order, flagged, runs, size) for size in range(window + 1)]
    return float(np.mean(areas))


def _area(
    label: Flags,
    order: NDArray[np.int64],
    flagged: NDArray[np.int64],
    runs: NDArray[np.int64],
    window: int,
) -> float:
    soft = _soft(label, runs, window)
    true = np.cumsum(soft[order])[flagged - 1]
    beside = np.cumsum(np.where(label, 0.0, soft)[order])[flagged - 1]
    positives = float(label.sum()) + beside / 2.0
    recall = np.minimum(true / positives, 1.0) * _met(order, flagged, runs, window)
    return float(np.sum(np.diff(recall, prepend=0.0) * true / flagged))


def _soft(label: Flags, runs: NDArray[np.int64], window: int) -> Floats:
    """The label (T,) with slopes sqrt(1 - d / window), d = 1 ... window // 2, on both sides."""
    soft = label.astype(np.float64)
    slope = window // 2
    if not slope:
        return soft
    fall = np.sqrt(1.0 - np.arange(1, slope + 1) / window)
    for start, end in runs.tolist():
        after = soft[end : end + slope]
        after += fall[: len(after)]
        before = soft[max(start - slope, 0) : start]
        before += fall[: len(before)][::-1]
    return np.minimum(soft, 1.0)


def _met(
    order: NDArray[np.int64], flagged: NDArray[np.int64], runs: NDArray[np.int64], window: int
) -> Floats:
    """The share of segments with their slopes that the flagged rows meet, at each level."""
    slope, rows = window // 2, len(order)
    place = np.empty(rows, np.int64)
    place[order] = np.arange(rows)
    starts, last = runs[:, 0] - slope, runs[:, 1] - 1 + slope
    apart = last[:-1] < starts[1:]  # what meets or shares a row is one
    starts = np.maximum(starts[np.append(True, apart)], 0)
    last = np.minimum(last[np.append(apart, True)], rows - 1)
    first = np.sort([place[a : b + 1].min() for a, b in zip(starts, last, strict=True)])
    return np.searchsorted(first, flagged, side="left") / len(first)
