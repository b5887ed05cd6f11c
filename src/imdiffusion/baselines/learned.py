"""Baselines from scikit-learn: k-means on windows, and Isolation Forest on rows."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from imdiffusion.arrays import Floats
from imdiffusion.baselines.rows import checked_rows, fitted, rows_of_windows, unobserved
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
