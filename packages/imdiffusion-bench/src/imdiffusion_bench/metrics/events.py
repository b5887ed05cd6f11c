"""Event by event: true segments found, predicted runs that were right, and false alarms.

A true segment is a run of anomalous rows, a predicted run a run of rows in alarm; they meet when
they share a row. Recall = true segments met / true segments; precision = predicted runs that meet
a true segment / predicted runs; a false event is a predicted run that meets none.

One alarm over the whole series is one run that meets every segment: event F1 1. So event F1 is read
beside `alarm_share_normal`, or `composite_f1` in its place, which takes precision over rows.
"""

from __future__ import annotations

import numpy as np

from imdiffusion_bench.metrics.segments import (
    NAN,
    Flags,
    Quality,
    check_lengths,
    quality,
    segments,
)


def _met(runs: Flags, by: Flags) -> tuple[int, int]:
    """How many runs of `runs` share a row with `by`, and how many runs there are."""
    spans = segments(runs)
    before = np.concatenate([[0], np.cumsum(by)])
    return int(np.sum(before[spans[:, 1]] > before[spans[:, 0]])), len(spans)


def event(label: Flags, alarm: Flags) -> Quality:
    """Event-wise precision, recall and F1; both bool (T,). Precision is NaN without an alarm."""
    check_lengths(label, alarm)
    right, predicted = _met(alarm, label)
    return quality(right / predicted if predicted else NAN, event_recall(label, alarm))


def event_recall(label: Flags, alarm: Flags) -> float:
    """Share of true segments with at least one row in alarm."""
    check_lengths(label, alarm)
    found, true = _met(label, alarm)
    return found / true


def composite_f1(label: Flags, alarm: Flags) -> float:
    """Harmonic mean of the precision over rows and the recall over segments, both bool (T,).

    The composite F-score of Garg et al. (IEEE TNNLS 2021); 0 where no segment is met.
    """
    check_lengths(label, alarm)
    flagged = int(np.sum(alarm))
    precision = int(np.sum(label & alarm)) / flagged if flagged else NAN
    return quality(precision, event_recall(label, alarm)).f1


def false_events(label: Flags, alarm: Flags) -> float:
    """Number of predicted runs that meet no true segment."""
    check_lengths(label, alarm)
    right, predicted = _met(alarm, label)
    return float(predicted - right)


def alarm_share_normal(label: Flags, alarm: Flags) -> float:
    """Share of normal rows that are in alarm; NaN without a normal row."""
    check_lengths(label, alarm)
    normal = int(np.sum(~label))
    return int(np.sum(alarm & ~label)) / normal if normal else NAN


def false_alarms_per_1000(label: Flags, alarm: Flags) -> float:
    """Rows in alarm outside anomalies, for each 1,000 normal rows."""
    return 1000.0 * alarm_share_normal(label, alarm)
