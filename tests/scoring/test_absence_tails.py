"""The tails behind absence: limits against sums, counts of runs against loops, ranges by hand"""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imdiffusion.scoring import quiet
from imdiffusion.scoring import tail as tails
from imdiffusion.scoring.constant import elsewhere, find_constants, is_habit
from imdiffusion.scoring.tail import (
    RunTail,
    count_since,
    fit_tail,
    last_known,
    rows_since,
    runs_of,
    runs_of_values,
)

flags = st.lists(st.lists(st.booleans(), min_size=2, max_size=2), min_size=1, max_size=30)


@settings(max_examples=100, deadline=None)
@given(flags, flags, st.integers(0, 9))
def test_counts_of_rows_against_a_loop(marks, counted, before):
    rows = min(len(marks), len(counted))
    mark, count = np.array(marks[:rows]), np.array(counted[:rows])
    since, total = np.full(2, before), np.full(2, before)
    got_since = rows_since(mark, since)
    got_total = count_since(count, mark, total)
    for row in range(rows):
        since = np.where(mark[row], 0, since + 1)
        total = np.where(mark[row], 0, total) + count[row]
        assert np.array_equal(got_since[row], since)
        assert np.array_equal(got_total[row], total)


def test_the_value_before_each_row():
    values = np.array([[1.0], [np.nan], [3.0], [np.nan]])
    before, last = last_known(values, np.isfinite(values), np.array([7.0]))
    assert before[:, 0].tolist() == [7, 1, 1, 3]
    assert last.tolist() == [3]
    nothing = np.full((2, 1), np.nan)
    before, last = last_known(nothing, np.isfinite(nothing), np.array([7.0]))
    assert before[:, 0].tolist() == [7, 7]
    assert last.tolist() == [7]


def test_runs_are_cut_out():
    first, length = runs_of(np.array([1, 1, 0, 0, 1], bool))
    assert (first.tolist(), length.tolist()) == ([0, 4], [2, 1])
    first, length = runs_of_values(np.array([5.0, 5.0, 4.0, 5.0]))
    assert (first.tolist(), length.tolist()) == ([0, 2, 3], [2, 1, 1])


@pytest.mark.parametrize("rate", [1e-2, 1e-4, 1e-6])
@pytest.mark.parametrize("chance", [0.3, 0.9])
def test_many_runs_without_memory_have_the_limit_of_their_law(chance, rate):
    """A share p q^m / (p + q) lies beyond m of a run whose rows go on with the chance q."""
    rng = np.random.default_rng(0)
    lengths = rng.geometric(1 - chance, 20_000)
    rows = 5 * int(lengths.sum())
    fit, aside = fit_tail(lengths, np.ones(len(lengths), bool), rows, margin=2)
    share = lengths.sum() / rows
    exact = math.log(rate / share) / math.log(chance)
    got = tails.stack([fit]).limit(rate)[0]
    assert aside == []
    assert got >= lengths.max() + 2
    assert got == pytest.approx(max(exact, fit[-1]), rel=0.15)


def test_the_limit_is_where_the_predicted_share_is_the_rate():
    """E over the Beta law of q^m / (1 - q), by a sum over its density."""
    going, ending, weight = 30.0, 9.0, 0.02
    grid = (np.arange(200_000) + 0.5) / 200_000
    density = grid ** (going - 1) * (1 - grid) ** (ending - 1)
    tail = RunTail.from_array(np.array([[4.0], [1.0], [weight], [going], [ending], [0.0]]))
    for rate in (1e-3, 1e-5, 1e-7):
        steps = tail.limit(rate)[0] - 4.0
        share = weight * (density * grid**steps / (1 - grid)).sum() / density.sum()
        assert share == pytest.approx(rate, rel=1e-3)


def limit(lengths, rows, rate, *, held=False, margin=2):
    lengths = np.array(lengths)
    fit, _ = fit_tail(lengths, np.ones(len(lengths), bool), rows, margin=margin, held=held)
    return tails.stack([fit]).limit(rate)[0]


def test_golden_limits():
    """What a few plain histories say: fixed, so that a change of the rule is seen."""
    assert limit([], 3000, 1e-3) == 2.0  # never missing
    assert limit([], 3000, 1e-6) == pytest.approx(13.45, abs=0.05)
    assert limit([4] * 600, 3000, 1e-6) == pytest.approx(6.0)  # every fifth row comes
    assert limit([480] * 14, 20160, 1e-5) == pytest.approx(562.3, abs=0.1)  # down every night
    nights = [480, 481, 479] * 5 + [1, 1, 2] * 100
    assert limit(nights, 20160, 1e-5) < 600  # the short gaps do not stretch the long ones
    assert 15 < limit([10] * 300, 3000, 1e-4, held=True) < 25  # read every ten rows


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 300), min_size=1, max_size=40), st.floats(1e-8, 0.1))
def test_no_limit_is_within_what_training_had_nor_falls_with_a_stricter_promise(lengths, rate):
    rows = 20 * sum(lengths)
    fit, aside = fit_tail(np.array(lengths), np.ones(len(lengths), bool), rows, margin=2)
    tail = tails.stack([fit])
    left = np.delete(lengths, aside)
    assert tail.limit(rate)[0] >= (left.max() if len(left) else 0) + 2
    assert tail.limit(rate)[0] <= tail.limit(rate / 10)[0] < 1e7


def test_a_run_that_stands_apart_is_set_aside_and_a_frequent_one_is_not():
    stuck = np.array([1] * 2800 + [200])
    ended = np.ones(len(stuck), bool)
    assert fit_tail(stuck, ended, 3000, margin=4)[1] == [2800]
    often = np.array([1] * 2200 + [200] * 4)
    fit, aside = fit_tail(often, np.ones(len(often), bool), 3000, margin=4)
    assert aside == []
    assert fit[-1] > 200


def test_ranges_of_windows():
    values = np.random.default_rng(0).normal(size=(80, 3))
    windows = np.lib.stride_tricks.sliding_window_view(values, quiet.WIDTH, axis=0)
    assert np.array_equal(quiet.ranges(values), np.ptp(windows, axis=-1))
    values[40, 1] = np.nan
    assert np.isnan(quiet.ranges(values)[9:41, 1]).all()
    assert np.isfinite(quiet.ranges(values)[:9, 1]).all()


def test_quiet_looks_only_at_channels_that_always_move():
    rng = np.random.default_rng(0)
    noise = rng.normal(size=3000)
    resting = np.where(np.arange(3000) % 300 < 45, noise, 0.0)
    few = rng.integers(0, 20, 3000).astype(float)
    for values in (resting, few, noise[:300], np.zeros(3000)):
        assert np.isnan(quiet.fit_ranges(values)[0][0])
    fit, aside = quiet.fit_ranges(noise)
    assert aside == []
    smallest = quiet.ranges(noise[:, None]).min()
    limits = [float(quiet.stack([fit]).limit(rate)[0]) for rate in (0.1, 1e-3, 1e-6)]
    assert limits[0] == pytest.approx(-math.log(smallest / 2), abs=0.02)
    assert limits == sorted(limits)
    nearly = noise.copy()
    nearly[1000:1100] *= 1e-4  # a fault of the training rows
    again, aside = quiet.fit_ranges(nearly)
    assert aside
    assert quiet.stack([again]).limit(1e-3)[0] < limits[1] + 0.5


def test_a_unit_is_nothing_to_a_constant_or_a_range():
    for unit in (1e-9, 1.0, 6.8e10):
        values = np.array([0.3, 0.3 + 1e-15, 0.3 + 1e-9, 0.31]) * unit
        assert elsewhere(values, 0.3 * unit).tolist() == [False, False, True, True]
    noise = np.random.default_rng(0).normal(size=3000)
    one, large = quiet.fit_ranges(noise)[0], quiet.fit_ranges(noise * 1e9)[0]
    depth = [quiet.stack([fit]).limit(1e-4)[0] - fit[0] for fit in (one, large)]
    assert depth[0] == pytest.approx(depth[1])


def test_faults_of_the_rows_and_habits_of_the_channels():
    at = [np.array([100]), np.array([102]), np.array([101]), np.array([], int)]
    assert not is_habit(at, 3000)  # one incident
    assert not is_habit([np.array([100, 900, 1500, 2500]), *([np.array([], int)] * 9)], 3000)
    assert is_habit([np.array([k * 300]) for k in range(9)], 3000)
    zeros = np.zeros((3000, 8))
    assert not find_constants(zeros, np.ones(zeros.shape, bool)).aside
    outage, habit = zeros.copy(), zeros.copy()
    outage[1000:1010] = 1.0
    habit[300 * np.arange(1, 9), np.arange(8)] = 1.0
    rows = np.ones(zeros.shape, bool)
    found = find_constants(outage, rows)
    assert len(found.aside) == 8
    assert found.left.limit(1e-5).tolist() == [0.0] * 8
    found = find_constants(habit, rows)
    assert not found.aside
    assert (found.left.limit(1e-5) > 2).all()
