"""Range-based areas and volumes: R-AUC and VUS (Paparrizos et al., PVLDB 2022), as aeon has them.

With a buffer of b rows every true segment gets slopes of b // 2 rows on both sides, sqrt(1 - d / b)
at distance d, added up and cut at 1: the soft label y. At a threshold with the alarm a (T,)

    TP = sum(a y),  P = (sum(label) + sum(y)) / 2,  precision = TP / sum(a)
    recall = min(TP / P, 1) x share of the soft segments that a meets
    false positive rate = min((sum(a) - TP) / (T - P), 1)

and the area is that of trapezoids over 250 thresholds at even ranks of the score, from recall 0
and precision 1. R-AUC takes one buffer, VUS the mean over the buffers 0, 1, ... BUFFER. Details are
those of aeon 1.x, where libraries differ (the slope behind a segment is one row shorter than the
one before it): `areas_by_aeon` gives aeon's own numbers, which ours equal, at a hundred times the
cost.

Ties: there is no threshold inside a tie, and the trapezoid across a long one credits precision that
no threshold reaches (one right alarm and zeros elsewhere would get about one half). So rows of
equal score stand in an order drawn at random from `seed`: a constant score ranks like a random one.
Without ties nothing is random. Rows without a score (NaN) tie with each other, below the rest.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from imdiffusion.errors import DataError, MissingExtraError
from imdiffusion_bench.metrics.segments import (
    Flags,
    Floats,
    check_lengths,
    no_score_lowest,
    segments,
)

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


def r_auc_roc(label: Flags, score: Floats, *, buffer: int = BUFFER, seed: int = 0) -> float:
    """Range-based area under the ROC curve at one buffer; inputs as `surface`."""
    return _areas(label, _places(label, score, seed), buffer)[1]


def vus_pr(label: Flags, score: Floats, *, buffer: int = BUFFER, seed: int = 0) -> float:
    """Volume under the range-based precision-recall curves of buffers 0 to `buffer`."""
    return surface(label, score, buffer=buffer, seed=seed)["vus_pr"]


def vus_roc(label: Flags, score: Floats, *, buffer: int = BUFFER, seed: int = 0) -> float:
    """Volume under the range-based ROC curves of buffers 0 to `buffer`."""
    return surface(label, score, buffer=buffer, seed=seed)["vus_roc"]


def areas_by_aeon(
    label: Flags, score: Floats, *, buffer: int = BUFFER, seed: int = 0
) -> tuple[float, float]:
    """R-AUC-PR and R-AUC-ROC by the package aeon, ties ordered as everywhere here.

    The second opinion on this file. Raises MissingExtraError without aeon.
    """
    try:
        from aeon.benchmarking.metrics.anomaly_detection import range_pr_roc_auc_support
    except ImportError as error:
        raise MissingExtraError("aeon", extra="bench") from error
    ranks = (len(label) - 1 - _places(label, score, seed)).astype(np.float64)
    precision_recall, roc = range_pr_roc_auc_support(
        label.astype(np.int64), ranks, buffer_size=buffer, skip_check=True
    )
    return float(precision_recall), float(roc)


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
