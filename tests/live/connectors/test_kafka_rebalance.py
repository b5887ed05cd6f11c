"""A partition that goes to another process while its rows are on their way."""

from __future__ import annotations

import json

import pytest
from kafka_cluster import QUICK, cluster, fresh, put
from rows_read import cells, drain

from imdiffusion.live.connection.kafka_client import TopicPartition
from imdiffusion.live.sources.kafka import KafkaSource

pytestmark = pytest.mark.slow

ROWS = range(80)


def numbers(batches) -> set[int]:
    return {int(value) for value in cells(batches).values()}


def test_what_is_lost_midway_is_left_to_the_next_owner_and_nothing_is_left_out(tmp_path):
    (tmp_path / "quick").write_text(QUICK)
    with cluster() as servers:
        topic = fresh("moving")
        put(
            servers,
            topic,
            [("e", json.dumps({"timestamp": 1_700_000_000 + i, "cpu": i}).encode()) for i in ROWS],
        )
        options = {"servers": servers, "topics": [topic], "properties": str(tmp_path / "quick")}
        one, two = KafkaSource(**options), KafkaSource(**options)
        one.open(None)
        # All rows are on their way in this process, those below 40 are safe.
        before = drain(one, until=lambda batches: numbers(batches) == set(ROWS))
        safe = json.dumps({topic: {str(partition): 10 for partition in range(4)}})
        one.commit(safe)
        two.open(None)
        mine, theirs = [], []
        while not (len(one._owned) == len(two._owned) == 2 and len(numbers(theirs)) >= 20):
            mine += filter(None, [one.read(0.05)])
            theirs += filter(None, [two.read(0.05)])
        # What this process has read it does not read again, whether it kept the partition or not;
        # the other begins at the commit.
        assert numbers(mine) == set()
        moved = {partition for _, partition in two._owned}
        assert numbers(theirs) == {i for i in ROWS if i % 4 in moved and i >= 40}
        # A commit of rows that this process read then says nothing of partitions it has lost.
        one.commit(before[-1].offset)
        places = [TopicPartition(topic, partition) for partition in range(4)]
        assert one._consumer is not None
        committed = [place.offset for place in one._consumer.committed(places, timeout=20)]
        assert committed == [10 if partition in moved else 20 for partition in range(4)]
        one.close()
        two.close()
