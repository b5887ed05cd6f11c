"""Planted faults, and the rule by which one detector takes over from another."""

from __future__ import annotations

import math

import numpy as np

from imdiffusion.data.frame import Frame
from imdiffusion.live.models.champion_challenger import Contestant, contest
from imdiffusion.live.scorers.fault_injection import APART, FIRST, KINDS, LENGTHS, plant
from imdiffusion.live.scorers.fitted import ScoredRow
from imdiffusion.saved_state import State

START = np.datetime64("2026-01-01T00:00", "ns")


def rows(count, *, seed=0):
    return np.random.default_rng(seed).normal(size=(count, 3))


def frame(values, first=0):
    times = START + (first + np.arange(len(values))) * np.timedelta64(1, "s")
    return Frame(values, ~np.isnan(values), times, ("a", "b", "c"), "one")


class Rule:
    """A scorer with one rule for a row; it reads, and keeps nothing."""

    channels = ("a", "b", "c")

    def __init__(self, detector, rule):
        self.detector = self.model = detector
        self.rule = rule

    def push(self, frame):
        nothing = np.full(3, math.nan)
        cells = (nothing, nothing, nothing, nothing, nothing)
        return [ScoredRow(0, "online", self.rule(row), *cells) for row in frame.values]

    def to_state(self):
        return State("rule")

    @classmethod
    def from_state(cls, state, like):
        return like


def largest(limit):
    """Flags a row by its largest value."""
    return lambda row: float(np.abs(row).max()) / limit


def hold(challenger, incumbent, *, promise=0.01, count=600):
    made = [Contestant(lambda one=one: Rule(*one), 50) for one in (challenger, incumbent)]
    return contest(*made, frame(rows(50)), frame(rows(count, seed=1), 50), promise=promise, seed=0)


def test_faults_lie_apart_and_are_of_every_kind():
    values = rows(20_000)
    values[5000:5100, 1] = np.nan
    changed, faults = plant(values, generator=np.random.default_rng(0))
    assert {fault.kind for fault in faults} == set(KINDS)
    last = 0
    untouched = np.ones(len(values), bool)
    for fault in faults:
        low, high = LENGTHS[fault.kind]
        assert low <= fault.stop - fault.start <= high
        assert fault.start >= (last + APART if last else FIRST[0])
        last = fault.stop
        untouched[fault.start : fault.stop] = False
        moved = (changed[fault.start : fault.stop] != values[fault.start : fault.stop]).any(axis=0)
        assert moved.any() or np.isnan(values[fault.start : fault.stop]).any()
    assert np.array_equal(changed[untouched], values[untouched], equal_nan=True)
    assert np.array_equal(np.isnan(changed[5000:5100]), np.isnan(values[5000:5100]))


def test_the_same_seed_plants_the_same():
    one, other = (plant(rows(500), generator=np.random.default_rng(3)) for _ in range(2))
    assert np.array_equal(one[0], other[0])
    assert one[1] == other[1]


def test_what_stands_still_has_no_faults():
    still = np.ones((500, 2))
    assert plant(still, generator=np.random.default_rng(0))[1] == []


def test_who_finds_more_wins():
    verdict = hold(("sharp", largest(4.2)), ("dull", largest(8.0)))
    assert verdict.won
    assert verdict.challenger.found > verdict.incumbent.found
    assert verdict.faults >= 24
    assert not hold(("dull", largest(8.0)), ("sharp", largest(4.2))).won


def test_who_flags_more_than_was_promised_loses():
    verdict = hold(("loud", largest(1.5)), ("dull", largest(8.0)))
    assert not verdict.won
    assert "more than" in verdict.reason
    assert verdict.challenger.share > verdict.allowed


def test_the_one_that_is_no_louder_than_the_incumbent_may_be_loud():
    assert hold(("sharp", largest(2.0)), ("loud", largest(0.5))).won


def test_who_flags_everything_finds_nothing():
    verdict = hold(("sharp", largest(4.2)), ("always", lambda row: 2.0))
    assert verdict.incumbent.found == 0
    assert verdict.won


def test_a_tie_leaves_the_incumbent():
    assert not hold(("one", largest(4.2)), ("other", largest(4.2))).won


def test_an_incumbent_without_a_score_is_no_opponent():
    silent = ("silent", lambda row: math.nan)
    verdict = hold(("sharp", largest(8.0)), silent)
    assert verdict.won
    assert "no score yet" in verdict.reason
    assert not hold(silent, silent).won
    assert not hold(("loud", largest(1.5)), silent).won


def test_rows_too_few_for_faults_decide_nothing():
    verdict = hold(("sharp", largest(4.2)), ("dull", largest(40.0)), count=5)
    assert (verdict.won, verdict.faults) == (False, 0)
    assert "could be planted" in verdict.reason


def test_of_two_that_find_nothing_the_one_that_sees_more_wins():
    see, blind = ("see", largest(1e9)), ("blind", lambda row: 0.1)
    assert hold(see, blind).won
    assert not hold(blind, see).won
    assert hold(see, blind).challenger.found == 0


def test_the_same_contest_ends_the_same():
    one, other = (hold(("sharp", largest(4.2)), ("dull", largest(8.0))) for _ in range(2))
    assert one == other
    assert one.to_dict()["challenger"]["detector"] == "sharp"
