"""What the API takes and gives, as typed models: its OpenAPI text is made of these.

Instants are ISO 8601 in UTC with nanoseconds; in long lists (`times`, `start`) they are seconds
since the epoch. null stands for what was not observed or is not known.
"""

from __future__ import annotations

from typing import Annotated, Literal

from imdiffusion.errors import MissingExtraError
from imdiffusion.live.store.checkpoint import VERDICTS
from imdiffusion.records import MODES, STATES, STATUSES

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
