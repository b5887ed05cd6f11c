"""Metrics, one file a family: how well scores and alarms agree with the truth.

Inputs are label bool (T,), score float64 (T,) or alarm bool (T,). A score of NaN means "no score":
it ranks below every other score and is never an alarm. A metric that is not defined is NaN, never
0; only F1 is 0, not NaN, where nothing is found, whatever the precision. No metric reads a
threshold from the labels unless its name begins with `best_`.

What a metric is called with stands in its family:
    auc_pr, range_based    (label, score)
    points, events         (label, alarm), but best_f1 and best_point_adjusted_f1 (label, score)
    delay_at_false_alarms  (label, score, *, per_day, period_s)
    hit_top1, hit_rate     (channel_scores (T, K), causes)

To add one, write a function in its family and a line in `protocols.py`, where it is called; or
declare one of your own distribution by an entry point (`protocols.joined_metrics`).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from imdiffusion.arrays import Flags, Floats
from imdiffusion.errors import DataError

NAN = float("nan")


class Quality(NamedTuple):
    """Precision is NaN where nothing was predicted; F1 is 0 where nothing was found."""

    precision: float
    recall: float
    f1: float


def quality(precision: float, recall: float) -> Quality:
    """With the harmonic mean; at recall 0 it is 0 whatever the precision, NaN too."""
    if recall == 0.0:
        return Quality(precision, 0.0, 0.0)
    return Quality(precision, recall, 2.0 * precision * recall / (precision + recall))


def segments(flags: Flags) -> NDArray[np.int64]:
    """Maximal runs of True in flags (T,), as rows [start, end) of an int64 array (n, 2)."""
    edges = np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8))
    return np.stack([np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)], axis=1)


def check_lengths(label: Flags, other: NDArray[np.generic]) -> None:
    """DataError unless both are (T,) alike and the label marks an anomaly."""
    if label.ndim != 1 or label.shape != other.shape:
        raise DataError(
            f"the label has shape {label.shape}, what is measured against it {other.shape}",
            remedy="Give both one value a row.",
        )
    if not label.any():
        raise DataError(
            "the label marks no anomaly: no metric is defined",
            remedy="Leave this series out, or give its labels.",
        )


def no_score_lowest(score: Floats) -> Floats:
    """The score (T,) with -inf in place of NaN: no score ranks below every score."""
    values = np.asarray(score, np.float64)
    return np.where(np.isnan(values), -np.inf, values)


def auc_pr(label: Flags, score: Floats) -> float:
    """Average precision: sum over thresholds of (recall gained) x (precision there).

    label bool (T,), score (T,); rows of equal score enter together, so the order within a tie
    counts for nothing, and a constant score gets the share of anomalous rows. NaN ranks lowest.
    No interpolation between thresholds (it flatters: Davis and Goadrich, ICML 2006).
    Raises DataError for shapes that differ and for a label without an anomaly.
    """
    check_lengths(label, score)
    ranked = no_score_lowest(score)
    order = np.argsort(-ranked, kind="stable")
    ranked, hits = ranked[order], label[order]
    last = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))  # of each group of ties
    found = np.cumsum(hits)[last]
    gained = np.diff(found, prepend=0)
    return float(np.sum(gained * found / (last + 1)) / found[-1])
