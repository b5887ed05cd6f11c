"""Rows on their way to a scorer: the period found, order kept, the tail held, over a restart."""

from __future__ import annotations

import numpy as np
import pytest

from imdiffusion.data.frame import Frame
from imdiffusion.errors import ModelError, UsageError
from imdiffusion.live.rows.alignment import TAIL, Alignment, rows_known, usual_period
from imdiffusion.live.scorers.active_scorer import ActiveScorer, alignment_in
from imdiffusion.live.scorers.cold_start import ColdStartScorer
from imdiffusion.saved_state import State

SECOND = 1_000_000_000
START = 1_700_000_400 * SECOND
NAMES = ("a", "b")


def frame(rows, *, step=SECOND, jitter=0.0, seed=0):
    """The rows of these numbers; each has values of its own."""
    rows = np.asarray(rows)
    shift = np.random.default_rng(seed).uniform(-jitter, jitter, len(rows)) * step
    times = (START + rows * step + shift.astype(np.int64)).astype("datetime64[ns]")
    values = np.column_stack([np.sin(rows), np.cos(rows * 1.3)]) + rows[:, None] % 7
    return Frame(values, np.ones(values.shape, bool), times, NAMES, "web")


def feed(period=SECOND):
    return Alignment("web", NAMES, period=period, lateness=2, fill=30)


def out(runs):
    return [int(t) for run in runs for t in run.frame.timestamps.astype(np.int64)]


def test_the_period_is_found_and_nothing_is_lost_by_it():
    one = feed(None)
    assert one.period is None
    assert out(one.push(frame([0, 1, 2]))) == []
    assert out(one.push(frame([3, 4]))) == []
    assert out(one.push(frame([5, 6]))) == [START + row * SECOND for row in range(7)]
    assert one.period == SECOND
    assert one.count == 7


@pytest.mark.parametrize("step", [20_000_000, SECOND, 15 * SECOND, 60 * SECOND, 300 * SECOND])
def test_a_period_with_jitter_is_the_usual_one(step):
    one = feed(None)
    one.push(frame(range(9), step=step, jitter=0.02))
    assert one.period == step


def test_an_unusual_period_is_taken_as_it_is():
    assert usual_period(7.5 * SECOND) == round(7.5 * SECOND)
    assert usual_period(0.4) == 1


def test_order_late_rows_and_counts():
    one = feed()
    assert len(out(one.push(frame([0, 1, 3])))) == 2
    assert out(one.push(frame([2]))) == [START + row * SECOND for row in (2, 3)]
    one.push(frame(range(4, 20)))
    one.push(frame([5]))
    assert one.counts["late"] == 1


def test_rows_without_times_are_refused():
    bare = Frame(np.zeros((1, 2)), np.ones((1, 2), bool), None, NAMES, "web")
    for one in (feed(), feed(None)):
        with pytest.raises(UsageError, match="timestamps"):
            one.push(bare)


def test_the_tail_is_what_went_out_last():
    one = feed()
    assert one.since(None) is None
    one.push(frame(range(TAIL + 50)))
    held = one.since(None)
    assert len(held) == TAIL
    last = one.since(START + (TAIL + 39) * SECOND)
    assert len(last) == 10
    assert np.allclose(last.values, frame(range(TAIL + 40, TAIL + 50)).values, atol=1e-6)
    one.push(frame(range(2000, 2010)))  # a leap: what was before does not lead up to it
    assert len(one.since(None)) < 50


@pytest.mark.parametrize("period", [None, SECOND])
@pytest.mark.parametrize("cut", [1, 4, 5, 6, 40, 299])
def test_over_a_restart_the_same_rows_go_out(period, cut):
    order = [*range(200), 202, 201, *range(203, 300)]
    whole, first = feed(period), feed(period)
    expected = [t for row in order for t in out(whole.push(frame([row])))]
    got = [t for row in order[:cut] for t in out(first.push(frame([row])))]
    state = State.from_bytes(first.to_state().to_bytes())
    assert rows_known(state) == (NAMES, first.period)
    second = Alignment.from_state(state, feed(period))
    got += [t for row in order[cut:] for t in out(second.push(frame([row])))]
    assert got == expected
    assert (second.count, second.period) == (whole.count, whole.period)
    assert np.array_equal(second.since(None).values, whole.since(None).values, equal_nan=True)


def test_a_state_of_other_channels_is_refused():
    other = Alignment("web", ("x",), period=SECOND, lateness=2, fill=30)
    with pytest.raises(ModelError, match="other channels"):
        Alignment.from_state(feed().to_state(), other)
    with pytest.raises(ModelError, match="or another interval"):
        Alignment.from_state(feed().to_state(), feed(2 * SECOND))
    with pytest.raises(ModelError, match="not of a 'alignment'"):
        rows_known(State("rubbish"))


# -- the active


def cold(*_):
    return ColdStartScorer(NAMES, period=60 * SECOND)


def active(own, **options):
    return ActiveScorer(own, "linear", "m", cold, **options)


def told(judged):
    return [(one.timestamp, one.state, round(one.score, 9)) for one in judged]


@pytest.mark.parametrize("cut", [3, 8, 30, 70])
def test_a_voice_goes_on_over_a_restart(cut):
    whole, first = active(feed(None)), active(feed(None))
    rows = [frame([row]) for row in range(80)]
    expected = [one for row in rows for one in told(whole.push(row))]
    got = [one for row in rows[:cut] for one in told(first.push(row))]
    second = ActiveScorer.from_state(first.to_state(), active(feed(None)))
    got += [one for row in rows[cut:] for one in told(second.push(row))]
    assert str(got) == str(expected)
    assert rows_known(alignment_in(second.to_state()))[1] == SECOND


def test_who_takes_over_has_read_what_was_before():
    own = feed()
    before = active(own)
    before.push(frame(range(60)))
    ready = cold(None)
    ready.push(frame(range(30)))
    after = active(own, ready=ready, read=START + 29 * SECOND)
    alone = cold(None)
    alone.push(frame(range(60)))
    assert told(after.push(frame([60]))) == told(alone.push(frame([60])))


def test_a_clock_that_was_set_back_stops_nothing():
    one = active(feed())
    one.push(frame(range(100, 160)))
    later = [judged for row in range(40) for judged in one.push(frame([row]))]
    assert [judged.timestamp for judged in later][-1] == START + 39 * SECOND
    assert {judged.state for judged in later} == {"ready"}
    assert one.alignment.counts["restart"] == 1
