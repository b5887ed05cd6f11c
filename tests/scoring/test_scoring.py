"""Errors, thresholds, votes and events against numbers worked out by hand or by scipy."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import genpareto

from imdiffusion.errors import DataError
from imdiffusion.scoring.error import reduce_channels
from imdiffusion.scoring.event import find_events, spans
from imdiffusion.scoring.threshold import peaks_over_threshold, quantile, thresholds_at
from imdiffusion.scoring.vote import LargestEnsemble, MeanEnsemble, RankVote, ThresholdVote

NAN = np.float32(np.nan)


def f32(*rows: object) -> np.ndarray:
    return np.array(rows, dtype=np.float32)


def test_reduce_golden() -> None:
    error = f32([1, 2, 6], [1, NAN, 3], [NAN, NAN, NAN])
    assert reduce_channels(error, kind="sum")[:2].tolist() == [9.0, 6.0]  # 2 of 3: mean 2, times 3
    assert reduce_channels(error, kind="mean")[:2].tolist() == [3.0, 2.0]
    assert reduce_channels(error, kind="max")[:2].tolist() == [6.0, 3.0]
    assert reduce_channels(error, kind="rms")[:2] == pytest.approx([(41 / 3) ** 0.5, 5**0.5])
    for kind in ("sum", "mean", "rms", "max"):
        assert np.isnan(reduce_channels(error, kind=kind)[2])


def test_quantile_golden() -> None:
    scores = np.arange(1, 101, dtype=float)
    assert quantile(scores, alarm_rate=0.05) == 96.0
    assert quantile(scores, alarm_rate=0.0001) == 100.0
    assert quantile(np.append(scores, np.nan), alarm_rate=0.05) == 96.0


@pytest.mark.parametrize("shape", [-0.2, 0.0, 0.25])
def test_pot_finds_the_quantile_of_a_pareto_tail(shape: float) -> None:
    law = genpareto(shape)
    found = [
        peaks_over_threshold(law.rvs(20_000, random_state=seed), alarm_rate=1e-4)
        for seed in range(15)
    ]
    assert np.median(found) == pytest.approx(law.isf(1e-4), rel=0.15)


def test_pot_reaches_beyond_the_largest_score() -> None:
    scores = np.random.default_rng(0).exponential(size=1_000)
    assert peaks_over_threshold(scores, alarm_rate=1e-5) > scores.max()


@pytest.mark.parametrize("rule", [quantile, peaks_over_threshold])
@pytest.mark.parametrize("rows", [5, 39, 40, 3000])
def test_thresholds_at_many_rates_are_those_of_each(rule, rows: int) -> None:
    scores, rates = np.random.default_rng(rows).exponential(size=rows), np.geomspace(0.5, 1e-9, 20)
    for some in (scores, np.ones(rows)):
        wanted = [rule(some, alarm_rate=float(rate)) for rate in rates]
        assert thresholds_at(rule, some, rates).tolist() == wanted


def test_thresholds_without_scores_and_without_errors() -> None:
    with pytest.raises(DataError, match="no held-out row has a score"):
        quantile(np.array([np.nan]), alarm_rate=0.1)
    assert quantile(np.zeros(50), alarm_rate=0.1) > 0
    assert peaks_over_threshold(np.zeros(500), alarm_rate=0.001) > 0


def test_mean_ensemble_golden() -> None:
    errors = f32([1, 3], [3, 9])
    assert MeanEnsemble([4.0]).score(errors).tolist() == [0.5, 1.5]
    assert LargestEnsemble([4.0]).score(errors).tolist() == [0.75, 2.25]
    assert LargestEnsemble.join(errors, axis=1).tolist() == [3, 9]
    for ensemble in (MeanEnsemble, ThresholdVote, RankVote):
        assert ensemble.join(errors, axis=1).tolist() == [2, 6]


def test_threshold_vote_golden() -> None:
    # 4 steps, xi = .5: more than 2 votes are needed, so votes / 2.5.
    errors = f32([2, 2, 0], [2, 2, 0], [2, 0, 0], [0, 0, 0])
    score = ThresholdVote([1.0] * 4, xi=0.5).score(errors)
    assert score[0] > 1.0  # 3 votes
    assert score[1] < 1.0  # 2 votes
    mean = 1.5
    assert score[0] == pytest.approx((3 + 0.49 * mean / (1 + mean)) / 2.5)
    assert score[2] == 0.0


def test_ties_are_ordered_by_mean_error() -> None:
    errors = f32([2, 9], [2, 9], [0.1, 0.2])
    score = ThresholdVote([1.0] * 3, xi=0.9).score(errors)
    assert 0 < score[0] < score[1] < 1.0


@given(arrays(np.float64, (5, 30), elements=st.floats(0, 1e6)), st.floats(0, 0.99))
def test_votes_pass_one_exactly_when_they_exceed_xi(errors: np.ndarray, xi: float) -> None:
    score = ThresholdVote([1.0] * 5, xi=xi).score(errors)
    votes = (errors > 1.0).sum(axis=0)
    # As the code counts: xi S a rounding below a whole number is that number.
    assert ((score > 1.0) == (votes > np.floor(xi * 5 + 1e-9))).all()


def test_rank_vote_flags_the_stated_share() -> None:
    generator = np.random.default_rng(0)
    base = generator.exponential(size=1_000)
    errors = np.stack([base * 2, base])  # the noisy step has four times the mean square
    rank = RankVote([], xi=0.0, anomaly_share=0.08)
    flagged = rank.score(errors) > 1.0
    assert flagged.sum() == 80  # any of two steps: the last flags 8 %, the first 2 % of the same
    both = RankVote([], xi=0.5, anomaly_share=0.08).score(errors) > 1.0
    assert both.sum() == 20


def test_spans_golden() -> None:
    score = np.array([0, 2, 2, 0, 0, 3, np.nan, 2, 0, 0, 0, 2])
    assert spans(score) == [(1, 3), (5, 6), (7, 8), (11, 12)]
    assert spans(score, merge_gap=1) == [(1, 3), (5, 8), (11, 12)]
    assert spans(score, merge_gap=2, min_length=2) == [(1, 8)]


@given(arrays(np.float64, 60, elements=st.floats(0, 3)), st.integers(0, 5))
def test_spans_cover_every_alarm_and_start_and_end_with_one(score: np.ndarray, gap: int) -> None:
    found = spans(score, merge_gap=gap)
    inside = np.zeros(60, dtype=bool)
    for start, end in found:
        inside[start:end] = True
        assert score[start] > 1
        assert score[end - 1] > 1
    assert inside[score > 1].all()
    assert all(b - a > gap for (_, a), (b, _) in itertools.pairwise(found))


def test_event_golden() -> None:
    score = np.array([0.0, 1.5, 4.0, 0.5, 0.0])
    channel = f32([0, 0], [1, 3], [1, 3], [100, 0], [0, 0])  # a quiet row has no share
    values = np.array([[0, 0], [1, 2], [3, np.nan], [0, 0], [0, 0]], float)
    expected = values * 10
    (event,) = find_events(score, channel, values, expected, ("a", "b"))
    assert (event.start, event.end, event.peak, event.score) == (1, 3, 2, 4.0)
    assert event.channels == ("b", "a")
    assert event.shares == pytest.approx((0.75, 0.25))
    assert event.seen[1] == 3.0
    assert np.isnan(event.seen[0])
    assert event.expected[1] == 30.0
