"""What live detection sends: a record for every score, and one for every update of an event.

Records are plain: strings, numbers and tuples. A sink writes them, the store keeps them, the page
shows them; none of those knows what a detector is. Times are nanoseconds since the epoch, UTC.
A record's `key` is the same whenever the same fact is sent again: sinks are idempotent by it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

# How far a detector can be trusted with an entity:
#   warming   too few rows yet: no score, or one of a baseline that has seen little
#   ready     as fitted
#   degraded  scored, but from less than it was fitted on: channels missing, rows imputed
#   stale     nothing new arrived for two intervals
STATES = ("warming", "ready", "degraded", "stale")
# When a row was judged: as it arrives, from the past alone, or again once the rows after it
# were there.
MODES = ("online", "offline")
# The life of an event.
STATUSES = ("ongoing", "resolved", "expired")


@dataclass(frozen=True, slots=True)
class ScoreRecord:
    """The score of one row of one entity.

    score: above 1 = anomalous, NaN where nothing was observed. mode: of MODES. detector: which
    one scored ("fast", "zscore", ...). model: its version, the digest of what was fitted. state: of
    STATES. channels and shares: the most responsible first, shares of all channels sum to 1; empty
    below a score of 1. kinds: by channel what a check beside the views found in it ("missing",
    "unusual_hour", ...), "" = nothing; empty where none found anything, and in records from before.
    """

    entity: str
    timestamp: int
    mode: str
    score: float
    state: str
    detector: str
    model: str
    channels: tuple[str, ...] = ()
    shares: tuple[float, ...] = ()
    kinds: tuple[str, ...] = ()

    @property
    def key(self) -> tuple[str, int, str, str]:
        """(entity, timestamp, mode, model)."""
        return (self.entity, self.timestamp, self.mode, self.model)

    def to_dict(self) -> dict[str, Any]:
        """A flat dict of JSON values, `kind` first."""
        return {"kind": "score", **asdict(self)}


@dataclass(frozen=True, slots=True)
class EventRecord:
    """One update of an event: its onset, a renotification, its resolution or expiry.

    id: stable over the event's life. start, end: the first row that carries the evidence, and the
    row after the last, None while it lasts; of a detector that has no evidence of single rows the
    first and last anomalous row. peak: time of the row where the first channel is most wrong, or of
    the highest score. channels, shares, expected, seen:
    the most responsible channel first, values in the caller's units at the peak, NaN = unobserved.
    update: 0 at the onset, then counted up. status: of STATUSES. kinds: by channel what a check
    beside the views found in it ("missing", "frozen", "unusual_hour", ...), "" = nothing; empty =
    not known, in records from before. reason: what the event is, in a sentence.
    """

    id: str
    entity: str
    status: str
    update: int
    start: int
    end: int | None
    peak: int
    score: float
    detector: str
    model: str
    channels: tuple[str, ...]
    shares: tuple[float, ...]
    expected: tuple[float, ...]
    seen: tuple[float, ...]
    kinds: tuple[str, ...] = ()
    reason: str = ""

    @property
    def key(self) -> tuple[str, int]:
        """(id, update)."""
        return (self.id, self.update)

    def to_dict(self) -> dict[str, Any]:
        """A flat dict of JSON values, `kind` first."""
        return {"kind": "event", **asdict(self)}


Record = ScoreRecord | EventRecord
