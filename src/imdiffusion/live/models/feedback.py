"""What people say of events, as it shapes the next fit: rows left out, and where it begins.

confirmed                its rows are no example of normal: they are left out
expected, false_alarm    its rows are normal: they stay, also where a confirmed event lies over them
new_normal               so is all that follows: nothing before it counts any more
not_resolved             nothing is said yet: its rows stay

No verdict sets a threshold: it chooses the rows that one is calibrated on.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from imdiffusion.data.frame import Frame
from imdiffusion.live.store.checkpoint import Judgement

NORMAL = ("expected", "false_alarm", "new_normal")
FAR = 2**62  # a time after all others: the end of an event that goes on

Spans = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Shape:
    """Which rows of an entity a fit is of.

    excluded: spans (start, end) in ns, end exclusive. since: ns, rows before it do not count;
    None = all do. said: ns, when it was last said where normal begins.
    """

    excluded: Spans = ()
    since: int | None = None
    said: int = 0


def shape_of(entity: str, judgements: Iterable[Judgement]) -> Shape:
    """What was said of an entity's events, for its next fit."""
    own = [one for one in judgements if one.entity == entity]
    wrong = [(one.start, _end(one)) for one in own if one.verdict == "confirmed"]
    right = [(one.start, _end(one)) for one in own if one.verdict in NORMAL]
    new = [one for one in own if one.verdict == "new_normal"]
    begun = max(new, key=lambda one: one.start, default=None)
    spans = tuple(sorted({part for span in wrong for part in _without(span, right)}))
    if begun is None:
        return Shape(spans)
    return Shape(spans, begun.start, max(one.recorded for one in new))


def _end(one: Judgement) -> int:
    return FAR if one.end is None else one.end


def _without(span: tuple[int, int], others: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """What is left of a span outside of the others."""
    left = [span]
    for start, end in others:
        left = [
            part
            for low, high in left
            for part in ((low, min(high, start)), (max(low, end), high))
            if part[0] < part[1]
        ]
    return left


def within(frame: Frame, spans: Spans) -> list[tuple[np.datetime64, np.datetime64]]:
    """The spans that hold a row of a frame, as `ImDiffusion.fit` takes them."""
    assert frame.timestamps is not None  # noqa: S101  live rows have them
    times = frame.timestamps.astype(np.int64)
    held = [(low, high) for low, high in spans if ((times >= low) & (times < high)).any()]
    return [(np.datetime64(low, "ns"), np.datetime64(high, "ns")) for low, high in held]


def blanked(frame: Frame, spans: Spans) -> Frame:
    """The frame with nothing observed in the rows of the spans."""
    assert frame.timestamps is not None  # noqa: S101  live rows have them
    times = frame.timestamps.astype(np.int64)
    inside = np.zeros(len(frame), np.bool_)
    for low, high in spans:
        inside |= (times >= low) & (times < high)
    values = np.where(inside[:, None], np.nan, frame.values)
    return Frame(
        values, frame.observed & ~inside[:, None], frame.timestamps, frame.channels, frame.entity
    )
