"""Events: merged runs of anomalous rows, with the channels that caused them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]


@dataclass(frozen=True, slots=True)
class Event:
    """One anomaly: rows [start, end) with the highest score at row `peak`.

    channels: all K names, the most responsible first; shares (K,) sum to 1; expected and seen
    (K,) are the values at the peak in the caller's units, NaN where nothing was observed.
    """

    start: int
    end: int
    peak: int
    score: float
    channels: tuple[str, ...]
    shares: tuple[float, ...]
    expected: tuple[float, ...]
    seen: tuple[float, ...]


def spans(score: Floats, *, merge_gap: int = 0, min_length: int = 1) -> list[tuple[int, int]]:
    """Runs [start, end) of score (T,) above 1, joined over gaps of at most `merge_gap` rows.

    Rows without a score (NaN) are quiet. Runs shorter than `min_length` rows are left out.
    """
    alarm = np.concatenate([[False], np.nan_to_num(score) > 1.0, [False]])
    edge = np.flatnonzero(alarm[1:] != alarm[:-1])
    merged: list[tuple[int, int]] = []
    for start, end in edge.reshape(-1, 2).tolist():
        if merged and start - merged[-1][1] <= merge_gap:
            merged[-1] = (merged[-1][0], end)
        else:
            merged.append((start, end))
    return [(start, end) for start, end in merged if end - start >= min_length]


def find_events(
    score: Floats,
    channel_scores: Floats,
    values: Floats,
    expected: Floats,
    channels: tuple[str, ...],
    *,
    merge_gap: int = 0,
    min_length: int = 1,
) -> list[Event]:
    """Events of a series: score (T,), channel_scores, values, expected (T, K).

    A channel's share is its part of the channel scores summed over the event's anomalous rows.
    """
    events = []
    for start, end in spans(score, merge_gap=merge_gap, min_length=min_length):
        run = np.nan_to_num(score[start:end])
        loud = run > 1.0
        part = np.nan_to_num(channel_scores[start:end][loud].astype(np.float64)).sum(axis=0)
        total = part.sum()
        share = part / total if total > 0 else np.full(len(channels), 1.0 / len(channels))
        order = np.argsort(-share, kind="stable")
        peak = start + int(run.argmax())
        events.append(
            Event(
                start,
                end,
                peak,
                float(score[peak]),
                tuple(channels[k] for k in order),
                tuple(share[order].tolist()),
                tuple(expected[peak, order].astype(float).tolist()),
                tuple(values[peak, order].astype(float).tolist()),
            )
        )
    return events
