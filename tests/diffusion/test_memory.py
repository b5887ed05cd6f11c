"""The memory of patches: means, variances and distances worked out by hand, any mask, any gap."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imdiffusion.diffusion.denoisers.memory import LEAST_SPREAD, PatchMemory, chosen_starts


def rows_of(total: int = 120, channels: int = 3, seed: int = 0) -> np.ndarray:
    time = np.arange(total)[:, None]
    noise = np.random.default_rng(seed).normal(size=(total, channels))
    return np.sin(time / np.array([3.0, 5.0, 8.0])[:channels]) + 0.3 * noise


def by_hand(memory, patch, visible, level):
    """Mean and variance of one patch, in plain loops; values missing in the memory are N(0, 1)."""
    logs, first, second = [], [], []
    for stored, known in zip(memory.patches.astype(float), memory.observed, strict=True):
        own, unit = patch, 1.0
        if memory.normalised:
            units = []
            for k in range(patch.shape[1]):
                seen = visible[:, k]
                count = max(seen.sum(), 1)
                for values in (patch[:, k], stored[:, k]):
                    middle = values[seen].sum() / count
                    wide = (values[seen] ** 2).sum() / count - middle**2
                    units.append((middle, max(np.sqrt(max(wide, 0.0)), LEAST_SPREAD)))
            units = np.array(units).reshape(-1, 2, 2)
            own = (patch - units[:, 0, 0]) / units[:, 0, 1]
            stored = (stored - units[:, 1, 0]) / units[:, 1, 1]
            unit = units[:, 0]
        spread = np.where(known, level, level + 1.0)
        likelihood = np.square(own - stored) / spread + np.log(spread)
        logs.append(-0.5 * likelihood[visible].sum())
        first.append(stored)
        second.append(stored**2 + ~known)
    weights = np.exp(np.array(logs) - max(logs))
    weights /= weights.sum()
    mean = np.tensordot(weights, first, 1)
    variance = np.tensordot(weights, second, 1) - mean**2 + memory.noise
    if memory.normalised:
        return unit[:, 0] + unit[:, 1] * mean, unit[:, 1] ** 2 * variance
    return mean, variance


@pytest.mark.parametrize("normalised", [False, True])
@pytest.mark.parametrize("noise", [0.0, 0.7])
def test_mean_and_variance_are_those_of_plain_loops(normalised: bool, noise: float) -> None:
    rows, generator = rows_of(), np.random.default_rng(1)
    whole = np.ones(rows.shape, bool)
    memory = PatchMemory.fit(rows, whole, width=5, most=20, noise=0.3, normalised=normalised)
    patches = rows_of(seed=2)[:20].reshape(4, 5, 3)
    visible = generator.random(patches.shape) < 0.6
    visible[3] = False  # nothing at all
    mean, variance = memory.condition(patches, visible, noise=noise)
    for number in range(4):
        expected = by_hand(memory, patches[number], visible[number], 0.3 + noise)
        np.testing.assert_allclose(mean[number], expected[0], atol=1e-4)
        np.testing.assert_allclose(variance[number], expected[1], atol=2e-4)


def test_values_missing_in_the_memory_are_as_unknown_as_a_normal_number() -> None:
    rows = rows_of()
    observed = np.random.default_rng(3).random(rows.shape) < 0.7
    memory = PatchMemory.fit(np.where(observed, rows, 1e9), observed, width=4, most=30, noise=0.2)
    assert not memory.observed.all()
    patches = rows_of(seed=4)[:12].reshape(3, 4, 3)
    visible = np.random.default_rng(5).random(patches.shape) < 0.5
    mean, variance = memory.condition(np.where(visible, patches, np.nan), visible)
    for number in range(3):
        expected = by_hand(memory, patches[number], visible[number], 0.2)
        np.testing.assert_allclose(mean[number], expected[0], atol=1e-4)
        np.testing.assert_allclose(variance[number], expected[1], atol=2e-4)


@pytest.mark.parametrize("normalised", [False, True])
def test_a_training_patch_is_recovered_from_most_of_it(normalised: bool) -> None:
    rows = rows_of()
    memory = PatchMemory.fit(
        rows, np.ones(rows.shape, bool), width=8, noise=0.01, normalised=normalised
    )
    patch = rows[40:48][None]
    visible = np.ones(patch.shape, bool)
    visible[0, 3, 1] = visible[0, 7, 2] = False
    mean, variance = memory.condition(np.where(visible, patch, 50.0), visible)
    np.testing.assert_allclose(mean[~visible], patch[~visible], atol=0.01)
    assert np.sqrt(variance[~visible]).max() < 0.2
    assert memory.distances(patch, visible)[0] < 1e-5
    far = np.where(visible, patch, 0.0)
    far[0, 5, 0] += 4.0
    assert memory.distances(far, visible)[0] > 0.1


def test_shapes_are_compared_and_not_levels_where_patches_are_normalised() -> None:
    rows = rows_of()
    whole = np.ones(rows.shape, bool)
    moved = (7.0 + 3.0 * rows[40:48])[None]
    shapes = PatchMemory.fit(rows, whole, width=8, normalised=True)
    levels = PatchMemory.fit(rows, whole, width=8)
    seen = np.ones(moved.shape, bool)
    assert shapes.distances(moved, seen)[0] < 1e-3 < 1.0 < levels.distances(moved, seen)[0]


def test_the_noise_is_how_far_one_normal_patch_is_from_another() -> None:
    rows = np.random.default_rng(0).normal(size=(60, 2)).astype(np.float32)
    memory = PatchMemory.fit(rows, np.ones(rows.shape, bool), width=3)
    starts = np.arange(58)
    nearest = [
        min(np.square(rows[a : a + 3] - rows[b : b + 3]).mean() for b in starts if abs(a - b) >= 3)
        for a in starts
    ]
    assert memory.noise == pytest.approx(np.mean(nearest), rel=1e-4)


def test_patches_are_evenly_chosen_and_whole_where_most_are() -> None:
    observed = np.ones((100, 2), bool)
    assert chosen_starts(observed, 10, 4).tolist() == [0, 30, 60, 90]
    observed[50, 1] = False
    assert not set(range(41, 51)) & set(chosen_starts(observed, 10, 1000).tolist())
    with pytest.raises(ValueError, match="10 rows, and there are 5"):
        chosen_starts(observed[:5], 10, 4)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 5),
    st.integers(1, 4),
    st.floats(0.0, 1.0),
    st.floats(1e-3, 1e3),
    st.booleans(),
    st.integers(0, 99),
)
def test_it_stays_finite_and_within_what_it_remembers(
    width: int, channels: int, share: float, size: float, normalised: bool, seed: int
) -> None:
    generator = np.random.default_rng(seed)
    rows = generator.normal(size=(40, channels))
    observed = generator.random(rows.shape) < 0.9
    memory = PatchMemory.fit(rows, observed, width=width, most=25, normalised=normalised)
    patches = size * generator.normal(size=(7, width, channels))
    visible = generator.random(patches.shape) < share
    mean, variance = memory.condition(patches, visible)
    assert np.isfinite(mean).all()
    assert np.isfinite(variance).all()
    assert (variance > 0).all()
    assert (memory.distances(patches, visible) >= 0).all()
    if not normalised:
        assert (mean <= memory.patches.max(axis=0) + 1e-6).all()
        assert (mean >= memory.patches.min(axis=0) - 1e-6).all()
