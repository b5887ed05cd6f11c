"""The source `kafka`: rows as JSON messages, shared out among the processes of a group."""

from __future__ import annotations

import json
import time
from typing import Literal

from imdiffusion.errors import ConfigError, ConnectionLost, ImDiffusionError
from imdiffusion.live.connection.kafka_client import (
    OFFSET_BEGINNING,
    Consumer,
    Health,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
    consumer_of,
    partitions_of,
    trouble_of,
)
from imdiffusion.live.connection.protocols import Batch, Closing
from imdiffusion.live.sources.text_rows import Gathering, RowForm
from imdiffusion.schema import positive

_SLICE = 0.25  # seconds; between two of them trouble is noticed
_PING = 1.0  # seconds to ask whether servers that were away are back
_LOOK_UP = 10.0  # seconds to ask the servers for what the group has committed
_EAGER = "range,roundrobin"  # a rebalance takes all partitions away, and gives all out again
# The group is being shared out again: the next owner reads what is not committed.
_MOVED = frozenset(
    {
        KafkaError.ILLEGAL_GENERATION,
        KafkaError.UNKNOWN_MEMBER_ID,
        KafkaError.REBALANCE_IN_PROGRESS,
        KafkaError._ASSIGNMENT_LOST,
        KafkaError._STATE,
        KafkaError._NO_OFFSET,
    }
)
Place = tuple[str, int]  # topic, partition


class KafkaSource(Closing):
    """JSON messages of one or more topics, one row each (see `rows`), wide or long.

    servers: "host:port", several separated by commas. topics: one or more.
    group: the consumer group; each process of it reads its share of the partitions. start:
    "earliest" or "latest", where the group has committed nothing. properties: a file with more of
    librdkafka's settings, "name=value" a line (TLS, SASL: secrets stay in that file). entity,
    timestamp: the keys of those two; a row that names no entity belongs to the message's key, else
    to its topic. unit: of timestamps given as numbers (s, ms, us, ns, or auto). ignore: keys that
    are no channels. batch_rows: messages a batch at most.

    The offset is, for each partition that this process has, the next message. Offsets are committed
    to the servers by `commit` alone. A partition that comes to this process is read from the later
    of what the group has committed and what this process has read or was opened with; so a message
    is read again after a crash, by whoever has its partition then, and none is left out. Messages
    that were deleted before they were read are named in `rejected`, as those that are no row.
    """

    def __init__(
        self,
        *,
        servers: str,
        topics: tuple[str, ...],
        group: str = "imdiffusion",
        start: Literal["earliest", "latest"] = "earliest",
        properties: str = "",
        entity: str = "entity",
        timestamp: str = "timestamp",
        unit: str = "auto",
        ignore: tuple[str, ...] = (),
        batch_rows: int = 10_000,
    ) -> None:
        positive(batch_rows=batch_rows)
        self.form = RowForm.of_options(entity=entity, timestamp=timestamp, unit=unit, ignore=ignore)
        self.topics = list(topics)
        for option, given in (("servers", servers), ("topics", topics), ("group", group)):
            if not given:
                raise ConfigError(f"{option} is empty", remedy=f"Give {option}.")
        self.servers, self.group, self.properties = servers, group, properties
        self.batch_rows = batch_rows
        self.start = start
        self._health = Health(servers)
        self._consumer: Consumer | None = None
        self._next: dict[Place, int] = {}  # of every partition this process has ever had
        self._owned: set[Place] = set()
        self._gone = False  # a partition is asked for what it does not have
        self._trouble: ImDiffusionError | None = None  # met behind rows that were handed out

    def look(self, timeout: float) -> str:
        """Whether the servers answer and have the topics; the group is not joined."""
        health = Health(self.servers)
        consumer = consumer_of({"group.id": self.group}, self.properties, health)
        try:
            found = partitions_of(consumer, health, timeout)
        finally:
            consumer.close()
        absent = [name for name in self.topics if not found.get(name)]
        if absent:
            raise ConnectionLost(
                f"Kafka at {self.servers} has no topic {', '.join(map(repr, absent))}",
                remedy="Make it, or correct its name; it is tried again.",
            )
        told = [f"topic {name!r} has {found[name]} partitions" for name in self.topics]
        return f"{self.servers} answers; {', '.join(told)}; the group is not joined here"

    def open(self, offset: str | None) -> None:
        """Join the group; ConfigError for a wrong offset or settings that librdkafka refuses."""
        self.close()
        self._next = _places(offset)
        self._health, self._trouble, self._gone = Health(self.servers), None, False
        settings = {
            "group.id": self.group,
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "auto.offset.reset": "error",  # named in `rejected`, and mended there
            "partition.assignment.strategy": _EAGER,
        }
        self._consumer = consumer_of(settings, self.properties, self._health)
        self._consumer.subscribe(
            self.topics, on_assign=self._assign, on_revoke=self._revoke, on_lost=self._revoke
        )

    def read(self, timeout: float) -> Batch | None:
        """The next rows of any partition. Raises ConnectionLost, ConfigError."""
        if self._consumer is None:
            self.open(None)
        end = time.monotonic() + timeout
        while True:
            if self._trouble is not None:
                trouble, self._trouble = self._trouble, None
                raise trouble
            batch = self._poll(max(0.0, min(_SLICE, end - time.monotonic())))
            if batch is not None:
                return batch
            self._check_health()
            if time.monotonic() >= end and self._trouble is None:
                return None

    def commit(self, offset: str) -> None:
        """Commit; partitions that went to another process meanwhile are left to it."""
        places = {p: n for p, n in _places(offset).items() if p in self._owned}
        if self._consumer is None or not places:
            return
        given = [TopicPartition(*place, offset) for place, offset in places.items()]
        try:
            done = self._consumer.commit(offsets=given, asynchronous=False) or []
        except KafkaException as error:
            failed = error.args[0]
        else:
            failed = next((one.error for one in done if one.error is not None), None)
        # While the group is shared out again nothing can be committed, and nothing is lost: who has
        # the partition next begins with what is committed, and this process with what it has read.
        if failed is not None and failed.code() not in _MOVED:
            raise trouble_of(failed, f"committing to group {self.group!r}")

    def close(self) -> None:
        """Leave the group: its other processes take the partitions over. May be called twice."""
        if self._consumer is not None:
            consumer, self._consumer = self._consumer, None
            consumer.close()
        self._owned.clear()

    def _poll(self, timeout: float) -> Batch | None:
        consumer = self._consumer
        if consumer is None:
            return None
        rows = Gathering(self.form)
        try:
            first = consumer.poll(timeout)
            if first is None:
                return None
            self._take(first, rows)
            if self.batch_rows > 1:
                for message in consumer.consume(self.batch_rows - 1, 0.0):
                    self._take(message, rows)
            if self._gone:  # a partition in that state cannot be sought in: all begin again
                consumer.assign(
                    [
                        TopicPartition(*place, self._next.get(place, OFFSET_BEGINNING))
                        for place in sorted(self._owned)
                    ]
                )
                self._gone = False
        except KafkaException as error:
            self._trouble = trouble_of(error.args[0], f"reading from Kafka at {self.servers}")
        return rows.batch(self._offset())

    def _check_health(self) -> None:
        """Raise ConnectionLost for as long as no server answers; ConfigError for what lasts."""
        last = self._health.last
        if last is None or last.code() != KafkaError._ALL_BROKERS_DOWN or self._consumer is None:
            self._health.check()
            return
        try:  # it is said once that all are down, and never that one is back
            self._consumer.list_topics(self.topics[0], timeout=_PING)
        except KafkaException as error:
            raise trouble_of(last, f"Kafka at {self.servers}") from error
        self._health.last = None

    def _offset(self) -> str:
        topics: dict[str, dict[str, int]] = {}
        for topic, partition in sorted(self._owned & self._next.keys()):
            topics.setdefault(topic, {})[str(partition)] = self._next[topic, partition]
        return json.dumps(topics, separators=(",", ":"))

    def _take(self, message: Message, rows: Gathering) -> None:
        failed = message.error()
        place = (message.topic() or "", message.partition() or 0)
        if failed is not None:
            self._fail(failed, message, place, rows)
            return
        offset = message.offset() or 0
        if place not in self._owned:
            return  # fetched before its partition went to another process, who reads it
        self._next[place] = offset + 1
        where = f"{place[0]}[{place[1]}], offset {offset}"
        value, key = message.value(), message.key()
        if value is None:
            rows.count += 1
            rows.reject(where, "a message without a value")
            return
        rows.add_json(_bytes(value), where, _text(key) or place[0])

    def _fail(self, failed: KafkaError, message: Message, place: Place, rows: Gathering) -> None:
        code = failed.code()
        if code == KafkaError._AUTO_OFFSET_RESET:
            wanted = self._next.pop(place, None)
            if wanted is not None:
                rows.reject(
                    f"{place[0]}[{place[1]}]",
                    f"message {wanted} is not there (any more); read on from the oldest one",
                )
            self._gone = True
        elif code in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC):
            self._trouble = ConnectionLost(
                f"Kafka at {self.servers} has no topic {place[0]!r}",
                remedy="Make it, or correct its name; it is tried again.",
            )
        elif code != KafkaError._PARTITION_EOF:
            self._trouble = trouble_of(failed, f"reading topic {place[0]!r}")

    def _assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """Partitions came to this process: begin each where nothing is left out."""
        try:
            committed = consumer.committed(partitions, timeout=_LOOK_UP)
        except KafkaException as error:
            # Begun where the group's commits are: earlier than need be, never too late.
            self._trouble = trouble_of(error.args[0], f"asking for the group {self.group!r}")
        else:
            for one, known in zip(partitions, committed, strict=True):
                place = (one.topic, one.partition)
                begin = max(known.offset, self._next.get(place, -1))
                if begin < 0 and self.start == "latest":
                    begin = consumer.get_watermark_offsets(one, timeout=_LOOK_UP)[1]
                one.offset = begin if begin >= 0 else OFFSET_BEGINNING
                if begin >= 0:
                    self._next[place] = begin
        self._owned = {(one.topic, one.partition) for one in partitions}
        consumer.assign(partitions)

    def _revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """Partitions go to another process: what is not committed, it reads again."""
        self._owned -= {(one.topic, one.partition) for one in partitions}


def _bytes(value: str | bytes) -> bytes:
    return value.encode() if isinstance(value, str) else value


def _text(key: str | bytes | None) -> str:
    """A message's key as a name; "" if it is none."""
    if isinstance(key, bytes):
        try:
            return key.decode("utf-8")
        except UnicodeDecodeError:  # a binary key names nothing; the topic does
            return ""
    return key or ""


def _places(offset: str | None) -> dict[Place, int]:
    if offset is None:
        return {}
    try:
        return {
            (topic, int(partition)): int(following)
            for topic, partitions in json.loads(offset).items()
            for partition, following in partitions.items()
        }
    except (ValueError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"the offset {offset!r} is not one of the source 'kafka'",
            remedy="Start without it: reading then continues from the group's own commits.",
        ) from error
