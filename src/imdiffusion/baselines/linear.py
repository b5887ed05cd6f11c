"""Linear baselines: the residual of principal components, and the Mahalanobis distance.

Both scores are quadratic forms z' Q z of the centred row. A missing value takes what makes the
form smallest, so it adds nothing; for the Mahalanobis distance that is exactly the distance of
the observed channels under their own covariance.
"""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from imdiffusion.arrays import Flags, Floats
from imdiffusion.baselines.simple import (
    checked_rows,
    fitted,
    mean_observed,
    smoothed,
    unobserved,
)
from imdiffusion.errors import DataError

_ROUNDING = 1e-9


class _Quadratic:
    """z' form_ z about centre_, then the mean over `smooth` rows."""

    smooth = 1
    centre_: Floats
    form_: Floats

    def _filled(self, x: Floats) -> tuple[Floats, Flags]:
        """The centred rows (T, K), missing values filled in; and which rows have nothing."""
        fitted(self, "form_")
        rows = checked_rows(x, channels=len(self.centre_))
        return least_filled(rows - self.centre_, self.form_), unobserved(rows)

    def decision_function(self, x: Floats) -> Floats:
        """The form's value for each row of x (T, K), averaged over `smooth` rows."""
        z, none = self._filled(x)
        score = np.maximum(np.einsum("tk,tk->t", z @ self.form_, z), 0.0)
        return smoothed(np.where(none, np.nan, score), self.smooth)


class Pca(_Quadratic):
    """Squared reconstruction error outside the leading components that hold `keep` of variance."""

    def __init__(self, keep: float = 0.9, smooth: int = 1) -> None:
        self.keep = keep
        self.smooth = smooth

    def fit(self, x: Floats) -> Pca:
        """Learn centre and components of x (T, K); DataError with fewer than 2 rows."""
        self.centre_, covariance = moments(checked_rows(x, least=2))
        values, vectors = np.linalg.eigh(covariance)
        values, vectors = np.maximum(values[::-1], 0.0), vectors[:, ::-1]
        total = values.sum()
        share = np.cumsum(values) / total if total > 0 else np.ones_like(values)
        # Never all of them, or there is nothing outside; a tie with `keep` counts as reached.
        reached = int(np.searchsorted(share, self.keep - _ROUNDING)) + 1
        kept = vectors[:, : min(reached, len(values) - 1)]
        self.components_ = kept.T
        self.form_ = np.eye(len(values)) - kept @ kept.T
        return self

    def channel_scores(self, x: Floats) -> Floats:
        """Each channel's squared reconstruction error (T, K); they add up to the row's score."""
        z, _ = self._filled(x)
        error = np.square(z @ self.form_)
        return smoothed(np.where(np.isnan(x), np.nan, error), self.smooth)


class Mahalanobis(_Quadratic):
    """(x - mean)' P (x - mean), P the inverse of the training covariance plus `ridge` times I."""

    def __init__(self, ridge: float = 1e-3, smooth: int = 1) -> None:
        self.ridge = ridge
        self.smooth = smooth

    def fit(self, x: Floats) -> Mahalanobis:
        """Learn mean and covariance of x (T, K); DataError with fewer than 2 rows."""
        self.centre_, covariance = moments(checked_rows(x, least=2))
        inverse = np.linalg.inv(covariance + self.ridge * np.eye(len(covariance)))
        self.form_ = np.asarray(inverse, np.float64)
        return self

    def channel_scores(self, x: Floats) -> Floats:
        """Squared standardised residual of each channel given the others, (T, K).

        (P z)_k / sqrt(P_kk): under a Gaussian the error of predicting channel k from the others,
        in units of that prediction's spread.
        """
        z, _ = self._filled(x)
        residual = np.square(z @ self.form_) / np.diag(self.form_)
        return smoothed(np.where(np.isnan(x), np.nan, residual), self.smooth)


def moments(x: Floats) -> tuple[Floats, Floats]:
    """Mean (K,) and covariance (K, K) of rows (T, K); of a pair, over the rows that have both.

    Pairs over different rows need not make a covariance: negative eigenvalues become 0.
    Raises DataError where nothing is observed.
    """
    known = ~np.isnan(x)
    if not known.any():
        raise DataError(
            "a baseline got training rows without a single observation",
            remedy="Give a training part with observed values.",
        )
    weight = known.astype(np.float64)
    filled = np.where(known, x, 0.0)
    mean = filled.sum(axis=0) / np.maximum(weight.sum(axis=0), 1)
    apart = np.where(known, x - mean, 0.0)
    covariance = (apart.T @ apart) / np.maximum(weight.T @ weight, 1)
    if not known.all():
        values, vectors = np.linalg.eigh(covariance)
        covariance = (vectors * np.maximum(values, 0.0)) @ vectors.T
    return mean, covariance


def least_filled(z: Floats, form: Floats) -> Floats:
    """z (T, K) with every NaN replaced by what makes z' form z smallest; form is (K, K), PSD."""
    missing = np.isnan(z)
    filled = np.where(missing, 0.0, z)
    holed = np.flatnonzero(missing.any(axis=1))
    if not holed.size:
        return filled
    patterns, which = np.unique(missing[holed], axis=0, return_inverse=True)
    for number, pattern in enumerate(patterns):
        rows = holed[which.ravel() == number]
        m, o = np.flatnonzero(pattern), np.flatnonzero(~pattern)
        # The pseudo-inverse: a form of principal components is singular, and any minimum will do.
        fill = -np.linalg.pinv(form[np.ix_(m, m)], hermitian=True) @ form[np.ix_(m, o)]
        filled[np.ix_(rows, m)] = filled[np.ix_(rows, o)] @ fill.T
    return filled


# -- closed-form linear views whose residuals are joined on a logarithmic scale
#
# Both predict every channel of a row, from the rows before it or from the other channels of the
# same row, and score the mean over channels of log(1 + r^2 / u), u the mean of r^2 over the
# training rows. The logarithm keeps one wild channel from deciding for all.
#
# A missing value has no residual and is left out of the mean. Where it is asked for as a predictor
# it takes its conditional mean given what was observed in its own row, under the Gaussian of the
# training rows (ridge .05): the training mean where the row has nothing.

# Of a training variance, 1 for z-scores: what moves after it never did is far off, not infinitely.
FLOOR = 1e-3


class _LogResidual:
    """log(1 + r^2 / u) by channel, its mean over channels, and then over `smooth` rows."""

    ridge: float
    smooth: int
    centre_: Floats
    form_: Floats
    unit_: Floats

    def _residual(self, z: Floats) -> Floats:
        """Residuals (T, K) of centred rows (T, K) without a gap."""
        raise NotImplementedError

    def _fit_moments(self, x: Floats) -> Floats:
        """Learn centre and precision; the centred rows (T, K), gaps filled in."""
        self.centre_, covariance = moments(x)
        inverse = np.linalg.inv(covariance + self.ridge * np.eye(len(covariance)))
        self.form_ = np.asarray(inverse, np.float64)
        return least_filled(x - self.centre_, self.form_)

    def _fit_unit(self, x: Floats, filled: Floats) -> None:
        squared = np.where(np.isnan(x), np.nan, np.square(self._residual(filled)))
        mean = mean_observed(squared.T)
        self.unit_ = np.maximum(np.nan_to_num(mean, nan=1.0), FLOOR)

    def _evidence(self, x: Floats) -> Floats:
        fitted(self, "unit_")
        rows = checked_rows(x, channels=len(self.centre_))
        residual = self._residual(least_filled(rows - self.centre_, self.form_))
        return np.where(np.isnan(rows), np.nan, np.log1p(np.square(residual) / self.unit_))

    def channel_scores(self, x: Floats) -> Floats:
        """log(1 + r^2 / u) of each channel (T, K), averaged over time; NaN where not observed."""
        return smoothed(self._evidence(x), self.smooth)

    def decision_function(self, x: Floats) -> Floats:
        """Its mean (T,) over the observed channels of rows x (T, K), then over `smooth` rows."""
        return smoothed(mean_observed(self._evidence(x)), self.smooth)


class LinearForecast(_LogResidual):
    """Error of predicting each row from all channels of the rows before it, by ridge regression.

    Predictors are the last `lags` rows; the regression minimises the sum of squares plus `ridge`
    times the number of rows times the squared coefficients. Before the first row of a series its
    first row is repeated.
    """

    def __init__(self, lags: int = 5, ridge: float = 0.05, smooth: int = 30) -> None:
        self.lags = lags
        self.ridge = ridge
        self.smooth = smooth

    def fit(self, x: Floats) -> LinearForecast:
        """Learn coefficients (lags K, K) from rows x (T, K); DataError with lags + 1 rows or fewer.

        A row counts for a channel that was observed in it.
        """
        rows = checked_rows(x, least=self.lags + 2)
        filled = self._fit_moments(rows)
        past, now = self._past(filled)[self.lags :], filled[self.lags :]
        seen = ~np.isnan(rows[self.lags :])
        self.weights_ = np.zeros((past.shape[1], rows.shape[1]))
        # Channels that were observed in the same rows share their normal equations.
        patterns, which = np.unique(seen, axis=1, return_inverse=True)
        for number in range(patterns.shape[1]):
            taken, of = patterns[:, number], which.ravel() == number
            design = past[taken]
            gram = design.T @ design + self.ridge * max(1, len(design)) * np.eye(past.shape[1])
            self.weights_[:, of] = np.linalg.solve(gram, design.T @ now[taken][:, of])
        self._fit_unit(rows, filled)
        return self

    def _past(self, z: Floats) -> Floats:
        """The `lags` rows before each row, flattened (T, lags K), the oldest first."""
        padded = np.concatenate([np.repeat(z[:1], self.lags, axis=0), z[:-1]])
        windows = np.swapaxes(sliding_window_view(padded, self.lags, axis=0), 1, 2)
        return windows.reshape(len(z), -1)

    def _residual(self, z: Floats) -> Floats:
        return z - self._past(z) @ self.weights_


class OtherChannels(_LogResidual):
    """Error of predicting each channel from the others of its own row, in units of its spread.

    (P z)_k / sqrt(P_kk), P the inverse of the training covariance plus `ridge` times I: under a
    Gaussian what is left of channel k when the others are known, over its standard deviation.
    """

    def __init__(self, ridge: float = 0.05, smooth: int = 30) -> None:
        self.ridge = ridge
        self.smooth = smooth

    def fit(self, x: Floats) -> OtherChannels:
        """Learn mean and precision of rows x (T, K); DataError with fewer than 2."""
        rows = checked_rows(x, least=2)
        self._fit_unit(rows, self._fit_moments(rows))
        return self

    def _residual(self, z: Floats) -> Floats:
        return np.asarray((z @ self.form_) / np.sqrt(np.diag(self.form_)))
