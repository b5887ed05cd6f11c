"""Events of which people say that they are not resolved: open till they say otherwise."""

from __future__ import annotations

import numpy as np
import pytest
from live_parts import MINUTE, START, Hands, LineSource, line, zscorer

from imdiffusion.live.engine.engine import Engine
from imdiffusion.live.engine.entity_state import EngineOptions
from imdiffusion.live.events.open_event import EventRules
from imdiffusion.live.events.tracker import EventTracker
from imdiffusion.live.scorers.fitted import ScoredRow
from imdiffusion.live.store.live_state import Store
from imdiffusion.live.store.queries import Reader
from imdiffusion.records import EventRecord
from imdiffusion.saved_state import State


def judged(row, score, *, mode="online"):
    cells = np.full(2, 0.5)
    parts = np.array([2.0, 1.0]) * score
    return ScoredRow(START + row * MINUTE, mode, score, parts, cells, cells, cells, cells)


def tracker(**rules):
    one = EventTracker("web", EventRules(merge_gap=2, **rules))
    one.speak("zscore", "m", ("a", "b"))
    return one


def said(turns):
    return [(one.update, one.status) for one in turns]


def test_an_open_event_that_is_held_outlasts_quiet_rows_and_silence():
    one = tracker()
    turns = one.push([judged(0, 0.1), judged(1, 3.0)])
    assert said(one.hold(turns)) == []
    assert said(one.push(judged(row, 0.1) for row in range(2, 50))) == []
    assert said(one.expire()) == []
    fresh = EventTracker("web", EventRules(merge_gap=2))
    after = EventTracker.from_state(State.from_bytes(one.to_state().to_bytes()), fresh)
    assert after.holds
    assert said(after.push([judged(60, 0.1)])) == []
    assert said(after.hold([])) == []
    assert said(after.push([judged(61, 0.1)])) == [(1, "resolved")]


@pytest.mark.parametrize("quiet", [0, 600])
def test_one_that_is_over_is_open_again_and_takes_its_rows(quiet):
    one = tracker(quiet=quiet)
    first = one.push([judged(0, 0.1), judged(1, 3.0), *(judged(row, 0.1) for row in range(2, 9))])
    assert said(first) == [(0, "ongoing"), (1, "resolved")]
    again = one.hold(first[-1:])
    assert said(again) == [(2, "ongoing")]
    assert again[0].id == first[0].id
    assert again[0].channels == ("a", "b")
    assert again[0].shares == pytest.approx((2 / 3, 1 / 3))
    assert said(one.push([judged(9, 4.0)])) == []  # of the same cause: no second event
    one.hold([])
    last = one.push(judged(row, 0.1) for row in range(10, 20))
    assert said(last) == [(3, "resolved")]
    assert (last[0].start, last[0].end) == (START + MINUTE, START + 10 * MINUTE)
    assert last[0].score == 4.0


def test_of_a_tracker_that_begins_afresh_it_is_known_by_what_was_told():
    nothing = (float("nan"),) * 2
    told = EventRecord(
        "e", "web", "resolved", 4, START, START + MINUTE, START, 2.0, "fast", "m",
        ("b", "x"), (0.75, 0.25), nothing, nothing,
    )  # fmt: skip
    (turn,) = tracker().hold([told])
    assert (turn.id, turn.update, turn.status, turn.end) == ("e", 5, "ongoing", None)
    assert turn.channels == ("b", "a")
    assert turn.shares == (1.0, 0.0)


class Live:
    """An engine on a file of rows, and its store."""

    def __init__(self, folder):
        self.folder, self.clock = folder, Hands()

    def write(self, first, last, burst=()):
        generator = np.random.default_rng(first)
        with (self.folder / "rows").open("a") as file:
            for row in range(first, last):
                values = generator.normal(size=3) + (20.0 if row in burst else 0.0)
                file.write(line("web", row, values.tolist()))

    def __enter__(self):
        self.store = Store(self.folder / "live.db")
        self.engine = Engine(
            self.store,
            sources={"files": LineSource(self.folder / "rows")},
            sinks={},
            scorer_for=zscorer,
            rules=EventRules(merge_gap=2),
            options=EngineOptions(stale_after=1e9),
            clock=self.clock,
        )
        self.engine.open()
        return self

    def updates(self):
        for _ in range(30):
            self.clock.move(1)
            self.engine.once()
        with Reader(self.store.path) as reader:
            (event,) = reader.events()
            return said(reader.event(event.id))

    def say(self, verdict):
        with Reader(self.store.path) as reader:
            (event,) = reader.events()
        self.store.add_feedback(event.id, verdict, who="ann", text="", now=1)

    def __exit__(self, *_):
        self.engine.close()
        self.store.close()


def test_in_the_engine_and_over_a_restart(tmp_path):
    told = [(0, "ongoing"), (1, "resolved")]
    with Live(tmp_path) as live:
        live.write(0, 60, burst=(40, 41))
        assert live.updates() == told
        live.say("not_resolved")
        told = [*told, (2, "ongoing")]
        assert live.updates() == told
    with Live(tmp_path) as live:
        live.write(60, 80)
        assert live.updates() == told
        live.say("confirmed")
        live.write(80, 90)
        told = [*told, (3, "resolved")]
        assert live.updates() == told
        live.say("not_resolved")
    with Live(tmp_path) as live:  # it was said when nobody watched
        told = [*told, (4, "ongoing")]
        assert live.updates() == told
