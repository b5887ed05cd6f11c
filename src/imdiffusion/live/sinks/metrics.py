"""The latest scores, events and counters as Prometheus scrapes them: a sink that renders text.

The HTTP service serves `MetricsSink.text()`; without one, the sink serves itself on loopback.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from statistics import median
from urllib.parse import urlsplit

from imdiffusion.durations import SECOND_NS
from imdiffusion.errors import ConfigError
from imdiffusion.live.connection.exposition import (
    CONTENT_TYPE,
    LABEL_NAME,
    METRIC_NAME,
    Labels,
    family_text,
)
from imdiffusion.live.connection.protocols import Closing
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


_LOOPBACK = "127.0.0.1"
_LOCAL_NAMES = frozenset({"127.0.0.1", "localhost", "::1"})
_PATIENCE = 5.0  # seconds for one who asks and then says no more


class MetricsSink(Closing):
    """Keeps what was said last and renders it. Any number of threads may ask while one sends.

    port: serve http://127.0.0.1:PORT/metrics; 0 = any free port (see `address`); None = not at all.
    top: how many channels of an anomalous row have their share shown.
    """

    takes = frozenset({"score", "event"})

    def __init__(self, *, port: int | None = None, top: int = 5) -> None:
        if port is not None and not 0 <= port <= 65535:
            raise ConfigError(f"port is out of range: {port}", remedy="Give 0 to 65535.")
        if top < 0:
            raise ConfigError(f"top must not be negative, got {top}", remedy="Give for instance 5.")
        self.refused = 0
        self._port = port
        self._lock = threading.Lock()
        self._latest = Latest(top)
        self._own: dict[str, tuple[str, str, dict[Labels, float]]] = {}
        self._server: _Server | None = None

    @property
    def address(self) -> str:
        """Where it serves itself; "" if it does not."""
        if self._server is None:
            return ""
        return f"http://{_LOOPBACK}:{self._server.server_address[1]}/metrics"

    def open(self) -> None:
        """Begin to serve, if a port was given; ConfigError if the port cannot be had."""
        if self._port is None or self._server is not None:
            return
        try:
            self._server = _Server(self._port, self)
        except OSError as error:
            raise ConfigError(
                f"cannot serve metrics on {_LOOPBACK}:{self._port}: {error.strerror}",
                remedy="Choose another port, or 0 for any that is free.",
            ) from error
        self._server.start()

    def send(self, records: Sequence[Record]) -> None:
        """Take records; what is asked for from now on has them in it."""
        now = time.time()
        with self._lock:
            for record in records:
                self._latest.take(record, now)

    def recall(self, ongoing: Sequence[EventRecord]) -> None:
        """Show what was ongoing before a start."""
        with self._lock:
            for event in ongoing:
                self._latest.recall(event)

    def flush(self) -> None:
        """Nothing: no receiver waits."""

    def close(self) -> None:
        """Serve no more; what is known stays."""
        if self._server is not None:
            self._server.stop()
            self._server = None

    def forget(self, entity: str) -> None:
        """Leave out an entity that is watched no more."""
        with self._lock:
            self._latest.forget(entity)

    def set(
        self,
        name: str,
        value: float,
        *,
        about: str,
        kind: str = "gauge",
        labels: Mapping[str, str] | None = None,
    ) -> None:
        """Set a metric of the caller's own: queue depth, rows skipped by reason, age of a model.

        kind: "gauge" or "counter". ConfigError for a name or a label that the format does not
        have, for a name that is taken, and for a kind that changes.
        """
        known = self._own.get(name)
        if name in FAMILIES or (known is not None and known[0] != kind):
            raise ConfigError(
                f"the metric {name!r} is there already, with another meaning",
                remedy="Choose another name.",
            )
        if kind not in ("gauge", "counter"):
            raise ConfigError(f"unknown kind {kind!r}", remedy="Known: gauge, counter.")
        pairs = tuple(sorted((labels or {}).items()))
        for text, form in [(name, METRIC_NAME), *((label, LABEL_NAME) for label, _ in pairs)]:
            if not form.fullmatch(text):
                raise ConfigError(
                    f"{text!r} is no name of a metric or label", remedy="Use letters, digits and _."
                )
        with self._lock:
            self._own.setdefault(name, (kind, about, {}))[2][pairs] = float(value)

    def text(self) -> str:
        """Everything, in Prometheus' text format 0.0.4."""
        families: dict[str, dict[Labels, float]] = {name: {} for name in FAMILIES}
        with self._lock:
            for name, labels, value in self._latest.samples():
                families[name][labels] = value
            own = {
                name: (kind, about, dict(samples))
                for name, (kind, about, samples) in self._own.items()
            }
        parts = [family_text(name, *FAMILIES[name], samples) for name, samples in families.items()]
        parts += [family_text(name, *family) for name, family in own.items()]
        return "".join(parts)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, port: int, sink: MetricsSink) -> None:
        self.sink = sink
        super().__init__((_LOOPBACK, port), _Handler)

    def start(self) -> None:
        self._thread = threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self.shutdown()
        self.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    server_version = "imdiffusion"
    sys_version = ""
    timeout = _PATIENCE
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        # A page of the web may have its own name point here; it cannot choose this header.
        host = urlsplit(f"//{self.headers.get('Host', '')}").hostname
        if host not in _LOCAL_NAMES:
            self._answer(HTTPStatus.FORBIDDEN, "served to this host alone\n", "text/plain")
        elif urlsplit(self.path).path == "/metrics":
            self._answer(HTTPStatus.OK, self.server.sink.text(), CONTENT_TYPE)
        else:
            self._answer(HTTPStatus.NOT_FOUND, "see /metrics\n", "text/plain")

    def do_HEAD(self) -> None:
        self.do_GET()

    def _answer(self, status: HTTPStatus, text: str, kind: str) -> None:
        body = text.encode("utf-8", "replace")
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: who scrapes is no news."""
