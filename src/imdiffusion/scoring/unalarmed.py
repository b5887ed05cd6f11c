"""Channels that are outside their band for long, and no event names them: told with the reason.

A band holds 99 % of normal rows one by one, and a score is about rows and channels together, so the
two may disagree. A person who sees a channel outside its band for half an hour asks why there is no
event: either its rows lie in one of other channels, or their evidence, joined with that of all
channels and rows, stays within what the promise allows, or the channel is not judged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from imdiffusion.arrays import Flags, Reals
from imdiffusion.scoring.edges import flag_runs
from imdiffusion.scoring.event import Event

LEAST_ROWS = 32
MOST_OF = 0.75  # of any `LEAST_ROWS` rows in a row must lie outside
NAMED = 0.1  # share of an event that a channel has at least to be named by it


@dataclass(frozen=True, slots=True)
class Unalarmed:
    """Rows [start, end) in which most values of a channel lie outside its band, on one side.

    side: "above" or "below"; outside: the share of its observed values there that do; score: the
    highest of these rows, NaN where none has one; reason: why no event names it.
    """

    channel: str
    start: int
    end: int
    side: str
    outside: float
    score: float
    reason: str


def find_unalarmed(
    values: Reals,
    lower: Reals,
    upper: Reals,
    score: Reals,
    events: Sequence[Event],
    channels: Sequence[str],
    *,
    judged: Flags | None = None,
) -> list[Unalarmed]:
    """Spans outside the band that no event names, in the order of time.

    values (T, K): NaN where not observed; lower, upper (T, K); score (T,). judged (K,): channels
    that are scored, None = all.

    >>> values = np.zeros((100, 1))
    >>> values[40:80] = 5.0
    >>> band = np.ones((100, 1))
    >>> (one,) = find_unalarmed(values, -band, band, np.full(100, 0.5), [], ["load"])
    >>> one.channel, one.start, one.end, one.side, one.outside
    ('load', 40, 80, 'above', 1.0)
    >>> one.reason
    'the score reaches 0.5 of what an alarm takes: normal rows may have as much at this alarm_rate'
    """
    found = []
    for side, outside in (("below", values < lower), ("above", values > upper)):
        often = outside.sum(axis=0) >= MOST_OF * LEAST_ROWS
        for k in np.flatnonzero(often).tolist():
            seen = ~np.isnan(values[:, k])
            for start, end in _long(outside[:, k]):
                within = [e for e in events if e.start < end and e.end > start]
                if any(_names(event, channels[k]) for event in within):
                    continue
                scores = score[start:end]
                known = scores[np.isfinite(scores)]
                top = float(known.max()) if len(known) else float("nan")
                own = judged is None or bool(judged[k])
                reason = _reason(top, own=own, within=bool(within))
                share = float(outside[start:end, k].sum() / seen[start:end].sum())
                found.append(Unalarmed(channels[k], start, end, side, share, top, reason))
    return sorted(found, key=lambda one: (one.start, one.channel))


def _long(outside: Flags) -> list[tuple[int, int]]:
    """Stretches of rows (T,) of which each `LEAST_ROWS` have `MOST_OF` outside."""
    if len(outside) < LEAST_ROWS:
        return []
    total = np.concatenate([[0], np.cumsum(outside)])
    many = total[LEAST_ROWS:] - total[:-LEAST_ROWS] >= MOST_OF * LEAST_ROWS
    spans = []
    for first, last in flag_runs(many, LEAST_ROWS):
        rows = np.flatnonzero(outside[first : last + LEAST_ROWS - 1])
        start, end = first + int(rows[0]), first + int(rows[-1]) + 1
        if end - start >= LEAST_ROWS:
            spans.append((start, end))
    return spans


def _names(event: Event, channel: str) -> bool:
    place = event.channels.index(channel)
    return place == 0 or event.shares[place] >= NAMED


def _reason(top: float, *, own: bool, within: bool) -> str:
    if not own:
        return "the channel takes two values in training: it conditions others and is not scored"
    if within:
        return "an event in these rows is about other channels more than about this one"
    if np.isnan(top):
        return "the rows have no score"
    if top > 1.0:
        return "a run of alarms in these rows is shorter than an event must be"
    return (
        f"the score reaches {top:.2g} of what an alarm takes: normal rows may have as much at this "
        "alarm_rate"
    )
