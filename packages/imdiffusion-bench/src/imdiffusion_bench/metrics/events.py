"""Events: true segments found, how late and in which channel, and false alarms; affiliation.

A true segment is a run of anomalous rows, a predicted run a run of rows in alarm; they meet when
they share a row. Recall = true segments met / true segments; precision = predicted runs that meet
a true segment / predicted runs; a false event is a predicted run that meets none.

One alarm over the whole series is one run that meets every segment: event F1 1. So event F1 is read
beside `alarm_share_normal`, or `composite_f1` in its place, which takes precision over rows.

Affiliation (Huet, Navarro and Rossi, KDD 2022), from the formulas: time is continuous, row t is the
interval [t, t + 1). It is cut half-way between neighbouring true segments, so that each segment has
a zone. Within a zone Z with true segment G and predictions P:

    precision = mean over x in P of    Pr(dist(X, G) >= dist(x, G))
    recall    = mean over y in G of    Pr(|X - y|    >= dist(y, P))      X uniform on Z

that is, how often a point drawn at random lies no nearer. Precision is averaged over the zones with
predictions, recall over all (a zone without predictions has recall 0). Uniform random alarms get
about .5 and .9 or more, so an F1 of .67 and above says little by itself.

Both integrands are linear between multiples of a half (precision) and a quarter (recall) of a row,
so the value at the middle of each such piece gives the integral exactly.

Channels: for each anomaly with known causes the channel scores are averaged over its rows, and the
channels ranked by them; channels without a score (NaN) rank last, equal ones in their order in the
series. HitRate@P% (Su et al., KDD 2019): of the n true channels, the share among the first
floor(P / 100 x n) ranked.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from imdiffusion.arrays import Flags, Floats, Reals
from imdiffusion.durations import DAY_S
from imdiffusion.errors import DataError
from imdiffusion_bench.metrics import NAN, Quality, check_lengths, quality, segments
from imdiffusion_bench.split import Cause


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


# An alarm that never ends raises no second event: no more of the normal rows may be in alarm.
LARGEST_SHARE = 0.1


def add(label: Flags, alarm: Flags) -> float:
    """Average detection delay in rows: mean over true segments of (first alarm in it - its start).

    Both bool (T,). A missed segment counts its full length, so a detector that never alarms gets
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


def hit_rate(channel_scores: Reals, causes: Sequence[Cause], k: int = 100) -> float:
    """HitRate@k%, mean over the anomalies with known causes; NaN where there is none.

    channel_scores (T, K); k in percent of the number of true channels. An anomaly of which no row
    has a channel score names nothing: it counts 0. Raises DataError for a cause outside the series.
    """
    rates = []
    for ranked, true in _ranked(channel_scores, causes):
        named = ranked[: k * len(true) // 100]
        rates.append(len(true.intersection(named)) / len(true))
    return float(np.mean(rates)) if rates else NAN


def hit_top1(channel_scores: Reals, causes: Sequence[Cause]) -> float:
    """Share of the anomalies with known causes whose first-ranked channel is a true one."""
    hits = [bool(ranked) and ranked[0] in true for ranked, true in _ranked(channel_scores, causes)]
    return float(np.mean(hits)) if hits else NAN


def _ranked(
    channel_scores: Reals, causes: Sequence[Cause]
) -> list[tuple[list[int], frozenset[int]]]:
    """For each cause that names channels: channels that have a score, best first; the true ones."""
    rows, width = channel_scores.shape
    found = []
    for cause in causes:
        if not cause.channels:
            continue
        if not 0 <= cause.start < cause.end <= rows or not cause.channels <= set(range(width)):
            raise DataError(
                f"the cause of rows {cause.start} to {cause.end}, channels "
                f"{sorted(cause.channels)}, lies outside {rows} rows x {width} channels",
                remedy="Causes count rows and channels of the test part from 0, end exclusive.",
            )
        part = np.asarray(channel_scores[cause.start : cause.end], np.float64)
        seen = ~np.isnan(part)
        count = seen.sum(axis=0)
        mean = np.where(seen, part, 0.0).sum(axis=0) / np.maximum(count, 1)
        order = np.argsort(np.where(count > 0, -mean, np.inf), kind="stable")
        found.append((order[: int(np.sum(count > 0))].tolist(), cause.channels))
    return found
