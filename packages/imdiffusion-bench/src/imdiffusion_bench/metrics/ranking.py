"""Ranking of single rows: the area under the precision-recall curve."""

from __future__ import annotations

import numpy as np

from imdiffusion_bench.metrics.segments import Flags, Floats, check_lengths, no_score_lowest


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
