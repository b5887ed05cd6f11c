"""Records of the live state as the API's models, and an event in a sentence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Literal

import numpy as np

from imdiffusion.durations import DAY_S, SECOND_NS
from imdiffusion.errors import MissingExtraError
from imdiffusion.live.store.inserts import VERDICTS, Feedback, ModelVersion
from imdiffusion.live.store.queries import EntityNow
from imdiffusion.records import MODES, STATES, STATUSES, EventRecord, ScoreRecord
from imdiffusion.wording import duration, number, share

try:
    from pydantic import BaseModel, ConfigDict, Field
except ImportError as error:
    raise MissingExtraError("pydantic", extra="serve") from error

# What a caller may say ...
Mode = Literal["online", "offline"]
Status = Literal["ongoing", "resolved", "expired"]
Verdict = Literal["confirmed", "expected", "false_alarm", "new_normal", "not_resolved"]
# ... and what he is told.
StateSaid = Annotated[str, Field(json_schema_extra={"enum": list(STATES)})]
ModeSaid = Annotated[str, Field(json_schema_extra={"enum": list(MODES)})]
StatusSaid = Annotated[str, Field(json_schema_extra={"enum": list(STATUSES)})]
VerdictSaid = Annotated[str, Field(json_schema_extra={"enum": list(VERDICTS)})]
Cell = float | None


class Given(BaseModel):
    """What a caller sends: an unknown key is an error, and text is text, not a number."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Problem(BaseModel):
    """What went wrong, and what to do about it."""

    error: str
    remedy: str = ""


class Row(BaseModel):
    """One row: wide, with a key for each channel, or long, with `channel` and `value`."""

    model_config = ConfigDict(extra="allow", json_schema_extra={"minProperties": 3})
    __pydantic_extra__: dict[str, float | str | bool | None]

    entity: str | int
    timestamp: Annotated[str, Field(json_schema_extra={"format": "date-time"})] | float


class Rows(BaseModel):
    """Rows of any number of entities."""

    rows: Annotated[list[Row], Field(min_length=1)]


class Taken(BaseModel):
    """What became of rows: those with a usable value, and what was passed over, and why."""

    rows: int
    values: int
    rejected: int
    why: list[str]


class EntityOut(BaseModel):
    """An entity as it stands; note: of an active baseline, how many planted faults it sees."""

    name: str
    state: StateSaid
    time: str | None
    score: Cell
    detector: str
    model: str
    interval_seconds: Cell
    lag_seconds: Cell
    heard: str
    open_events: int
    note: str


class Entities(BaseModel):
    """Entities by name; next: the `after` of the next page, null = that was the last one."""

    entities: list[EntityOut]
    next: str | None


class ScoreOut(BaseModel):
    """The score of one row: above 1 = anomalous."""

    time: str
    score: Cell
    mode: ModeSaid
    state: StateSaid
    detector: str
    model: str
    channels: list[str]
    shares: list[float]
    kinds: list[str]


class Scores(BaseModel):
    """Scores of an entity, the oldest first; next: the `after` of the next page."""

    entity: str
    scores: list[ScoreOut]
    next: str | None


class Lane(BaseModel):
    """The highest score in each bucket of an entity; null = no row, or none that was observed."""

    entity: str
    scores: list[Cell]


class Lanes(BaseModel):
    """Lanes over the same buckets: number k begins at start + k * width, in seconds."""

    start: float
    width: float
    buckets: int
    lanes: list[Lane]
    next: str | None


class Series(BaseModel):
    """Rows as they were seen and expected, a list a channel; cut = older rows were left out.

    parts: each channel's part of all that departed from its band in the span; of: channels that
    the entity has.
    """

    entity: str
    cut: bool
    of: int
    parts: list[float]
    channels: list[str]
    times: list[float]
    seen: list[list[Cell]]
    expected: list[list[Cell]]
    lower: list[list[Cell]]
    upper: list[list[Cell]]


class ChannelPart(BaseModel):
    """What a channel has to do with an event; seen and expected are of its worst row.

    kind: what a check beside the views found in it ("missing", "frozen", "unusual_hour", ...),
    "" = nothing, null = not known, in events from before.
    """

    name: str
    share: float
    seen: Cell
    expected: Cell
    kind: str | None


class EventOut(BaseModel):
    """The newest update of an event. end is null while it lasts; peak is its worst row.

    reason: what it is, in a sentence; empty where it is not known.
    """

    id: str
    entity: str
    status: StatusSaid
    update: int
    start: str
    end: str | None
    peak: str
    score: Cell
    detector: str
    model: str
    reason: str
    channels: list[ChannelPart]
    verdict: VerdictSaid | None


class Events(BaseModel):
    """Events, the latest onset first; next: the `before` of the next page."""

    events: list[EventOut]
    next: str | None


class FeedbackOut(BaseModel):
    """What a person said of an event."""

    id: int
    event: str
    verdict: VerdictSaid
    who: str
    text: str
    time: str


class Feedbacks(BaseModel):
    """What people said, the oldest first; next: the `after` of the next page."""

    feedback: list[FeedbackOut]
    next: int | None


class Sureness(BaseModel):
    """How sure the detector is: rows of the event, how many were anomalous, its state then.

    state is null where the score at the peak is not kept any more.
    """

    score: Cell
    rows: int
    anomalous: int
    state: StateSaid | None


class Explanation(BaseModel):
    """One event: what, when, which channels, how sure, what was expected, what people said."""

    event: EventOut
    summary: str
    sure: Sureness
    updates: list[EventOut]
    feedback: list[FeedbackOut]


class FeedbackIn(Given):
    """What a person says of an event."""

    verdict: Verdict
    who: Annotated[str, Field(max_length=100)] = ""
    text: Annotated[str, Field(max_length=2_000)] = ""


class ModelOut(BaseModel):
    """A fitted model of an entity; live = it is active."""

    entity: str
    digest: str
    detector: str
    made: str
    age_seconds: float
    live: bool


class Models(BaseModel):
    """Models, by entity, the newest first."""

    models: list[ModelOut]


class RollbackIn(Given):
    """Whose model shall be the one before, and why."""

    entity: Annotated[str, Field(min_length=1, max_length=1_000)]
    reason: Annotated[str, Field(max_length=2_000)] = ""


class PromoteIn(RollbackIn):
    """Which model of an entity shall be the live one, and why."""

    digest: Annotated[str, Field(min_length=1, max_length=200)]


class Live(BaseModel):
    """The model of an entity that is live from now on."""

    entity: str
    digest: str


class Alive(BaseModel):
    """The service answers."""

    status: Literal["alive"]


class Ready(BaseModel):
    """Whether detection goes on; fresh = entities with a score not older than two intervals."""

    ready: bool
    why: str
    entities: int
    fresh: int


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
