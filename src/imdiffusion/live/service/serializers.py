"""Records of the live state as the API's models, and an event in a sentence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np

from imdiffusion.durations import DAY_S, SECOND_NS
from imdiffusion.live.service.schemas import (
    ChannelPart,
    EntityOut,
    EventOut,
    FeedbackOut,
    ModelOut,
    ScoreOut,
)
from imdiffusion.live.store.checkpoint import Feedback, ModelVersion
from imdiffusion.live.store.queries import EntityNow
from imdiffusion.records import EventRecord, ScoreRecord
from imdiffusion.wording import duration, number, share

# What times are held to, 1951 to 2116: their differences and sums fit into the 64 bits of SQLite.
_FIRST, _LAST = -(2**59), 2**62
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def instant(ns: int) -> str:
    """2026-01-05T10:00:00.000000000Z."""
    return f"{np.datetime64(ns, 'ns')}Z"


def instant_or_none(ns: int | None) -> str | None:
    """The same; None for None."""
    return None if ns is None else instant(ns)


def nanoseconds(time: datetime) -> int:
    """A time in any zone (none = UTC) as ns since the epoch, held to 1951 to 2116."""
    if time.tzinfo is None:
        time = time.replace(tzinfo=UTC)
    span = time - _EPOCH
    ns = (span.days * DAY_S + span.seconds) * SECOND_NS + span.microseconds * 1_000
    return min(max(ns, _FIRST), _LAST)


def bounded(text: str) -> int:
    """A number of nanoseconds, held to the same times."""
    return min(max(int(text), _FIRST), _LAST)


def cell(value: float) -> float | None:
    """A number as JSON can say it."""
    return float(value) if math.isfinite(value) else None


def entity_out(one: EntityNow, now: int) -> EntityOut:
    """An entity as it stands."""
    lag = one.lag(now)
    return EntityOut(
        name=one.name, state=one.state, time=instant_or_none(one.timestamp),
        score=cell(one.score), detector=one.detector, model=one.model,
        interval_seconds=None if one.interval is None else one.interval / SECOND_NS,
        lag_seconds=None if lag is None else lag / SECOND_NS,
        heard=instant(one.heard), open_events=one.open_events, note=one.note,
    )  # fmt: skip


def score_out(record: ScoreRecord) -> ScoreOut:
    """The score of one row."""
    return ScoreOut(
        time=instant(record.timestamp), score=cell(record.score), mode=record.mode,
        state=record.state, detector=record.detector, model=record.model,
        channels=list(record.channels), shares=list(record.shares), kinds=list(record.kinds),
    )  # fmt: skip


def event_out(record: EventRecord, *, verdict: str | None = None, channels: int = 0) -> EventOut:
    """One update of an event, with its first `channels` channels; 0 = all."""
    cells = zip(record.channels, record.shares, record.seen, record.expected, strict=True)
    kinds = record.kinds or (None,) * len(record.channels)
    said = [
        ChannelPart(name=name, share=part, seen=cell(seen), expected=cell(expected), kind=kind)
        for (name, part, seen, expected), kind in zip(cells, kinds, strict=True)
    ]
    return EventOut(
        id=record.id, entity=record.entity, status=record.status, update=record.update,
        start=instant(record.start), end=instant_or_none(record.end), peak=instant(record.peak),
        score=cell(record.score), detector=record.detector, model=record.model,
        reason=record.reason, channels=said[:channels] if channels else said, verdict=verdict,
    )  # fmt: skip


def feedback_out(one: Feedback) -> FeedbackOut:
    """What a person said."""
    return FeedbackOut(
        id=one.id, event=one.event, verdict=one.verdict, who=one.who, text=one.text,
        time=instant(one.recorded),
    )  # fmt: skip


def model_out(one: ModelVersion, now: int) -> ModelOut:
    """A model, without the place where it lies: that is not for other programs."""
    return ModelOut(
        entity=one.entity, digest=one.digest, detector=one.detector, made=instant(one.made),
        age_seconds=max(0, now - one.made) / SECOND_NS, live=one.live,
    )  # fmt: skip


def summary(record: EventRecord, now: int) -> str:
    """An event in a sentence or two."""
    span = max(0, (now if record.end is None else record.end) - record.start) / SECOND_NS
    how = {"ongoing": "goes on for", "resolved": "lasted", "expired": "fell silent after"}
    lead = _leading(record.channels, record.shares)
    parts = [
        f"{name} ({share(part)}) was {number(seen)}, expected {number(expected)}"
        for name, part, seen, expected in lead_cells(record, lead)
    ]
    why = f": {record.reason}" if any(record.kinds) else ""
    return (
        f"{record.entity} {how[record.status]} {duration(span)}, at most {number(record.score)} "
        f"times the threshold{why}. At the peak {'; '.join(parts)}."
    )


def lead_cells(record: EventRecord, count: int) -> list[tuple[str, float, float, float]]:
    """The first channels of an event: name, share, seen, expected."""
    cells = zip(record.channels, record.shares, record.seen, record.expected, strict=True)
    return list(cells)[:count]


def _leading(channels: Sequence[str], shares: Sequence[float]) -> int:
    """How many channels hold half of the error; at least one, at most three."""
    held = 0.0
    for count, part in enumerate(shares, 1):
        held += part
        if held >= 0.5 or count == 3:
            return count
    return len(channels)
