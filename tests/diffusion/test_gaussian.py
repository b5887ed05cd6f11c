"""The Gaussian law of patches against a conditional law computed value by value"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imdiffusion.diffusion.denoisers import gaussian
from imdiffusion.diffusion.denoisers.gaussian import GaussianPatches, LagMoments, patterns

quick = settings(max_examples=25, deadline=None)
shapes = st.tuples(st.integers(1, 4), st.integers(0, 3))  # channels, lags


def stationary(seed, channels, lags):
    """Covariances 0 to `lags` rows apart of a moving average, which surely make a law."""
    rng = np.random.default_rng(seed)
    order = 3
    weights = rng.normal(size=(order, channels, channels))
    found = np.zeros((lags + 1, channels, channels))
    for lag in range(min(lags + 1, order)):
        for at in range(order - lag):
            found[lag] += weights[at + lag] @ weights[at].T
    return found / np.trace(found[0]) * channels


def joint(covariances):
    """Covariance of a patch flattened oldest row first, one entry after another."""
    count, channels = covariances.shape[:2]
    size = count * channels
    whole = np.zeros((size, size))
    for i in range(size):
        for j in range(size):
            row, other = i // channels, j // channels
            one, two = i % channels, j % channels
            if row >= other:
                whole[i, j] = covariances[row - other][one, two]
            else:
                whole[i, j] = covariances[other - row][two, one]
    return whole


def told(joint_covariance, at, known, values, noise):
    """Mean, variance and weights of entry `at` told by the entries `known`, noise on those."""
    inner = joint_covariance[np.ix_(known, known)] + noise * np.eye(len(known))
    across = joint_covariance[at, known]
    weights = np.linalg.pinv(inner) @ across if len(known) else np.zeros(0)
    return weights @ values[known], joint_covariance[at, at] - weights @ across, weights


def left(variance, weights, noise):
    """What such weights leave in rows that carry no noise, and a hundredth of the noise."""
    return max(variance + noise - noise * (1 + weights @ weights), 0) + 0.01 * noise


@quick
@given(shapes, st.integers(0, 999), st.floats(0.01, 2), st.sampled_from([0.0, 0.7]))
def test_any_mask_is_the_conditional_law(shape, seed, noise, more):
    channels, lags = shape
    rng = np.random.default_rng(seed)
    covariances = stationary(seed, channels, lags)
    whole, size = joint(covariances), (lags + 1) * channels
    patches = rng.normal(size=(5, lags + 1, channels))
    visible = rng.random(patches.shape) < 0.5
    law = GaussianPatches(covariances, noise=noise)
    assert np.allclose(law.covariance, whole)
    # What is hidden must not be read, whatever stands there.
    hidden = np.where(visible, patches, np.nan)
    mean, variance = law.condition(hidden, visible, noise=more)
    for one in range(5):
        known = np.flatnonzero(visible[one].reshape(-1))
        for at in range(size):
            m, v, _ = told(whole, at, known, patches[one].reshape(-1), noise + more)
            assert mean[one].reshape(-1)[at] == pytest.approx(m, abs=1e-8)
            assert variance[one].reshape(-1)[at] == pytest.approx(v + noise, abs=1e-8)


def test_two_channels_by_hand():
    # Correlation .8, noise .25: weight .8 / 1.25 = .64, left 1 + .25 - .64 * .8 = .738.
    law = GaussianPatches(np.array([[[1.0, 0.8], [0.8, 1.0]]]), noise=0.25)
    one = np.array([[[2.0, 5.0]]])
    mean, variance = law.condition(one, np.array([[[True, False]]]))
    assert mean[0, 0].tolist() == pytest.approx([2.0 / 1.25, 2 * 0.64])
    assert variance[0, 0].tolist() == pytest.approx([1.25 - 1 / 1.25, 0.738])
    mean, variance = law.from_others(one[0], np.array([[True, True]]))
    assert mean[0].tolist() == pytest.approx([5 * 0.64, 2 * 0.64])
    assert variance[0].tolist() == pytest.approx([0.738, 0.738])
    # Alone it is told nothing: all of its variance is left, 1, where the other leaves
    # .738 - .25 * (1 + .64^2) = .3856. The floor of either is .0025.
    mean, variance = law.from_others(one[0], np.array([[True, False]]))
    assert mean[0].tolist() == pytest.approx([0.0, 2 * 0.64])
    assert variance[0, 0] == pytest.approx(0.738 * 1.0025 / 0.3881)
    assert variance[0, 1] == pytest.approx(0.738)


@quick
@given(shapes, st.integers(0, 999), st.floats(0.02, 1))
def test_a_forecast_is_the_law_with_the_newest_row_hidden(shape, seed, noise):
    channels, lags = shape
    rng = np.random.default_rng(seed)
    law = GaussianPatches(stationary(seed, channels, lags), noise=noise)
    rows = rng.normal(size=(lags + 6, channels))
    mean, variance = law.forecast(rows, np.ones(rows.shape, bool))
    patches = np.stack([rows[t : t + lags + 1] for t in range(6)])
    visible = np.ones(patches.shape, bool)
    visible[:, -1] = False
    same, spread = law.condition(patches, visible)
    assert np.allclose(mean, same[:, -1])
    assert np.allclose(variance, np.maximum(spread[:, -1], noise))


@pytest.mark.parametrize("share", [0.15, 0.5, 0.85, 1.0])
@pytest.mark.parametrize(("channels", "lags"), [(1, 1), (1, 4), (3, 3), (4, 2)])
def test_a_forecast_from_a_past_with_gaps(share, channels, lags):
    rng = np.random.default_rng(7)
    noise = 0.1
    covariances = stationary(3, channels, lags)
    whole, past = joint(covariances), lags * channels
    rows = rng.normal(size=(lags + 30, channels))
    observed = rng.random(rows.shape) >= share
    law = GaussianPatches(covariances, noise=noise)
    mean, variance = law.forecast(np.where(observed, rows, np.nan), observed)
    ways = set()
    for t in range(30):
        seen = observed[t : t + lags].reshape(-1)
        known = np.flatnonzero(seen)
        ways.add(len(known) * 2 >= past)
        values = rows[t : t + lags].reshape(-1)
        for k in range(channels):
            m, v, weights = told(whole, past + k, known, values, noise)
            _, full, every = told(whole, past + k, np.arange(past), values, noise)
            unit = (full + noise) / left(full, every, noise)
            assert mean[t, k] == pytest.approx(m, abs=1e-8)
            assert variance[t, k] == pytest.approx(left(v, weights, noise) * unit, rel=1e-6)
            assert variance[t, k] > 0.99 * (full + noise)  # less is hardly known better
    if share == 0.5 and past > 2:
        assert ways == {True, False}  # both ways of solving


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_a_channel_told_by_the_others_of_its_row(channels, monkeypatch):
    monkeypatch.setattr(gaussian, "LARGEST_BATCH", 2 * channels**2)  # several batches
    rng = np.random.default_rng(1)
    noise = 0.2
    covariances = stationary(5, channels, 0)
    rows = rng.normal(size=(40, channels))
    observed = rng.random(rows.shape) < 0.6
    observed[:4] = True
    observed[4] = False
    law = GaussianPatches(covariances, noise=noise)
    mean, variance = law.from_others(np.where(observed, rows, np.nan), observed)
    for t in range(40):
        for k in range(channels):
            others = np.array([j for j in range(channels) if j != k], int)
            known = others[observed[t, others]]
            m, v, weights = told(covariances[0], k, known, rows[t], noise)
            _, full, every = told(covariances[0], k, others, rows[t], noise)
            unit = (full + noise) / left(full, every, noise)
            assert mean[t, k] == pytest.approx(m, abs=1e-8)
            assert variance[t, k] == pytest.approx(left(v, weights, noise) * unit, rel=1e-6)


def test_a_residual_in_its_unit_is_as_large_in_thin_rows():
    """Channels that tell one another well: nearly all of the law's variance is noise."""
    rng = np.random.default_rng(0)
    wave = np.cumsum(rng.normal(size=6000)) * 0.2
    wave -= np.convolve(wave, np.ones(50) / 50, mode="same")
    rows = wave[:, None] + 0.1 * rng.normal(size=(6000, 4))
    rows /= rows.std(axis=0)
    every = np.ones(rows.shape, bool)
    law = GaussianPatches(LagMoments.of(rows, every, 5).covariances(noise=0.05), noise=0.05)
    thin = rng.random(rows.shape) > 0.5

    def size(view, observed):
        context = 5 if view == law.forecast else 0
        mean, variance = view(rows, observed)
        own = observed[context:]
        return np.sqrt(np.mean(((rows[context:] - mean) ** 2 / variance)[own]))

    for view in (law.forecast, law.from_others):
        assert size(view, thin) == pytest.approx(size(view, every), rel=0.15)


def test_reconstruction_under_noise_is_that_of_a_pca():
    """Hiding nothing under noise keeps each direction of variance l by l / (l + s^2)."""
    covariance = stationary(2, 5, 0)
    law = GaussianPatches(covariance, noise=0.0)
    rows = np.random.default_rng(0).normal(size=(6, 1, 5))
    level = 0.3
    mean, _ = law.condition(rows, np.ones(rows.shape, bool), noise=level)
    size, directions = np.linalg.eigh(covariance[0])
    kept = (rows[:, 0] @ directions) * (size / (size + level)) @ directions.T
    assert np.allclose(mean[:, 0], kept)
    same, spread = law.condition(rows, np.ones(rows.shape, bool))
    assert np.allclose(same, rows, atol=1e-6)  # without noise, the values themselves
    assert np.allclose(spread, 0, atol=1e-6)


def test_nothing_visible_is_the_mean_and_the_whole_variance():
    covariances = stationary(4, 3, 2)
    law = GaussianPatches(covariances, noise=0.1)
    mean, variance = law.condition(np.full((2, 3, 3), 9.0), np.zeros((2, 3, 3), bool))
    assert not mean.any()
    assert np.allclose(variance, np.diag(covariances[0]) + 0.1)


def test_a_law_of_no_lags_forecasts_the_mean():
    law = GaussianPatches(stationary(4, 3, 0), noise=0.1)
    mean, variance = law.forecast(np.ones((4, 3)), np.ones((4, 3), bool))
    assert mean.shape == (4, 3)
    assert not mean.any()
    assert np.allclose(variance, np.diag(law.covariances[0]) + 0.1)


# -- covariances


@quick
@given(st.integers(0, 3), st.integers(1, 3), st.integers(1, 25), st.integers(0, 999))
def test_moments_are_sums_over_pairs(lags, channels, total, seed):
    rng = np.random.default_rng(seed)
    observed = rng.random((total, channels)) < 0.7
    rows = np.where(observed, rng.normal(size=(total, channels)), 0.0)
    found = LagMoments.of(rows, observed, lags)
    whole = bool(observed.all())
    for lag in range(lags + 1):
        for k in range(channels):
            for j in range(channels):
                pairs = [(rows[t, k], rows[t - lag, j]) for t in range(lag, total)]
                seen = [observed[t, k] and observed[t - lag, j] for t in range(lag, total)]
                assert found.products[lag, k, j] == pytest.approx(sum(a * b for a, b in pairs))
                if lag < total:
                    assert found.pairs[lag, k, j] == (total if whole else sum(seen))


def test_blocks_add_up_but_for_the_pairs_across_their_edges():
    rng = np.random.default_rng(0)
    rows, lags = rng.normal(size=(30, 2)), 2
    observed = rng.random(rows.shape) < 0.8
    rows = np.where(observed, rows, 0.0)
    one, two = (LagMoments.of(rows[p], observed[p], lags) for p in (slice(0, 12), slice(12, 30)))
    whole = LagMoments.of(rows, observed, lags)
    both = one + two
    for lag in range(lags + 1):
        across, pairs = np.zeros((2, 2)), np.zeros((2, 2))
        for t in range(12, 12 + lag):
            across += np.outer(rows[t], rows[t - lag])
            pairs += np.outer(observed[t], observed[t - lag])
        assert np.allclose(both.products[lag] + across, whole.products[lag])
        assert np.allclose(both.pairs[lag] + pairs, whole.pairs[lag])
    rest = both - one
    assert np.allclose(rest.products, two.products)
    assert np.allclose(rest.pairs, two.pairs)


def test_covariances_of_whole_rows_are_means_over_all_rows():
    rows = np.array([[1.0, 2.0], [3.0, -1.0], [0.0, 2.0], [2.0, 1.0]])
    found = LagMoments.of(rows, np.ones(rows.shape, bool), 1).covariances(noise=0.1)
    assert np.allclose(found[0], [[14 / 4, 1 / 4], [1 / 4, 10 / 4]])
    # x_t x_(t-1)': rows 1, 2, 3 against 0, 1, 2, the missing fourth pair counted as zeros.
    assert np.allclose(found[1], [[3 / 4, 10 / 4], [5 / 4, -2 / 4]])


@quick
@given(st.integers(0, 999), st.integers(1, 4), st.integers(0, 3), st.floats(0.1, 0.95))
def test_covariances_of_rows_with_gaps_make_a_law(seed, channels, lags, gone):
    rng = np.random.default_rng(seed)
    rows = np.repeat(np.cumsum(rng.normal(size=(12, 1)), axis=0), channels, axis=1)
    rows = rows + 0.01 * rng.normal(size=rows.shape)  # as near to singular as can be
    observed = rng.random(rows.shape) >= gone
    noise = 0.05
    found = LagMoments.of(np.where(observed, rows, 0), observed, lags).covariances(noise=noise)
    least = np.linalg.eigvalsh(joint(found)).min()
    assert least > -noise
    mean, variance = GaussianPatches(found, noise=noise).forecast(
        np.where(observed, rows, 0), observed
    )
    assert np.isfinite(mean).all()
    assert (variance > 0).all()


def test_gaps_at_random_leave_the_covariances_as_they_are():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(20_000, 1)) + 0.5 * rng.normal(size=(20_000, 3))
    observed = rng.random(rows.shape) < 0.5
    found = LagMoments.of(np.where(observed, rows, 0), observed, 0).covariances(noise=0.05)
    assert np.allclose(
        found[0], 1 + 0.25 * np.eye(3), atol=0.07
    )  # not a quarter beside the diagonal


# -- bad input


def test_a_singular_covariance_says_what_it_can():
    """Three copies of one channel, and one that never moves."""
    covariance = np.zeros((2, 4, 4))
    covariance[0, :3, :3] = 1.0
    covariance[1, :3, :3] = 0.5
    law = GaussianPatches(covariance, noise=0.05)
    rows = np.tile([2.0, 2.0, 2.0, 0.0], (4, 1))
    observed = np.ones(rows.shape, bool)
    mean, variance = law.from_others(rows, observed)
    assert np.allclose(mean[:, :3], 4 / 2.05)  # two copies with noise of .05 on each
    assert not mean[:, 3].any()
    assert np.isfinite(variance).all()
    assert (variance > 0).all()
    observed[1, 3] = observed[2, 0] = False
    for view in (law.forecast, law.from_others):
        mean, variance = view(rows, observed)
        assert np.isfinite(mean).all()
        assert np.isfinite(variance).all()
        assert (variance > 0).all()
    free = GaussianPatches(covariance[:1], noise=0.0)
    mean, _ = free.condition(rows[:, None], np.tile([True, True, False, True], (4, 1))[:, None])
    assert np.allclose(mean[:, 0, 2], 2.0, atol=1e-5)


def test_more_channels_than_rows():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(8, 30))
    observed = np.ones(rows.shape, bool)
    for noise in (0.05, 0.3, 1.5):
        law = GaussianPatches(
            LagMoments.of(rows, observed, 1).covariances(noise=noise), noise=noise
        )
        for mean, variance in (law.forecast(rows, observed), law.from_others(rows, observed)):
            assert np.isfinite(mean).all()
            assert (variance >= noise - 1e-9).all()


@quick
@given(st.integers(1, 30), st.integers(1, 20), st.integers(0, 999))
def test_patterns_find_every_row_once(count, width, seed):
    flags = np.random.default_rng(seed).random((count, width)) < 0.3
    flags[count // 2 :] = flags[0]
    found = list(patterns(flags))
    assert len(found) == len({row.tobytes() for row in flags})
    assert sorted(np.concatenate([alike for _, alike in found]).tolist()) == list(range(count))
    for seen, alike in found:
        assert (flags[alike] == seen).all()
