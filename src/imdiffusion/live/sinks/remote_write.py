"""Scores and events to Prometheus' remote write 1.0: Prometheus, VictoriaMetrics, Mimir, Thanos."""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from imdiffusion.durations import MILLISECOND_NS
from imdiffusion.errors import ConfigError, MissingExtraError, UsageError
from imdiffusion.live.connection.exposition import LABEL_NAME, Labels, parse_pairs
from imdiffusion.live.connection.http import Client, HttpOptions
from imdiffusion.live.connection.protocols import Closing
from imdiffusion.live.sinks.delivery import Outbox
from imdiffusion.live.sinks.metrics import SCORE, SHARE, Latest, score_labels, share_labels
from imdiffusion.records import EventRecord, Record, ScoreRecord

__all__ = ["RemoteWriteSink", "write_request"]

_HEADERS = {
    "Content-Encoding": "snappy",
    "Content-Type": "application/x-protobuf",
    "X-Prometheus-Remote-Write-Version": "0.1.0",
}
_STALE = b"\x02\x00\x00\x00\x00\x00\xf0\x7f"  # the NaN that ends a series, little endian
_REMEMBERED = 10_000  # samples: one of these that comes again is not written again


@dataclass(frozen=True, slots=True)
class Sample:
    """One value of one series. labels: sorted, `__name__` among them. timestamp: milliseconds."""

    labels: Labels
    timestamp: int
    value: bytes  # a double, little endian


@dataclass(kw_only=True, repr=False, eq=False)
class RemoteWriteSink(Closing, HttpOptions):
    """Writes `imdiffusion_score` and what else `latest.FAMILIES` names, counters left out.

    url: of the receiver, with its path: http://HOST:9090/api/v1/write. labels: put on everything,
    "name=value, name=value". top: how many channels of an anomalous row have their share written.
    batch: samples of a request. What concerns a row carries that row's time, what concerns now
    the time of the flush.

    A sample that is refused for good (out of order, a second value for one time, too old) is
    counted in `refused`; the same value for the same time is none of these. See `HttpOptions` for
    the other options.
    """

    labels: str = ""
    top: int = 5
    batch: int = 500

    takes = frozenset({"score", "event"})

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.top < 0 or not 1 <= self.batch <= 100_000:
            raise ConfigError(
                f"top or batch is out of range: {self.top}, {self.batch}",
                remedy="Give for instance 5 and 500.",
            )
        self._fixed = parse_pairs("labels", self.labels, LABEL_NAME)
        self._client: Client | None = None
        self._outbox = Outbox(self._post, size=self.batch, window=_REMEMBERED)
        self._refused = 0
        self._said_at = 0  # milliseconds: the last time that conditions were stamped with
        self._latest = Latest(self.top)
        self._current: dict[tuple[str, str], tuple[int, frozenset[Labels]]] = {}

    @property
    def refused(self) -> int:
        """Samples that were refused for good."""
        return self._outbox.refused + self._refused

    def open(self) -> None:
        """MissingExtraError without the extra, ConfigError without the secrets."""
        _compressed(b"")
        self.close()
        self._client = Client(self)
        self._client.check()

    def send(self, records: Sequence[Record]) -> None:
        """Hold the samples of records until `flush`."""
        now = time.time()
        for record in records:
            self._latest.take(record, now)
            if isinstance(record, ScoreRecord):
                for sample in self._samples(record):
                    key = (sample.labels, sample.timestamp, sample.value)
                    self._outbox.put(key, sample)

    def recall(self, ongoing: Sequence[EventRecord]) -> None:
        """Show what was ongoing before a start, from the next flush on."""
        for event in ongoing:
            self._latest.recall(event)

    def flush(self) -> None:
        """Write everything, in the order of time; ConnectionLost if that stops before its end."""
        # What concerns now goes first and is never kept: after a failure it is said again, while
        # rows that were delivered must stay known as such until the whole flush has succeeded.
        # Times only grow, though the clock may not: a second value for one time would be refused.
        self._said_at = now = max(time.time_ns() // MILLISECOND_NS, self._said_at + 1)
        conditions = Outbox(self._post, size=self.batch)
        for name, labels, value in self._latest.conditions():
            sample = self._sample(name, labels, now, struct.pack("<d", value))
            conditions.put(sample.labels, sample)
        try:
            conditions.flush()
        finally:
            self._refused += conditions.refused
        self._outbox.flush(order=lambda sample: sample.timestamp)

    def forget(self, entity: str) -> None:
        """Write no more of an entity that is watched no more."""
        self._latest.forget(entity)
        self._current = {key: kept for key, kept in self._current.items() if key[0] != entity}

    def close(self) -> None:
        """Close the connection."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def _samples(self, record: ScoreRecord) -> Iterator[Sample]:
        """The score, the shares, and the end of each series that this row does not go on with."""
        at = record.timestamp // MILLISECOND_NS
        new = [self._sample(SCORE, score_labels(record), at, struct.pack("<d", record.score))]
        for channel, share in self._latest.shares(record):
            labels = share_labels(record, channel)
            new.append(self._sample(SHARE, labels, at, struct.pack("<d", share)))
        going = frozenset(sample.labels for sample in new)
        whose = (record.entity, record.mode)
        before, had = self._current.get(whose, (at, frozenset()))
        if at > before:  # at the same time as before: another model's say, or the same once more
            yield from (Sample(labels, at, _STALE) for labels in sorted(had - going))
        if at > before or whose not in self._current:
            self._current[whose] = (at, going)
        elif at == before:
            self._current[whose] = (at, had | going)
        yield from new

    def _sample(self, name: str, labels: Labels, at: int, value: bytes) -> Sample:
        pairs = {**dict(self._fixed), **dict(labels), "__name__": name}
        # An empty label is one that is absent.
        return Sample(tuple(sorted(pair for pair in pairs.items() if pair[1])), at, value)

    def _post(self, samples: Sequence[Sample]) -> bool:
        if self._client is None:
            raise UsageError("the sink is not open", remedy="Call open first.")
        body = _compressed(write_request(samples))
        return self._client.settle(self._client.request(body=body, headers=_HEADERS))


def write_request(samples: Sequence[Sample]) -> bytes:
    """prometheus.WriteRequest as protobuf: a TimeSeries for each series, its samples in order."""
    series: dict[Labels, list[Sample]] = {}
    for sample in samples:
        series.setdefault(sample.labels, []).append(sample)
    message = bytearray()
    for labels, mine in series.items():
        inner = bytearray()
        for name, value in labels:
            inner += _field(1, _field(1, _utf8(name)) + _field(2, _utf8(value)))
        for sample in mine:  # 9: field 1, 64 bits; 16: field 2, a varint, two's complement
            inner += _field(2, b"\x09" + sample.value + b"\x10" + _varint(sample.timestamp))
        message += _field(1, bytes(inner))
    return bytes(message)


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(number: int) -> bytes:
    number &= 0xFFFF_FFFF_FFFF_FFFF
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "replace")


def _compressed(message: bytes) -> bytes:
    try:
        import cramjam
    except ImportError as error:
        raise MissingExtraError("cramjam", extra="prometheus") from error
    return bytes(cramjam.snappy.compress_raw(message))
