"""A member of a consumer group, killed with SIGKILL while it scores, leaves nothing out

librdkafka's mock cluster lets nobody join a group in whose place a member died before its session
is over, so a kill costs seconds: one in `make test`, twenty in `make soak`.
"""

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from confluent_kafka import Producer
from kafka_cluster import QUICK, cluster, fresh, make
from live_runs import ROWS, child, story, told

from imdiffusion.errors import OutputError
from imdiffusion.live.store.queries import Reader

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
KILLS = int(os.environ.get("IMDIFFUSION_KAFKA_KILLS", "1"))
PATIENCE = 120.0


def fill(servers, topic, folder):
    """The rows of the story's files, each file into a partition of its own."""
    producer = Producer({"bootstrap.servers": servers})
    for partition, name in enumerate(("web", "db")):
        for line in (folder / name).read_bytes().splitlines():
            producer.produce(topic, key=name, value=line, partition=partition)
    assert producer.flush(30) == 0


@contextmanager
def member(folder, servers, topic):
    with subprocess.Popen(
        [sys.executable, HERE / "kafka_child.py", folder, servers, topic],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def scored(folder):
    """Rows of the two entities that were judged twice: online and offline."""
    if not (folder / "live.db").exists():
        return 0
    with suppress(OutputError), Reader(folder / "live.db") as reader:  # not yet begun
        return sum(
            len(reader.scores(name, 0, 2**62, mode=mode))
            for name in ("web", "db")
            for mode in ("online", "offline")
        )
    return 0


def wait_for(folder, rows, process):
    until = time.monotonic() + PATIENCE
    while scored(folder) < rows:
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < until, "it never came"
        time.sleep(0.01)


def test_a_killed_member_leaves_nothing_out(tmp_path):
    files, live = tmp_path / "files", tmp_path / "live"
    files.mkdir()
    live.mkdir()
    story(files)
    assert child(files)
    whole = told(files)
    (live / "quick").write_text(QUICK)
    generator, topic = random.Random(KILLS), fresh("rows")
    most = len(whole[0])
    marks = sorted(generator.randrange(most * 3 // 4) for _ in range(KILLS))
    assert most >= 2 * ROWS
    with cluster() as servers:
        make(servers, topic)
        fill(servers, topic, files)
        for mark in marks:
            with member(live, servers, topic) as process:
                wait_for(live, mark, process)
                process.send_signal(signal.SIGKILL)
                assert process.wait() == -signal.SIGKILL
        with member(live, servers, topic) as process:
            wait_for(live, most, process)
            process.send_signal(signal.SIGTERM)
            out, said = process.communicate(timeout=PATIENCE)
            assert (process.returncode, out) == (0, "done\n"), said
    assert told(live) == whole
