"""Affiliation precision and recall (Huet, Navarro and Rossi, KDD 2022), from the formulas.

Time is continuous, row t is the interval [t, t + 1). It is cut half-way between neighbouring true
segments, so that each segment has a zone. Within a zone Z with true segment G and predictions P:

    precision = mean over x in P of    Pr(dist(X, G) >= dist(x, G))
    recall    = mean over y in G of    Pr(|X - y|    >= dist(y, P))      X uniform on Z

that is, how often a point drawn at random lies no nearer. Precision is averaged over the zones with
predictions, recall over all (a zone without predictions has recall 0). Uniform random alarms get
about .5 and .9 or more, so an F1 of .67 and above says little by itself.

Both integrands are linear between multiples of a half (precision) and a quarter (recall) of a row,
so the value at the middle of each such piece gives the integral exactly.
"""

from __future__ import annotations

import numpy as np

from imdiffusion_bench.metrics.segments import (
    NAN,
    Flags,
    Floats,
    Quality,
    check_lengths,
    quality,
    segments,
)


def affiliation(label: Flags, alarm: Flags) -> Quality:
    """Affiliation precision, recall and their harmonic mean; both bool (T,).

    Precision is NaN without an alarm. Raises DataError for shapes that differ or a label without
    an anomaly.
    """
    check_lengths(label, alarm)
    true = segments(label)
    cuts = (true[1:, 0] + true[:-1, 1]) / 2.0
    edges = np.concatenate([[0.0], cuts, [float(len(label))]])
    halves = np.flatnonzero(np.repeat(alarm, 2))  # a zone may end in the middle of a row
    bounds = np.searchsorted(halves, np.round(2.0 * edges).astype(np.int64))
    precisions, recalls = [], []
    for zone, (start, end) in enumerate(true.tolist()):
        first, last = float(edges[zone]), float(edges[zone + 1])
        predicted = halves[bounds[zone] : bounds[zone + 1]]
        if predicted.size:
            precisions.append(_precision(predicted / 2.0 + 0.25, start, end, first, last))
            recalls.append(_recall(predicted / 2.0, start, end, first, last))
        else:
            recalls.append(0.0)
    return quality(float(np.mean(precisions)) if precisions else NAN, float(np.mean(recalls)))


def _precision(x: Floats, start: int, end: int, first: float, last: float) -> float:
    """x: the middles of predicted half rows in the zone [first, last) of the segment."""
    far = np.maximum(np.maximum(start - x, x - end), 0.0)
    outside = np.maximum(start - first - far, 0.0) + np.maximum(last - end - far, 0.0)
    return float(np.mean(np.where(far > 0.0, outside / (last - first), 1.0)))


def _recall(pieces: Floats, start: int, end: int, first: float, last: float) -> float:
    """pieces: the left edges of predicted half rows in the zone, sorted."""
    y = start + (np.arange(4 * (end - start), dtype=np.float64) + 0.5) / 4.0
    after = np.searchsorted(pieces, y, side="right")  # pieces[after - 1] <= y < pieces[after]
    left = np.where(after > 0, y - (pieces[np.maximum(after - 1, 0)] + 0.5), np.inf)
    right = np.where(after < len(pieces), pieces[np.minimum(after, len(pieces) - 1)] - y, np.inf)
    near = np.maximum(np.minimum(left, right), 0.0)
    farther = np.maximum(y - first - near, 0.0) + np.maximum(last - y - near, 0.0)
    return float(np.mean(farther) / (last - first))
