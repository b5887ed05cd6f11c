"""Rows over HTTP through a running engine: scored, told of, explained, counted."""

from __future__ import annotations

import queue
import threading

import numpy as np
import pytest
from live_parts import CHANNELS, series, zscorer
from served import FAST, Client, follow

from imdiffusion.data.frame import Frame
from imdiffusion.errors import ConfigError
from imdiffusion.live.engine.engine import Engine, run
from imdiffusion.live.engine.entity_state import EngineOptions
from imdiffusion.live.service.app import make_app
from imdiffusion.live.service.server import ServiceThread
from imdiffusion.live.sinks.metrics import MetricsSink
from imdiffusion.live.sources.push import PushedSource
from imdiffusion.live.store.live_state import Store

MINUTE = 60


def sent(first, last):
    values = series(200)
    return [
        {"entity": "web", "timestamp": 1_700_000_400 + row * MINUTE,
         **dict(zip(CHANNELS, values[row].tolist(), strict=True))}
        for row in range(first, last)
    ]  # fmt: skip


def frame(width, rows=1, entity="a"):
    times = np.arange(rows).astype("datetime64[s]").astype("datetime64[ns]")
    values = np.ones((rows, width))
    return Frame(values, values == 1, times, tuple(f"c{k}" for k in range(width)), entity=entity)


@pytest.fixture(name="running")
def _running(tmp_path):
    """An engine over pushed rows, with the service and a sink of metrics."""
    source, sink, stop = PushedSource(), MetricsSink(), threading.Event()
    with Store(tmp_path / "live.db") as store:
        engine = Engine(
            store,
            sources={"http": source},
            sinks={"metrics": sink},
            scorer_for=zscorer,
            options=EngineOptions(every=0.05, poll=0.05),
        )
        app = make_app(
            store, ingest=source.push, metrics=sink, health=engine.health, limits=FAST
        )  # fmt: skip
        engine.open()
        thread = threading.Thread(target=run, args=(engine, stop))
        thread.start()
        try:
            with ServiceThread(app) as serving:
                yield Client(serving.address), source
        finally:
            stop.set()
            thread.join()


def test_pushed_rows_are_scored_and_their_events_told_and_explained(running):
    api, source = running
    with follow(api) as told:
        assert next(told)[0] == "hello"
        assert api.post("/api/ingest", {"rows": sent(0, 50)}).json["rows"] == 50
        scores, events = {}, {}
        while len(scores) < 50:
            kind, change = next(told)
            assert kind == "change"
            scores |= {seconds: score for _, seconds, score, *_ in change["scores"]}
            events |= {one["id"]: one for one in change["events"]}
        # The same row again, as a sender does who got no answer: nothing is told twice.
        assert api.post("/api/ingest", {"rows": sent(49, 51)}).status == 202
        while len(scores) < 51:
            scores |= {seconds: score for _, seconds, score, *_ in next(told)[1]["scores"]}
    kept = api.get(
        "/api/scores?entity=web&since=2023-11-14T22:20:00Z&until=2023-11-15T00:00:00Z"
    ).json["scores"]
    assert len(kept) == 51
    (event,) = api.get("/api/events").json["events"]
    assert events[event["id"]]["entity"] == "web"
    found = api.get(f"/api/events/{event['id']}").json
    assert found["event"]["channels"][0]["name"] == "cpu"
    assert found["sure"]["anomalous"] == 4
    assert source.waiting == 0
    ready = api.get("/readyz")
    assert (ready.status, ready.json["fresh"]) == (200, 1)
    lines = api.get("/metrics").text
    assert 'imdiffusion_queue_depth{queue="source http"} 0.0' in lines


def test_what_waits_is_bounded_and_comes_in_order():
    source = PushedSource(most=10)
    source.open(None)
    assert source.read(0) is None
    assert source.read(0.01) is None
    for width in (4, 5):
        source.push(frame(width))
    with pytest.raises(queue.Full):
        source.push(frame(2))
    assert source.waiting == 9
    batch = source.read(1)
    assert [one.width for one in batch.frames] == [4, 5]
    source.push(frame(50))  # alone, however large
    assert source.read(0).frames[0].width == 50
    source.close()
    with pytest.raises(queue.Full):
        source.push(frame(1))
    with pytest.raises(ConfigError):
        PushedSource(most=0)


def test_many_threads_lose_nothing():
    source = PushedSource(most=10**9)

    def push(name):
        for _ in range(200):
            source.push(frame(3, entity=name))

    threads = [threading.Thread(target=push, args=(str(n),)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = []
    while (batch := source.read(0)) is not None:
        found += [one.entity for one in batch.frames]
    assert len(found) == 1600
    assert source.waiting == 0
