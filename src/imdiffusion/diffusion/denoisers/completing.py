"""Sums over rows with missing values as a law expects them: one step of an EM algorithm.

Where values are missing, means over the pairs that were seen are of other rows from pair to pair.
In few rows they need not be those of a law, and which directions vary least is then an accident of
what is missing: what others leave of a channel is held for less than it is. With S the law so far,
V what is visible of a patch, m and C the conditional mean and covariance of the patch given V,

    sum of x_t x_(t-h)'   becomes   sum of m_t m_(t-h)' + C_(t, t-h)

(Dempster, Laird and Rubin 1977), a patch being row t and the `lags` before it. A patch without gaps
adds what it is. With P the inverse of S and U what is hidden,

    m_U = -P_UU^-1 P_UV x_V,   C_UU = P_UU^-1

so that what it costs depends on how much is missing, not on the size of a patch.
"""

from __future__ import annotations

import numpy as np

from imdiffusion.arrays import Flags, Floats, Ints, Reals
from imdiffusion.diffusion.denoisers.gaussian import LagMoments, toeplitz

RIDGE = 0.01  # variance of standardised values that is on what is visible
CHUNK_NUMBERS = 1 << 20  # of the matrices that are inverted at once


def cost_of(observed: Flags, lags: int) -> float:
    """Products of numbers that one step over rows with these values (T, K) takes, about."""
    missing = _windowed(~observed, lags).astype(np.float64)
    size = (lags + 1) * observed.shape[1]
    known = missing < size
    return float((np.power(missing, 3) + float(size) ** 2)[known & (missing > 0)].sum())


def completed(rows: Reals, observed: Flags, covariances: Floats) -> LagMoments:
    """The sums of rows (T, K), standardised, as a law expects them.

    observed (T, K): which values are there. covariances (lags + 1, K, K): of the law, which must be
    those of one (`LagMoments.covariances` with noise 0). Rows before the first count as not
    observed; patches of which nothing is observed say nothing.

    Examples
    --------
    The second of two channels that are nearly one is told by the first:

    >>> import numpy as np
    >>> law = np.array([[[1.0, 0.9], [0.9, 1.0]]])
    >>> seen = np.array([[True, False]])
    >>> completed(np.array([[1.0, 0.0]]), seen, law).products.round(2).tolist()
    [[[1.0, 0.89], [0.89, 0.99]]]
    """
    lags, channels = len(covariances) - 1, rows.shape[1]
    size = (lags + 1) * channels
    own = np.pad(np.where(observed, rows, 0.0).astype(np.float64), ((lags, 0), (0, 0)))
    seen = np.pad(observed, ((lags, 0), (0, 0)))
    missing = _windowed(~observed, lags)
    law = toeplitz(covariances) + RIDGE * np.eye(size)
    precision = np.asarray(np.linalg.inv(law), np.float64)
    means, spread = np.zeros((channels, size)), np.zeros(size * size)
    order = np.argsort(missing, kind="stable")
    order = order[missing[order] < size]
    first = 0
    while first < len(order):
        # As many patches at once as numbers allow, the last of them having the most gaps.
        some = order[first : first + max(1, CHUNK_NUMBERS // size**2)]
        first += len(some)
        index = some[:, None] + np.arange(lags + 1)
        known = seen[index].reshape(len(some), size)
        patches = own[index].reshape(len(some), size)
        most = int(missing[some[-1]])
        if most:
            _complete(patches, known, precision, most, spread)
        means += patches[:, size - channels :].T @ patches
    summed = means + spread.reshape(size, size)[size - channels :]
    products = summed.reshape(channels, lags + 1, channels).transpose(1, 0, 2)[::-1]
    return LagMoments(np.ascontiguousarray(products), np.full(products.shape, float(len(order))))


def _complete(patches: Floats, known: Flags, precision: Floats, most: int, spread: Floats) -> None:
    """Put conditional means into patches (n, D), zero where not known, in place, and add their
    conditional covariances to `spread` (D D,). At most so many values of a patch are missing.
    """
    size = len(precision)
    place = np.argsort(known, axis=1, kind="stable")[:, :most]  # what is missing, before the rest
    lacks = ~np.take_along_axis(known, place, axis=1)
    both = lacks[:, :, None] & lacks[:, None, :]
    inner = precision[place[:, :, None], place[:, None, :]]
    inner = np.linalg.inv(np.where(both, inner, np.eye(most)))
    pulled = np.take_along_axis(patches @ precision, place, axis=1) * lacks
    told = -np.einsum("nab,nb->na", inner, pulled)
    np.put_along_axis(
        patches, place, np.where(lacks, told, np.take_along_axis(patches, place, 1)), 1
    )
    left = np.where(both, inner - RIDGE * np.eye(most), 0.0)
    where = place[:, :, None] * size + place[:, None, :]
    spread += np.bincount(where.ravel(), weights=left.ravel(), minlength=size * size)


def _windowed(flags: Flags, lags: int) -> Ints:
    """How many flags (T, K) are set in each row and the `lags` before it, (T,); those that there
    are not count as set.
    """
    count = np.pad(flags.sum(axis=1), (lags, 0), constant_values=flags.shape[1])
    total = np.concatenate([[0], np.cumsum(count)])
    return np.asarray(total[lags + 1 :] - total[: len(total) - lags - 1], np.int64)
