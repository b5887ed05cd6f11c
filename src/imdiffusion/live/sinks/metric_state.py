"""What live detection said last of every entity, as numbers that Prometheus understands.

Every metric that a sink emits has its name here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from statistics import median

from imdiffusion.durations import SECOND_NS
from imdiffusion.live.connection.exposition import Labels
from imdiffusion.records import EventRecord, Record, ScoreRecord

SCORE = "imdiffusion_score"
SHARE = "imdiffusion_channel_share"
ACTIVE = "imdiffusion_event_active"
LAST = "imdiffusion_last_score_timestamp_seconds"
INTERVAL = "imdiffusion_interval_seconds"
LAG = "imdiffusion_lag_seconds"
SCORES = "imdiffusion_scores_total"
ANOMALIES = "imdiffusion_anomalies_total"
EVENTS = "imdiffusion_events_total"

# Name -> type and meaning.
FAMILIES: dict[str, tuple[str, str]] = {
    SCORE: ("gauge", "Score of the newest row; above 1 is anomalous."),
    SHARE: ("gauge", "Share of a channel in the newest row's error, if that row is anomalous."),
    ACTIVE: ("gauge", "Ongoing events of the entity; 0 = none."),
    LAST: ("gauge", "Time of the newest row that was scored, in seconds since the epoch."),
    INTERVAL: (
        "gauge",
        "Seconds from one scored row to the next: median of the last ten.",
    ),
    LAG: ("gauge", "How long after its time the newest row was scored, in seconds."),
    SCORES: ("counter", "Rows scored."),
    ANOMALIES: ("counter", "Rows scored above 1."),
    EVENTS: ("counter", "Events that began."),
}
_GAPS = 10
_REMEMBERED = 10_000  # ids of events: one that comes again later than that is counted again


def score_labels(record: ScoreRecord) -> Labels:
    """The labels of a score; they change with the detector and its state."""
    return (
        ("entity", record.entity),
        ("detector", record.detector),
        ("mode", record.mode),
        ("state", record.state),
    )


def share_labels(record: ScoreRecord, channel: str) -> Labels:
    """The labels of the share of one channel."""
    return (
        ("entity", record.entity),
        ("detector", record.detector),
        ("mode", record.mode),
        ("channel", channel),
    )


class Latest:
    """The newest score of every entity and mode, its events, and counts. Not for two threads.

    A record that comes again, or that is older than what is known, changes nothing. top: how many
    channels of an anomalous row have their share shown.
    """

    def __init__(self, top: int) -> None:
        self._top = top
        self._scores: dict[tuple[str, str], ScoreRecord] = {}
        self._newest: dict[str, int] = {}
        self._lags: dict[str, float] = {}
        self._gaps: dict[str, deque[int]] = {}
        self._ongoing: dict[str, set[str]] = {}
        self._updates: dict[str, int] = {}
        self._counts: dict[tuple[str, Labels], int] = {}

    def take(self, record: Record, now: float) -> None:
        """Take a record; `now` in seconds since the epoch."""
        if isinstance(record, EventRecord):
            self._take_event(record)
            return
        before = self._scores.get((record.entity, record.mode))
        if before is not None and before.timestamp >= record.timestamp:
            if before.key != record.key and before.timestamp == record.timestamp:
                self._scores[record.entity, record.mode] = record  # another model's say
            return
        self._scores[record.entity, record.mode] = record
        if record.state == "stale":
            return  # it tells that no row came: it is none itself, and no news of one
        whose = (("entity", record.entity), ("mode", record.mode))
        self._count(SCORES, whose)
        if record.score > 1:
            self._count(ANOMALIES, whose)
        newest = self._newest.get(record.entity)
        if newest is None or record.timestamp > newest:
            gaps = self._gaps.setdefault(record.entity, deque(maxlen=_GAPS))
            if newest is not None:
                gaps.append(record.timestamp - newest)
            self._newest[record.entity] = record.timestamp
            self._lags[record.entity] = now - record.timestamp / SECOND_NS

    def recall(self, event: EventRecord) -> None:
        """An event that began before this process did: it is ongoing, and is not counted."""
        if event.id not in self._updates:
            self._updates[event.id] = event.update
            self._ongoing.setdefault(event.entity, set()).add(event.id)

    def forget(self, entity: str) -> None:
        """Drop everything of an entity that is watched no more."""
        for known in (self._newest, self._lags, self._gaps, self._ongoing):
            known.pop(entity, None)
        self._scores = {key: kept for key, kept in self._scores.items() if key[0] != entity}
        mine = ("entity", entity)
        self._counts = {key: count for key, count in self._counts.items() if mine not in key[1]}

    def samples(self) -> Iterator[tuple[str, Labels, float]]:
        """Every metric as it is now: name, labels, value."""
        for score in self._scores.values():
            yield SCORE, score_labels(score), score.score
            for channel, share in self.shares(score):
                yield SHARE, share_labels(score, channel), share
        yield from self.conditions()
        for (name, labels), count in self._counts.items():
            yield name, labels, float(count)

    def conditions(self) -> Iterator[tuple[str, Labels, float]]:
        """Of these metrics, those about now and not of a row."""
        for entity, ids in self._ongoing.items():
            yield ACTIVE, (("entity", entity),), float(len(ids))
        for entity in self._newest:
            labels = (("entity", entity),)
            if entity not in self._ongoing:
                yield ACTIVE, labels, 0.0
            yield LAST, labels, self._newest[entity] / SECOND_NS
            yield LAG, labels, self._lags[entity]
            if self._gaps[entity]:
                yield INTERVAL, labels, median(self._gaps[entity]) / SECOND_NS

    def shares(self, record: ScoreRecord) -> list[tuple[str, float]]:
        """The channels of an anomalous row whose share is shown; channels of one name added up."""
        told: dict[str, float] = {}
        for channel, share in zip(record.channels[: self._top], record.shares, strict=False):
            told[channel] = told.get(channel, 0.0) + share
        return list(told.items())

    def _take_event(self, event: EventRecord) -> None:
        known = self._updates.get(event.id)
        if known is not None and known >= event.update:
            return
        self._updates.pop(event.id, None)
        self._updates[event.id] = event.update  # to the end: the one longest untouched goes first
        if len(self._updates) > _REMEMBERED:
            del self._updates[next(iter(self._updates))]
        if known is None and event.update == 0:
            self._count(EVENTS, (("entity", event.entity),))
        ongoing = self._ongoing.setdefault(event.entity, set())
        if event.status == "ongoing":
            ongoing.add(event.id)
        else:
            ongoing.discard(event.id)

    def _count(self, name: str, labels: Labels) -> None:
        self._counts[name, labels] = self._counts.get((name, labels), 0) + 1
