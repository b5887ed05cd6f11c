"""Events as they turn: opened, told, resolved; the same however the rows are cut or restarted"""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imdiffusion.live.events.open_event import EventRules
from imdiffusion.live.events.tracker import EventTracker
from imdiffusion.live.scorers.fitted import ScoredRow
from imdiffusion.saved_state import State
from imdiffusion.scoring.event import find_events

STEP = 60 * 1_000_000_000
CHANNELS = ("cpu", "memory", "disk", "net")


def row(at, score, parts=(1.0, 0.0, 0.0, 0.0), *, mode="online", step=STEP):
    cells = np.array(parts) * 10 + at
    return ScoredRow(
        at * step, mode, score, np.array(parts), cells, cells - 1, cells - 2, cells + 2
    )


def tracker(offline=False, **rules):
    made = EventTracker("web", EventRules(**rules), offline=offline)
    made.speak("fast", "m1", CHANNELS)
    return made


def story(scores, parts=None, **options):
    return [
        row(at, score, (1.0, 0.0, 0.0, 0.0) if parts is None else parts[at], **options)
        for at, score in enumerate(scores)
    ]


def turns(records):
    return [(one.update, one.status) for one in records]


def span(record):
    return record.start // STEP, None if record.end is None else record.end // STEP


def test_onset_and_resolution_are_told():
    told = tracker(merge_gap=2).push(story([0, 2, 3, 0, 0, 2, 0, 0, 0, 0]))
    onset, resolution = told
    assert turns(told) == [(0, "ongoing"), (1, "resolved")]
    assert onset.id == resolution.id
    assert (span(onset), span(resolution)) == ((1, None), (1, 6))
    assert (resolution.peak, resolution.score) == (2 * STEP, 3.0)
    assert resolution.channels[0] == "cpu"
    assert resolution.shares == (1.0, 0.0, 0.0, 0.0)
    assert resolution.seen[0] == 12.0
    assert resolution.expected[0] == 11.0


def test_ids_hang_on_entity_onset_and_model():
    def first(entity, model, lead):
        made = EventTracker(entity, EventRules())
        made.speak("fast", model, CHANNELS)
        return made.push(story([0] * lead + [2]))[0].id

    assert first("a", "m", 1) == first("a", "m", 1)
    assert (
        len({first("a", "m", 1), first("b", "m", 1), first("a", "n", 1), first("a", "m", 2)}) == 4
    )


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from([0.0, 0.5, 1.0, 1.5, 3.0, math.nan]), max_size=60),
    st.integers(0, 4),
    st.integers(1, 4),
)
def test_events_of_one_cause_are_those_of_a_file(scores, merge_gap, min_length):
    scores = [0.0, 0.0, *scores]  # an interval is known
    generator = np.random.default_rng(len(scores))
    parts = generator.uniform(0, 0.2, (len(scores), 4))
    parts[:, 2] += 1.0
    rows = story(scores, parts)
    made = tracker(merge_gap=merge_gap, min_length=min_length, renotify=0)
    told = [one for one in made.push(rows) + made.expire() if one.status != "ongoing"]
    cells = np.array([one.seen for one in rows]).reshape(-1, 4)
    found = find_events(
        np.array(scores), parts, cells, cells - 1, CHANNELS,
        merge_gap=merge_gap, min_length=min_length,
    )  # fmt: skip
    assert [(*span(one), one.peak // STEP, one.score) for one in told] == [
        (one.start, one.end, one.peak, one.score) for one in found
    ]
    for one, other in zip(told, found, strict=True):
        assert one.channels == other.channels
        np.testing.assert_allclose(one.shares, other.shares)
        assert one.seen == other.seen
        assert one.expected == other.expected


def test_it_is_told_again_only_while_rows_are_anomalous():
    made = tracker(merge_gap=30, renotify=600)
    told = made.push(story([2] * 25 + [0] * 15 + [2] + [0] * 31))
    assert turns(told) == [
        (0, "ongoing"), (1, "ongoing"), (2, "ongoing"), (3, "ongoing"), (4, "resolved"),
    ]  # fmt: skip
    assert [one.end for one in told[:4]] == [None] * 4
    assert span(told[4]) == (0, 41)


def test_within_the_quiet_time_an_event_goes_on_unsaid():
    calm = [0] * 6
    made = tracker(quiet=1800, renotify=0)
    told = made.push(story([2, *calm, 2, 2, *calm, *[0] * 30]))
    assert turns(told) == [(0, "ongoing"), (1, "resolved"), (2, "resolved")]
    assert len({one.id for one in told}) == 1
    assert [span(one)[1] for one in told[1:]] == [1, 9]


def test_after_the_quiet_time_it_is_told_ongoing_again():
    made = tracker(quiet=600, renotify=0)
    told = made.push(story([2, *[0] * 6, *[2] * 20, *[0] * 20]))
    assert turns(told) == [(0, "ongoing"), (1, "resolved"), (2, "ongoing"), (3, "resolved")]
    assert span(told[-1]) == (0, 27)


def test_another_cause_in_the_quiet_time_opens_an_event():
    made = tracker(quiet=6000)
    other = [*story([2, *[0] * 6]), row(7, 2, (0, 0, 0, 1.0))]
    told = made.push(other)
    assert turns(told) == [(0, "ongoing"), (1, "resolved"), (0, "ongoing")]
    assert told[2].channels[0] == "net"


def test_a_second_cause_opens_a_second_event_when_there_is_enough_of_it():
    cpu, net = (1.0, 0, 0, 0), (0, 0, 0.1, 1.0)
    parts = [cpu] * 5 + [net] * 8 + [cpu] * 20
    made = tracker(merge_gap=5)
    told = made.push(story([2] * 13 + [0] * 20, parts))
    first, second = told[0].id, told[1].id
    assert [(one.id, one.status) for one in told] == [
        (first, "ongoing"), (second, "ongoing"), (first, "resolved"), (second, "resolved"),
    ]  # fmt: skip
    assert [span(one) for one in told] == [(0, None), (5, None), (0, 5), (5, 13)]
    assert told[2].shares[0] == 1.0  # nothing of the second cause
    assert told[3].channels[:2] == ("net", "disk")


def test_a_stray_row_of_another_cause_belongs_to_the_open_event():
    parts = [(1.0, 0, 0, 0)] * 3 + [(0, 0, 0, 1.0)] * 2 + [(1.0, 0, 0, 0)] * 20
    told = tracker().push(story([2] * 5 + [0] * 20, parts))
    assert turns(told) == [(0, "ongoing"), (1, "resolved")]
    assert span(told[1]) == (0, 5)
    assert told[1].shares[:2] == (0.6, 0.4)


def test_causes_beyond_the_most_go_to_the_last_event():
    parts = [tuple(np.eye(4)[k]) for k in range(4) for _ in range(6)]
    told = tracker(merge_gap=30, most_open=2).push(story([2] * 24, parts))
    assert len({one.id for one in told}) == 2


def test_expiry_ends_what_is_open_once():
    made = tracker()
    assert turns(made.push(story([0, 2, 2]))) == [(0, "ongoing")]
    told = made.expire()
    assert turns(told) == [(1, "expired")]
    assert span(told[0]) == (1, 3)
    assert made.expire() == []
    again = made.push([row(3, 2.0)])
    assert turns(again) == [(0, "ongoing")]
    assert again[0].id != told[0].id


@pytest.mark.parametrize("leap", [500, -500])
def test_a_leap_of_time_expires_and_detection_goes_on(leap):
    made = tracker()
    made.push(story([0, 0, 0, 2, 2]))
    told = made.push([row(5 + leap, 2.0)])
    assert turns(told) == [(1, "expired"), (0, "ongoing")]
    assert made.interval == STEP


def test_offline_corrects_in_a_turn_of_its_own():
    made = tracker(offline=True)
    told = made.push(story([0, 2, 4, *[0] * 6]))
    later = [(0, 0, 0, 1.0)] * 9
    seen = made.push(story([0.2, 5, 2, *[0] * 6], later, mode="offline"))
    assert turns(told + seen) == [(0, "ongoing"), (1, "resolved"), (2, "resolved")]
    assert (seen[0].peak, seen[0].score, seen[0].channels[0]) == (STEP, 5.0, "net")
    assert span(seen[0]) == span(told[1])
    assert told[1].channels[0] == "cpu"


def test_offline_that_agrees_is_not_told():
    made = tracker(offline=True)
    made.push(story([0, 2, 4, *[0] * 6]))
    assert made.push(story([0.2, 2.1, 3.9, *[0] * 6], mode="offline")) == []


def test_offline_that_finds_nothing_is_told():
    made = tracker(offline=True)
    made.push(story([0, 2, *[0] * 6]))
    assert [one.score for one in made.push(story([0.2, 0.9], mode="offline"))] == [0.9]


def test_a_change_of_model_keeps_open_events_by_the_names_of_channels():
    made = tracker()
    made.push(story([0, 2]))
    made.speak("zscore", "m2", ("gpu", "cpu"))
    told = made.push([row(at, 0.0, (0, 0)) for at in range(2, 9)])
    assert (told[0].detector, told[0].model, told[0].channels) == ("zscore", "m2", ("cpu", "gpu"))
    assert math.isnan(told[0].expected[1])


@st.composite
def _live(draw):
    """OnlineScorer and offline rows of a story, woven as a scorer might, and rules."""
    count = draw(st.integers(1, 70))
    loud = draw(st.lists(st.integers(0, 12), min_size=count, max_size=count))
    causes = draw(st.lists(st.integers(0, 5), min_size=count, max_size=count))
    eye = np.vstack([np.eye(4), [[0.5, 0.5, 0, 0], [np.nan] * 4]])
    parts = [tuple(eye[k]) for k in causes]
    scores = [2.0 + k / 10 if k > 7 else (math.nan if k == 7 else 0.1 * k) for k in loud]
    lag = draw(st.integers(0, 30))
    again = [s + 0.3 * ((k % 3) - 1) for s, k in zip(scores, loud, strict=True)]
    rules = {
        "merge_gap": draw(st.integers(0, 3)),
        "min_length": draw(st.integers(1, 3)),
        "quiet": draw(st.sampled_from([0.0, 300.0, 900.0])),
        "renotify": draw(st.sampled_from([0.0, 240.0])),
    }
    return (
        story(scores, parts), story(again, parts[::-1], mode="offline")[: max(0, count - lag)],
        lag, rules,
    )  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(_live(), st.lists(st.tuples(st.integers(1, 20), st.booleans()), min_size=1, max_size=30))
def test_any_cut_and_any_restart_give_the_same_turns(live, cuts):
    arrivals, hindsights, lag, rules = live
    whole = tracker(offline=True, **rules)
    expected = whole.push(arrivals + hindsights) + whole.expire()
    made, told, at = tracker(offline=True, **rules), [], 0
    while at < len(arrivals):
        size, restart = cuts[at % len(cuts)]
        pushed = arrivals[at : at + size]
        pushed += hindsights[max(0, at - lag) : max(0, at + size - lag)]
        told += made.push(pushed)
        at += size
        if restart:
            state = made.to_state().to_bytes()
            fresh = tracker(offline=True, **rules)
            made = EventTracker.from_state(State.from_bytes(state), fresh)
            assert made.to_state().to_bytes() == state
    told += made.push(hindsights[max(0, at - lag) :])
    told += made.expire()
    assert repr(sorted(told, key=lambda one: one.key)) == repr(
        sorted(expected, key=lambda one: one.key)
    )
    for one in told:  # turns are counted without a gap
        assert one.update == 0 or any(other.key == (one.id, one.update - 1) for other in told)
