"""Range-based areas and volumes: R-AUC and VUS (Paparrizos et al., PVLDB 2022), as aeon has them.

With a buffer of b rows every true segment gets slopes of b // 2 rows on both sides, sqrt(1 - d / b)
at distance d, added up and cut at 1: the soft label y. At a threshold with the alarm a (T,)

    TP = sum(a y),  P = (sum(label) + sum(y)) / 2,  precision = TP / sum(a)
    recall = min(TP / P, 1) x share of the soft segments that a meets
    false positive rate = min((sum(a) - TP) / (T - P), 1)

and the area is that of trapezoids over 250 thresholds at even ranks of the score, from recall 0
and precision 1. R-AUC takes one buffer, VUS the mean over the buffers 0, 1, ... BUFFER. Details are
those of aeon 1.x, where libraries differ (the slope behind a segment is one row shorter than the
one before it); a test holds that the numbers are equal.

Ties: there is no threshold inside a tie, and the trapezoid across a long one credits precision that
no threshold reaches (one right alarm and zeros elsewhere would get about one half). So rows of
equal score stand in an order drawn at random from `seed`: a constant score ranks like a random one.
Without ties nothing is random. Rows without a score (NaN) tie with each other, below the rest.

VUS-PR as TSB-AD has it (Liu and Paparrizos, NeurIPS 2024), `vus_pr_period`, written from its
definition, differs from `surface` in five ways: the largest buffer W is the period of the first
channel (`window_of`) instead of a constant; both slopes of a segment have W // 2 rows; segments
whose slopes meet count as one for the share of segments that were met; what is right among the
slopes counts as positive only where it was flagged,

    TP = sum(a y),  P = sum(label) + sum(a y outside the segments) / 2
    precision = TP / sum(a),  recall = min(TP / P, 1) x share of the soft segments that a meets

and the area is that of steps, each recall gained at the precision there. Rows of equal score enter
together, at 250 even ranks of the score (TSB-AD's version "opt"). VUS is the mean over the buffers
0, 1, ... W.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from imdiffusion.arrays import Flags, Floats
from imdiffusion.errors import DataError
from imdiffusion_bench.metrics import check_lengths, no_score_lowest, segments

BUFFER = 100  # rows, for R-AUC and for the largest of VUS
SMALL = 10  # rows, for a second VUS: of short anomalies close together 100 rows make one
THRESHOLDS = 250


def surface(
    label: Flags, score: Floats, *, buffer: int = BUFFER, seed: int = 0
) -> dict[str, float]:
    """r_auc_pr, r_auc_roc, vus_pr and vus_roc at once, for the price of one volume.

    vus_pr_10 is the part of it up to a buffer of 10; there too if `buffer` is smaller, and then
    equal to vus_pr.

    label bool (T,) with normal and anomalous rows, score (T,), buffer in rows (at least 0).
    Raises DataError for shapes that differ and for a label that is all alike.
    """
    place = _places(label, score, seed)
    areas = np.array([_areas(label, place, size) for size in range(buffer + 1)])
    mean = areas.mean(axis=0)
    return {
        "r_auc_pr": float(areas[-1, 0]),
        "r_auc_roc": float(areas[-1, 1]),
        "vus_pr": float(mean[0]),
        "vus_roc": float(mean[1]),
        f"vus_pr_{SMALL}": float(areas[: SMALL + 1, 0].mean()),
    }


def r_auc_pr(label: Flags, score: Floats, *, buffer: int = BUFFER, seed: int = 0) -> float:
    """Range-based area under the precision-recall curve at one buffer; inputs as `surface`."""
    return _areas(label, _places(label, score, seed), buffer)[0]


def vus_pr(label: Flags, score: Floats, *, buffer: int = BUFFER, seed: int = 0) -> float:
    """Volume under the range-based precision-recall curves of buffers 0 to `buffer`."""
    return surface(label, score, buffer=buffer, seed=seed)["vus_pr"]


def _places(label: Flags, score: Floats, seed: int) -> NDArray[np.int64]:
    """The place (T,) of every row in the order of score, 0 = highest; ties in random order."""
    check_lengths(label, score)
    if label.all():
        raise DataError(
            "the label marks every row as an anomaly: no metric is defined",
            remedy="Leave this series out, or give its labels.",
        )
    shuffled = np.random.default_rng(seed).permutation(len(score))
    place = np.empty(len(score), np.int64)
    place[np.lexsort((shuffled, -no_score_lowest(score)))] = np.arange(len(score))
    return place


def _areas(label: Flags, place: NDArray[np.int64], buffer: int) -> tuple[float, float]:
    """Areas under the precision-recall and the ROC curve at one buffer."""
    rows = len(label)
    soft = _soft(label, buffer)
    last = np.linspace(0, rows - 1, THRESHOLDS, dtype=np.int64)  # place of each lowest alarm
    ordered = np.empty(rows)
    ordered[place] = soft
    true = np.cumsum(ordered)[last]
    flagged = last + 1.0
    positives = (float(label.sum()) + float(soft.sum())) / 2.0
    runs = segments(soft > 0)
    bounds = runs.ravel() if runs[-1, 1] < rows else runs.ravel()[:-1]
    first = np.sort(np.minimum.reduceat(place, bounds)[::2])  # at which a segment is first met
    met = np.searchsorted(first, last, side="right") / len(runs)

    recall = np.concatenate([[0.0], np.minimum(true / positives, 1.0) * met, [1.0]])
    false = np.concatenate([[0.0], np.minimum((flagged - true) / (rows - positives), 1.0), [1.0]])
    precision = np.concatenate([[1.0], true / flagged])
    return (
        float(np.sum(np.diff(recall[:-1]) * (precision[1:] + precision[:-1])) / 2.0),
        float(np.sum(np.diff(false) * (recall[1:] + recall[:-1])) / 2.0),
    )


def _soft(label: Flags, buffer: int) -> Floats:
    """The label (T,) with slopes of buffer // 2 rows on both sides of every segment."""
    soft = label.astype(np.float64)
    slope = buffer // 2
    if buffer < 2:
        return soft
    fall = np.sqrt(1.0 - np.arange(slope + 1) / buffer)  # at distance 0, 1, ... slope
    for start, end in segments(label).tolist():
        after = soft[end - 1 : end - 1 + slope]  # from the last row of the segment on
        after += fall[: len(after)]
        before = soft[max(start - slope, 0) : start]
        before += fall[len(before) : 0 : -1]
    return np.minimum(soft, 1.0)


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


def vus_pr_period(label: Flags, score: Floats, window: int) -> float:
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
    soft = _soft_period(label, runs, window)
    true = np.cumsum(soft[order])[flagged - 1]
    beside = np.cumsum(np.where(label, 0.0, soft)[order])[flagged - 1]
    positives = float(label.sum()) + beside / 2.0
    recall = np.minimum(true / positives, 1.0) * _met(order, flagged, runs, window)
    return float(np.sum(np.diff(recall, prepend=0.0) * true / flagged))


def _soft_period(label: Flags, runs: NDArray[np.int64], window: int) -> Floats:
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
