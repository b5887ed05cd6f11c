"""Events: merged runs of anomalous rows, with the channels that caused them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imdiffusion.arrays import Reals
from imdiffusion.scoring.channels import causes_of
from imdiffusion.scoring.edges import Span, find_edges, flag_runs
from imdiffusion.scoring.finding import Findings


@dataclass(frozen=True, slots=True)
class Event:
    """One anomaly: rows [start, end), and the highest score of them.

    peak: the row where the first of `channels` is most wrong, where that is known, or else that of
    the score. channels: all K names, the most responsible first; shares (K,) sum to 1; expected and
    seen (K,) are the values at the peak in the caller's units, NaN where nothing was observed.
    kinds (K,): what a check beside the views found in the channel ("missing", "frozen",
    "unusual_hour", ...), "" where none found anything and a view alone may have spoken; empty: it
    was not asked. reason: all of it in one sentence, "cpu frozen at one value for 120 rows (2 h)".
    """

    start: int
    end: int
    peak: int
    score: float
    channels: tuple[str, ...]
    shares: tuple[float, ...]
    expected: tuple[float, ...]
    seen: tuple[float, ...]
    kinds: tuple[str, ...] = ()
    reason: str = ""


def spans(score: Reals, *, merge_gap: int = 0, min_length: int = 1) -> list[tuple[int, int]]:
    """Runs [start, end) of score (T,) above 1, joined over gaps of at most `merge_gap` rows.

    Rows without a score (NaN) are quiet. Runs shorter than `min_length` rows are left out.
    """
    alarm = np.nan_to_num(score) > 1.0
    return [(a, b) for a, b in flag_runs(alarm, merge_gap) if b - a >= min_length]


def find_events(
    score: Reals,
    channel_scores: Reals,
    values: Reals,
    expected: Reals,
    channels: tuple[str, ...],
    *,
    evidence: Reals | None = None,
    findings: Findings | None = None,
    echo: int = 0,
    merge_gap: int = 0,
    min_length: int = 1,
) -> list[Event]:
    """Events of a series: score (T,), channel_scores, values, expected (T, K).

    findings: what checks beside the views found; it names the kinds, and decides nothing.

    A run of `spans` is one event. With evidence (T, K), what each row by itself has against each
    channel, it is one for each segment that carries the evidence (`edges.find_edges`, which says
    what echo is); no event is longer than its run, and one that has none of it stays as it is.

    A channel's share is its part of the evidence summed over the event's rows, or of the channel
    scores over those with a score above 1; and the peak is the row with the most evidence against
    the first channel, or the highest score.
    """
    runs = spans(score, merge_gap=merge_gap, min_length=min_length)
    found: list[list[Span]] = [[] for _ in runs]
    if evidence is not None:
        found = find_edges(evidence, runs, echo=echo, merge_gap=merge_gap)
    events = []
    for run, segments in zip(runs, found, strict=True):
        heard = [(a, b) for a, b in segments if np.nan_to_num(score[a:b]).max() > 1.0]
        for start, end in heard or [run]:
            within = np.nan_to_num(score[start:end])
            if heard and evidence is not None:
                parts = np.nan_to_num(evidence[start:end].astype(np.float64))
                peak = start + int(parts[:, parts.sum(axis=0).argmax()].argmax())
            else:
                parts = channel_scores[start:end][within > 1.0].astype(np.float64)
                peak = start + int(within.argmax())
            part = np.nan_to_num(parts).sum(axis=0)
            told = {} if findings is None else findings.within(start, end)
            causes = causes_of(part, expected[peak], values[peak], channels, told)
            events.append(Event(start, end, peak, float(within.max()), *causes))
    return events


def rows_in(events: Iterable[Event], count: int) -> NDArray[np.bool_]:
    """Which of `count` rows lie in an event, (count,)."""
    inside = np.zeros(count, bool)
    for event in events:
        inside[event.start : event.end] = True
    return inside
