"""Row by row: precision, recall and F1 of an alarm, plain, point-adjusted, and between the two.

Point adjustment (Xu et al., WWW 2018) counts a whole segment as found once one of its rows is in
alarm. It rewards noise: scores drawn at random reach .8 to .97 on public data. PA%K (Kim et al.,
AAAI 2022) adjusts a segment only where more than K percent of its rows are in alarm.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from imdiffusion.arrays import Flags, Floats
from imdiffusion_bench.metrics import NAN, Quality, check_lengths, quality, segments


class Best(NamedTuple):
    """The best a threshold chosen on the labels can do: alarm = score >= threshold.

    Without any score: threshold inf, precision NaN, recall and F1 0.
    """

    precision: float
    recall: float
    f1: float
    threshold: float


def point(label: Flags, alarm: Flags) -> Quality:
    """Precision, recall and F1 over rows, both bool (T,); precision is NaN without an alarm."""
    check_lengths(label, alarm)
    hits, flagged = int(np.sum(label & alarm)), int(np.sum(alarm))
    return quality(hits / flagged if flagged else NAN, hits / int(np.sum(label)))


def adjust(label: Flags, alarm: Flags, *, k: float = 0.0) -> Flags:
    """The alarm (T,) with every true segment filled of which more than k percent is in alarm."""
    check_lengths(label, alarm)
    filled = alarm.copy()
    for start, end in segments(label).tolist():
        if 100.0 * np.sum(alarm[start:end]) > k * (end - start):
            filled[start:end] = True
    return filled


def point_adjusted(label: Flags, alarm: Flags) -> Quality:
    """Precision, recall and F1 after point adjustment; both bool (T,)."""
    return point(label, adjust(label, alarm))


def pa_k(label: Flags, alarm: Flags, *, k: float = 20.0) -> Quality:
    """Precision, recall and F1 after PA%K; k in percent, 0 = point-adjusted, 100 = plain."""
    return point(label, adjust(label, alarm, k=k))


def pa_k_auc(label: Flags, alarm: Flags) -> float:
    """Area under the F1 of PA%K over k = 0, 1, ... 100 percent, by trapezoids, in [0, 1]."""
    f1 = np.array([pa_k(label, alarm, k=k).f1 for k in range(101)])
    return float(np.mean((f1[1:] + f1[:-1]) / 2.0))


def best_f1(label: Flags, score: Floats) -> Best:
    """The threshold with the best plain F1 over all distinct scores; of equals the highest.

    label bool (T,), score (T,); rows of NaN are never in alarm. An oracle: it reads the labels.
    """
    check_lengths(label, score)
    known = ~np.isnan(score)
    return _best(
        np.asarray(score, np.float64)[known],
        label[known].astype(np.int64),
        (~label[known]).astype(np.int64),
        int(np.sum(label)),
    )


def best_point_adjusted_f1(label: Flags, score: Floats) -> Best:
    """The threshold with the best point-adjusted F1, exact over all distinct scores.

    A segment is found, whole, at every threshold up to its largest score; so one pass over the
    segments' maxima and the normal rows' scores, sorted, sees every threshold: O(T log T).
    """
    check_lengths(label, score)
    known = ~np.isnan(score)
    normal = np.asarray(score, np.float64)[~label & known]
    runs = segments(label)
    peaks = np.array([np.max(score[a:b], initial=-np.inf, where=known[a:b]) for a, b in runs])
    met = np.array([bool(known[a:b].any()) for a, b in runs])
    lengths = runs[:, 1] - runs[:, 0]
    return _best(
        np.concatenate([peaks[met], normal]),
        np.concatenate([lengths[met], np.zeros(len(normal), np.int64)]),
        np.concatenate([np.zeros(int(met.sum()), np.int64), np.ones(len(normal), np.int64)]),
        int(np.sum(label)),
    )


def _best(
    level: Floats, right: NDArray[np.int64], wrong: NDArray[np.int64], positives: int
) -> Best:
    """Entries that are in alarm at thresholds up to `level` add `right` and `wrong` rows each."""
    if level.size == 0:
        return Best(NAN, 0.0, 0.0, float("inf"))
    order = np.argsort(-level, kind="stable")
    level, right, wrong = level[order], np.cumsum(right[order]), np.cumsum(wrong[order])
    last = np.append(level[1:] != level[:-1], True)
    level, right, wrong = level[last], right[last], wrong[last]
    f1 = 2.0 * right / (right + wrong + positives)
    at = int(np.argmax(f1))
    found = int(right[at])
    return Best(
        found / (found + int(wrong[at])), found / positives, float(f1[at]), float(level[at])
    )
