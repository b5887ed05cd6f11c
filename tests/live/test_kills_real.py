"""Killed with SIGKILL between real files, SQLite, a webhook and Kafka, nothing is lost or denied

The rows come from files that the source `files` reads; scores and events go to the sinks `sqlite`,
`files`, `webhook` (whose receiver knows what it has by `id` and `turn`) and `kafka` (librdkafka's
mock cluster). `make soak` takes 100 kills, half of them at a moment that a clock draws; `make
test` five.
"""

import json
import os
import random
import sqlite3
import threading
import time
from collections import Counter
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import cycle
from pathlib import Path

import pytest
from kafka_cluster import cluster, fresh, stored
from live_runs import child, told
from live_runs import story as rows
from real_child import STAGES

from imdiffusion.live.connection.record_json import json_of, key_in, key_of
from imdiffusion.live.store.queries import Reader

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("IMDIFFUSION_REAL_KILLS", "5"))
RESULT = os.environ.get("IMDIFFUSION_REAL_KILLS_RESULT", "")
SHORT = ("sqlite write", "files flushed", "webhook posted", "kafka produce", "written")


class Receiver(ThreadingHTTPServer):
    """Takes events; the same one again changes nothing, another under its name is a contradiction.

    It turns every seventh request away, and hangs up on every eleventh after it has taken it.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Take)
        self.address = f"http://127.0.0.1:{self.server_address[1]}/events"
        self.lock, self.asked = threading.Lock(), 0
        self.begin()

    def begin(self):
        self.events, self.denied, self.again = {}, [], 0

    def take(self, events):
        for event in events:
            if self.events.setdefault(key_in(event), event) != event:
                self.denied.append(event)


class _Take(BaseHTTPRequestHandler):
    def do_POST(self):
        events = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.asked += 1
            asked = self.server.asked
            if asked % 7:
                self.server.take(events)
        if asked % 11 == 0:
            self.close_connection = True
            return
        self.send_response(204 if asked % 7 else 503)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *words):
        pass


@contextmanager
def receiver():
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


class Far:
    """The far sides of one story, and the child that feeds them."""

    def __init__(self, folder, server, servers):
        self.folder, self.server, self.servers = folder, server, servers
        self.begin()

    def begin(self):
        """A new story: everything of the last one is forgotten."""
        for path in self.folder.glob("*"):
            if path.is_file():
                path.unlink()
        (self.folder / "rows").mkdir(exist_ok=True)
        for path in (self.folder / "rows").iterdir():
            path.unlink()
        rows(self.folder / "rows")
        for path in (self.folder / "rows").iterdir():
            path.rename(path.with_suffix(".jsonl"))
        self.server.begin()
        self.topic = fresh("told")

    def run(self, *death, after=None):
        words = (self.server.address, self.servers, self.topic)
        return child(self.folder, *death, after=after, program="real_child.py", words=words)

    def finish(self):
        """Run undisturbed until nothing waits: the receiver may have turned away the last request,
        and a process that ends leaves the rest to the next one.
        """
        for _ in range(10):
            assert self.run()
            with Reader(self.folder / "live.db") as reader:
                if not any(reader.waiting().values()):
                    return
        pytest.fail("a sink never gets what waits for it")

    def check(self, whole):
        """All that an undisturbed run tells is there, in each of the far sides, once and alike."""
        scores, turns = told(self.folder)
        assert scores == whole[0]
        assert turns == whole[1]
        with Reader(self.folder / "live.db") as reader:
            facts = {key_of(one): json_of(one) for _, one in reader.feed(0, limit=100_000)}
        events = {key: fact for key, fact in facts.items() if fact["kind"] == "event"}
        assert len(events) == len(turns) > 5
        assert self.server.denied == []
        assert self.server.events == events
        assert _lines(self.folder) == Counter(map(_text, facts.values()))
        assert _tables(self.folder / "out.db") == facts
        sent = [json.loads(value) for _, value in stored(self.servers, self.topic)]
        assert {key_in(fact) for fact in sent} == facts.keys()
        assert all(facts[key_in(fact)] == fact for fact in sent)


def _text(fact):
    return json.dumps(fact, sort_keys=True)


def _lines(folder):
    """Every line of the sink's files, the ones that were set aside too, and how often."""
    found = (path.read_text().splitlines() for path in folder.glob("out*.jsonl"))
    return Counter(_text(json.loads(line)) for lines in found for line in lines)


def _tables(path):
    database = sqlite3.connect(path)
    database.row_factory = sqlite3.Row
    facts = {}
    for kind in ("score", "event"):
        for row in database.execute(f"SELECT * FROM {kind}"):
            fact = {"kind": kind, **dict(row)}
            for name in {"channels", "shares", "expected", "seen", "kinds"} & fact.keys():
                fact[name] = json.loads(fact[name])
            facts[key_in(fact)] = fact
    database.close()
    return facts


@pytest.fixture(name="far", scope="module")
def _far(tmp_path_factory):
    with receiver() as server, cluster() as servers:
        yield Far(tmp_path_factory.mktemp("story"), server, servers)


def test_kills_between_real_far_sides_lose_and_contradict_nothing(far):
    far.finish()
    whole = told(far.folder)
    far.check(whole)
    generator, began = random.Random(KILLS), time.monotonic()
    stages = cycle([*SHORT, *(stage for stage in STAGES if stage not in SHORT)])
    died, number, stories = Counter(), 0, 1
    far.begin()
    while died.total() < KILLS:
        number += 1
        if number % 2 or KILLS < 20:  # by name, or by the clock
            stage = next(stages)
            ended = far.run(stage, generator.randrange(4))
        else:
            stage = "any moment"
            ended = far.run(after=generator.uniform(0.8, 2.5))
        died[stage] += not ended
        if ended:  # it came to the end of the files: begin a new story
            far.finish()
            far.check(whole)
            far.begin()
            stories += 1
    far.finish()
    far.check(whole)
    if RESULT:
        facts = {
            "kills": dict(sorted(died.items())), "total": died.total(), "stories": stories,
            "lost": 0, "contradicted": 0, "seconds": round(time.monotonic() - began),
        }  # fmt: skip
        Path(RESULT).write_text(json.dumps(facts, indent=2) + "\n")
