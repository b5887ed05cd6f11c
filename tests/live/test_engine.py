"""The engine with real files, sockets and SQLite: nothing lost, nothing told twice differently"""

import gc
import json
import math
import os
import signal
import threading
import tracemalloc

import numpy as np
import pytest
from live_parts import (
    MINUTE,
    START,
    FarSide,
    Hands,
    LineSink,
    LineSource,
    SocketSink,
    ZScorer,
    line,
    series,
    write_rows,
    zscorer,
)  # fmt: skip

from imdiffusion.durations import DAY_NS
from imdiffusion.errors import ConfigError, OutputError, SourceEnded
from imdiffusion.live.engine.engine import Engine, run, stopped_by_signals
from imdiffusion.live.engine.entity_state import EngineOptions
from imdiffusion.live.events.open_event import EventRules
from imdiffusion.live.scorers.fitted import owner_of
from imdiffusion.live.store.live_state import Store
from imdiffusion.live.store.queries import Reader
from imdiffusion.live.store.retention import Retention

FAR = START + 999 * DAY_NS


class Live:
    """An engine on a store in a folder, turned by hand."""

    def __init__(self, folder, sources, sinks, *, retention=None, rules=None, **options):
        self.clock = Hands()
        self.store = Store(folder / "live.db", retention=retention)
        self.reader = Reader(folder / "live.db")
        self.engine = Engine(
            self.store,
            sources=sources,
            sinks=sinks,
            scorer_for=zscorer,
            rules=rules or EventRules(),
            options=EngineOptions(**{"stale_after": 1e9, **options}),
            clock=self.clock,
            generator=np.random.default_rng(0),
        )
        self.engine.open()

    def settle(self, step=1.0, rounds=400):
        """Turn until there is nothing to do."""
        for _ in range(rounds):
            self.clock.move(step)
            if not self.engine.once():
                return
        pytest.fail("the engine never comes to rest")

    def close(self):
        self.engine.close()
        self.reader.close()
        self.store.close()


@pytest.fixture(name="live")
def _live(tmp_path):
    made = []

    def make(sources, sinks, **options):
        made.append(Live(tmp_path, sources, sinks, **options))
        return made[-1]

    yield make
    for one in made:
        one.reader.close()
        one.store.close()


def lines(path):
    return [json.loads(text) for text in path.read_text().splitlines()]


def facts(path):
    """Lines whatever their order: how rows fall into checkpoints weaves scores with turns."""
    return sorted(path.read_text().splitlines())


def test_rows_become_scores_events_and_lines(live, tmp_path):
    write_rows(tmp_path / "rows", ["web", "db"], 100)
    source, sink = LineSource(tmp_path / "rows"), LineSink(tmp_path / "out")
    one = live({"files": source}, {"out": sink})
    one.settle()
    scores = one.reader.scores("web", 0, FAR)
    assert len(scores) == 100
    assert [score.state for score in scores[:20]] == ["warming"] * 20
    assert all(math.isnan(score.score) for score in scores[:20])
    assert scores[31].channels[0] == "cpu"
    events = one.reader.events(entity="web")
    assert [(event.status, event.update, event.channels[0]) for event in events] == [
        ("resolved", 1, "memory"), ("resolved", 1, "cpu"),
    ]  # fmt: skip
    assert (events[1].start, events[1].end) == (START + 30 * MINUTE, START + 34 * MINUTE)
    written = lines(tmp_path / "out")
    assert [fact["kind"] for fact in written].count("score") == 200
    assert [fact["update"] for fact in written if fact.get("id") == events[0].id] == [0, 1]
    assert source.committed[-1] == (tmp_path / "rows").stat().st_size
    assert one.store.offset("files") == str(source.committed[-1])
    assert one.reader.counters()["rows", "files"] == 200
    detail = one.reader.details("web", 0, FAR)
    np.testing.assert_allclose(detail.cells[:, 0], series(100, seed=0), rtol=1e-6)
    one.close()


def test_a_restart_goes_on_where_it_was(live, tmp_path):
    write_rows(tmp_path / "rows", ["web"], 33)
    one = live({"files": LineSource(tmp_path / "rows")}, {"out": LineSink(tmp_path / "out")})
    one.settle()
    assert one.reader.events()[0].status == "ongoing"
    one.close()
    write_rows(tmp_path / "rows", ["web"], 100, first=33)
    two = live({"files": LineSource(tmp_path / "rows")}, {"out": LineSink(tmp_path / "out")})
    two.settle()
    two.close()
    write_rows(tmp_path / "again", ["web"], 33)
    write_rows(tmp_path / "again", ["web"], 100, first=33)
    (tmp_path / "live.db").rename(tmp_path / "restarted.db")
    whole = live({"files": LineSource(tmp_path / "again")}, {"out": LineSink(tmp_path / "whole")})
    whole.settle()
    whole.close()
    assert facts(tmp_path / "out") == facts(tmp_path / "whole")


def test_a_sink_that_is_away_holds_up_nobody_and_misses_nothing(live, tmp_path):
    far = FarSide()
    far.go()
    source = LineSource(tmp_path / "rows")
    sinks = {"far": SocketSink(far.port), "out": LineSink(tmp_path / "out")}
    one = live({"files": source}, sinks)
    write_rows(tmp_path / "rows", ["web"], 60)
    one.settle()
    assert one.engine.health()["sinks"]["far"]["away"]
    assert len(lines(tmp_path / "out")) == 62
    assert one.reader.waiting() == {"far": 62, "out": 0}
    assert source.committed[-1] == (tmp_path / "rows").stat().st_size  # its records are safe here
    back = FarSide(far.port, far.lines)
    one.settle(step=70)
    back.go()
    assert far.lines == lines(tmp_path / "out")  # in the very same order
    assert one.reader.waiting() == {"far": 0, "out": 0}
    assert one.reader.counters()["sent", "far"] == 62
    one.close()


def test_a_sink_that_is_away_too_long_has_its_oldest_scores_shed_and_counted(live, tmp_path):
    far = FarSide()
    far.go()
    sinks = {"far": SocketSink(far.port)}
    one = live({"files": LineSource(tmp_path / "rows")}, sinks, retention=Retention(feed=40))
    write_rows(tmp_path / "rows", ["web"], 100)
    one.settle(step=6)
    back = FarSide(far.port, far.lines)
    one.settle(step=70)
    back.go()
    kinds = [record["kind"] for record in far.lines]
    assert kinds.count("score") == 40
    assert kinds.count("event") == 4  # no flood of scores pushes an event out
    assert one.reader.counters()["shed", "far"] == 60
    assert far.lines[-1] == json.loads(json.dumps(one.reader.feed(103)[0][1].to_dict()))
    one.close()


def test_a_sink_that_takes_events_gets_events(live, tmp_path):
    far = FarSide()
    one = live(
        {"files": LineSource(tmp_path / "rows")}, {"far": SocketSink(far.port, takes=["event"])}
    )
    write_rows(tmp_path / "rows", ["web"], 60)
    one.settle()
    far.go()
    assert [record["kind"] for record in far.lines] == ["event", "event"]
    assert one.engine.health()["sinks"]["far"]["cursor"] == one.store.last()
    one.close()


def test_a_source_that_is_away_makes_its_entities_stale_once_and_catches_up(live, tmp_path):
    path = tmp_path / "rows"
    write_rows(path, ["web"], 32)
    one = live({"files": LineSource(path)}, {"out": LineSink(tmp_path / "out")}, stale_after=2.0)
    one.settle(step=0.5)
    assert one.reader.entities()[0].state == "ready"
    path.rename(tmp_path / "hidden")
    one.clock.move(100)
    one.settle(step=0.5)
    assert one.engine.health()["sources"]["files"]["away"]
    assert one.reader.entities(state="stale") == []
    one.clock.move(30)
    one.settle()
    one.clock.move(5000)
    one.settle()
    stale = one.reader.entities(state="stale")[0]
    assert math.isnan(stale.score)
    last = one.reader.scores("web", 0, FAR)
    assert [score.state for score in last[-2:]] == ["ready", "stale"]
    assert last[-1].timestamp == last[-2].timestamp + 1_000_000
    assert [(event.status, event.update) for event in one.reader.events()] == [("expired", 1)]
    (tmp_path / "hidden").rename(path)
    write_rows(path, ["web"], 60, first=32)
    one.settle(step=70)
    assert one.reader.entities()[0].state == "ready"
    assert len(one.reader.scores("web", 0, FAR)) == 61
    assert lines(tmp_path / "out")[-1]["timestamp"] == START + 59 * MINUTE
    one.close()


def test_a_jump_of_the_wall_clock_makes_nobody_stale(live, tmp_path):
    write_rows(tmp_path / "rows", ["web"], 30)
    one = live({"files": LineSource(tmp_path / "rows")}, {}, stale_after=2.0)
    one.settle()
    one.clock.ns += 3600 * 1_000_000_000
    one.settle()
    one.clock.ns -= 7200 * 1_000_000_000
    one.settle()
    assert one.reader.entities(state="stale") == []
    one.close()


def test_rubbish_is_counted_and_blocks_nobody(live, tmp_path, caplog):
    path = tmp_path / "rows"
    write_rows(path, ["web"], 25)
    with path.open("a") as file:
        file.write("rubbish\n" + line("web", 25, [666, 1, 1]))
        file.write(
            json.dumps({"entity": "web", "timestamp": START + 26 * MINUTE, "gpu": 1.0}) + "\n"
        )
    with path.open("a") as file:
        file.writelines(line("web", row, [0.1, 0.2, 0.3]) for row in range(27, 40))
    one = live({"files": LineSource(path, lines=1)}, {"out": LineSink(tmp_path / "out")})
    one.settle()
    counters = one.reader.counters()
    assert counters["rejected", "files"] == 1
    assert counters["failed", "files"] == 1
    assert counters["unknown_channels", "web"] == 1
    assert "a value that cannot be used" in caplog.text
    scores = one.reader.scores("web", 0, FAR)
    assert [(score.timestamp - START) // MINUTE for score in scores] == [*range(25), *range(26, 40)]
    assert {score.state for score in scores[20:]} == {"ready"}
    one.close()


def test_a_state_that_cannot_be_used_begins_afresh(live, tmp_path, caplog):
    write_rows(tmp_path / "rows", ["web"], 30)
    one = live({"files": LineSource(tmp_path / "rows")}, {})
    one.settle()
    one.close()
    with Store(tmp_path / "live.db") as store:
        store._connection.execute("UPDATE states SET state = substr(state, 1, 20)")
    write_rows(tmp_path / "rows", ["web"], 60, first=30)
    two = live({"files": LineSource(tmp_path / "rows")}, {})
    two.settle()
    assert two.reader.counters()["states_refused", "web"] == 1
    assert caplog.text.count("starting over") == 1
    scores = two.reader.scores("web", 0, FAR)
    assert [score.state for score in scores[28:]] == ["ready"] * 2 + ["warming"] * 20 + [
        "ready"
    ] * 10
    two.close()


def test_an_interruption_in_the_midst_of_a_batch_leaves_it_for_the_next_start(live, tmp_path):
    class Interrupted(ZScorer):
        def push(self, frame):
            if frame.entity == "db" and frame.timestamps[-1].astype(np.int64) > START + 30 * MINUTE:
                raise KeyboardInterrupt
            return super().push(frame)

    write_rows(tmp_path / "rows", ["web", "db"], 60)
    one = live({"files": LineSource(tmp_path / "rows")}, {})
    one.engine._watch._scorer_for = lambda frame, _: Interrupted(frame.entity)
    with pytest.raises(KeyboardInterrupt):
        one.settle()
    one.close()
    two = live({"files": LineSource(tmp_path / "rows")}, {})
    two.settle()
    assert [len(two.reader.scores(name, 0, FAR)) for name in ("web", "db")] == [60, 60]
    assert ("again", "") not in two.reader.counters()
    two.close()


def test_more_entities_than_allowed_are_refused_and_counted(live, tmp_path):
    write_rows(tmp_path / "rows", ["a", "b", "c"], 10)
    one = live({"files": LineSource(tmp_path / "rows")}, {}, most_entities=2)
    one.settle()
    assert [entity.name for entity in one.reader.entities()] == ["a", "b"]
    assert one.reader.counters()["entities_refused", "files"] == 10
    one.close()


def test_who_is_silent_for_long_is_forgotten_and_may_come_back(live, tmp_path):
    write_rows(tmp_path / "rows", ["web", "db"], 30)
    sources = {"files": LineSource(tmp_path / "rows")}
    keep = Retention(details=1, scores=1, peaks=1)
    one = live(sources, {}, stale_after=2.0, forget_after=3600.0, most_entities=2, retention=keep)
    one.settle()
    one.clock.move(200)
    one.settle()
    with (tmp_path / "rows").open("a") as file:
        file.write(line("web", 30, [0.1, 0.1, 0.1]))
    one.settle()
    one.clock.move(3500)
    one.settle()
    assert one.store.entities() == ["web"]
    assert one.reader.counters()["entities_forgotten", ""] == 1
    assert len(one.reader.scores("db", 0, FAR)) == 31
    one.clock.move(2 * 86_400)
    for row in range(31, 60):
        with (tmp_path / "rows").open("a") as file:
            file.write(line("web", row, [0.1, 0.1, 0.1]))
        one.settle(step=6)
    assert [entity.name for entity in one.reader.entities()] == ["web"]
    write_rows(tmp_path / "rows", ["web", "db"], 62, first=60)
    one.settle()
    assert [score.state for score in one.reader.scores("db", 0, FAR)] == ["warming"] * 2
    one.close()


def test_memory_does_not_grow_with_the_rows(live, tmp_path):
    write_rows(tmp_path / "rows", ["web", "db"], 300)
    one = live(
        {"files": LineSource(tmp_path / "rows", lines=50)}, {"out": LineSink(tmp_path / "o")}
    )
    one.settle()
    tracemalloc.start()
    try:
        held = []
        for last in (400, 1000):
            write_rows(tmp_path / "rows", ["web", "db"], last, first=300 if last == 400 else 400)
            one.settle()
            gc.collect()
            held.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert held[1] - held[0] < 50_000  # bytes; 1,200 rows with their records are 1 MB
    one.close()


def test_a_new_model_takes_over_and_open_events_go_on(live, tmp_path):
    write_rows(tmp_path / "rows", ["web"], 32)
    one = live({"files": LineSource(tmp_path / "rows")}, {})
    one.settle()
    successor = ZScorer("web")
    successor.model, successor.detector = "m2", "fast"
    one.engine.succeed("web", successor)
    write_rows(tmp_path / "rows", ["web"], 60, first=32)
    one.settle()
    event = one.reader.events()[-1]
    assert (event.detector, event.status) == ("fast", "resolved")
    assert [turn.detector for turn in one.reader.event(event.id)] == ["zscore", "fast"]
    assert owner_of(one.store.state("web", "scorer")) == ("fast", "m2")
    one.close()


def test_what_a_source_sends_faster_than_it_is_scored_waits_at_the_source(live, tmp_path):
    write_rows(tmp_path / "rows", ["web"], 100)
    one = live({"files": LineSource(tmp_path / "rows", lines=10)}, {})
    reader = one.engine.readers["files"]
    assert [reader.once(0) for _ in range(5)] == [True, True, False, False, False]
    assert reader.queued == 2
    one.settle()
    assert len(one.reader.scores("web", 0, FAR)) == 100
    one.close()


def test_a_slow_sink_holds_commits_back_in_bounded_memory(live, tmp_path):
    write_rows(tmp_path / "rows", ["web"], 150)
    source = LineSource(tmp_path / "rows", lines=1)
    one = live({"files": source}, {"out": LineSink(tmp_path / "out")})
    reader = one.engine.readers["files"]
    for _ in range(150):  # the sink's thread is busy: nothing is sent
        reader.once(0)
        one.clock.move(1)
        one.engine.advance()
        one.engine.tell_sources()
        reader.commit_asked()
    assert source.committed == []
    assert len(one.engine._due) == 100
    one.settle()
    assert source.committed[-1] == (tmp_path / "rows").stat().st_size
    one.close()


def test_while_nothing_can_be_written_nothing_is_read_and_nothing_lost(live, tmp_path):
    write_rows(tmp_path / "rows", ["web"], 100)
    source = LineSource(tmp_path / "rows")
    one = live({"files": source}, {"out": LineSink(tmp_path / "out")})
    # SQLite itself refuses to grow: as on a full disk, and undone as easily.
    run = one.store._connection.execute
    (pages,) = run("PRAGMA page_count").fetchone()
    run(f"PRAGMA max_page_count = {pages + 2}").fetchall()
    for _ in range(300):
        one.clock.move(1)
        one.engine.once()
    stuck = one.engine.health()
    assert "Free some space" in stuck["stuck"]
    assert stuck["pending"] > 0
    assert stuck["sources"]["files"]["queued"] == 2
    assert source.committed == [] or source.committed[-1] <= int(one.store.offset("files"))
    with pytest.raises(OutputError, match="Free some space"):
        one.engine.close()
    run("PRAGMA max_page_count = 1000000").fetchall()
    one.settle(step=70)
    assert len(one.reader.scores("web", 0, FAR)) == 100
    assert len(lines(tmp_path / "out")) == 104
    assert source.committed[-1] == (tmp_path / "rows").stat().st_size
    one.close()


def test_a_source_that_no_retry_can_mend_is_left_and_said(live, tmp_path):
    class Wrong(LineSource):
        def read(self, timeout):
            raise ConfigError("no such topic", remedy="Name another.")

    write_rows(tmp_path / "rows", ["web"], 10)
    one = live({"files": LineSource(tmp_path / "rows"), "wrong": Wrong(tmp_path)}, {})
    one.settle()
    assert one.engine.health()["sources"]["wrong"]["broken"] == "no such topic. Name another."
    assert len(one.reader.scores("web", 0, FAR)) == 10
    one.close()


class Ending(LineSource):
    """A file that is read to its end and no further."""

    def read(self, timeout):
        batch = super().read(timeout)
        if batch is None:
            raise SourceEnded(f"{self.path} is read")
        return batch


def engine_of(store, tmp_path, sources):
    return Engine(
        store,
        sources=sources,
        sinks={"out": LineSink(tmp_path / "out")},
        scorer_for=zscorer,
        options=EngineOptions(every=0.05, poll=0.05),
    )


def test_in_threads_it_runs_until_every_source_has_ended(tmp_path):
    for name in "ab":
        write_rows(tmp_path / name, [name], 100)
    with Store(tmp_path / "live.db") as store:
        engine = engine_of(store, tmp_path, {name: Ending(tmp_path / name) for name in "ab"})
        engine.open()
        run(engine, threading.Event())
        with Reader(store.path) as reader:
            assert [len(reader.scores(name, 0, FAR)) for name in "ab"] == [100, 100]
            assert reader.waiting() == {"out": 0}
    assert len(lines(tmp_path / "out")) == 208


def test_sigterm_stops_it_gracefully(tmp_path):
    write_rows(tmp_path / "rows", ["web"], 100)
    source = LineSource(tmp_path / "rows", lines=1)
    with Store(tmp_path / "live.db") as store:
        engine = engine_of(store, tmp_path, {"files": source})
        engine.open()
        stop, before = threading.Event(), signal.getsignal(signal.SIGTERM)
        waiter = threading.Thread(
            target=lambda: (_until(lambda: source.committed), os.kill(os.getpid(), signal.SIGTERM))
        )
        with stopped_by_signals(stop):
            waiter.start()
            run(engine, stop)
        waiter.join()
        assert signal.getsignal(signal.SIGTERM) is before
        assert str(source.committed[-1]) == store.offset("files")
        with Reader(store.path) as reader:
            found = reader.scores("web", 0, FAR)
            assert reader.waiting() == {"out": 0}
    written = (tmp_path / "rows").read_bytes()[: source.committed[-1]].count(b"\n")
    assert len(found) == written


def _until(condition):
    pause = threading.Event()
    while not condition():
        pause.wait(0.01)
