"""Baselines: golden numbers worked out by hand, properties, missing values, and a known set."""

from __future__ import annotations

import builtins

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from imdiffusion import baselines
from imdiffusion.baselines.linear import Mahalanobis, Pca, least_filled, moments
from imdiffusion.baselines.simple import (
    MovingVariance,
    SquaredDifference,
    ZScore,
    carried,
    rows_of_windows,
    smoothed,
)
from imdiffusion.data.scaling import Scaler
from imdiffusion.errors import ConfigError, DataError, MissingExtraError, NotFittedError

NAN = np.nan
# pyod's LSTM takes seconds even here and has a test of its own.
QUICK = [name for name in baselines.names() if name != "lstm_ad"]
CHANNELED = [name for name in QUICK if hasattr(baselines.make(name), "channel_scores")]


@pytest.fixture(name="rows", scope="module")
def _rows():
    """Three coupled channels, in training and test; in rows 100 to 129 of the test uncoupled."""
    rng = np.random.default_rng(5)
    root = np.sin(np.arange(400) / 6)[:, None] + 0.3 * rng.standard_normal((400, 1))
    x = root * np.array([1.0, -1.0, 0.5]) + 0.1 * rng.standard_normal((400, 3))
    x = (x - x[:200].mean(axis=0)) / x[:200].std(axis=0)
    train, test = x[:200], x[200:].copy()
    test[100:130, 1] += 2.5 * rng.choice([-1, 1], 30)
    return train, test


def test_the_table_has_what_every_table_must_show():
    assert baselines.names()[0] == "random"
    assert {"moving_variance", "squared_difference", "pca", "mahalanobis_30"} <= {
        *baselines.names()
    }
    with pytest.raises(ConfigError, match="mahalanobis_30"):
        baselines.make("mahalanobis30")


@pytest.mark.parametrize("name", QUICK)
def test_every_baseline_keeps_the_contract(name, rows):
    train, test = rows
    before = train.copy(), test.copy()
    score = baselines.make(name, seed=3).fit(train).decision_function(test)
    assert score.shape == (200,)
    assert score.dtype == np.float64
    assert np.isfinite(score).all()
    again = baselines.make(name, seed=3).fit(train).decision_function(test)
    np.testing.assert_array_equal(again, score)
    np.testing.assert_array_equal(before, (train, test))  # the caller's rows are as they were


@pytest.mark.parametrize("name", QUICK)
def test_missing_values_neither_stop_nor_alarm_a_baseline(name, rows):
    train, test = rows[0].copy(), rows[1].copy()
    rng = np.random.default_rng(9)
    train[rng.random(train.shape) < 0.1] = NAN
    test[rng.random(test.shape) < 0.1] = NAN
    test[50:53] = NAN
    score = baselines.make(name, seed=1).fit(train).decision_function(test)
    nothing = np.isnan(test).all(axis=1)
    np.testing.assert_array_equal(np.isnan(score), nothing)
    assert nothing[50:53].all()


@pytest.mark.parametrize("name", QUICK)
def test_a_constant_or_empty_channel_is_no_error(name, rows):
    train, test = (np.column_stack([part, np.zeros(200), np.full(200, NAN)]) for part in rows)
    score = baselines.make(name).fit(train).decision_function(test)
    assert np.isfinite(score).all()


@pytest.mark.parametrize("name", [name for name in QUICK if name not in ("random", "zscore")])
def test_the_uncoupled_rows_stand_out(name, rows):
    train, test = rows
    score = baselines.make(name, seed=0).fit(train).decision_function(test)
    ranks = score.argsort().argsort()
    usual = np.r_[ranks[20:80], ranks[150:190]].mean()
    assert ranks[100:130].mean() > usual + (5 if name == "matrix_profile" else 40)


@pytest.mark.parametrize("name", CHANNELED)
def test_channel_scores_name_the_channel_that_broke_away(name, rows):
    train, test = rows
    test = test.copy()
    test[7, 2] = NAN
    parts = baselines.make(name).fit(train).channel_scores(test)
    assert parts.shape == test.shape
    assert np.isnan(parts[7, 2])
    if name not in ("zscore", "zscore_30", "matrix_profile"):
        assert parts[100:130].mean(axis=0).argmax() == 1


@pytest.mark.parametrize("name", baselines.names())
def test_every_baseline_says_what_it_is(name):
    said = baselines.said(name)
    assert len(said) > 20
    assert "\n" not in said
    assert ("30" in said) == name.endswith("_30")


def test_channel_scores_stand_where_they_are_natural():
    assert {"zscore", "moving_variance", "squared_difference", "pca", "mahalanobis"} <= {*CHANNELED}
    assert not {"random", "kmeans", "isolation_forest", "standardised_mean"} & {*CHANNELED}


def test_wrong_rows_say_what_and_where(rows):
    train, test = rows
    with pytest.raises(NotFittedError, match="Pca"):
        Pca().decision_function(test)
    with pytest.raises(DataError, match="3 channels got 2"):
        Pca().fit(train).decision_function(test[:, :2])
    with pytest.raises(DataError, match="shape"):
        ZScore().fit(train[:, 0])
    with pytest.raises(DataError, match="at least 20 rows"):
        baselines.make("kmeans").fit(train).decision_function(test[:19])
    with pytest.raises(DataError, match="single observation"):
        Mahalanobis().fit(np.full((5, 2), NAN))


def test_random_hangs_on_seed_and_entity_and_on_no_value_that_it_scores(rows):
    train, test = rows
    score = baselines.make("random", seed=1).fit(train).decision_function(test)
    other = baselines.make("random", seed=2).fit(train).decision_function(test)
    assert not np.array_equal(score, other)
    assert score.min() >= 0
    np.testing.assert_array_equal(
        score, baselines.make("random", seed=1).fit(train).decision_function(test * 5)
    )
    # Another entity of the same length is drawn anew: entities are what tests count.
    apart = baselines.make("random", seed=1).fit(-train)
    assert not np.array_equal(score, apart.decision_function(test))


def test_random_is_exponential_and_so_are_its_steps_which_agree_with_nothing() -> None:
    x = np.zeros((20_000, 1))
    drawn = baselines.make("random", seed=1).fit(x)
    steps = drawn.step_errors(x)
    assert steps.shape == (28, 20_000)
    for one in (drawn.decision_function(x), *steps):
        assert np.quantile(one, [0.5, 0.99]) == pytest.approx([np.log(2), np.log(100)], rel=0.06)
    both = np.corrcoef([drawn.decision_function(x), *steps])
    assert np.abs(both[np.triu_indices(29, 1)]).max() < 0.04
    x[7] = NAN
    assert np.flatnonzero(np.isnan(drawn.step_errors(x)[3])).tolist() == [7]


# Golden numbers, each worked out by hand.


def test_squared_difference_steps_from_the_last_observed_value():
    x = np.array([[1.0, 0.0], [3.0, NAN], [3.0, 4.0], [NAN, NAN]])
    model = SquaredDifference().fit(x)
    parts = model.channel_scores(x)
    np.testing.assert_array_equal(parts, [[0, 0], [4, NAN], [0, 16], [NAN, NAN]])
    np.testing.assert_array_equal(model.decision_function(x), [0, 4, 8, NAN])


def test_moving_variance_of_three_rows():
    x = np.array([[0.0], [3.0], [6.0], [6.0]])
    # rows 0-1: var(0, 3); rows 0-2: var(0, 3, 6); rows 1-3: var(3, 6, 6); rows 2-3: var(6, 6)
    score = MovingVariance(width=3).fit(x).decision_function(x)
    np.testing.assert_allclose(score, [2.25, 6.0, 2.0, 0.0])


def test_moving_variance_does_not_cancel_on_a_high_level():
    x = np.tile([[0.0], [1.0]], (40, 1))
    level = MovingVariance().fit(x).decision_function(x + 1e8)
    np.testing.assert_allclose(level, MovingVariance().fit(x).decision_function(x), rtol=1e-6)


def test_zscore_is_the_mean_size_of_what_is_observed():
    x = np.array([[-1.0, 3.0], [2.0, NAN]])
    np.testing.assert_array_equal(ZScore().fit(x).decision_function(x), [2.0, 2.0])


def test_pca_leaves_out_the_direction_of_variance():
    # All variance lies along (1, 1): the error of (a, b) is its squared distance from that line.
    train = np.array([[1.0, 1.0], [-1.0, -1.0], [2.0, 2.0], [-2.0, -2.0]])
    model = Pca().fit(train)
    x = np.array([[3.0, 3.0], [1.0, -1.0], [4.0, 2.0]])
    np.testing.assert_allclose(model.decision_function(x), [0.0, 2.0, 2.0], atol=1e-12)
    np.testing.assert_allclose(model.channel_scores(x)[1], [1.0, 1.0])


def test_pca_keeps_ninety_percent_and_never_everything():
    shares = np.diag(np.sqrt([6.0, 3.0, 1.0]))  # rows +-: variances 60, 30 and 10 %
    assert len(Pca(keep=0.9).fit(np.vstack([shares, -shares])).components_) == 2
    assert len(Pca(keep=0.6).fit(np.vstack([shares, -shares])).components_) == 1
    assert len(Pca(keep=1.0).fit(np.vstack([shares, -shares])).components_) == 2


def test_mahalanobis_of_a_two_by_two_covariance():
    # Rows with covariance [[1, .6], [.6, 1]]; its inverse is [[1, -.6], [-.6, 1]] / .64.
    root = np.array([[1.0, 0.0], [0.6, 0.8]]) * np.sqrt(2)
    train = np.vstack([root.T, -root.T])
    model = Mahalanobis(ridge=0.0).fit(train)
    x = np.array([[1.0, 0.0], [1.0, 1.0], [1.0, -1.0], [2.0, NAN]])
    # (1, 1): (1 - .6 - .6 + 1) / .64; a lone 2 of variance 1: 4
    np.testing.assert_allclose(model.decision_function(x), [1 / 0.64, 1.25, 5.0, 4.0])
    # (P z)_k^2 / P_kk at (1, 0): 1 / .64 and .36 / .64
    np.testing.assert_allclose(model.channel_scores(x)[0], [1 / 0.64, 0.36 / 0.64])


def test_moments_of_rows_with_gaps_are_those_of_the_pairs():
    x = np.array([[1.0, 2.0], [3.0, NAN], [-1.0, 0.0], [NAN, 7.0]])
    mean, covariance = moments(x)
    np.testing.assert_allclose(mean, [1.0, 3.0])
    # variances 8 / 3 and 26 / 3; of the two rows that have both: (0 x -1 + -2 x -3) / 2
    np.testing.assert_allclose(covariance, [[8 / 3, 3.0], [3.0, 26 / 3]])


def test_windows_hand_their_scores_to_the_rows_they_cover():
    np.testing.assert_allclose(rows_of_windows(np.array([1.0, 3.0, 8.0]), 2), [1, 2, 5.5, 8])


def test_carried_values():
    x = np.array([[NAN, 1.0], [2.0, NAN], [NAN, NAN]])
    np.testing.assert_array_equal(carried(x), [[0, 1], [2, 1], [2, 1]])


def test_kmeans_scores_a_window_far_from_the_training_windows(rows):
    train = np.zeros((60, 2))
    train[::2] = 1.0  # two different windows: two centres, without a warning
    model = baselines.make("kmeans").fit(train)
    assert len(model.centres_) == 2
    test = train.copy()
    test[40] = 7.0
    score = model.decision_function(test)
    np.testing.assert_allclose(score[:21], 0.0, atol=1e-5)
    np.testing.assert_allclose(score.max(), score[40], rtol=1e-6)
    # Only the windows that cover row 40 are off, by 6 in both channels.
    np.testing.assert_allclose(score[40], np.sqrt(2 * 36.0), rtol=1e-5)


def test_kmeans_draws_a_share_of_long_series(rows):
    from imdiffusion.baselines.learned import KMeansWindows

    train, test = rows
    few = KMeansWindows(most=50, clusters=5).fit(train).decision_function(test)
    assert few.argmax() in range(80, 150)


def test_the_joined_score_is_the_mean_of_standardised_ones(rows):
    train, test = rows
    model = baselines.make("standardised_mean", seed=4).fit(train)
    expected = []
    for name in ("moving_variance", "kmeans", "mahalanobis_30"):
        part = baselines.make(name, seed=4).fit(train[:160])
        held_out = part.decision_function(train[160:])
        expected.append((part.decision_function(test) - held_out.mean()) / held_out.std())
    np.testing.assert_allclose(model.decision_function(test), np.mean(expected, axis=0))


# Properties


@settings(max_examples=40, deadline=None)
@given(arrays(np.float64, (12, 3), elements=st.floats(-5, 5)), st.integers(0, 7))
def test_a_missing_value_adds_nothing_to_a_distance(x, pattern):
    train = np.random.default_rng(0).standard_normal((40, 3)) @ np.array(
        [[1, 0.5, 0], [0, 1, 0.3], [0, 0, 1]]
    )
    hidden = np.array([(pattern >> k) & 1 for k in range(3)], bool)
    holed = np.where(hidden, NAN, x)
    for model in (Mahalanobis().fit(train), Pca(keep=0.5).fit(train)):
        full, part = model.decision_function(x), model.decision_function(holed)
        if hidden.all():
            assert np.isnan(part).all()
        else:
            assert (part <= full + 1e-9).all()
    if not hidden.all():  # of the observed channels under their own covariance
        covariance = moments(train)[1] + 1e-3 * np.eye(3)
        own = np.linalg.inv(covariance[np.ix_(~hidden, ~hidden)])
        apart = (x - train.mean(axis=0))[:, ~hidden]
        expected = np.einsum("tk,kl,tl->t", apart, own, apart)
        got = Mahalanobis().fit(train).decision_function(holed)
        np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-9)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_filling_leaves_what_was_observed(seed):
    rng = np.random.default_rng(seed)
    z = rng.standard_normal((6, 4))
    z[rng.random(z.shape) < 0.4] = NAN
    root = rng.standard_normal((4, 4))
    filled = least_filled(z, root @ root.T)
    assert np.isfinite(filled).all()
    known = ~np.isnan(z)
    np.testing.assert_array_equal(filled[known], z[known])


def test_smoothing_spreads_a_peak_and_keeps_gaps():
    score = np.zeros(90)
    score[45] = 30.0
    score[10] = NAN
    wide = smoothed(score, 30)
    np.testing.assert_array_equal(np.flatnonzero(wide > 0), np.arange(31, 61))
    np.testing.assert_allclose(wide[31:61], 1.0)
    assert np.isnan(wide[10])


def test_lstm_ad_learns_and_leaves_the_generator_alone():
    import torch

    rng = np.random.default_rng(0)
    t = np.arange(180)[:, None]
    x = np.sin(t / 5 + np.array([0.0, 1.0])) + 0.05 * rng.standard_normal((180, 2))
    x[3, 0] = NAN
    test = x.copy()
    test[120] += 4
    from imdiffusion.baselines.learned import LstmAd

    before = torch.get_rng_state()
    first = LstmAd(window=20, epochs=2, seed=7).fit(x).decision_function(test)
    assert torch.equal(before, torch.get_rng_state())
    np.testing.assert_array_equal(
        first, LstmAd(window=20, epochs=2, seed=7).fit(x).decision_function(test)
    )
    assert first.shape == (180,)
    assert first.argmax() == 120


@pytest.mark.parametrize(
    ("name", "package", "told"),
    [
        ("kmeans", "sklearn", "scikit-learn"),
        ("isolation_forest", "sklearn", "scikit-learn"),
        ("lstm_ad", "pyod", "pyod"),
    ],
)
def test_an_absent_package_is_named_with_its_extra(monkeypatch, rows, name, package, told):
    real = builtins.__import__

    def absent(module, *args, **kwargs):
        if module.split(".")[0] == package:
            raise ImportError(module)
        return real(module, *args, **kwargs)

    model = baselines.make(name)
    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(MissingExtraError, match=f"{told}.*imdiffusion\\[bench\\]"):
        model.fit(rows[0])


@pytest.mark.data
def test_the_floor_on_a_known_entity(benchmark_data):
    """GCP service3, VUS-PR (buffer 100) as measured before, by another program."""
    import pyarrow.parquet as pq

    metrics = pytest.importorskip("aeon.benchmarking.metrics.anomaly_detection")
    folder = benchmark_data / "GCP" / "service3"
    train, test = (pq.read_table(folder / f"{part}.parquet") for part in ("train", "test"))
    names = train.column_names
    before, after = (np.column_stack([part[n].to_numpy() for n in names]) for part in (train, test))
    label = test["label"].to_numpy().astype(np.int64)
    scaler = Scaler.fit(before, ~np.isnan(before), kind="zscore")
    known = {"pca": 0.163, "pca_30": 0.500, "mahalanobis_30": 0.559}
    for name, area in known.items():
        model = baselines.make(name).fit(scaler.forward(before).astype(np.float64))
        score = model.decision_function(scaler.forward(after).astype(np.float64))
        found = metrics.range_pr_vus_score(label, score, max_buffer_size=100)
        assert found == pytest.approx(area, abs=0.01), name
