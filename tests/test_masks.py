"""Masks: golden patterns worked out by hand, and properties over all sizes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imdiffusion import masks, registry
from imdiffusion.presets import Settings

COMPLETE = [n for n in registry.names("masks") if n not in registry.PARTIAL_MASKS]


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_grating_golden() -> None:
    # 8 rows in 4 bands of 2: mask 0 hides bands 0 and 2, mask 1 hides bands 1 and 3.
    visible = masks.grating(8, 1, bands=4)
    assert visible[0, :, 0].tolist() == [False, False, True, True, False, False, True, True]
    assert visible[1, :, 0].tolist() == [True, True, False, False, True, True, False, False]


@given(st.integers(2, 60), st.integers(1, 6), st.integers(2, 20))
def test_grating_hides_every_point_exactly_once(length: int, channels: int, bands: int) -> None:
    visible = masks.grating(length, channels, bands=bands)
    assert visible.shape == (2, length, channels)
    assert ((~visible).sum(axis=0) == 1).all()


@given(st.integers(2, 30), st.integers(2, 40), st.integers(2, 9), st.integers(0, 99))
def test_channel_hides_each_channel_once_and_whole(
    length: int, channels: int, groups: int, seed: int
) -> None:
    visible = masks.channel(length, channels, generator=rng(seed), mask_groups=groups)
    assert ((~visible).sum(axis=0) == 1).all()
    assert (visible == visible[:, :1]).all()  # the same in every row
    hidden = (~visible[:, 0]).sum(axis=1)
    assert hidden.max() - hidden.min() <= 1


def test_a_subset_is_hidden_then_the_rest_and_shares_vary() -> None:
    rng = np.random.default_rng(0)
    hidden = []
    for _ in range(200):
        visible = masks.channel_subset(6, 20, generator=rng, mask_groups=5)
        assert (~visible).any(axis=0).all()
        assert (visible == visible[:, :1]).all()  # whole channels
        hidden.append(1 - visible[0].mean())
        if len(visible) == 2:
            assert (visible[0] != visible[1]).all()
    halves = np.isclose(hidden, 0.2)  # groups of 5 hide a fifth
    assert 0.4 < halves.mean() < 0.65
    assert min(hidden) < 0.15
    assert max(hidden) > 0.85


@pytest.mark.parametrize(("share", "low", "high"), [(0.0, 0, 0), (0.2, 20, 60), (1.0, 180, 200)])
def test_how_often_a_subset_is_hidden_is_set(share: float, low: int, high: int) -> None:
    rng = np.random.default_rng(1)
    drawn = [
        masks.channel_subset(6, 20, generator=rng, mask_groups=5, subset_share=share)
        for _ in range(200)
    ]
    # Groups of a fifth come five at a time, a subset and the rest in twos.
    assert low <= sum(len(visible) == 2 for visible in drawn) <= high


def test_one_channel_alone_gets_a_time_grating() -> None:
    visible = masks.channel(8, 1, generator=rng(), mask_groups=4)
    assert visible.any()
    assert not visible.all()


@given(
    st.sampled_from(["random", "block"]),
    st.integers(2, 40),
    st.integers(1, 8),
    st.floats(0.0, 0.99),
    st.integers(0, 99),
)
def test_random_masks_cover_and_keep_their_share(
    name: str, length: int, channels: int, share: float, seed: int
) -> None:
    strategy = registry.load("masks", name)
    visible = strategy(length, channels, generator=rng(seed), visible_share=share, block_length=1)
    assert (~visible).any(axis=0).all()
    points = length * channels
    expected = min(round(share * points), points - 1)
    assert (visible.reshape(len(visible), -1).sum(axis=1) == expected).all()


def test_block_hides_runs() -> None:
    visible = masks.block(40, 3, generator=rng(), visible_share=0.5, block_length=10)
    runs = visible.reshape(len(visible), 4, 10, 3)
    assert (runs == runs[:, :, :1]).all()


def test_forecast_hides_the_tail_and_reconstruction_everything() -> None:
    tail = masks.forecast(6, 2, horizon=2)
    assert tail[0, :, 0].tolist() == [True] * 4 + [False] * 2
    assert not masks.reconstruction(6, 2).any()


def test_options_reach_the_strategy() -> None:
    few = masks.draw("grating", 100, 2, Settings(), bands=2, generator=rng())
    many = masks.draw("grating", 100, 2, Settings(), bands=20, generator=rng())
    assert np.diff(few[0, :, 0].astype(int)).astype(bool).sum() == 1
    assert np.diff(many[0, :, 0].astype(int)).astype(bool).sum() == 19


@pytest.mark.parametrize("name", COMPLETE)
@given(st.integers(2, 50), st.integers(1, 12), st.integers(0, 50))
def test_targets_cover_the_window(name: str, length: int, channels: int, seed: int) -> None:
    visible = masks.draw(name, length, channels, Settings(), bands=4, generator=rng(seed))
    assert (~visible).any(axis=0).all()
