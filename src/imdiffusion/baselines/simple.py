"""Baselines of one line each: chance, the step from the last value, local variance, the z-score.

Large pretrained models have been reported not to beat the second and third of them ("When
Foundation Models are One-Liners", ICLR 2026), so they stand in every table.
"""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from imdiffusion import baselines
from imdiffusion.arrays import Flags, Floats
from imdiffusion.errors import DataError, NotFittedError
from imdiffusion.scoring.smoothing import centred_mean


def checked_rows(x: Floats, *, least: int = 1, channels: int | None = None) -> Floats:
    """x as float64 (T, K).

    Raises DataError unless it has two axes, `least` rows, and the `channels` of the training part.
    """
    rows = np.asarray(x, np.float64)
    if rows.ndim != 2 or rows.shape[1] == 0:
        raise DataError(
            f"a baseline got an array of shape {rows.shape}",
            remedy="Pass rows (T, K) with at least one channel.",
        )
    if len(rows) < least:
        raise DataError(
            f"a baseline needs at least {least} rows and got {len(rows)}",
            remedy="Give a longer series, or leave this baseline out for it.",
        )
    if channels is not None and rows.shape[1] != channels:
        raise DataError(
            f"a baseline fitted on {channels} channels got {rows.shape[1]}",
            remedy="Score the channels it was fitted on, in the same order.",
        )
    return rows


def fitted(member: object, attribute: str) -> None:
    """Raise NotFittedError unless `member` has `attribute`."""
    if not hasattr(member, attribute):
        raise NotFittedError(
            f"{type(member).__name__} has not been fitted", remedy="Call fit first."
        )


def scores_of_training(member: Any, x: Floats) -> Floats:
    """Scores (T,) of the rows that `member` was fitted on, as far as it can tell unseen ones."""
    told = getattr(member, "training_scores", member.decision_function)
    return np.asarray(told(x), np.float64)


def mean_observed(values: Floats) -> Floats:
    """Mean over channels (T, K) -> (T,) of what is not NaN; NaN where nothing is."""
    known = ~np.isnan(values)
    count = known.sum(axis=1)
    total = np.where(known, values, 0.0).sum(axis=1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def smoothed(score: Floats, width: int) -> Floats:
    """Mean over the `width` rows around each row of (T,) or (T, K); NaN stays, uncounted."""
    if width == 1:
        return score
    runs = list(centred_mean([score.astype(np.float32)], width))
    return np.concatenate(runs).astype(np.float64) if runs else score


def carried(x: Floats) -> Floats:
    """x (T, K) with every NaN replaced by the last value before it, 0 where there is none."""
    known = ~np.isnan(x)
    place = np.maximum.accumulate(np.where(known, np.arange(len(x))[:, None], 0), axis=0)
    return np.nan_to_num(np.take_along_axis(x, place, axis=0), nan=0.0)


def unobserved(x: Floats) -> Flags:
    """Which rows (T,) have no observation at all."""
    return np.asarray(np.isnan(x).all(axis=1))


def rows_of_windows(window_score: Floats, length: int) -> Floats:
    """Scores of all windows of `length` rows (N,) -> of rows (N + length - 1,).

    A row's score is the mean over the windows that cover it.
    """
    cover = np.ones(length)
    total = np.convolve(window_score, cover)
    count = np.convolve(np.ones(len(window_score)), cover)
    return total / count


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


# -- one-liners joined by a mean of logs, so that no single one can shout

# The four with the best VUS-PR on the mean of fourteen public sets (docs/benchmark.md).
BEST = ("forecast_s30", "pca_30", "channel_s30", "mahalanobis_30")


class JoinedLogs:
    """Mean of log(1 + score) over `members`, each in units of its own training quantile.

    The unit of a member is the `quantile` of its scores of the training rows; where that is 0 it is
    the smallest score above 0, and 1 where there is none. A member that has no score for a row is
    left out of that row's mean.
    """

    def __init__(self, members: tuple[str, ...] = BEST, quantile: float = 0.99) -> None:
        self.members = members
        self.quantile = quantile

    def fit(self, x: Floats) -> JoinedLogs:
        """Fit the members on rows x (T, K) and learn their units from the same rows.

        Raises DataError where a part is too short for a member, or where one scores no row.
        """
        rows = checked_rows(x, least=2)
        self.members_ = [baselines.make(name).fit(rows) for name in self.members]
        units = []
        for name, member in zip(self.members, self.members_, strict=True):
            score = scores_of_training(member, rows)
            known = score[~np.isnan(score)]
            if not known.size:
                raise DataError(
                    f"{name} has no score for any of {len(rows)} training rows",
                    remedy="Give a training part with observed values.",
                )
            unit = float(np.quantile(known, self.quantile))
            units.append(unit if unit > 0 else _least_above_zero(known))
        self.units_ = np.array(units)
        return self

    def decision_function(self, x: Floats) -> Floats:
        """Scores (T,) of rows x (T, K)."""
        fitted(self, "units_")
        scores = np.stack([member.decision_function(x) for member in self.members_], axis=1)
        return mean_observed(np.log1p(np.maximum(scores, 0.0) / self.units_))


def _least_above_zero(score: Floats) -> float:
    above = score[score > 0]
    return float(above.min()) if above.size else 1.0


# -- A baseline joined from three: the mean of their standardised scores


class StandardisedMean:
    """Mean of the scores of `members`, each less its mean and over its standard deviation.

    Members learn from the first rows; mean and deviation come from the last `holdout` of them,
    which no member has seen.
    """

    def __init__(
        self,
        members: tuple[str, ...] = ("moving_variance", "kmeans", "mahalanobis_30"),
        holdout: float = 0.2,
        seed: int = 0,
    ) -> None:
        self.members = members
        self.holdout = holdout
        self.seed = seed

    def fit(self, x: Floats) -> StandardisedMean:
        """Fit the members on the first rows of x (T, K) and standardise on the last.

        Raises DataError where a part is too short for a member, or nothing in it is observed.
        """
        rows = checked_rows(x, least=2)
        cut = round(len(rows) * (1 - self.holdout))
        self.members_ = [
            baselines.make(name, seed=self.seed).fit(rows[:cut]) for name in self.members
        ]
        held_out = [member.decision_function(rows[cut:]) for member in self.members_]
        if any(np.isnan(score).all() for score in held_out):
            raise DataError(
                f"the last {len(rows) - cut} training rows have no observation",
                remedy="Give a training part whose last fifth has observed values.",
            )
        self.mean_ = np.array([np.nanmean(score) for score in held_out])
        spread = np.array([np.nanstd(score) for score in held_out])
        self.spread_ = np.where(spread > 0, spread, 1.0)  # one that never moves keeps its unit
        return self

    def decision_function(self, x: Floats) -> Floats:
        """Scores (T,) of rows x (T, K)."""
        fitted(self, "members_")
        scores = np.stack([member.decision_function(x) for member in self.members_], axis=1)
        return np.asarray(((scores - self.mean_) / self.spread_).mean(axis=1))
