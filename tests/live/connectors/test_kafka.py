"""Kafka for real, but for the servers: librdkafka's mock cluster, in a process of its own."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

import pytest
from confluent_kafka import TopicPartition
from kafka_cluster import cluster, fresh, halt, make, put, started, stored
from records_made import few, score
from rows_read import cells, drain, rejected

from imdiffusion.errors import ConfigError, ConnectionLost
from imdiffusion.live.connection.record_json import key_in, key_of
from imdiffusion.live.sinks.kafka import KafkaSink
from imdiffusion.live.sources.kafka import KafkaSource

START = 1_700_000_000


@pytest.fixture(scope="module")
def servers():
    with cluster() as address:
        yield address


def row(i: int) -> tuple[str, bytes]:
    return f"e{i % 5}", json.dumps({"timestamp": START + i, "cpu": i}).encode()


def told(*numbers: int) -> dict[tuple[str, int, str], float]:
    return {(f"e{i % 5}", (START + i) * 10**9, "cpu"): float(i) for i in numbers}


def count(batches) -> int:
    return len(cells(batches))


def test_rows_poison_offsets_and_commits(servers):
    topic = fresh("rows")
    poison = [
        ("e1", b"rubbish"),
        ("e1", None),
        (None, b'{"timestamp": 1700000500, "channel": "up", "value": true}'),
        (b"\xff", b'{"entity": "named", "timestamp": 1700000501, "cpu": NaN, "up": 1}'),
    ]
    put(servers, topic, [*map(row, range(8)), *poison, *map(row, range(8, 12))])
    wanted = told(*range(12)) | {
        (topic, 1700000500 * 10**9, "up"): 1.0,
        ("named", 1700000501 * 10**9, "up"): 1.0,
    }
    source = KafkaSource(servers=servers, topics=(topic,), group=fresh("group"))
    source.open(None)
    # A message that is gone, or never was: read on from the oldest, and told.
    other = KafkaSource(servers=servers, topics=(topic,), group=fresh("group"))
    other.open(json.dumps({topic: {"0": 3, "1": 99, "2": 4, "3": 4}}))
    late = KafkaSource(servers=servers, topics=(topic,), group=fresh("group"), start="latest")
    late.open(None)
    for one in (source, other, late):
        assert one.read(0.0) is None  # all are joining their groups
    batches = drain(source, until=lambda b: count(b) == len(wanted) and len(rejected(b)) == 2)
    assert cells(batches) == wanted
    said = sorted(rejected(batches))
    assert said[0].startswith(f"{topic}[0], offset 2: broken JSON")
    assert said[1] == f"{topic}[1], offset 2: a message without a value"
    assert json.loads(batches[-1].offset) == {topic: {str(p): 4 for p in range(4)}}
    again = drain(other, until=lambda b: count(b) == 4 and len(rejected(b)) == 2)
    assert cells(again) == told(1, 5, 8, 9)
    assert rejected(again) == [
        f"{topic}[1]: message 99 is not there (any more); read on from the oldest one",
        f"{topic}[1], offset 2: a message without a value",
    ]
    # Committed is what `commit` is given, for the partitions that are there; and nothing else.
    half = {topic: {"0": 2, "3": 1, "9": 7}, "another": {"0": 1}}
    source.commit(json.dumps(half))
    assert source._consumer is not None
    places = [TopicPartition(topic, partition) for partition in range(4)]
    committed = [place.offset for place in source._consumer.committed(places, timeout=20)]
    assert committed == [2, -1001, -1001, 1]
    while len(late._next) < 4:
        assert late.read(1.0) is None
    put(servers, topic, [row(12)])
    assert cells(drain(late, until=lambda b: count(b) == 1)) == told(12)
    for one in (source, other, late, late):
        one.close()


def test_records_are_keyed_acknowledged_and_there_once(servers, tmp_path):
    topic = fresh("records")
    sink = KafkaSink(servers=servers, topic=topic)
    sink.open()
    sink.send(few())
    sink.send(few())
    sink.flush()
    sink.send([*few(), score(7, entity="caf\u00e9\ud800")])
    sink.flush()
    sink.close()
    sink.close()
    found = stored(servers, topic)
    assert sorted(key for key, _ in found) == [b"caf\xc3\xa9\\ud800", *[b"db1"] * 4]
    values = [json.loads(value) for _, value in found]
    assert {key_in(value) for value in values} == {
        key_of(r) for r in [*few(), score(7, "caf\u00e9\ud800")]
    }
    assert {key for key, value in found if json.loads(value)["kind"] == "event"} == {b"db1"}


def test_a_message_too_large_is_refused_and_blocks_nothing(servers):
    topic = fresh("large")
    sink = KafkaSink(servers=servers, topic=topic)
    sink.send([score(0), score(1, entity="x" * 2_000_000), score(2)])
    sink.flush()
    assert sink.refused == 1
    assert len(stored(servers, topic)) == 2
    sink.close()


def test_servers_that_are_away_are_a_lost_connection_until_they_are_back(tmp_path):
    with started() as (address, process):
        topic = fresh("away")
        sink = KafkaSink(servers=address, topic=topic, timeout=0.5)
        sink.send([score(0)])
        sink.timeout = 20.0
        sink.flush()
        sink.timeout = 0.5
        halt(process)
        sink.send([score(1)])
        with pytest.raises(ConnectionLost, match="has not acknowledged 1 records"):
            sink.flush()
        process.send_signal(signal.SIGCONT)
        sink.send([score(1)])  # the caller sends again
        sink.timeout = 20.0
        sink.flush()
        assert [json.loads(value)["timestamp"] for _, value in stored(address, topic)] == [
            score(0).timestamp,
            score(1).timestamp,
        ]
    source = KafkaSource(servers=address, topics=(topic,))
    sink.timeout = 0.5
    sink.send([score(2)])
    with pytest.raises(ConnectionLost, match="Kafka at"):
        sink.flush()
    sink.close()
    for _ in range(2):
        with pytest.raises(ConnectionLost, match="Kafka at"):
            source.read(20.0)
    source.close()


def test_a_look_says_which_topics_are_there_and_neither_makes_one_nor_takes_a_row(servers):
    there, absent = fresh("there"), fresh("absent")
    make(servers, there)
    put(servers, there, [row(0)])
    source = KafkaSource(servers=servers, topics=(there,), group=fresh("lookers"))
    assert f"topic '{there}' has 4 partitions" in source.look(20.0)
    both = KafkaSource(servers=servers, topics=(there, absent))
    sink = KafkaSink(servers=servers, topic=absent)
    for _ in range(2):  # the first look has not made it
        with pytest.raises(ConnectionLost, match=f"has no topic '{absent}'"):
            both.look(20.0)
        assert f"no topic '{absent}' yet" in sink.look(20.0)
    assert "has 4 partitions" in KafkaSink(servers=servers, topic=there).look(20.0)
    with source:
        assert cells(drain(source, until=count)) == told(0)


def test_a_look_at_nobody_ends_in_time(tmp_path):
    for one in (
        KafkaSource(servers="127.0.0.1:1", topics=("t",)),
        KafkaSink(servers="127.0.0.1:1", topic="t"),
    ):
        with pytest.raises(ConnectionLost, match=r"Kafka at 127\.0\.0\.1:1"):
            one.look(0.3)
    file = tmp_path / "secrets"
    file.write_text("sasl.pasword=hunter2\n")
    with pytest.raises(ConfigError, match=r"sasl\.pasword"):
        KafkaSource(servers="127.0.0.1:1", topics=("t",), properties=str(file)).look(0.3)


def test_wrong_settings_are_said_without_their_values(tmp_path):
    file = tmp_path / "secrets"
    for text, said in (
        ("sasl.pasword=hunter2\n", "sasl.pasword"),
        ("# a comment\n\nsasl.mechanism=hunter2\nsecurity.protocol=hunter2\n", "Kafka's settings"),
        ("hunter2\n", "line 1: no '='"),
        ("group.id=hunter2\n", "sets 'group.id', which is not free"),
    ):
        file.write_text(text)
        source = KafkaSource(servers="127.0.0.1:1", topics=("t",), properties=str(file))
        with pytest.raises(ConfigError, match=said) as raised:
            source.open(None)
        assert "hunter2" not in str(raised.value)
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        KafkaSource(servers="x", topics=("t",), properties=str(tmp_path / "none")).open(None)
    for offset in ("x", "[1]", '{"t": 1}', '{"t": {"a": 1}}'):
        with pytest.raises(ConfigError, match="is not one of the source 'kafka'"):
            KafkaSource(servers="x", topics=("t",)).open(offset)
    with pytest.raises(ConfigError, match="topics is empty"):
        KafkaSource(servers="x", topics=())


def test_without_the_extra_it_is_named():
    program = (
        "import sys; sys.modules['confluent_kafka'] = None\n"
        "from imdiffusion.live.connection.options import load_sink, load_source\n"
        "from imdiffusion.errors import MissingExtraError\n"
        "for load in (load_source, load_sink):\n"
        "    try:\n"
        "        load('kafka', {'servers': 'x', 'topics': ['t']})\n"
        "    except MissingExtraError as error:\n"
        "        print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    said = "the package 'confluent-kafka' is not installed. Install it with: pip install "
    assert done.stdout.splitlines() == [f"{said}'imdiffusion[kafka]'."] * 2
