"""Detection delay: how many rows of a true segment pass before the first alarm in it."""

from __future__ import annotations

import numpy as np

from imdiffusion_bench.metrics.events import event_recall
from imdiffusion_bench.metrics.segments import NAN, Flags, Floats, check_lengths, segments

DAY_S = 86_400.0
# An alarm that never ends raises no second event: no more of the normal rows may be in alarm.
LARGEST_SHARE = 0.1


def add(label: Flags, alarm: Flags) -> float:
    """Average detection delay in rows: mean over true segments of (first alarm in it - its start).

    Both bool (T,). A missed segment counts its full length, so a detector that never speaks gets
    the mean length of the segments; read it beside `detected`.
    """
    check_lengths(label, alarm)
    runs = segments(label)
    waits = [
        int(np.argmax(alarm[start:end])) if alarm[start:end].any() else end - start
        for start, end in runs.tolist()
    ]
    return float(np.mean(waits))


def detected(label: Flags, alarm: Flags) -> float:
    """Share of true segments with at least one row in alarm: those whose delay is a real one."""
    return event_recall(label, alarm)


def delay_at_false_alarms(
    label: Flags,
    score: Floats,
    *,
    per_day: float,
    period_s: float | None,
    largest_share: float = LARGEST_SHARE,
) -> float:
    """`add` at the lowest threshold that raises at most `per_day` false events a day.

    label bool (T,), score (T,), period_s seconds between rows; NaN where the period is unknown.
    A false event is a run of rows in alarm that meets no true segment; days are those of normal
    rows. Thresholds are lowered from above until the budget is exceeded for the first time, for
    far below it runs join to one that meets every segment; and no more than `largest_share` of
    the normal rows may be in alarm. The threshold is set by false alarms alone, but it takes the
    labels to know which alarms are false.
    """
    check_lengths(label, score)
    if period_s is None:
        return NAN
    normal = int(np.sum(~label))
    events = per_day * normal * period_s / DAY_S
    threshold = _lowest_threshold(label, score, events, largest_share * normal)
    return add(label, score >= threshold)


def _lowest_threshold(label: Flags, score: Floats, events: float, rows: float) -> float:
    """The lowest distinct score down to which false events and normal rows in alarm keep within.

    Rows join the alarm in order of score; each run keeps its other end at both of its ends, and
    whether it meets a true segment, so that one pass sees every threshold. inf = not even one.
    """
    order = np.argsort(-score, kind="stable")[: int(np.sum(~np.isnan(score)))]
    ranked = score[order]
    ends = np.append(ranked[1:] != ranked[:-1], True).tolist()
    other = np.full(len(score) + 2, -1, np.int64).tolist()  # rows count from 1 in here
    meets = np.concatenate([[False], label, [False]]).tolist()
    truth = meets.copy()
    false, normal, threshold = 0, 0, float("inf")
    for row, level, end in zip((order + 1).tolist(), ranked.tolist(), ends, strict=True):
        start, stop, met = row, row, truth[row]
        normal += not met
        for beside in (row - 1, row + 1):
            if other[beside] >= 0:  # a run ends there: it becomes part of this one
                false -= not meets[beside]
                met = met or meets[beside]
                start, stop = min(start, other[beside]), max(stop, other[beside])
        other[row] = row  # no longer an end once both sides are taken, and then never asked
        other[start], other[stop] = stop, start
        meets[start] = meets[stop] = met
        false += not met
        if end:
            if false > events or normal > rows:
                break
            threshold = level
    return threshold
