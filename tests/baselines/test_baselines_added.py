"""Forecast, other channels, patch neighbours and the join by logs: numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imdiffusion import baselines
from imdiffusion.baselines.linear import FLOOR, LinearForecast, OtherChannels
from imdiffusion.baselines.neighbours import FLAT, PatchNeighbours
from imdiffusion.baselines.simple import BEST, JoinedLogs
from imdiffusion.errors import DataError, NotFittedError

NAN = np.nan


def walk(rows=400, seed=0):
    """Three channels: one autoregressive, one that follows it a row later, one of its own."""
    rng = np.random.default_rng(seed)
    x = np.zeros((rows, 3))
    for t in range(1, rows):
        x[t, 0] = 0.9 * x[t - 1, 0] + rng.normal()
        x[t, 1] = x[t - 1, 0] + 0.1 * rng.normal()
        x[t, 2] = rng.normal()
    return (x - x.mean(axis=0)) / x.std(axis=0)


def test_a_forecast_of_one_lag_by_hand():
    # Rows 1, -1, 1, -1 alternate: x_t = -x_(t-1). With three pairs and ridge .1 x 3 = .3 the
    # coefficient is -3 / 3.3 = -10 / 11, and every residual but the first has size 1 / 11.
    train = np.array([[1.0], [-1.0], [1.0], [-1.0]])
    model = LinearForecast(lags=1, ridge=0.1, smooth=1).fit(train)
    np.testing.assert_allclose(model.weights_, [[-10 / 11]])
    # Before the first row stands the first row: 1 + 10 / 11.
    unit = ((21 / 11) ** 2 + 3 * (1 / 11) ** 2) / 4
    np.testing.assert_allclose(model.unit_, [unit])
    score = model.decision_function(np.array([[1.0], [1.0]]))
    np.testing.assert_allclose(score, np.log1p((21 / 11) ** 2 / unit))


def test_the_mean_is_over_channels_and_then_over_rows():
    x = walk()
    parts = LinearForecast(smooth=1).fit(x).channel_scores(x)
    whole = LinearForecast().fit(x).decision_function(x)
    np.testing.assert_allclose(whole[100], parts[85:115].mean(), rtol=1e-5)
    spread = LinearForecast(smooth=1).fit(x)
    assert spread.unit_[1] < 0.15 < 0.8 < spread.unit_[2]  # known a row ahead, and not at all


def test_other_channels_by_hand():
    # Covariance [[1, .6], [.6, 1]] without ridge: residuals (x0 - .6 x1) / .8.
    root = np.array([[1.0, 0.0], [0.6, 0.8]]) * np.sqrt(2)
    train = np.vstack([root.T, -root.T])
    model = OtherChannels(ridge=0.0, smooth=1).fit(train)
    np.testing.assert_allclose(model.unit_, [1.0, 1.0])
    x = np.array([[1.0, 0.0], [2.0, NAN]])
    parts = model.channel_scores(x)
    np.testing.assert_allclose(parts[0], np.log1p([1 / 0.64, 0.36 / 0.64]))
    # Alone, 2 has the other at its conditional mean, 1.2: (2 - .72) / .8 = 1.6.
    np.testing.assert_allclose(parts[1], [np.log1p(1.6**2), NAN])
    np.testing.assert_allclose(model.decision_function(x)[1], np.log1p(1.6**2))


def test_a_channel_that_never_moved_has_the_least_unit():
    train = np.column_stack([walk()[:, 0], np.zeros(400)])
    model = LinearForecast(smooth=1).fit(train)
    assert model.unit_[1] == FLOOR
    test = np.zeros((10, 2))
    test[7, 1] = 1.0
    assert model.decision_function(test).argmax() == 7


def test_a_forecast_says_how_many_rows_it_needs():
    with pytest.raises(DataError, match="at least 7 rows"):
        LinearForecast().fit(np.zeros((6, 2)))
    with pytest.raises(NotFittedError, match="OtherChannels"):
        OtherChannels().decision_function(np.zeros((6, 2)))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.0, 0.5))
def test_gaps_leave_a_mean_over_what_is_there(seed, share):
    x = walk()
    rng = np.random.default_rng(seed)
    test = walk(seed=1)[:60]
    test[rng.random(test.shape) < share] = NAN
    for model in (LinearForecast(smooth=1).fit(x), OtherChannels(smooth=1).fit(x)):
        score, parts = model.decision_function(test), model.channel_scores(test)
        np.testing.assert_array_equal(np.isnan(parts), np.isnan(test))
        np.testing.assert_array_equal(np.isnan(score), np.isnan(test).all(axis=1))
        known = ~np.isnan(score)
        np.testing.assert_allclose(score[known], np.nanmean(parts[known], axis=1), rtol=1e-6)


def test_what_is_hidden_of_a_training_part_does_not_move_the_coefficients_far():
    x = walk(3000)
    whole = LinearForecast().fit(x).weights_
    holed = x.copy()
    holed[np.random.default_rng(3).random(x.shape) < 0.05] = NAN
    np.testing.assert_allclose(LinearForecast().fit(holed).weights_, whole, atol=0.12)


def test_a_patch_is_compared_by_its_shape():
    ramp = np.arange(4.0)[:, None]
    model = PatchNeighbours(length=4, most=1, step=1).fit(np.tile(ramp, (2, 1)))
    # (-1.5, -.5, .5, 1.5) over its deviation sqrt(1.25) plus .5; any level has the same shape.
    shape = np.array([-1.5, -0.5, 0.5, 1.5]) / (np.sqrt(1.25) + FLAT)
    np.testing.assert_allclose(model.patches_, [shape], rtol=1e-6)
    np.testing.assert_allclose(model.decision_function(ramp + 7), 0.0, atol=1e-3)
    # Downwards every value is off by twice its size: root mean square 2 x sqrt(1.25) / (...).
    down = model.decision_function(-ramp)
    np.testing.assert_allclose(down, 2 * np.sqrt(1.25) / (np.sqrt(1.25) + FLAT), rtol=1e-6)


def test_a_row_has_the_mean_of_the_patches_that_cover_it():
    rng = np.random.default_rng(0)
    x, test = rng.normal(size=(60, 2)), rng.normal(size=(11, 2))
    model = PatchNeighbours(length=4, step=3).fit(x)
    # Patches start at 0, 3, 6 and, the last one, 7.
    alone = [model.decision_function(test[start : start + 4])[0] for start in (0, 3, 6, 7)]
    score = model.decision_function(test)
    np.testing.assert_allclose(score[2], alone[0], rtol=1e-5)
    np.testing.assert_allclose(score[3], np.mean(alone[:2]), rtol=1e-5)
    np.testing.assert_allclose(score[9], np.mean(alone[2:]), rtol=1e-5)
    np.testing.assert_allclose(score[10], alone[3], rtol=1e-5)


def test_a_distance_is_the_least_one_worked_out_slowly_and_leaves_gaps_out():
    rng = np.random.default_rng(1)
    x, test = rng.normal(size=(50, 3)), rng.normal(size=(8, 3))
    test[2:5, 1] = NAN
    model = PatchNeighbours(length=8, most=20).fit(x)
    assert len(model.patches_) == 20
    mean, spread = np.nanmean(test, axis=0), np.nanstd(test, axis=0)
    own = ((test - mean) / (spread + FLAT)).T.ravel()
    known = ~np.isnan(own)
    apart = [np.mean(np.square(own - one)[known]) for one in model.patches_.astype(float)]
    np.testing.assert_allclose(model.decision_function(test), np.sqrt(min(apart)), rtol=1e-4)


def test_rows_that_were_fitted_on_do_not_find_themselves():
    x = np.random.default_rng(2).normal(size=(200, 1))
    model = PatchNeighbours(length=8, step=1).fit(x)
    assert model.decision_function(x).max() < 1e-3
    alone = model.training_scores(x)
    assert alone.min() > 0.2
    # The first patch has as neighbours those that start at row 8 or later.
    away = PatchNeighbours(length=8, step=1).fit(x[8:]).decision_function(x[:8])
    np.testing.assert_allclose(alone[0], away[0], rtol=1e-4)
    with pytest.raises(DataError, match="at least 16 rows"):
        PatchNeighbours(length=8).fit(x[:15])
    nowhere = PatchNeighbours(length=8, step=1).fit(x[:16]).training_scores(x[:16])
    assert np.isfinite(nowhere[[0, 15]]).all()  # patches 0 and 8 share no row


def test_the_join_is_a_mean_of_logs_in_units_of_training_quantiles():
    x, test = walk(), walk(seed=2)
    members = ("zscore", "squared_difference")
    model = JoinedLogs(members, quantile=0.9).fit(x)
    logs = []
    for name in members:
        one = baselines.make(name).fit(x)
        unit = np.quantile(one.decision_function(x), 0.9)
        logs.append(np.log1p(one.decision_function(test) / unit))
    np.testing.assert_allclose(model.decision_function(test), np.mean(logs, axis=0))
    assert len(BEST) == 4
    assert not baselines.drawn("joined_logs")  # asked once, whatever seeds a plan has


def test_a_member_without_spread_keeps_a_unit_and_a_member_without_scores_is_an_error():
    still = np.zeros((60, 2))
    model = JoinedLogs(("zscore",)).fit(still)
    np.testing.assert_array_equal(model.units_, [1.0])
    rare = np.zeros((400, 1))
    rare[7] = 4.0  # the .99 quantile is 0: the least score above it is the unit
    np.testing.assert_array_equal(JoinedLogs(("zscore",)).fit(rare).units_, [4.0])
    with pytest.raises(DataError, match="zscore has no score"):
        JoinedLogs(("zscore",)).fit(np.full((60, 2), NAN))


@pytest.mark.data
def test_the_columns_of_the_floor_are_met(benchmark_data):
    """VUS-PR, buffer 100, as measured before by another program on every training row."""
    from imdiffusion_bench.datasets import open_dataset
    from imdiffusion_bench.detectors import make, settings_of
    from imdiffusion_bench.metrics.range_based import vus_pr
    from imdiffusion_bench.plan import EVERY_ROW

    for name, forecast, channel in (
        ("Genesis", 0.894, 0.717),
        ("Daphnet", 0.500, 0.355),
        ("MSCloud", 0.491, 0.475),
    ):
        dataset = open_dataset(name, benchmark_data)
        for row, wanted in (("forecast_s30", forecast), ("channel_s30", channel)):
            found = []
            for entity in dataset.entities():
                split = dataset.load(entity)
                fitted = make(row, settings_of(row, EVERY_ROW), seed=0).fit(split.train)
                found.append(vus_pr(split.truth.label(), fitted.score(split.test).score))
            assert np.mean(found) == pytest.approx(wanted, abs=0.005), (name, row)
