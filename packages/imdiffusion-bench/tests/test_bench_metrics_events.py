"""Events, delays and channels, by hand and against definitions written out in another way."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import hmean

from imdiffusion.errors import DataError
from imdiffusion_bench.metrics.events import (
    add,
    alarm_share_normal,
    composite_f1,
    delay_at_false_alarms,
    detected,
    event,
    event_recall,
    false_alarms_per_1000,
    false_events,
    hit_rate,
    hit_top1,
)
from imdiffusion_bench.split import Cause

NAN = float("nan")


def bits(text: str) -> np.ndarray:
    return np.array([one == "1" for one in text])


flags = st.lists(st.booleans(), min_size=24, max_size=24).map(np.array)


def runs(row: np.ndarray) -> list[set[int]]:
    """Runs as sets of rows."""
    found: list[set[int]] = []
    for t in np.flatnonzero(row).tolist():
        if found and t - 1 in found[-1]:
            found[-1].add(t)
        else:
            found.append({t})
    return found


LABEL = bits("000111000011000110")
ALARM = bits("110011001000000100")  # first rows 0, 4, 8, 15; segments at 3, 10, 15


def test_events_golden() -> None:
    assert event(LABEL, ALARM) == (2 / 4, 2 / 3, pytest.approx(4 / 7))
    assert false_events(LABEL, ALARM) == 2.0
    assert alarm_share_normal(LABEL, ALARM) == 3 / 11
    assert false_alarms_per_1000(LABEL, ALARM) == pytest.approx(3000 / 11)
    # rows: 3 of 6 alarms are right; segments: 2 of 3 are met
    assert composite_f1(LABEL, ALARM) == pytest.approx(2 * (1 / 2) * (2 / 3) / (1 / 2 + 2 / 3))
    # delays 1, 2 (missed: its length), 0
    assert add(LABEL, ALARM) == 1.0
    assert detected(LABEL, ALARM) == event_recall(LABEL, ALARM) == 2 / 3


def test_silence_and_constant_alarm() -> None:
    nothing, everything = np.zeros(18, bool), np.ones(18, bool)
    assert np.isnan(event(LABEL, nothing).precision)
    assert event(LABEL, nothing)[1:] == (0.0, 0.0)
    assert composite_f1(LABEL, nothing) == 0.0
    assert add(LABEL, nothing) == 7 / 3
    assert event(LABEL, everything).f1 == 1.0  # the known hole, and what closes it:
    assert alarm_share_normal(LABEL, everything) == 1.0
    assert composite_f1(LABEL, everything) == pytest.approx(2 * (7 / 18) / (1 + 7 / 18))
    assert np.isnan(alarm_share_normal(np.ones(18, bool), everything))


@given(flags, flags)
def test_events_are_sets_that_meet(label: np.ndarray, alarm: np.ndarray) -> None:
    label[7] = True
    true, said = runs(label), runs(alarm)
    right = [one for one in said if any(one & other for other in true)]
    found = [one for one in true if any(one & other for other in said)]
    precision, recall, f1 = event(label, alarm)
    assert recall == len(found) / len(true) == detected(label, alarm)
    assert false_events(label, alarm) == len(said) - len(right)
    if said:
        assert precision == len(right) / len(said)
        assert f1 == pytest.approx(2 * precision * recall / (precision + recall) if right else 0.0)
    waits = [min((one & set(np.flatnonzero(alarm))) or {max(one) + 1}) - min(one) for one in true]
    assert add(label, alarm) == pytest.approx(np.mean(waits))
    normal = [t for t in range(24) if not label[t]]
    wrong = [t for t in normal if alarm[t]]
    if normal:
        assert false_alarms_per_1000(label, alarm) == pytest.approx(1000 * len(wrong) / len(normal))
        assert alarm_share_normal(label, alarm) == pytest.approx(len(wrong) / len(normal))
    hits = int(alarm.sum()) - len(wrong)
    joined = hmean([hits / alarm.sum(), len(found) / len(true)]) if hits else 0.0
    assert composite_f1(label, alarm) == pytest.approx(joined)
    assert event(label, label) == (1.0, 1.0, 1.0)
    assert add(label, label) == 0.0


@given(
    flags,
    st.lists(st.integers(0, 6).map(float) | st.just(NAN), min_size=24, max_size=24).map(np.array),
    st.sampled_from([0.0, 1.0, 2.0, 5.0]),
    st.sampled_from([0.1, 0.5, 1.0]),
)
def test_delay_at_false_alarms_is_that_of_trying_every_threshold(
    label: np.ndarray, score: np.ndarray, budget: float, share: float
) -> None:
    label[7], label[8] = True, False
    normal = int((~label).sum())
    alarm = np.zeros(24, bool)
    for level in sorted({one for one in score.tolist() if not np.isnan(one)}, reverse=True):
        lower = score >= level
        wrong = [one for one in runs(lower) if not any(label[t] for t in one)]
        if len(wrong) > budget or (lower & ~label).sum() > share * normal:
            break
        alarm = lower
    # as many days as normal rows: a period of one day, and a budget spread over them
    found = delay_at_false_alarms(
        label, score, per_day=budget / normal, period_s=86_400.0, largest_share=share
    )
    assert found == pytest.approx(add(label, alarm))


def test_delay_at_false_alarms_golden() -> None:
    label = np.zeros(2_000, bool)
    label[100:110] = label[900:920] = True
    score = np.zeros(2_000)
    score[[104, 910]] = 4.0, 1.5  # found 4 and 10 rows late
    score[[300, 500, 700]] = 3.0, 2.0, 1.0  # one normal event at each level
    score[102] = 1.0
    minutes = {"period_s": 60.0}
    days = 1_970 * 60 / 86_400
    one, two = 1.01 / days, 2.01 / days
    assert delay_at_false_alarms(label, score, per_day=0.0, **minutes) == (4 + 20) / 2
    assert delay_at_false_alarms(label, score, per_day=one, **minutes) == (4 + 20) / 2
    assert delay_at_false_alarms(label, score, per_day=two, **minutes) == (4 + 10) / 2
    assert delay_at_false_alarms(label, score, per_day=9.0, **minutes) == (2 + 10) / 2
    assert np.isnan(delay_at_false_alarms(label, score, per_day=1.0, period_s=None))
    # a constant score would be one endless alarm that meets everything: it must not pay
    assert delay_at_false_alarms(label, np.ones(2_000), per_day=9.0, **minutes) == 15.0


def test_two_found_segments_that_grow_together_are_no_credit_for_a_false_event() -> None:
    label = bits("001000000010000000000000100000")
    score = np.zeros(30)
    score[[2, 3, 4, 10, 11, 12]] = 9, 8, 7, 9, 8, 7
    score[5:10] = 6  # joins them
    score[18] = 5  # false: there is no budget for it, nor for the third segment below it
    score[24] = 4
    found = delay_at_false_alarms(label, score, per_day=0.0, period_s=60.0, largest_share=1.0)
    assert found == pytest.approx(1 / 3)


CHANNELS = np.array(
    [[9, 1, 0, 0], [3, 5, 1, 0], [1, 5, 2, 0], [0, 0, NAN, 7], [NAN, NAN, NAN, NAN]], np.float32
)


def test_channels_golden() -> None:
    # rows 1 and 2: means 2, 5, 1.5, 0 -> order 1, 0, 2, 3
    assert hit_top1(CHANNELS, [Cause(1, 3, frozenset({1}))]) == 1.0
    assert hit_top1(CHANNELS, [Cause(1, 3, frozenset({0}))]) == 0.0
    pair = [Cause(1, 3, frozenset({1, 2}))]
    assert hit_rate(CHANNELS, pair, 100) == 0.5
    assert hit_rate(CHANNELS, pair, 150) == 1.0
    assert hit_rate(CHANNELS, [Cause(1, 3, frozenset({0}))], 150) == 0.0  # floor(1.5) = 1 named
    # row 3: channel 2 has no score and ranks last, behind the zeros
    assert hit_rate(CHANNELS, [Cause(3, 4, frozenset({0, 1, 3}))], 100) == 1.0
    assert hit_rate(CHANNELS, [Cause(3, 4, frozenset({0, 1, 2}))], 100) == pytest.approx(2 / 3)
    silent = np.array([[NAN, 0, NAN, 0]], np.float32)
    assert hit_rate(silent, [Cause(0, 1, frozenset({1, 3}))], 100) == 1.0
    # row 4 names nothing; a row without scores beside one with them is passed over
    assert hit_rate(CHANNELS, [Cause(4, 5, frozenset({0}))], 100) == 0.0
    assert hit_top1(CHANNELS, [Cause(4, 5, frozenset({0}))]) == 0.0
    assert hit_top1(CHANNELS, [Cause(3, 5, frozenset({3}))]) == 1.0
    both = [Cause(1, 3, frozenset({1})), Cause(3, 4, frozenset({0})), Cause(0, 1, frozenset())]
    assert hit_top1(CHANNELS, both) == 0.5  # without known channels a segment does not count
    assert np.isnan(hit_rate(CHANNELS, [], 100))


def counted(scores: np.ndarray, cause: Cause, most: int) -> int:
    """The number of true channels that fewer than `most` others go before, one by one."""
    rows = [[float(v) for v in column if v == v] for column in scores[cause.start : cause.end].T]
    mean = [sum(column) / len(column) if column else None for column in rows]
    right = 0
    for own in cause.channels:
        ahead = [
            k
            for k, other in enumerate(mean)
            if mean[own] is not None
            and other is not None
            and (other > mean[own] or (other == mean[own] and k < own))
        ]
        right += mean[own] is not None and len(ahead) < most
    return right


@given(
    st.lists(
        st.lists(st.integers(0, 3).map(float) | st.just(NAN), min_size=5, max_size=5),
        min_size=6,
        max_size=6,
    ),
    st.lists(
        st.tuples(st.integers(0, 4), st.integers(1, 2), st.sets(st.integers(0, 4), min_size=1)),
        min_size=1,
        max_size=3,
    ),
)
def test_channel_hits_are_those_of_counting_who_goes_before(
    values: list[list[float]], drawn: list[tuple[int, int, set[int]]]
) -> None:
    scores = np.array(values, np.float32)
    causes = [Cause(start, start + length, frozenset(of)) for start, length, of in drawn]
    first = [min(counted(scores, one, 1), 1) for one in causes]
    assert hit_top1(scores, causes) == pytest.approx(np.mean(first))
    for percent in (100, 150):
        rates = [
            counted(scores, one, len(one.channels) * percent // 100) / len(one.channels)
            for one in causes
        ]
        assert hit_rate(scores, causes, percent) == pytest.approx(np.mean(rates))


@given(st.integers(1, 6), st.sets(st.integers(0, 5), min_size=1), st.integers(0, 99))
def test_channels_that_shine_alone_are_hit(length: int, true: set[int], seed: int) -> None:
    scores = np.random.default_rng(seed).random((length, 6)).astype(np.float32)
    shining = scores + 2 * np.isin(np.arange(6), sorted(true))
    cause = [Cause(0, length, frozenset(true))]
    assert hit_rate(shining, cause, 100) == hit_top1(shining, cause) == 1.0
    assert hit_rate(scores, cause, 150) >= hit_rate(scores, cause, 100)
    assert hit_rate(-shining, cause, 100) == pytest.approx(max(0, 2 * len(true) - 6) / len(true))


@pytest.mark.parametrize("cause", [(3, 9, {1}), (2, 2, {1}), (-1, 2, {1}), (0, 2, {4})])
def test_causes_outside_the_series_are_refused(cause: tuple[int, int, set[int]]) -> None:
    with pytest.raises(DataError, match="5 rows x 4 channels"):
        hit_rate(CHANNELS, [Cause(cause[0], cause[1], frozenset(cause[2]))])
