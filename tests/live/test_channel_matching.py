"""Channels that are missing, new or renamed while live: scored on, said, counted, learned."""

from __future__ import annotations

import logging

import numpy as np
from live_parts import MINUTE, START, Hands

from imdiffusion.data.frame import Frame
from imdiffusion.errors import SourceEnded
from imdiffusion.live.connection.protocols import Batch
from imdiffusion.live.engine.engine import Engine
from imdiffusion.live.engine.entity_state import EngineOptions
from imdiffusion.live.rows.alignment import Alignment
from imdiffusion.live.scorers.active_scorer import ActiveScorer
from imdiffusion.live.scorers.cold_start import ColdStartScorer
from imdiffusion.live.store.live_state import Store
from imdiffusion.live.store.queries import Reader

FAR = 2**62


def frame(first, values, channels):
    times = (START + (first + np.arange(len(values))) * MINUTE).astype("datetime64[ns]")
    return Frame(values, ~np.isnan(values), times, tuple(channels), "web")


def noise(rows, channels, *, seed=0):
    return np.random.default_rng(seed).normal(size=(rows, len(channels)))


def active(channels="ab", **options):
    rows = Alignment("web", tuple(channels), period=MINUTE, lateness=0, fill=30, **options)

    def cold(alignment, period):
        return ColdStartScorer(alignment.channels, period=period, baseline="zscore")

    return ActiveScorer(rows, "zscore", "m", cold)


def pushed(one, frames):
    return [row for rows in frames for row in one.push(rows)]


def test_a_new_channel_is_seen_at_once_and_counts_once_it_is_learned():
    one = active()
    pushed(one, [frame(0, noise(60, "ab"), "ab")])
    more = noise(40, "abc", seed=1)
    more[5, 2] = 40.0  # nobody knows yet what is normal of it
    more[30, 2] = 40.0
    rows = pushed(one, [frame(60 + k, more[k : k + 1], "abc") for k in range(40)])
    assert one.channels == ("a", "b", "c")
    assert {len(row.parts) for row in rows} == {3}
    assert {row.state for row in rows} == {"ready"}
    assert [row.seen[2] for row in rows] == [float(cells[2]) for cells in more]
    assert np.isnan(rows[5].expected[2])
    assert not rows[5].score > 1
    assert rows[30].score > 1
    assert np.nanargmax(rows[30].parts) == 2


def test_what_was_learned_of_the_others_stands():
    """Beside a channel that has just come the others are judged much as without it."""
    one, other = active(), active()
    for each in (one, other):
        pushed(each, [frame(0, noise(60, "ab"), "ab")])
    rows = noise(9, "abc", seed=1)
    rows[4, 0] = 30.0
    (with_it, without) = (
        pushed(one, [frame(60, rows, "abc")]),
        pushed(other, [frame(60, rows[:, :2], "ab")]),
    )
    scores = [[row.score for row in judged] for judged in (with_it, without)]
    assert np.allclose(*scores, rtol=0.15)
    assert np.argmax(np.nan_to_num(with_it[4].parts)) == 0


def test_over_a_restart_in_the_midst_of_it_all_is_the_same():
    def frames():
        first, then = noise(40, "ab"), noise(50, "bcd", seed=2)
        yield from (frame(k, first[k : k + 1], "ab") for k in range(40))
        yield from (frame(40 + k, then[k : k + 1], "bcd") for k in range(50))

    whole = active()
    expected = pushed(whole, frames())
    for cut in (39, 41, 45, 55, 80):
        parts = list(frames())
        before = active()
        told = pushed(before, parts[:cut])
        after = ActiveScorer.from_state(before.to_state(), active(before.channels))
        told += pushed(after, parts[cut:])
        assert str(told) == str(expected)


def test_there_is_a_limit_to_new_channels(caplog):
    one = active(most=3)
    with caplog.at_level(logging.WARNING):
        for first in (0, 5, 10):
            pushed(one, [frame(first, noise(5, "abcde"), "abcde")])
    assert one.channels == ("a", "b", "c")
    assert one.counts["unknown_channel"] == 30
    assert len(caplog.records) == 1
    assert "new channels from now on: 'c'" in caplog.text


def test_a_channel_without_any_value_is_none():
    one = active()
    rows = noise(5, "abc")
    rows[:, 2] = np.nan
    pushed(one, [frame(0, rows, "abc")])
    assert one.channels == ("a", "b")


def test_whoever_takes_over_brings_its_channels_and_drops_those_that_are_gone():
    one = active("abx")
    pushed(one, [frame(0, noise(30, "abx"), "abx"), frame(30, noise(100, "abn"), "abn")])
    speaker = ColdStartScorer("bmx", period=MINUTE, baseline="zscore")
    after = ActiveScorer(one.alignment, "zscore", "n", lambda *_: speaker, ready=speaker)
    *_, row = after.push(frame(130, np.array([[1.0, 2.0, 3.0], [7.0, 7.0, 7.0]]), "abn"))
    assert after.channels == ("b", "m", "x", "a", "n")
    assert row.seen.tolist()[0] == 2.0
    assert row.seen.tolist()[3:] == [1.0, 3.0]
    speaker = ColdStartScorer("ab", period=MINUTE, baseline="zscore")
    last = ActiveScorer(one.alignment, "zscore", "o", lambda *_: speaker, ready=speaker)
    last.push(frame(132, np.array([[1.0, 2.0, 3.0]]), "abn"))
    assert last.channels == ("a", "b", "n")


# -- in the engine


class Frames:
    """A source of frames, one a batch."""

    def __init__(self, frames):
        self._frames = frames

    def open(self, offset):
        self._left = list(enumerate(self._frames))[int(offset or 0) :]

    def read(self, timeout):
        if not self._left:
            raise SourceEnded("that was all")
        number, one = self._left.pop(0)
        return Batch((one,), str(number + 1), ())

    def commit(self, offset):
        pass

    def close(self):
        pass


def test_in_the_engine_missing_new_and_renamed_channels_are_scored_on(tmp_path, caplog):
    values = noise(120, "abcd")
    values[100, 2] = 50.0
    frames = [
        *(frame(k, values[k : k + 1, :2], "ab") for k in range(40)),
        *(frame(k, values[k : k + 1, :1], "a") for k in range(40, 60)),  # b is missing
        *(frame(k, values[k : k + 1, [0, 2]], "ac") for k in range(60, 120)),  # c is its new name
    ]
    clock = Hands()
    with Store(tmp_path / "live.db") as store, caplog.at_level(logging.WARNING):
        engine = Engine(
            store,
            sources={"files": Frames(frames)},
            sinks={},
            scorer_for=lambda first, _: active(first.channels),
            options=EngineOptions(stale_after=1e9),
            clock=clock,
        )
        engine.open()
        for _ in range(200):
            clock.move(1)
            engine.once()
        engine.close()
    with Reader(tmp_path / "live.db") as reader:
        scores = reader.scores("web", 0, FAR)
        details = reader.details("web", 0, FAR)
        counters = reader.counters()
    # The last row waits for b, which may still come.
    assert [(one.timestamp - START) // MINUTE for one in scores] == list(range(119))
    assert {one.state for one in scores[:10]} == {"warming"}
    assert {one.state for one in scores[10:40]} == {"ready"}
    assert {one.state for one in scores[60:]} == {"degraded"}  # b is gone, until a fit without it
    assert counters["new_channels", "web"] == 1
    assert ("unknown_channels", "web") not in counters
    assert ("failed", "files") not in counters
    assert caplog.text.count("new channels from now on: 'c'") == 1
    assert details.channels == ("a", "b", "c")
    # Rows from before it came are shown as well.
    assert np.allclose(details.cells[:, 0, 0], values[:119, 0], atol=1e-6)
    assert np.isnan(details.cells[40:, 0, 1]).all()
    assert np.isnan(details.cells[:60, 0, 2]).all()
    assert np.allclose(details.cells[60:, 0, 2], values[60:119, 2], atol=1e-5)
    assert scores[100].score > 1
    assert scores[100].channels[0] == "c"
