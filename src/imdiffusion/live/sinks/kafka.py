"""The sink `kafka`: records as JSON messages, keyed by entity, each acknowledged."""

from __future__ import annotations

import time
from collections.abc import Sequence

from imdiffusion.errors import ConfigError, ConnectionLost
from imdiffusion.live.connection.kafka_client import (
    Health,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    partitions_of,
    producer_of,
    trouble_of,
)
from imdiffusion.live.connection.options import KINDS, Kind, takes_of
from imdiffusion.live.connection.protocols import Closing
from imdiffusion.live.connection.record_json import Key, line_of
from imdiffusion.live.sinks.delivery import Pending
from imdiffusion.records import Record
from imdiffusion.schema import positive

# About one message, for good: the next ones may pass.
_UNFIT = frozenset(
    {KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.INVALID_MSG, KafkaError.INVALID_RECORD}
)


class KafkaSink(Closing):
    """A message for each record: its key the entity, its value JSON (see `record_text`).

    servers: "host:port", several separated by commas. topic: where all records go. takes: "score",
    "event", or both. timeout: seconds that `flush` waits for the servers. properties: a file with
    more of librdkafka's settings, "name=value" a line (TLS, SASL: secrets stay in that file).
    window: how many of the last keys are remembered, so that a record sent again is not written
    again.

    The producer is idempotent and waits for all replicas in sync: each record stands in the topic
    once, in the order of its entity. After a crash, or a failure that librdkafka calls fatal, the
    last ones may stand there again: a reader knows them by their key's fields. A message that is
    refused for good, or is too large, is counted in `refused` and passed over.
    """

    def __init__(
        self,
        *,
        servers: str,
        topic: str,
        takes: tuple[Kind, ...] = KINDS,
        timeout: float = 30.0,
        properties: str = "",
        window: int = 100_000,
    ) -> None:
        positive(timeout=timeout, window=window)
        for option, given in (("servers", servers), ("topic", topic)):
            if not given:
                raise ConfigError(f"{option} is empty", remedy=f"Give {option}.")
        self.servers, self.topic, self.properties = servers, topic, properties
        self.takes = takes_of(takes)
        self.timeout = timeout
        self.refused = 0
        self._pending = Pending(window)
        self._flying: set[Key] = set()  # handed to librdkafka, not acknowledged yet
        self._failed: KafkaError | None = None  # the last failure that a retry may mend
        self._health = Health(servers)
        self._producer: Producer | None = None

    def look(self, timeout: float) -> str:
        """Whether the servers answer and have the topic, which many make with the first record."""
        health = Health(self.servers)
        producer = producer_of({}, self.properties, health)
        found = partitions_of(producer, health, timeout).get(self.topic, 0)
        if not found:
            return (
                f"{self.servers} answers, and has no topic {self.topic!r} yet: it has to be made, "
                "unless the servers do so by themselves"
            )
        return f"{self.servers} answers; topic {self.topic!r} has {found} partitions"

    def open(self) -> None:
        """Make the producer; ConfigError for settings that librdkafka refuses."""
        self.close()
        self._pending.clear()
        self._start()

    def send(self, records: Sequence[Record]) -> None:
        """Hand records to librdkafka, which sends them in the background."""
        self._pending.add(records)
        self._hand_over(time.monotonic() + self.timeout)

    def flush(self) -> None:
        """Wait until every record is acknowledged. ConnectionLost if one is not; call again."""
        end = time.monotonic() + self.timeout
        self._hand_over(end)
        if self._producer is not None:
            self._producer.flush(max(0.0, end - time.monotonic()))
        waiting = len(self._pending.held)
        if not waiting:
            self._health.last = None  # trouble that is over
            return
        failed, self._failed = self._failed, None
        self._restart_if_dead()
        self._health.check()
        if failed is not None:
            raise trouble_of(failed, f"writing to topic {self.topic!r}")
        raise ConnectionLost(
            f"Kafka at {self.servers} has not acknowledged {waiting} records "
            f"after {self.timeout:g} s",
            remedy="It is tried again.",
        )

    def close(self) -> None:
        """Let go of the producer. What was not flushed is dropped. May be called twice."""
        if self._producer is not None:
            producer, self._producer = self._producer, None
            producer.purge()
            producer.flush(1.0)
        self._flying.clear()

    def _start(self) -> None:
        self._health, self._failed = Health(self.servers), None
        settings = {"enable.idempotence": True, "acks": "all"}
        self._producer = producer_of(settings, self.properties, self._health)

    def _hand_over(self, end: float) -> None:
        """Give librdkafka what it does not have yet, waiting for room in its queue until `end`."""
        if self._producer is None:
            self._start()
        producer = self._producer
        if producer is None:
            return
        for key in [key for key in self._pending.held if key not in self._flying]:
            record = self._pending.held[key]
            while not self._produce(producer, key, record):
                producer.poll(0.1)
                if time.monotonic() >= end:
                    self._health.check()
                    raise ConnectionLost(
                        f"Kafka at {self.servers} takes records too slowly: the queue is full",
                        remedy="It is tried again.",
                    )
        producer.poll(0.0)

    def _produce(self, producer: Producer, key: Key, record: Record) -> bool:
        """Hand one record over; False if there is no room for it."""

        def report(failed: KafkaError | None, _: Message) -> None:
            self._report(producer, key, failed)

        name = record.entity.encode("utf-8", "backslashreplace")
        try:
            producer.produce(
                self.topic, key=name, value=line_of(record).rstrip(b"\n"), on_delivery=report
            )
        except BufferError:
            return False
        except KafkaException as error:
            failed = error.args[0]
            if failed.code() in _UNFIT:
                self._refuse(key)
                return True
            self._restart_if_dead()
            raise trouble_of(failed, f"writing to topic {self.topic!r}") from error
        self._flying.add(key)
        return True

    def _report(self, producer: Producer, key: Key, failed: KafkaError | None) -> None:
        if producer is not self._producer:
            return  # of one that was given up; its records were handed to the next
        self._flying.discard(key)
        if failed is None:
            self._pending.settle([key])
        elif failed.code() in _UNFIT:
            self._refuse(key)
        else:
            self._failed = failed

    def _refuse(self, key: Key) -> None:
        self.refused += 1
        self._pending.settle([key])

    def _restart_if_dead(self) -> None:
        """A fatal error ends an idempotent producer: the next attempt takes a new one."""
        last = self._health.last
        if last is not None and last.fatal():
            self.close()
