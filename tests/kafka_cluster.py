"""A Kafka cluster of one broker for tests: librdkafka's own mock, in a process of its own.

    with cluster() as servers: ...

Topics make themselves, with 4 partitions; a group's first member waits 3 seconds for others.
What the mock does not have is said in docs/connectors.md.
"""

from __future__ import annotations

import itertools
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from confluent_kafka import Consumer, Producer, TopicPartition

# Settings of a group's members, "name=value" a line. The mock lets nobody join a group whose
# members have left or died before their session is over, which would be 45 seconds.
QUICK = "session.timeout.ms=4000\nheartbeat.interval.ms=500\n"

_numbers = itertools.count(1)


@contextmanager
def cluster() -> Iterator[str]:
    """Its address, "host:port"; at the end it is killed."""
    with started() as (servers, _):
        yield servers


@contextmanager
def started() -> Iterator[tuple[str, subprocess.Popen[str]]]:
    process = subprocess.Popen(
        [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip(), process
    finally:
        process.kill()
        process.communicate()


def halt(process: subprocess.Popen[str]) -> None:
    """Stop the cluster as it stands, and return when each of its threads has stopped."""
    process.send_signal(signal.SIGSTOP)
    end = time.monotonic() + 60.0
    while _states(process.pid) != {"T"}:
        assert time.monotonic() < end, "the cluster does not stop"
        time.sleep(0.01)


def _states(pid: int) -> set[str]:
    threads = Path(f"/proc/{pid}/task").glob("*/stat")
    return {stat.read_text().rpartition(")")[2].split()[0] for stat in threads}


def fresh(what: str) -> str:
    """A name nobody else uses."""
    return f"{what}-{next(_numbers)}"


def make(servers: str, topic: str) -> None:
    """A topic that is there before anybody subscribes to it: without one, `read` would say so."""
    producer = Producer({"bootstrap.servers": servers})
    end = time.monotonic() + 60.0
    while not producer.list_topics(topic, timeout=20).topics[topic].partitions:
        assert time.monotonic() < end, f"the cluster makes no topic {topic}"
        time.sleep(0.01)


def put(servers: str, topic: str, messages: list[tuple[str | bytes | None, bytes | None]]) -> None:
    """Messages (key, value), dealt out to the topic's 4 partitions in turn."""
    producer = Producer({"bootstrap.servers": servers})
    for index, (key, value) in enumerate(messages):
        producer.produce(topic, key=key, value=value, partition=index % 4)
    assert producer.flush(20) == 0


def stored(servers: str, topic: str) -> list[tuple[bytes, bytes]]:
    """All messages (key, value) of a topic, partition by partition, without a group."""
    consumer = Consumer(
        {
            "bootstrap.servers": servers,
            "group.id": "nobody",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
        }
    )
    found: dict[int, list[tuple[bytes, bytes]]] = {}
    try:
        partitions = consumer.list_topics(topic, timeout=20).topics[topic].partitions
        consumer.assign([TopicPartition(topic, number, -2) for number in partitions])
        ended = 0
        while ended < len(partitions):
            message = consumer.poll(20)
            assert message is not None, "the cluster is silent"
            if message.error():
                ended += 1
            else:
                found.setdefault(message.partition(), []).append((message.key(), message.value()))
    finally:
        consumer.close()
    return [one for number in sorted(found) for one in found[number]]


def _serve() -> None:
    owner = Producer({"test.mock.num.brokers": 1, "log_level": 0})
    (broker,) = owner.list_topics(timeout=20).brokers.values()
    print(f"{broker.host}:{broker.port}", flush=True)
    sys.stdin.read()  # until the test ends, however it ends


if __name__ == "__main__":
    _serve()
