"""Baselines from pyod 3.6: LSTM-AD (Malhotra et al. 2015) and the matrix profile (Yeh et al. 2016).

pyod takes no missing values: they carry the last observed value forward, and the training mean (0)
before the first.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from imdiffusion.arrays import Floats
from imdiffusion.baselines.rows import carried, checked_rows, fitted, mean_observed, unobserved
from imdiffusion.errors import MissingExtraError

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
