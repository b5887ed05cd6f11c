"""The live state in real SQLite files: what is written is found again, and what is there is kept"""

import math
import sqlite3
import threading

import numpy as np
import pytest
from live_story import CHANNELS, MINUTE, START, rows, score_of, told, turn

from imdiffusion.durations import DAY_NS
from imdiffusion.errors import OutputError, UsageError
from imdiffusion.live.store.inserts import Checkpoint
from imdiffusion.live.store.live_state import Store
from imdiffusion.live.store.queries import Reader
from imdiffusion.live.store.retention import MARGIN, MOST, Retention
from imdiffusion.live.store.schema import size_of
from imdiffusion.saved_state import State


@pytest.fixture(name="store")
def _store(tmp_path):
    with Store(tmp_path / "live.db") as store:
        yield store


@pytest.fixture(name="reader")
def _reader(store):
    with Reader(store.path) as reader:
        yield reader


def test_a_checkpoint_is_found_again_whole(tmp_path):
    with Store(tmp_path / "live.db") as store:
        store.write(
            Checkpoint(
                told=[told("web", 9), told("web", 7), told("web", 9, mode="offline")],
                updates=[turn("e1", "web", 0, "ongoing")],
                states={("web", "scorer"): State("z", {"rows": 3})},
                offsets={"files": "17"},
                counts={("rejected", "files"): 2},
            ),
            now=START,
        )
    with Store(tmp_path / "live.db") as store, Reader(store.path) as reader:
        assert store.state("web", "scorer") == State("z", {"rows": 3})
        assert store.state("web", "tracker") is None
        assert store.entities() == ["web"]
        assert store.offset("files") == "17"
        assert store.offset("others") is None
        assert reader.counters() == {("rejected", "files"): 2}
        first, second = reader.scores("web", START, START + DAY_NS)
        assert math.isnan(first.score)
        assert second == told("web", 9).record
        assert reader.scores("web", START, START + DAY_NS, mode="offline")[0].mode == "offline"
        found = reader.event("e1")[0]
        assert found.channels == ("disk", "cpu")
        assert math.isnan(found.expected[1])
        detail = reader.details("web", START, START + DAY_NS)
        assert detail.channels == CHANNELS
        np.testing.assert_array_equal(detail.cells[1], told("web", 9).cells)
        assert [type(record).__name__ for _, record in reader.feed(0)] == [
            *["ScoreRecord"] * 3,
            "EventRecord",
        ]


def test_what_is_there_is_never_overwritten(store, reader):
    store.write(Checkpoint(told=[told("web", 9)], updates=[turn("e1", "web", 0, "ongoing")]), now=1)
    again = Checkpoint(
        told=[told("web", 9, score=99.0)], updates=[turn("e1", "web", 0, "expired", end=99)]
    )
    assert store.write(again, now=2) == 2
    assert reader.scores("web", START, START + DAY_NS) == [told("web", 9).record]
    assert reader.event("e1")[0].status == "ongoing"
    assert reader.counters() == {("again", ""): 2}
    assert len(reader.feed(0)) == 2


def test_entities_as_they_stand(store, reader):
    names = [f"host{n:02d}" for n in range(12)]
    store.write(rows(names, 0, 10), now=START)
    store.write(Checkpoint(updates=[turn("e1", "host03", 0, "ongoing")]), now=START)
    late = Checkpoint(told=[told("host00", 2, model="m2")])  # an older row: the newest one stands
    store.write(late, now=START)
    first = reader.entities(limit=5)
    assert [one.name for one in first] == names[:5]
    assert [one.name for one in reader.entities(after=first[-1].name)] == names[5:]
    assert [one.open_events for one in first] == [0, 0, 0, 1, 0]
    assert first[0].timestamp == START + 9 * MINUTE
    assert first[0].score == score_of(9)
    assert first[0].model == "m1"
    assert first[0].interval == MINUTE
    assert first[0].lag(START + 11 * MINUTE) == 2 * MINUTE
    assert [one.name for one in reader.entities(text="T1")] == ["host10", "host11"]
    assert reader.entities(state="stale") == []


@pytest.mark.parametrize("span", [90, 3000])
def test_lanes_hold_the_highest_score_of_each_bucket(store, reader, span):
    store.write(rows(["a", "b"], 0, span), now=START)
    lane = reader.lanes(START, START + span * MINUTE, buckets=30)["b"]
    wide = lane.width // MINUTE
    for start, score, alarms in zip(lane.start, lane.score, lane.alarms, strict=True):
        first = (int(start) - START) // MINUTE
        inside = [score_of(row) for row in range(max(first, 0), min(first + wide, span))]
        assert score == np.nanmax(inside)
        assert alarms == np.sum(np.array(inside) > 1)
    assert 28 <= len(lane.start) <= 31
    assert lane.score.max() == max(score_of(row) for row in range(span) if row % 70 != 7)
    alone = reader.lane("b", START, START + span * MINUTE, buckets=30)
    np.testing.assert_array_equal(alone.score, lane.score)
    assert len(reader.lane("nobody", START, START + MINUTE).start) == 0


def test_a_bucket_without_a_score_is_not_zero(store, reader):
    store.write(Checkpoint(told=[told("a", 7)]), now=START)
    assert math.isnan(reader.lane("a", START, START + DAY_NS, buckets=2).score[0])
    store.write(Checkpoint(told=[told("a", 8), told("a", 77)]), now=START)
    assert reader.lane("a", START, START + 10 * MINUTE, buckets=1).score[0] == score_of(8)


def test_events_are_listed_by_status_entity_time_and_text(store, reader):
    turns = [turn(f"e{n:02d}", f"host{n % 3}", 0, "ongoing", row=n) for n in range(20)]
    turns.append(turn("e05", "host2", 1, "resolved", row=5, end=8, channels=("memory", "cpu")))
    turns.append(turn("e19", "host1", 1, "expired", row=19, end=30))
    store.write(Checkpoint(updates=turns), now=START)
    page = reader.events(limit=15)
    assert [one.id for one in page] == [f"e{n:02d}" for n in range(19, 4, -1)]
    rest = reader.events(before=(page[-1].start, page[-1].id))
    assert [one.id for one in rest] == ["e04", "e03", "e02", "e01", "e00"]
    assert [one.id for one in reader.events(status="resolved")] == ["e05"]
    assert [one.id for one in reader.events(text="MEMO")] == ["e05"]
    assert reader.events(text="100%") == []
    assert {one.entity for one in reader.events(entity="host1")} == {"host1"}
    assert "e05" not in {one.id for one in reader.events(since=START + 8 * MINUTE)}
    assert [one.id for one in reader.events(until=START + 2 * MINUTE)] == ["e01", "e00"]
    assert [one.update for one in reader.event("e05")] == [0, 1]
    assert reader.event("none") == []


def test_feedback_is_kept_by_event(store, reader):
    store.write(Checkpoint(updates=[turn("e1", "web", 0, "ongoing")]), now=START)
    given = store.add_feedback("e1", "false_alarm", who="ann", text="<b>backup</b>", now=5)
    assert reader.feedback("e1") == [given] == reader.feedback()
    assert reader.feedback(after=given.id) == []
    with pytest.raises(UsageError, match="false_alarm"):
        store.add_feedback("e1", "false_alrm", who="ann", text="", now=5)
    with pytest.raises(UsageError, match="no event 'e2'"):
        store.add_feedback("e2", "confirmed", who="ann", text="", now=5)


def test_models_are_promoted_and_are_rolled_back(store, reader):
    for number, digest in enumerate(("aa", "bb", "cc")):
        store.add_model("web", digest, detector="fast", path=f"m/{digest}", now=number)
    with pytest.raises(UsageError, match="no earlier live model"):
        store.roll_back("web", reason="bad", now=3)
    store.promote("web", "aa", reason="first", now=3)
    store.promote("web", "bb", reason="won on held-out rows", now=4)
    assert [(one.digest, one.live) for one in reader.models("web")] == [
        ("cc", False), ("bb", True), ("aa", False),
    ]  # fmt: skip
    assert store.roll_back("web", reason="worse", now=5) == "aa"
    assert [one.digest for one in reader.models() if one.live] == ["aa"]
    with pytest.raises(UsageError, match="no model 'dd'"):
        store.promote("web", "dd", reason="", now=6)


def test_a_sink_goes_on_behind_its_cursor(store, reader):
    store.write(rows(["a"], 0, 3), now=START)
    store.join("late", ["score"])
    store.join("pager", ["event"])
    assert store.behind("late", limit=9) == []
    store.write(rows(["a"], 3, 6), now=START)
    store.write(Checkpoint(updates=[turn("e1", "a", 0, "ongoing")]), now=START)
    assert [seq for seq, _ in store.behind("late", limit=2)] == [4, 5]
    assert [record.key for _, record in store.behind("pager", limit=9)] == [("e1", 0)]
    store.advance("late", 5, counts={("sent", "late"): 2})
    store.join("late", ["score"])  # a restart
    assert store.cursor("late") == 5
    assert reader.waiting() == {"late": 1, "pager": 1}
    store.leave(known=["pager"])
    assert reader.waiting() == {"pager": 1}


def test_the_feed_is_bounded_and_what_is_shed_is_counted(tmp_path):
    with (
        Store(tmp_path / "x.db", retention=Retention(feed=50)) as store,
        Reader(store.path) as reader,
    ):
        store.join("away", ["score", "event"])
        store.join("pager", ["event"])
        store.write(Checkpoint(updates=[turn("e1", "a", 0, "ongoing")]), now=START)
        store.write(rows(["a"], 0, 120), now=START)
        while store.thin(now=START, rows=30):
            pass
        left = store.behind("away", limit=999)
        assert [record.key for _, record in left][:1] == [("e1", 0)]  # scores push out no event
        assert len(left) == 51
        assert reader.counters() == {("shed", "away"): 70}
        assert store.write(rows(["a"], 120, 121), now=START) == 122


def test_old_things_go_in_small_steps_and_their_peaks_stay(tmp_path):
    keep = Retention(details=0.5, scores=1, peaks=3, events=3)
    with Store(tmp_path / "x.db", retention=keep) as store, Reader(store.path) as reader:
        store.write(rows(["a", "b"], 0, 3000), now=START)
        turns = [
            turn("old", "a", 0, "resolved", row=1, end=4),
            turn("told", "a", 0, "resolved", row=2, end=4),
            turn("open", "a", 0, "ongoing", row=1),
        ]
        store.write(Checkpoint(updates=turns), now=START)
        store.add_feedback("told", "confirmed", who="ann", text="", now=START)
        now = START + 3000 * MINUTE
        most = 0
        for _ in range(200):
            most = max(most, store.thin(now=now, rows=100))
        assert most <= 400
        assert [len(reader.scores(name, 0, now)) for name in "ab"] == [1440, 1440]
        assert len(reader.details("b", 0, now).timestamps) == 720
        around = 1 + MOST + MARGIN  # of the event that has been open since row 1
        assert len(reader.details("a", 0, now).timestamps) == 720 + around
        assert len(reader.lane("a", START, now, buckets=300).start) == 300
        assert len(reader.events()) == 3
        for _ in range(100):
            store.thin(now=now + 3 * DAY_NS, rows=100)
        assert {one.id for one in reader.events()} == {"told", "open"}
        assert reader.event("old") == []


def test_a_file_shrinks_to_its_size(tmp_path):
    with Store(tmp_path / "x.db", retention=Retention(most_bytes=400_000)) as store:
        store.write(rows(["a"], 0, 5000), now=START)
        before = size_of(store.path)
        for _ in range(300):
            store.thin(now=START + 5000 * MINUTE)
        store.close()
        assert before > 800_000
        assert store.path.stat().st_size < 500_000


def test_readers_and_the_writer_do_not_wait_for_each_other(store, reader):
    store.write(rows(["a"], 0, 10), now=START)
    seen, failed = [], []

    def read():
        try:
            for _ in range(50):
                seen.append(len(reader.scores("a", START, START + DAY_NS)))
        except OutputError as error:
            failed.append(error)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for row in range(10, 40):
        store.write(rows(["a"], row, row + 1), now=START)
    for thread in threads:
        thread.join()
    assert failed == []
    assert len(seen) == 200
    assert set(seen) <= set(range(10, 41))


def test_a_reader_cannot_write(store, reader):
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        reader._connection().execute("DELETE FROM scores")


def test_reading_what_is_not_there(tmp_path):
    with pytest.raises(OutputError, match="Start detection first"):
        Reader(tmp_path / "absent.db")
