"""Ten times the load that can be scored: what waits is bounded, what is shed is the oldest, counted

The engine is turned by hand: it takes one batch while ten come, whatever the machine is at.
"""

from __future__ import annotations

import re
from contextlib import contextmanager

import pytest
from live_parts import CHANNELS, MINUTE, START, Hands, LineSource, series, write_rows, zscorer
from served import FAST, Client

from imdiffusion.live.engine.engine import Engine
from imdiffusion.live.engine.entity_state import EngineOptions
from imdiffusion.live.service.app import make_app
from imdiffusion.live.service.server import ServiceThread
from imdiffusion.live.sources.push import PushedSource
from imdiffusion.live.store.live_state import Store
from imdiffusion.live.store.queries import Reader

FAR = 2**62
ROWS, AT_ONCE = 1_000, 10  # of the whole story, and in one request
VALUES = series(ROWS)


class Loaded:
    """A service whose engine does one thing at a time, when it is told to."""

    def __init__(self, store, source, api, engine, clock):
        self.store, self.source, self.api = store, source, api
        self.engine, self.clock = engine, clock
        self.reader = engine.readers["http"]
        self.most = 0  # rows that ever waited behind the API

    def send(self, request):
        """Rows of the request of that number; the status of the answer."""
        rows = [
            {"entity": "web", "timestamp": START + row * MINUTE,
             **dict(zip(CHANNELS, VALUES[row].tolist(), strict=True))}
            for row in range(request * AT_ONCE, (request + 1) * AT_ONCE)
        ]  # fmt: skip
        status = self.api.post("/api/ingest", {"rows": rows}).status
        while self.reader.once(0):  # as the source's own thread does
            pass
        waiting = self.source.waiting // len(CHANNELS) + self.reader.rows
        self.most = max(self.most, waiting)
        return status

    def score(self):
        """Take one batch, write what came of it."""
        self.clock.move(1)
        return self.engine.advance()

    def lag(self, request):
        """Rows between the newest that was sent and the newest that was scored."""
        with Reader(self.store.path) as reader:
            times = [one.timestamp for one in reader.scores("web", 0, FAR)]
        newest = (times[-1] - START) // MINUTE if times else -1
        return (request + 1) * AT_ONCE - 1 - newest

    def metric(self, name, labels):
        found = re.search(rf"^{name}{{{labels}}} (\S+)$", self.api.get("/metrics").text, re.M)
        return None if found is None else float(found[1])


@contextmanager
def loaded(folder, *, most=2_000_000, **options):
    source, clock = PushedSource(most=most), Hands()
    with Store(folder / "live.db") as store:
        engine = Engine(
            store,
            sources={"http": source},
            sinks={},
            scorer_for=zscorer,
            options=EngineOptions(every=0.5, stale_after=1e9, **options),
            clock=clock,
        )
        app = make_app(store, ingest=source.push, health=engine.health, limits=FAST)
        with engine, ServiceThread(app) as serving:
            yield Loaded(store, source, Client(serving.address), engine, clock)


def test_where_the_oldest_is_shed_what_is_scored_is_new_and_the_rest_is_counted(tmp_path):
    bound = 40
    with loaded(tmp_path, overload="shed", most_waiting=bound) as one:
        behind = []
        for request in range(80):  # ten come for one that is scored
            assert one.send(request) == 202
            if request % 10 == 9:
                one.score()
                behind.append(one.lag(request))
        assert one.most <= bound
        assert max(behind) <= bound  # the lag is bounded while it lasts
        name = 'queue="rows of source http"'
        assert 0 < one.metric("imdiffusion_queue_depth", name) <= bound
        for request in range(80, 100):  # the load falls
            assert one.send(request) == 202
            one.score()
            one.score()
        assert one.lag(99) == 0
        assert one.metric("imdiffusion_queue_depth", name) == 0
        with Reader(one.store.path) as reader:
            scored = {(score.timestamp - START) // MINUTE for score in reader.scores("web", 0, FAR)}
        shed = one.metric("imdiffusion_passed_over_total", 'reason="rows_shed",of="http"')
        assert shed == ROWS - len(scored) > 500
        assert one.metric("imdiffusion_done_total", 'what="rows",of="http"') == len(scored)
        # Whole batches went, always the oldest of those that waited.
        assert {row // AT_ONCE for row in scored} == {*range(6, 76, 10), *range(76, 100)}


def test_where_the_source_waits_senders_are_told_and_nothing_is_lost(tmp_path):
    bound = 5 * AT_ONCE  # rows that wait in the queue of the API
    with loaded(tmp_path, most=bound * len(CHANNELS)) as one:
        refused, request = 0, 0
        while request < 100:
            for _ in range(10):
                if request < 100 and one.send(request) == 202:
                    request += 1
                else:  # its sender keeps it
                    refused += request < 100
            one.score()
        assert refused > 0
        assert one.most <= 3 * bound  # each of the engine's two batches may be a whole queue
        while one.score():
            one.reader.once(0)
        assert one.lag(99) == 0
        with Reader(one.store.path) as reader:
            times = [score.timestamp for score in reader.scores("web", 0, FAR)]
            assert ("rows_shed", "http") not in reader.counters()
        assert times == [START + row * MINUTE for row in range(ROWS)]
        assert one.metric("imdiffusion_http_total", 'kind="rows",outcome="full"') == refused


@pytest.mark.parametrize("kill_before", ["offset", "next"])
def test_what_was_shed_does_not_come_again(tmp_path, kill_before):
    """The offset of the batch that is taken stands for those that were shed before it."""
    write_rows(tmp_path / "rows", ["web"], 100)

    def engine(store):
        return Engine(
            store,
            sources={"files": LineSource(tmp_path / "rows", lines=10)},
            sinks={},
            scorer_for=zscorer,
            options=EngineOptions(
                every=0.5, stale_after=1e9, overload="shed", most_waiting=30
            ),
            clock=Hands(),
        )  # fmt: skip

    with Store(tmp_path / "live.db") as store:
        first = engine(store)
        while first.readers["files"].once(0):
            pass
        assert first.readers["files"].rows == 30
        if kill_before == "next":
            first._watch._clock.move(1)
            first.advance()
        # No close: as after a kill, what was not written is not there.
    with Store(tmp_path / "live.db") as store, engine(store) as second:
        while second.readers["files"].once(0):
            pass
        while second.readers["files"].queued:
            second.advance()
    with Reader(tmp_path / "live.db") as reader:
        scored = [(one.timestamp - START) // MINUTE for one in reader.scores("web", 0, FAR)]
        counted = reader.counters()["rows_shed", "files"]
    assert scored == list(range(70, 100))
    assert counted == 70
