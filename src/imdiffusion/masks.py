"""Mask strategies: which points of a window the denoiser may see.

A strategy is a function `(length, channels, *, generator, **options) -> bool (M, L, K)`, True =
visible. The targets of all M masks together cover the window, so every point is imputed from
others at least once (the paper's idea), unless the registry marks the mask as partial. Options a
strategy does not know are ignored: all of them get the same settings.

`MaskOptions` picks the options out of the detector's settings.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from imdiffusion import registry

BoolArray = NDArray[np.bool_]
MaskStrategy = Callable[..., BoolArray]


class MaskOptions(Protocol):
    """The settings that mask strategies read (see `presets.Settings` for their meaning)."""

    @property
    def visible_share(self) -> float: ...  # noqa: D102
    @property
    def mask_groups(self) -> int: ...  # noqa: D102
    @property
    def subset_share(self) -> float: ...  # noqa: D102
    @property
    def block_length(self) -> int: ...  # noqa: D102
    @property
    def horizon(self) -> int: ...  # noqa: D102


def draw(
    name: str,
    length: int,
    channels: int,
    options: MaskOptions,
    *,
    bands: int,
    generator: np.random.Generator,
) -> BoolArray:
    """Masks of the strategy `name` for a window (L, K): bool (M, L, K), True = visible."""
    strategy: MaskStrategy = registry.load("masks", name)
    return strategy(
        length,
        channels,
        generator=generator,
        bands=bands,
        visible_share=options.visible_share,
        mask_groups=options.mask_groups,
        subset_share=options.subset_share,
        block_length=options.block_length,
        horizon=options.horizon,
    )


def _bands(size: int, bands: int) -> NDArray[np.int64]:
    """The band each of `size` positions lies in; bands as equal as whole numbers allow."""
    return np.arange(size) * min(bands, size) // size


def grating(length: int, channels: int, *, bands: int = 4, **_: Any) -> BoolArray:
    """Two complementary gratings along time: every second of `bands` equal bands is hidden.

    Mask 0 hides bands 0, 2, 4 …, mask 1 the others (the paper's grating masking). A window of a
    single row cannot be cut: its two masks hide all of it.
    """
    odd = _bands(length, bands) % 2 == 1
    if not odd.any():
        return np.zeros((2, length, channels), dtype=bool)
    return np.stack([odd, ~odd])[:, :, None].repeat(channels, axis=2)


def channel_grating(length: int, channels: int, *, bands: int = 4, **_: Any) -> BoolArray:
    """Two complementary gratings across channels, in the order the channels have."""
    return grating(channels, length, bands=bands).transpose(0, 2, 1)


def channel(
    length: int, channels: int, *, generator: np.random.Generator, mask_groups: int = 2, **_: Any
) -> BoolArray:
    """Channels in `mask_groups` random groups of equal size; mask m hides all of group m.

    A value is then imputed from other channels and never from its neighbours in time, which may
    belong to the same anomaly. One channel alone has no others: it gets a time grating.
    """
    groups = min(mask_groups, channels)
    if groups < 2:
        return grating(length, channels, bands=4)
    group = generator.permutation(_bands(channels, groups))
    visible = group[None, :] != np.arange(groups)[:, None]
    return np.asarray(visible[:, None, :].repeat(length, axis=1))


def channel_subset(
    length: int,
    channels: int,
    *,
    generator: np.random.Generator,
    mask_groups: int = 2,
    subset_share: float = 0.5,
    **_: Any,
) -> BoolArray:
    """As `channel`; in a `subset_share` of the draws a random part is hidden, then the rest.

    That part is uniform between .1 and .9 of the channels: to train a network that will meet
    windows with few of its channels, or with most of them.
    """
    if channels < 2 or generator.random() < 1 - subset_share:
        return channel(length, channels, generator=generator, mask_groups=mask_groups)
    hidden = round(float(generator.uniform(0.1, 0.9)) * channels)
    visible = generator.permutation(channels) >= min(max(hidden, 1), channels - 1)
    return np.stack([visible, ~visible])[:, None, :].repeat(length, axis=1)


def random(
    length: int,
    channels: int,
    *,
    generator: np.random.Generator,
    visible_share: float = 0.3,
    **_: Any,
) -> BoolArray:
    """Single points: every mask leaves a random `visible_share` of the window visible [code].

    As many masks as needed are drawn so that each point is hidden in at least one: points are
    ranked once, and mask m shows the m-th slice of the ranking.
    """
    return _rotating_share(generator.permutation(length * channels), visible_share).reshape(
        -1, length, channels
    )


def block(
    length: int,
    channels: int,
    *,
    generator: np.random.Generator,
    visible_share: float = 0.3,
    block_length: int = 10,
    **_: Any,
) -> BoolArray:
    """Runs of `block_length` rows of one channel; a `visible_share` of the runs stays visible."""
    runs = -(-length // block_length)
    order = generator.permutation(runs * channels)
    coarse = _rotating_share(order, visible_share).reshape(-1, runs, channels)
    return np.asarray(coarse.repeat(block_length, axis=1)[:, :length])


def _rotating_share(order: NDArray[np.int64], share: float) -> BoolArray:
    """Masks (M, N), each showing `share` of N items; no item is visible in all of them."""
    size = order.size
    shown = min(round(share * size), size - 1)
    if shown == 0:
        return np.zeros((1, size), dtype=bool)
    # Mask m shows ranks in [m * step, m * step + shown) of a circle; two masks suffice below a
    # half, and in general no rank is covered by all when the starts spread over the circle.
    masks = max(2, -(-size // (size - shown)))
    start = (np.arange(masks) * size) // masks
    rank = (order[None, :] - start[:, None]) % size
    return np.asarray(rank < shown)


def mixed(
    length: int, channels: int, *, generator: np.random.Generator, bands: int = 4, **options: Any
) -> BoolArray:
    """One of grating, channel, block or random, drawn again at each call."""
    strategies: tuple[MaskStrategy, ...] = (grating, channel, block, random)
    chosen = strategies[int(generator.integers(len(strategies)))]
    return chosen(length, channels, generator=generator, bands=bands, **options)


def forecast(length: int, channels: int, *, horizon: int = 10, **_: Any) -> BoolArray:
    """One mask that hides the last `horizon` rows (the forecasting baseline of the paper)."""
    visible = np.ones((1, length, channels), dtype=bool)
    visible[:, max(0, length - horizon) :] = False
    return visible


def reconstruction(length: int, channels: int, **_: Any) -> BoolArray:
    """One mask that hides everything (the reconstruction baseline of the paper)."""
    return np.zeros((1, length, channels), dtype=bool)
