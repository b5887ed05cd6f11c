"""Sums over rows with missing values as a law expects them, one step of EM at a time"""

import numpy as np
import pytest

from imdiffusion.diffusion.denoisers.gaussian import RIDGE, LagMoments, completed, cost_of, toeplitz


def driven(rows, seed, channels=4):
    """Standardised channels of one slow cause, each with little noise of its own."""
    rng = np.random.default_rng(seed)
    cause = np.zeros(rows)
    for t in range(1, rows):
        cause[t] = 0.8 * cause[t - 1] + rng.normal()
    values = cause[:, None] + 0.3 * rng.normal(size=(rows, channels))
    return (values - values.mean(axis=0)) / values.std(axis=0)


def gaps(values, share, seed=1):
    return np.random.default_rng(seed).random(values.shape) >= share


def by_definition(rows, observed, covariances):
    """Patch by patch, with the conditional moments written out; sums of x_t x_(t-h)'."""
    lags, channels = len(covariances) - 1, rows.shape[1]
    whole = toeplitz(covariances)
    own = np.vstack([np.zeros((lags, channels)), rows])
    seen = np.vstack([np.zeros((lags, channels), bool), observed])
    total = np.zeros_like(whole)
    for t in range(len(rows)):
        known = seen[t : t + lags + 1].ravel()
        if not known.any():
            continue
        patch = own[t : t + lags + 1].ravel()
        mean, spread = patch.copy(), np.zeros_like(whole)
        inner = whole[np.ix_(known, known)] + RIDGE * np.eye(known.sum())
        weights = np.linalg.solve(inner, whole[np.ix_(known, ~known)])
        mean[~known] = weights.T @ patch[known]
        left = whole[np.ix_(~known, ~known)] - whole[np.ix_(~known, known)] @ weights
        spread[np.ix_(~known, ~known)] = left
        total += np.outer(mean, mean) + spread
    newest = total.reshape(lags + 1, channels, lags + 1, channels)[-1]
    return np.stack([newest[:, lags - h] for h in range(lags + 1)])


@pytest.mark.parametrize("lags", [0, 2])
@pytest.mark.parametrize("share", [0.1, 0.6])
def test_sums_are_those_of_conditional_moments(lags, share):
    values = driven(60, 0)
    observed = gaps(values, share)
    observed[20:25] = False
    law = LagMoments.of(driven(500, 3), np.ones((500, 4), bool), lags).covariances(noise=0.0)
    found = completed(values, observed, law)
    wanted = by_definition(np.where(observed, values, 0.0), observed, law)
    assert np.allclose(found.products, wanted, atol=1e-8)
    assert np.unique(found.pairs).size == 1


def test_whole_rows_are_what_they_are():
    """But for the first, before which nothing is known."""
    values = driven(100, 0)
    every = np.ones(values.shape, bool)
    law = LagMoments.of(values, every, 1).covariances(noise=0.0)
    found, plain = completed(values, every, law), LagMoments.of(values, every, 1)
    assert np.allclose(found.products[0], plain.products[0])
    assert (found.pairs == 100).all()
    first = values[:1].T @ (values[:1] @ np.linalg.solve(law[0] + RIDGE * np.eye(4), law[1]))
    assert np.allclose(found.products[1], plain.products[1] + first)


def test_what_is_not_observed_is_not_read():
    values = driven(80, 0)
    observed = gaps(values, 0.4)
    law = LagMoments.of(driven(500, 3), np.ones((500, 4), bool), 1).covariances(noise=0.0)
    absurd = np.where(observed, values, 1e9)
    one, two = completed(values, observed, law), completed(absurd, observed, law)
    assert np.array_equal(one.products, two.products)


@pytest.mark.parametrize("share", [0.3, 0.5])
def test_a_few_steps_come_nearer_to_the_law_than_the_pairs_that_were_seen(share):
    """By the variances along its directions, of which those of pairs may be below 0."""
    values = driven(2000, 0, 6)
    whole = LagMoments.of(values, np.ones(values.shape, bool), 2).covariances(noise=0.0)
    observed = gaps(values, share)
    moments = LagMoments.of(np.where(observed, values, 0.0), observed, 2)
    pairs = moments.covariances(noise=0.05)
    for _ in range(3):
        moments = completed(values, observed, moments.covariances(noise=0.0))
    steps = moments.covariances(noise=0.0)
    true, one, two = (np.linalg.eigvalsh(toeplitz(law)) for law in (whole, pairs, steps))
    assert two[0] > 0  # a law without any noise
    assert np.abs(two - true).max() < 0.5 * np.abs(one - true).max()


def test_a_channel_without_a_value_and_rows_without_one_add_nothing():
    values = driven(50, 0)
    observed = np.ones(values.shape, bool)
    observed[:, 3] = False
    observed[10:13] = False
    law = LagMoments.of(np.where(observed, values, 0.0), observed, 0).covariances(noise=0.0)
    found = completed(values, observed, law)
    assert np.allclose(found.products[:, 3], 0.0)
    assert np.allclose(found.products[:, :, 3], 0.0)
    assert (found.pairs == 47).all()


def test_the_cost_is_of_patches_with_gaps_alone():
    observed = np.ones((10, 3), bool)
    assert cost_of(observed, 0) == 0.0
    observed[4, 0] = False
    assert cost_of(observed, 0) == 1 + 9
    # A gap of row 4 is one of rows 4 and 5; row 0 has no row before it.
    assert cost_of(observed, 1) == 2 * (1 + 36) + 27 + 36
