"""Baselines of one line each: chance, the step from the last value, local variance, the z-score.

Large pretrained models have been reported not to beat the second and third of them ("When
Foundation Models are One-Liners", ICLR 2026), so they stand in every table.
"""

from __future__ import annotations

import zlib

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from imdiffusion.arrays import Floats
from imdiffusion.baselines.rows import checked_rows, fitted, mean_observed, smoothed, unobserved


class Random:
    """Exponential numbers: what a metric gives to chance.

    They have a tail, as errors have: a threshold for rare alarms can be read off it. step_errors
    are draws of their own, so that a protocol which searches for the best vote over steps finds by
    chance what it can find.
    """

    steps = 28  # ten of them vote where every third does

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def fit(self, x: Floats) -> Random:
        """There is nothing to learn from x (T, K): it only tells one entity from another."""
        rows = checked_rows(x)
        self.channels_ = rows.shape[1]
        self.entity_ = zlib.crc32(np.ascontiguousarray(rows, np.float64).tobytes())
        return self

    def decision_function(self, x: Floats) -> Floats:
        """T numbers that depend on the seed, on the rows fitted on and on T, not on x (T, K).

        Two entities of one length so have draws of their own, and count as two.
        """
        score: Floats = self._drawn(x, [], 1)[0]
        return score

    def step_errors(self, x: Floats) -> Floats:
        """(S, T) further draws of the same kind, as if S diffusion steps had said nothing."""
        return self._drawn(x, [1], self.steps)

    def _drawn(self, x: Floats, stream: list[int], count: int) -> Floats:
        fitted(self, "channels_")
        rows = checked_rows(x, channels=self.channels_)
        which = [self.seed, self.entity_, len(rows), *stream]
        uniform = np.random.default_rng(which).random((count, len(rows)))
        drawn: Floats = np.where(unobserved(rows), np.nan, -np.log1p(-uniform))
        return drawn


class _ChannelMean:
    """The mean over channels of a score that each channel has for itself."""

    smooth = 1

    def _of_channels(self, x: Floats) -> Floats:
        raise NotImplementedError

    def _fit(self, x: Floats) -> None:
        self.channels_ = checked_rows(x).shape[1]

    def channel_scores(self, x: Floats) -> Floats:
        """Each channel's score (T, K) of rows x (T, K), scaled; NaN where not observed."""
        fitted(self, "channels_")
        rows = checked_rows(x, channels=self.channels_)
        return smoothed(self._of_channels(rows), self.smooth)

    def decision_function(self, x: Floats) -> Floats:
        """The mean over the observed channels of rows x (T, K), then over `smooth` rows."""
        fitted(self, "channels_")
        rows = checked_rows(x, channels=self.channels_)
        return smoothed(mean_observed(self._of_channels(rows)), self.smooth)


class SquaredDifference(_ChannelMean):
    """(z_t - z_(t-1))^2, z_(t-1) being the last observed value; nothing before it: 0."""

    def fit(self, x: Floats) -> SquaredDifference:
        """There is nothing to learn from x (T, K)."""
        self._fit(x)
        return self

    def _of_channels(self, x: Floats) -> Floats:
        known = ~np.isnan(x)
        place = np.where(known, np.arange(len(x))[:, None], -1)
        last = np.maximum.accumulate(place, axis=0)
        before = np.concatenate([np.full((1, x.shape[1]), -1), last[:-1]])
        previous = np.take_along_axis(x, np.maximum(before, 0), axis=0)
        step = x - np.where(before >= 0, previous, x)
        return np.asarray(step * step)


class MovingVariance(_ChannelMean):
    """Variance of each channel over the `width` rows around a row (fewer at the two ends)."""

    def __init__(self, width: int = 30) -> None:
        self.width = width

    def fit(self, x: Floats) -> MovingVariance:
        """There is nothing to learn from x (T, K)."""
        self._fit(x)
        return self

    def _of_channels(self, x: Floats) -> Floats:
        # As in scoring.smoothing.centred_mean: of an even width one row more lies before.
        before = self.width // 2
        margin = np.full((before, 1), np.nan), np.full((self.width - 1 - before, 1), np.nan)
        variance = np.empty_like(x)
        for k in range(x.shape[1]):  # a channel at a time: the windows of all would fill memory
            column = np.concatenate([margin[0], x[:, k : k + 1], margin[1]])[:, 0]
            windows = sliding_window_view(column, self.width)
            known = ~np.isnan(windows)
            count = np.maximum(known.sum(axis=1), 1)
            mean = np.where(known, windows, 0.0).sum(axis=1) / count
            # About the mean, in a second pass: mean of squares less squared mean would cancel.
            apart = np.where(known, windows - mean[:, None], 0.0)
            variance[:, k] = np.square(apart).sum(axis=1) / count
        return np.where(np.isnan(x), np.nan, variance)


class ZScore(_ChannelMean):
    """|z| of the scaled values, averaged over channels and then over `smooth` rows."""

    def __init__(self, smooth: int = 1) -> None:
        self.smooth = smooth

    def fit(self, x: Floats) -> ZScore:
        """There is nothing to learn from x (T, K): the scaler has done it."""
        self._fit(x)
        return self

    def _of_channels(self, x: Floats) -> Floats:
        return np.abs(x)
