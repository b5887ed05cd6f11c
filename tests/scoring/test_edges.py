"""Edges of events: the rows and channels of a run of alarms that carry the evidence."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from imdiffusion import ImDiffusion
from imdiffusion.scoring.edges import find_edges
from imdiffusion.scoring.event import find_events, rows_in

NAMES = ("a", "b", "c")


def quiet(rows=300, channels=3, seed=0):
    """Evidence as normal rows have it: exponential of mean 1, here beyond 1."""
    drawn = np.random.default_rng(seed).exponential(size=(rows, channels))
    return np.maximum(drawn - 1.0, 1e-3 * drawn)


def smeared(evidence, reach=31):
    """A score that is above 1 wherever a window of `reach` + 1 rows holds a loud row."""
    loud = (evidence > 10).any(axis=1)
    score = np.full(len(evidence), 0.1)
    for row in np.flatnonzero(loud):
        score[max(0, row - reach) : row + reach + 1] = 2.0
    score[loud] = 3.0
    return score


def events_of(evidence, score=None, **rules):
    score = smeared(evidence) if score is None else score
    values = np.arange(evidence.size, dtype=float).reshape(evidence.shape)
    return find_events(
        score, np.zeros(evidence.shape), values, values + 0.5, NAMES, evidence=evidence, **rules
    )


# -- what a person would say


def test_one_bad_row_is_an_event_of_one_row():
    evidence = quiet()
    evidence[150, 0] += 1873.0
    (event,) = events_of(evidence)
    assert (event.start, event.end, event.peak, event.score) == (150, 151, 150, 3.0)
    assert event.channels[0] == "a"
    assert event.seen[0] == 150 * 3
    assert event.expected[0] == 150 * 3 + 0.5


def test_an_absurd_row_that_spoils_what_is_expected_of_others_is_still_one_row():
    evidence = quiet()
    evidence[150] += [1873.0, 217.0, 189.0]
    evidence[151] += [109.0, 100.0, 124.0]
    evidence[152] += [29.0, 24.0, 35.0]
    evidence[159] += [6.0, 11.0, 5.0]  # the last forecast that reads it
    assert [(one.start, one.end) for one in events_of(evidence, echo=10)] == [(150, 151)]
    assert events_of(evidence)[0].end > 152  # nobody said that rows after a bad one are spoiled


def test_two_faults_in_one_run_of_alarms_are_two_events():
    evidence = quiet()
    evidence[100, 0] += 1816.0
    evidence[150:186, 2] += 12.0
    score = np.where((np.arange(300) > 60) & (np.arange(300) < 210), 2.0, 0.1)
    first, second = events_of(evidence, score, echo=10, merge_gap=5)
    assert (first.start, first.end, first.channels[0]) == (100, 101, "a")
    assert (second.start, second.end, second.channels[0]) == (150, 186, "c")
    assert second.peak == 150 + evidence[150:186, 2].argmax()
    assert second.shares[0] > 0.8


def test_a_fault_beside_an_absurd_row_is_a_fault_of_its_own_with_its_own_channel():
    evidence = np.zeros((300, 3))
    evidence[100, 0] = 1816.0
    evidence[103:140, 2] = 12.0
    found = events_of(evidence, echo=0, merge_gap=5)
    assert [(one.start, one.end, one.channels[0]) for one in found] == [
        (100, 101, "a"), (103, 140, "c"),
    ]  # fmt: skip


@pytest.mark.parametrize("kind", ["level", "burst", "thin", "ramp"])
def test_edges_of_a_long_fault(kind):
    generator = np.random.default_rng(3)
    evidence, off = quiet(seed=1), 1
    if kind == "level":
        evidence[120:160, 1] += generator.uniform(8, 16, 40)
    elif kind == "burst":  # rows of it look normal
        evidence[120:160, 1] += np.maximum(generator.normal(size=40) ** 2 * 12, 0)
        evidence[[120, 159], 1] += 12
    elif kind == "thin":  # of no channel alone
        evidence[120:160] += generator.uniform(3, 4, (40, 3))
    else:
        evidence[120:160, 1] += np.arange(1, 41) * 0.5
        off = 10
    score = np.where((np.arange(300) > 90) & (np.arange(300) < 190), 2.0, 0.1)
    (event,) = events_of(evidence, score, merge_gap=5)
    assert abs(event.start - 120) <= off
    assert abs(event.end - 160) <= 1


def test_a_channel_that_is_as_loud_beside_the_run_tells_nothing_of_its_edges():
    evidence = quiet()
    evidence[:, 2] += 5.0
    evidence[150:160, 0] += 40.0
    score = np.where((np.arange(300) > 118) & (np.arange(300) < 191), 2.0, 0.1)
    (event,) = events_of(evidence, score, merge_gap=5)
    assert (event.start, event.end) == (150, 160)


def test_a_run_without_evidence_stays_as_it_is():
    score = np.where((np.arange(300) >= 100) & (np.arange(300) < 140), 2.0, 0.1)
    score[120] = 5.0
    parts = np.tile([1.0, 3.0, 2.0], (300, 1))
    values = np.zeros((300, 3))
    plain = find_events(score, parts, values, values, NAMES)
    given_none = find_events(score, parts, values, values, NAMES, evidence=np.zeros((300, 3)))
    unknown = find_events(score, parts, values, values, NAMES, evidence=np.full((300, 3), np.nan))
    assert plain == given_none == unknown
    assert [(one.start, one.end, one.peak, one.channels[0]) for one in plain] == [
        (100, 140, 120, "b")
    ]


def test_a_segment_in_rows_that_are_not_in_alarm_is_not_an_event():
    evidence = np.zeros((60, 3))
    evidence[22, 1] = 40.0  # between two runs that are one by the gap
    score = np.zeros(60)
    score[[20, 24]] = 2.0
    (event,) = events_of(evidence, score, merge_gap=5)
    assert (event.start, event.end) == (20, 25)


def test_rows_without_any_value_are_bridged_and_do_not_lengthen():
    evidence = quiet()
    evidence[120:160, 1] += 12.0
    evidence[130:150] = np.nan
    evidence[160:170] = np.nan
    score = np.where((np.arange(300) > 90) & (np.arange(300) < 190), 2.0, 0.1)
    (event,) = events_of(evidence, score)
    assert (event.start, event.end) == (120, 160)
    assert find_edges(np.full((50, 3), np.nan), [(10, 40)], echo=5) == [[]]
    assert find_edges(np.empty((0, 3)), []) == []
    assert find_edges(np.zeros((9, 1)), [(0, 9)], echo=50) == [[]]


def test_many_channels_do_not_hide_one_nor_lengthen_it():
    evidence = quiet(400, 300, seed=2)
    evidence[200:230, 77] += 12.0
    assert find_edges(evidence, [(170, 260)], echo=10, merge_gap=5) == [[(200, 230)]]


def spans_of(**loud):
    """Segments of 300 rows in alarm, with the evidence of rows by channel: a=[(10, 20, 5.0)]."""
    evidence = np.zeros((300, 3))
    for name, parts in loud.items():
        for start, end, much in parts:
            evidence[start:end, NAMES.index(name)] = much
    return find_edges(evidence, [(0, 300)], merge_gap=5)[0]


def test_a_pause_of_twenty_rows_ends_a_fault_and_a_shorter_one_does_not():
    assert spans_of(a=[(100, 130, 15.0), (150, 180, 15.0)]) == [(100, 130), (150, 180)]
    assert spans_of(a=[(100, 130, 15.0), (149, 180, 15.0)]) == [(100, 180)]


def test_how_far_off_one_row_is_does_not_decide_how_many_quiet_rows_it_outweighs():
    assert spans_of(a=[(100, 101, 60.0), (109, 140, 12.0)]) == [(100, 101), (109, 140)]
    assert spans_of(a=[(100, 101, 1e9), (109, 140, 12.0)]) == [(100, 101), (109, 140)]


def test_a_weaker_channel_lengthens_a_fault_only_by_rows_that_say_enough():
    assert spans_of(a=[(100, 140, 14.0)], b=[(120, 200, 4.0)]) == [(100, 140)]
    assert spans_of(a=[(100, 140, 14.0)], b=[(120, 200, 6.0)]) == [(100, 200)]


def test_rows_in_events():
    evidence = quiet()
    evidence[150, 0] += 1873.0
    evidence[250:260, 1] += 30.0
    inside = rows_in(events_of(evidence), 300)
    assert np.flatnonzero(inside).tolist() == [150, *range(250, 260)]


def test_quiet_rows_before_a_leap_are_of_neither_side():
    evidence = np.zeros((40, 3))
    evidence[[10, 12], 0] = [50.0, 4000.0]
    assert find_edges(evidence, [(0, 40)]) == [[(10, 11), (12, 13)]]


# -- whatever the numbers

evidences = arrays(np.float32, (80, 3), elements=st.sampled_from([0, 0, 0, 1, 3, 5, 12, 50, 4000]))
cases = st.tuples(
    evidences, st.integers(0, 30), st.integers(31, 80), st.integers(0, 12), st.integers(0, 5)
)


@settings(max_examples=150, deadline=None)
@given(cases)
def test_segments_lie_in_their_run_in_order_and_apart(case):
    evidence, start, end, echo, gap = case
    runs = [(start, end)]
    (found,) = find_edges(evidence, runs, echo=echo, merge_gap=gap)
    edges = [row for span in found for row in span]
    assert edges == sorted(edges)
    for first, last in found:
        assert start <= first < last <= end
        assert evidence[first].max() > 0
        assert evidence[last - 1].max() > 0


@settings(max_examples=150, deadline=None)
@given(cases, st.permutations(range(3)))
def test_the_order_of_channels_is_nothing_to_it(case, order):
    evidence, start, end, echo, gap = case
    one = find_edges(evidence, [(start, end)], echo=echo, merge_gap=gap)
    assert find_edges(evidence[:, list(order)], [(start, end)], echo=echo, merge_gap=gap) == one


@settings(max_examples=60, deadline=None)
@given(cases)
def test_what_is_missing_is_as_good_as_nothing_where_nothing_else_is(case):
    """Rows after the last value of a run change nothing, whether they are quiet or missing."""
    evidence, start, _, echo, gap = case
    evidence = evidence.copy()
    evidence[50:] = 0
    missing = evidence.copy()
    missing[50:] = np.nan
    one = find_edges(evidence, [(start, 80)], echo=echo, merge_gap=gap)
    assert find_edges(missing, [(start, 80)], echo=echo, merge_gap=gap) == one


# -- the detector


def toy(rows=600, seed=0):
    """Three coupled sine channels."""
    generator = np.random.default_rng(seed)
    base = np.sin(2 * np.pi * np.arange(rows) / 50)
    noise = generator.normal(size=(rows, 3)) * [0.05, 0.1, 0.05]
    return np.stack([base, 2 * base, -base], axis=1) + noise


@pytest.fixture(scope="module")
def linear():
    return ImDiffusion("linear").fit(toy())


def test_one_bad_row_of_a_series_is_an_event_of_that_row(linear):
    test = toy(300, 1)
    test[150, 0] += 20
    event = max(linear.analyze(test).events, key=lambda one: one.score)
    assert (event.start, event.end, event.peak) == (150, 151, 150)
    assert event.channels[0] == "c0"
    assert event.seen[0] == test[150, 0]
    assert abs(event.seen[0] - event.expected[0]) > 15
    score = linear.decision_function(test)
    assert (score[125:150] > 1).any()  # the score looks over windows, and ranks rows as before
    assert np.array_equal(linear.analyze(test).alarm, score > 1)


def test_the_network_among_the_views_does_not_move_the_edges():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tiny = {"max_steps": 4, "validate_every": 4, "width": 8, "feedforward": 8, "layers": 1}
        detector = ImDiffusion("fast", heads=1, window=40, batch_size=4, device="cpu", **tiny)
        detector.fit(toy())
    test = toy(300, 1)
    test[150, 0] += 20
    event = max(detector.analyze(test).events, key=lambda one: one.score)
    assert (event.start, event.end, event.channels[0]) == (150, 151, "c0")


def test_an_absurd_value_does_not_swallow_the_fault_fifty_rows_later(linear):
    test = toy(400, 2)
    test[150, 0] = 1e6
    test[200:230, 2] += 0.6
    first, second = sorted(linear.analyze(test).events, key=lambda one: -one.score)[:2]
    assert (first.start, first.end, first.channels[0]) == (150, 151, "c0")
    assert abs(second.start - 200) <= 3
    assert abs(second.end - 230) <= 3
    assert second.channels[0] == "c2"
