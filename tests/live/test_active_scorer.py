"""A scorer behind a row buffer, alone and in the engine: order out of what comes"""

import numpy as np
import pytest
from live_parts import CHANNELS, MINUTE, START, Hands, LineSource, line, series

from imdiffusion.data.frame import Frame
from imdiffusion.errors import ModelError
from imdiffusion.live.engine.engine import Engine
from imdiffusion.live.engine.entity_state import EngineOptions
from imdiffusion.live.rows.alignment import Alignment
from imdiffusion.live.scorers.active_scorer import ActiveScorer
from imdiffusion.live.scorers.cold_start import ColdStartScorer
from imdiffusion.live.store.live_state import Store
from imdiffusion.live.store.queries import Reader
from imdiffusion.saved_state import State


def ordered(*, fill=30, rows=None):
    own = rows or Alignment("web", CHANNELS, period=MINUTE, lateness=2, fill=fill)

    def cold(alignment, period):
        return ColdStartScorer(alignment.channels, period=period, baseline="zscore")

    return ActiveScorer(own, "zscore", "m", cold)


def frame(rows, values, *, channels=CHANNELS):
    times = (START + np.array(rows) * MINUTE).astype("datetime64[ns]")
    return Frame(values, np.isfinite(values), times, channels, "web")


def said(judged):
    return [(one.timestamp, one.score, one.state) for one in judged]


def test_late_rows_are_judged_in_order_and_the_same_over_a_restart():
    values = series(120)
    straight, shuffled = ordered(), ordered()
    order = np.arange(120)
    order[:-1:2], order[1::2] = order[1::2].copy(), order[:-1:2].copy()
    expected = [
        one for row in range(120) for one in straight.push(frame([row], values[row : row + 1]))
    ]
    found = []
    for count, row in enumerate(order):
        found += shuffled.push(frame([row], values[row : row + 1]))
        if count % 17 == 0:
            state = State.from_bytes(shuffled.to_state().to_bytes())
            shuffled = ActiveScorer.from_state(state, ordered())
    assert [one.timestamp for one in found] == sorted({one.timestamp for one in found})
    np.testing.assert_equal(said(found), said(expected)[: len(found)])
    assert len(found) >= 118


def test_after_a_long_gap_it_starts_afresh_and_keeps_what_it_learned():
    scorer, values = ordered(fill=5), series(200)
    scorer.push(frame(range(100), values[:100]))
    later = [
        one for row in range(100, 120)
        for one in scorer.push(frame([row + 500], values[row : row + 1]))
    ]  # fmt: skip
    assert scorer.counts["restart"] == 1
    assert {one.state for one in later} == {"ready"}


def test_a_state_of_another_kind_is_refused():
    with pytest.raises(ModelError, match="not of a 'active scorer'"):
        ActiveScorer.from_state(State("{}"), ordered())


def test_in_the_engine_what_was_passed_over_is_counted(tmp_path):
    values = series(120)
    rows = [*range(80), 81, 80, 79, *range(82, 100), 40, *range(103, 120)]
    with (tmp_path / "rows").open("w") as file:
        file.writelines(line("web", row, values[row].tolist()) for row in rows)
    clock = Hands()
    with Store(tmp_path / "live.db") as store, Reader(tmp_path / "live.db") as reader:
        engine = Engine(
            store,
            sources={"files": LineSource(tmp_path / "rows", lines=1)},
            sinks={},
            scorer_for=lambda *_: ordered(),
            options=EngineOptions(stale_after=1e9),
            clock=clock,
        )
        engine.open()
        for _ in range(300):
            clock.move(1)
            engine.once()
        engine.succeed("web", ordered(rows=engine._watch.entities["web"].scorer.alignment))
        engine.once()
        engine.close()
        counters = reader.counters()
        assert counters["rows_late", "web"] + counters.get(("rows_ahead", "web"), 0) >= 1
        assert counters["rows_duplicate", "web"] == 1
        assert counters["rows_filled", "web"] == 3
        assert ("failed", "files") not in counters
        times = [(one.timestamp - START) // MINUTE for one in reader.scores("web", 0, 2**62)]
        assert times == list(range(times[-1] + 1))
        assert times[-1] >= 117


def test_it_says_beside_the_entity_how_many_planted_faults_it_sees(tmp_path):
    values = series(120)
    with (tmp_path / "rows").open("w") as file:
        file.writelines(line("web", row, values[row].tolist()) for row in range(120))
    active, clock = ordered(), Hands()
    assert active.note == ""
    with Store(tmp_path / "live.db") as store, Reader(tmp_path / "live.db") as reader:
        engine = Engine(
            store,
            sources={"files": LineSource(tmp_path / "rows", lines=20)},
            sinks={},
            scorer_for=lambda *_: active,
            clock=clock,
        )
        engine.open()
        for _ in range(20):
            clock.move(1)
            engine.once()
        engine.close()
        (entity,) = reader.entities()
    assert entity.note == active.note
    assert entity.note.startswith("sees ")
    assert entity.note.endswith(" of 12 planted faults here")
