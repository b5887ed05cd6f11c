"""Processes that share a topic: one more takes its share, a killed one loses nothing."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from kafka_cluster import QUICK, cluster, fresh, put
from records_made import score
from rows_read import cells, drain

from imdiffusion.live.sources.kafka import KafkaSource

pytestmark = pytest.mark.slow


def row(i: int) -> tuple[str, bytes]:
    return f"e{i % 5}", json.dumps({"timestamp": 1_700_000_000 + i, "cpu": i}).encode()


MEMBER = """
import sys
sys.path[:0] = sys.argv[4:]
from imdiffusion.live.connection.options import load_sink, load_source
from records_made import score
servers, topic, folder = sys.argv[1:4]
options = {"servers": servers, "topics": [topic], "group": "family", "batch_rows": 5,
           "properties": folder + "/quick"}
sink = load_sink("sqlite", {"path": folder + "/out.db"})
with load_source("kafka", options) as source:
    source.open(None)
    sink.open()
    turns = 0
    while True:
        batch = source.read(30.0)
        for frame in batch.frames:
            sink.send([score(int(v), frame.entity) for v in frame.values[:, 0]])
        sink.flush()
        turns += 1
        print(turns, *sorted(eval(batch.offset).get(topic, {})), flush=True)
        if turns != 6:             # killed here the sixth time: flushed, and not committed
            source.commit(batch.offset)
        else:
            sys.stdin.read()
"""


def test_a_second_member_takes_its_share_and_a_killed_one_loses_nothing(tmp_path):
    with cluster() as servers:
        share(servers, tmp_path)


def share(servers: str, tmp_path: Path) -> None:
    topic = fresh("shared")
    (tmp_path / "quick").write_text(QUICK)
    put(servers, topic, [row(i) for i in range(200)])
    here = str(Path(__file__).parent)
    first = subprocess.Popen(
        [sys.executable, "-c", MEMBER, servers, topic, str(tmp_path), here],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert first.stdout is not None
    said = [first.stdout.readline().split() for _ in range(6)]
    assert said[-1][0] == "6"
    first.send_signal(signal.SIGKILL)
    first.communicate()
    database = sqlite3.connect(tmp_path / "out.db")
    stamps = {one for (one,) in database.execute("SELECT timestamp FROM score")}
    database.close()
    written = {(stamp - score(0).timestamp) // 10**9 for stamp in stamps}
    assert len(written) == 30
    options = {"servers": servers, "topics": [topic], "properties": str(tmp_path / "quick")}
    one, two = (KafkaSource(group="family", **options) for _ in range(2))
    one.open(None)
    two.open(None)
    found: list[list] = [[], []]
    seen: set[int] = set(written)
    for _ in range(200):
        for member, batches in ((one, found[0]), (two, found[1])):
            batch = member.read(0.1)
            if batch is not None:
                batches.append(batch)
                seen |= {int(v) for v in cells([batch]).values()}
        if len(seen) == 200 and one._owned and two._owned:
            break
    assert seen == set(range(200))  # nothing is lost
    read = [int(value) for batches in found for value in cells(batches).values()]
    assert len(read) == len(set(read))  # each by one member
    assert len(set(read) & written) == 5  # the batch that was not committed, again
    assert len(one._owned) == len(two._owned) == 2
    assert not one._owned & two._owned
    one.close()
    # The other takes over what this one has left, and reads again what this one never committed.
    two.commit(found[1][-1].offset)
    theirs = cells(found[0])
    assert cells(drain(two, until=lambda b: cells(b).keys() >= theirs.keys())) == theirs
    assert len(two._owned) == 4
    two.close()
