"""Baselines from scikit-learn: k-means on windows, and Isolation Forest on rows."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from imdiffusion.arrays import Floats
from imdiffusion.baselines.simple import (
    carried,
    checked_rows,
    fitted,
    mean_observed,
    rows_of_windows,
    unobserved,
)
from imdiffusion.errors import MissingExtraError

_CHUNK = 2048  # windows at a time: 2,048 x 20 x 38 float64 are 12 MB


class KMeansWindows:
    """Distance of windows of `length` rows to the nearest of `clusters` centres.

    The centres are those of training windows; a row's score is the mean over the windows that cover
    it. At most `most` training windows are
    used, drawn with the seed. A missing value is the training mean (0) in training; in scoring the
    distance runs over what is observed, scaled up to the whole window.
    """

    def __init__(
        self, length: int = 20, clusters: int = 20, most: int = 20_000, seed: int = 0
    ) -> None:
        self.length = length
        self.clusters = clusters
        self.most = most
        self.seed = seed

    def fit(self, x: Floats) -> KMeansWindows:
        """Learn the centres from rows x (T, K); DataError with fewer rows than a window."""
        from_cluster = _sklearn("cluster").KMeans
        rows = checked_rows(x, least=self.length)
        windows = _windows(np.nan_to_num(rows, nan=0.0).astype(np.float32), self.length)
        chosen = np.arange(len(windows))
        if len(windows) > self.most:
            draw = np.random.default_rng(self.seed).choice(len(windows), self.most, replace=False)
            chosen = np.sort(draw)
        sample = windows[chosen].reshape(len(chosen), -1)
        # More clusters than different windows would be a warning and empty clusters.
        clusters = min(self.clusters, len(np.unique(sample, axis=0)))
        model = from_cluster(clusters, n_init=1, random_state=self.seed).fit(sample)
        self.centres_ = np.asarray(model.cluster_centers_, np.float64)
        self.channels_ = rows.shape[1]
        return self

    def decision_function(self, x: Floats) -> Floats:
        """Scores (T,) of rows x (T, K); DataError with fewer rows than a window."""
        fitted(self, "centres_")
        rows = checked_rows(x, least=self.length, channels=self.channels_)
        windows = _windows(rows, self.length)
        score = np.empty(len(windows))
        for start in range(0, len(windows), _CHUNK):
            part = windows[start : start + _CHUNK]
            score[start : start + len(part)] = self._distance(part.reshape(len(part), -1))
        return np.where(unobserved(rows), np.nan, rows_of_windows(score, self.length))

    def _distance(self, flat: Floats) -> Floats:
        """Distance (N,) of flattened windows (N, D) to the nearest centre, over observed values."""
        known = ~np.isnan(flat)
        seen = np.where(known, flat, 0.0)
        nearest = np.full(len(flat), np.inf)
        for centre in self.centres_:  # one at a time: squares of differences never cancel
            apart = seen - centre
            apart *= known
            np.minimum(nearest, np.einsum("nd,nd->n", apart, apart), out=nearest)
        count = known.sum(axis=1)
        return np.asarray(np.sqrt(nearest * flat.shape[1] / np.maximum(count, 1)))


class IsolationForestRows:
    """Isolation Forest (Liu, Ting and Zhou 2008) on single rows; a missing value is the mean, 0."""

    def __init__(self, trees: int = 100, seed: int = 0) -> None:
        self.trees = trees
        self.seed = seed

    def fit(self, x: Floats) -> IsolationForestRows:
        """Grow the trees on rows x (T, K)."""
        forest = _sklearn("ensemble").IsolationForest
        rows = checked_rows(x, least=2)
        model = forest(n_estimators=self.trees, random_state=self.seed)
        self.model_ = model.fit(np.nan_to_num(rows, nan=0.0))
        self.channels_ = rows.shape[1]
        return self

    def decision_function(self, x: Floats) -> Floats:
        """Scores (T,) of rows x (T, K), in [0, 1]: the sooner a row is isolated, the higher."""
        fitted(self, "model_")
        rows = checked_rows(x, channels=self.channels_)
        score = -np.asarray(self.model_.score_samples(np.nan_to_num(rows, nan=0.0)), np.float64)
        return np.where(unobserved(rows), np.nan, score)


def _windows(x: NDArray[Any], length: int) -> NDArray[Any]:
    """All windows (T - length + 1, length, K) of rows (T, K), as a view."""
    return np.swapaxes(sliding_window_view(x, length, axis=0), 1, 2)


def _sklearn(part: str) -> Any:
    try:
        import sklearn.cluster
        import sklearn.ensemble
    except ImportError as error:
        raise MissingExtraError("scikit-learn", extra="bench") from error
    return getattr(sklearn, part)


# -- from pyod 3.6: LSTM-AD (Malhotra et al. 2015), the matrix profile (Yeh et al. 2016)
#
# pyod takes no missing values: they carry the last observed value forward, and the training mean
# (0) before the first.

_LEAST = 10  # pyod asks for this many rows beyond the window


class LstmAd:
    """Mahalanobis distance of the error with which an LSTM predicts the next row.

    The first `window` rows have no past to predict them from; they get pyod's filling, the 90 %
    quantile of the training scores.
    """

    def __init__(self, window: int = 50, epochs: int = 10, seed: int = 0) -> None:
        self.window = window
        self.epochs = epochs
        self.seed = seed

    def fit(self, x: Floats) -> LstmAd:
        """Train on rows x (T, K); DataError with fewer than window + 10."""
        from imdiffusion.diffusion.noise import private_rng

        rows = checked_rows(x, least=self.window + _LEAST)
        model = _pyod("lstm")(window_size=self.window, epochs=self.epochs)
        with private_rng(self.seed):  # pyod draws from torch's own generator
            self.model_ = model.fit(carried(rows))
        self.channels_ = rows.shape[1]
        return self

    def decision_function(self, x: Floats) -> Floats:
        """Scores (T,) of rows x (T, K); DataError with no more rows than a window."""
        fitted(self, "model_")
        rows = checked_rows(x, least=self.window + 1, channels=self.channels_)
        score = np.asarray(self.model_.decision_function(carried(rows)), np.float64)
        return np.where(unobserved(rows), np.nan, score)


class MatrixProfileRows:
    """Distance of each window to the most similar other one in the same series, mean of channels.

    It learns nothing from training rows: it compares the scored series with itself. Windows without
    variance have no distance and do not count. Time grows with K T^2, so it is for short series.
    """

    def __init__(self, window: int = 50) -> None:
        self.window = window

    def fit(self, x: Floats) -> MatrixProfileRows:
        """There is nothing to learn from x (T, K)."""
        self.channels_ = checked_rows(x).shape[1]
        return self

    def channel_scores(self, x: Floats) -> Floats:
        """Profile of each channel (T, K); NaN in runs without variance and where not observed."""
        fitted(self, "channels_")
        rows = checked_rows(x, least=self.window + 1, channels=self.channels_)
        profile = _pyod("matrix_profile")
        columns = carried(rows)
        score = np.full(rows.shape, np.nan)
        for k in range(rows.shape[1]):
            if np.ptp(columns[:, k]) > 0:
                found = profile(window_size=self.window).fit(columns[:, k]).decision_scores_
                score[:, k] = np.where(np.isfinite(found), found, np.nan)
        return np.where(np.isnan(rows), np.nan, score)

    def decision_function(self, x: Floats) -> Floats:
        """Mean over channels (T,); 0 where something was observed and no channel has a profile."""
        score = mean_observed(self.channel_scores(x))
        return np.where(np.isnan(score) & ~unobserved(np.asarray(x, np.float64)), 0.0, score)


def _pyod(model: str) -> Any:
    try:
        from pyod.models.ts_lstm import LSTMAD
        from pyod.models.ts_matrix_profile import MatrixProfile
    except ImportError as error:
        raise MissingExtraError("pyod", extra="bench") from error
    return {"lstm": LSTMAD, "matrix_profile": MatrixProfile}[model]
