"""A Gaussian law of patches: mean and variance of what a mask hides, in closed form.

A patch is `lags + 1` consecutive rows of K channels. With S its covariance, V what is visible, U
what is hidden and s^2 the noise on visible values,

    E[x_U | x_V]   = S_UV (S_VV + s^2 I)^-1 x_V
    Var[x_U | x_V] = S_UU + s^2 I - S_UV (S_VV + s^2 I)^-1 S_VU

for any mask, any missing set and any noise level: a missing value is simply not in V. Hiding the
newest row is a ridge forecast (a vector autoregression), hiding one channel of a row the residual
that a Mahalanobis distance is made of, hiding nothing under noise the residual of a PCA whose
directions of variance l are kept by l / (l + s^2).

The noise is a ridge: it is in the law and not in the rows. So what is left of a value once V has
told its mean with weights w is less than Var by s^2 (1 + |w|^2). Where values are missing that
matters: far more is left than where all are seen, and Var, in which the noise is most, would hardly
say so. `forecast` and `from_others` give Var for rows that are whole, and for others as many times
that as more is left, so that a residual in units of its square root is as large in thin rows.

The law is stationary, so S is made of the covariances of rows that are 0, 1, ..., lags apart.
Values are standardised by the caller: their mean is 0 here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from imdiffusion.arrays import Flags, Floats, Ints, Reals

# Shares of the estimate from pairs alone, the largest of which that makes a law is taken.
PAIRED = (1.0, 0.95, 0.9, 0.8, 0.6, 0.4, 0.2, 0.0)
LEAST_LEFT = 0.01  # of the noise: what is left of a value however well it is told
LARGEST_BATCH = 1 << 22  # numbers of the matrices that are inverted at once


@dataclass(frozen=True, slots=True)
class LagMoments:
    """Sums over rows from which covariances are made; those of blocks of rows add up.

    products (lags + 1, K, K): sum of x_t x_(t-h)', missing values being 0. pairs, of the same
    shape: how many pairs of observed values each sum is of.
    """

    products: Floats
    pairs: Floats

    @classmethod
    def of(cls, rows: Reals, observed: Flags, lags: int) -> LagMoments:
        """The sums of rows (T, K), zero where not observed."""
        total, channels = rows.shape
        products = np.zeros((lags + 1, channels, channels))
        pairs = np.zeros_like(products)
        whole = bool(observed.all())
        seen = observed.astype(np.float32)
        for lag in range(min(lags + 1, total)):
            products[lag] = rows[lag:].T @ rows[: total - lag]
            # As if a pair that lies beyond the rows were a pair of zeros: the law stays a law.
            pairs[lag] = total if whole else seen[lag:].T @ seen[: total - lag]
        return cls(products, pairs)

    def __add__(self, other: LagMoments) -> LagMoments:
        return LagMoments(self.products + other.products, self.pairs + other.pairs)

    def __sub__(self, other: LagMoments) -> LagMoments:
        return LagMoments(self.products - other.products, self.pairs - other.pairs)

    def covariances(self, *, noise: float) -> Floats:
        """E[x_t x_(t-h)'], (lags + 1, K, K), so that with this noise they are those of a law.

        Where values are missing, means over the pairs that were seen are the better estimate and
        need not make a law; sums with 0 for what is missing, divided by how often each channel was
        seen, always do. The two are mixed as far as need be.
        """
        paired = self.products / np.maximum(self.pairs, 1.0)
        if (self.pairs == self.pairs.flat[0]).all():
            return np.asarray(paired, np.float64)
        seen = np.sqrt(np.maximum(np.diag(self.pairs[0]), 1.0))
        padded = self.products / np.outer(seen, seen)
        for share in PAIRED:
            mixed = share * paired + (1.0 - share) * padded
            whole = toeplitz(mixed)
            try:
                np.linalg.cholesky(whole + max(noise * 0.5, 1e-9) * np.eye(len(whole)))
            except np.linalg.LinAlgError:
                continue
            break
        return np.asarray(mixed, np.float64)


class GaussianPatches:
    """The law of patches of `lags + 1` rows, from their covariances (lags + 1, K, K).

    noise: s^2, the variance of what is added to every value (the ridge of a regression), in the
    unit of the values squared.

    Examples
    --------
    >>> import numpy as np
    >>> law = GaussianPatches(np.array([[[1.0, 0.8], [0.8, 1.0]]]), noise=0.0)
    >>> mean, variance = law.from_others(np.array([[1.0, 0.0]]), np.array([[True, False]]))
    >>> mean.round(2).tolist(), variance.round(2).tolist()
    ([[0.0, 0.8]], [[1.0, 0.36]])
    """

    def __init__(self, covariances: Reals, *, noise: float) -> None:
        self.covariances = np.asarray(covariances, np.float64)
        self.lags, self.channels, _ = self.covariances.shape
        self.lags, self.noise = self.lags - 1, noise
        self._patterns: dict[bytes, tuple[Floats, Floats]] = {}

    @cached_property
    def covariance(self) -> Floats:
        """S of a whole patch, (D, D) with D = (lags + 1) K, the oldest row first."""
        return toeplitz(self.covariances)

    # -- any mask

    def condition(self, patches: Floats, visible: Flags, *, noise: float = 0.0) -> _Moments:
        """Mean and variance of every value of patches (n, lags + 1, K) given the visible ones.

        noise: variance that is on visible values beside the law's own. Of a visible value this is
        its reconstruction; without any noise, the value itself.
        """
        count, size = len(patches), (self.lags + 1) * self.channels
        flat = np.where(visible, patches, 0.0).reshape(count, size)
        mean, variance = np.empty((count, size)), np.empty((count, size))
        level = self.noise + noise
        for seen, alike in patterns(visible.reshape(count, size)):
            known = np.flatnonzero(seen)
            across = self.covariance[:, known]
            inner = self.covariance[np.ix_(known, known)] + level * np.eye(len(known))
            weights = np.linalg.solve(inner + np.eye(len(known)) * (level == 0) * 1e-9, across.T)
            mean[alike] = flat[np.ix_(alike, known)] @ weights
            rest = np.diag(self.covariance) + self.noise - np.einsum("dk,kd->d", across, weights)
            variance[alike] = np.maximum(rest, 0.0)
        shape = patches.shape
        return mean.reshape(shape), variance.reshape(shape)

    # -- the newest row hidden

    def forecast(self, rows: Reals, observed: Flags) -> _Moments:
        """Mean and variance (n, K) of each row given the `lags` rows before it alone.

        rows, observed: (lags + n, K); the first `lags` are context, not observed where there was
        no such row. The variance is that of a whole past, as many times as more is left.
        """
        count = len(rows) - self.lags
        own = np.where(observed, rows, 0.0).astype(np.float64)
        mean = np.zeros((count, self.channels))
        coefficients = self._coefficients.reshape(self.lags, self.channels, self.channels)
        for place in range(self.lags):
            mean += own[place : place + count] @ coefficients[place]
        variance = np.broadcast_to(self._variance, mean.shape).copy()
        whole = np.asarray(observed.all(axis=1))
        lacks = np.flatnonzero(_windowed_any(~whole, self.lags)[:count])
        if len(lacks):
            index = lacks[:, None] + np.arange(self.lags)
            past = own[index].reshape(len(lacks), -1)
            for seen, alike in patterns(observed[index].reshape(len(lacks), -1)):
                weights, left = self._pattern(seen)
                mean[lacks[alike]] = past[alike] @ weights
                variance[lacks[alike]] = left
        return mean, variance

    @cached_property
    def _past(self) -> Floats:
        """S_VV + s^2 I of the rows before the newest, (lags K, lags K)."""
        size = self.lags * self.channels
        return self.covariance[:size, :size] + self.noise * np.eye(size)

    @cached_property
    def _coefficients(self) -> Floats:
        """(S_VV + s^2 I)^-1 S_VU: (lags K, K), the oldest row first."""
        size = self.lags * self.channels
        if not size:
            return np.zeros((0, self.channels))
        return np.asarray(np.linalg.solve(self._past, self.covariance[:size, size:]), np.float64)

    @cached_property
    def _variance(self) -> Floats:
        """Variance of a forecast from a whole past, (K,)."""
        size = self.lags * self.channels
        gain = np.einsum("vk,vk->k", self.covariance[:size, size:], self._coefficients)
        left = np.diag(self.covariances[0]) + self.noise - gain
        return np.asarray(np.maximum(left, self.noise), np.float64)

    @cached_property
    def _precision(self) -> Floats:
        return np.asarray(np.linalg.inv(self._past), np.float64)

    def _pattern(self, seen: Flags) -> tuple[Floats, Floats]:
        """Weights (lags K, K), zero where not seen, and variance (K,) of a forecast from those."""
        key = np.packbits(seen).tobytes()
        if key not in self._patterns:
            if len(self._patterns) >= 64:  # enough for channels that come and go
                self._patterns.clear()
            weights, variance = self._weights(seen)
            left = self._left(variance, np.square(weights).sum(axis=0))
            self._patterns[key] = weights, self._variance * (left / self._left_of_whole)
        return self._patterns[key]

    @cached_property
    def _left_of_whole(self) -> Floats:
        """What a whole past leaves of the newest row, (K,)."""
        return self._left(self._variance, np.square(self._coefficients).sum(axis=0))

    def _left(self, variance: Floats, squares: Floats) -> Floats:
        """What is left of values in rows without noise: variances under it, sums of squares of the
        weights that told their means.
        """
        left = np.maximum(variance - self.noise * (1.0 + squares), 0.0)
        return np.asarray(left + max(LEAST_LEFT * self.noise, 1e-12), np.float64)

    def _weights(self, seen: Flags) -> tuple[Floats, Floats]:
        """By the smaller of two systems: of what is seen, or of what is missing."""
        known, missing = np.flatnonzero(seen), np.flatnonzero(~seen)
        weights, whole = np.zeros_like(self._coefficients), self._coefficients
        if len(missing) == 0:
            return whole, self._variance
        if len(missing) <= len(known):
            # E[x_U | x_V] is the forecast from V with what is missing at its own conditional mean.
            inner = self._precision[np.ix_(missing, missing)]
            both = np.concatenate([self._precision[np.ix_(missing, known)], whole[missing]], axis=1)
            solved = np.linalg.solve(inner, both)
            weights[known] = whole[known] - solved[:, : len(known)].T @ whole[missing]
            more = np.einsum("mk,mk->k", whole[missing], solved[:, len(known) :])
            return weights, self._variance + np.maximum(more, 0.0)
        size = self.lags * self.channels
        across = self.covariance[known, size:]
        if len(known):
            weights[known] = np.linalg.solve(self._past[np.ix_(known, known)], across)
        gain = np.einsum("vk,vk->k", across, weights[known])
        return weights, np.maximum(np.diag(self.covariances[0]) + self.noise - gain, self.noise)

    # -- one channel of a row hidden

    def from_others(self, rows: Reals, observed: Flags) -> _Moments:
        """Mean and variance (n, K) of each channel given the others of its own row, all (n, K).

        With P the inverse of S + s^2 I over the observed channels, the mean of channel k is
        x_k - (P x)_k / P_kk and its variance 1 / P_kk: a value does not tell its own mean. In rows
        that are not whole the variance is that of a whole row, as many times as more is left.
        """
        own = np.where(observed, rows, 0.0).astype(np.float64)
        law = self.covariances[0] + self.noise * np.eye(self.channels)
        mean, variance = np.empty_like(own), np.empty_like(own)
        whole = observed.all(axis=1)
        inverse = self._inverse
        usual = 1.0 / np.diag(inverse)
        mean[whole] = own[whole] - own[whole] @ inverse / np.diag(inverse)
        variance[whole] = usual
        lacks = np.flatnonzero(~whole)
        if len(lacks) == 0:
            return mean, variance
        unit = usual / self._left(usual, np.square(inverse).sum(axis=0) * usual**2 - 1.0)
        found = list(patterns(observed[lacks]))
        some = max(1, LARGEST_BATCH // self.channels**2)
        for first in range(0, len(found), some):
            batch = found[first : first + some]
            seen = np.array([one for one, _ in batch])
            inverses = _inverses(law, seen)
            for known, (_, alike), inner in zip(seen, batch, inverses, strict=True):
                at = lacks[alike]
                pulled = own[at] @ inner
                diagonal = np.diag(inner)
                shared = self.covariances[0] * known
                weights = shared @ inner  # what a channel that is not seen is told with
                left = np.diag(law) - (weights * shared).sum(axis=1)
                mean[at] = np.where(
                    known, own[at] - pulled / diagonal, pulled @ self.covariances[0].T
                )
                left = np.where(known, 1.0 / diagonal, np.maximum(left, self.noise))
                # Row k of P, by -1 / P_kk, has the weights of the others, and -1 for k itself.
                squares = np.square(np.where(known[:, None], inner, weights)).sum(axis=1)
                squares = np.where(known, squares / diagonal**2 - 1.0, squares)
                variance[at] = unit * self._left(left, squares)
        return mean, variance

    @cached_property
    def _inverse(self) -> Floats:
        law = self.covariances[0] + self.noise * np.eye(self.channels)
        return np.asarray(np.linalg.inv(law), np.float64)


_Moments = tuple[Floats, Floats]


def patterns(seen: Flags) -> Iterator[tuple[Flags, Ints]]:
    """The different rows of flags (n, D), each with the positions of the rows that are it."""
    alike: dict[bytes, list[int]] = {}
    for at, key in enumerate(map(bytes, np.packbits(seen, axis=1))):
        alike.setdefault(key, []).append(at)
    for places in alike.values():
        yield seen[places[0]], np.array(places)


def _inverses(law: Floats, seen: Flags) -> Floats:
    """Inverses of a covariance (K, K) over the seen channels of each of (n, K), zero elsewhere."""
    both = seen[:, :, None] & seen[:, None, :]
    lone = np.eye(len(law)) * ~seen[:, None, :]  # so that the rest can be inverted too
    return np.where(both, np.linalg.inv(np.where(both, law, 0.0) + lone), np.eye(len(law)) * ~both)


def _windowed_any(flags: Flags, width: int) -> Flags:
    """Whether any of `width` flags from each on is set: (n,) -> (n - width + 1,)."""
    count = np.concatenate([[0], np.cumsum(flags)])
    return np.asarray(count[width:] - count[: len(count) - width] > 0)


def toeplitz(covariances: Floats) -> Floats:
    """Blocks (lags + 1, K, K) of E[x_t x_(t-h)'] as the covariance of a patch, oldest row first."""
    count, channels = covariances.shape[:2]
    whole = np.empty((count, channels, count, channels))
    for row in range(count):
        for other in range(count):
            lag = row - other
            block = covariances[abs(lag)]
            whole[row, :, other] = block if lag >= 0 else block.T
    return whole.reshape(count * channels, count * channels)


# -- sums over rows with missing values as a law expects them: one step of an EM algorithm
#
# Where values are missing, means over the pairs that were seen are of other rows from pair to pair.
# In few rows they need not be those of a law, and which directions vary least is then an accident
# of what is missing: what others leave of a channel is held for less than it is. With S the law so
# far, V what is visible of a patch, m and C the conditional mean and covariance of the patch given
# V,
#
#     sum of x_t x_(t-h)'   becomes   sum of m_t m_(t-h)' + C_(t, t-h)
#
# (Dempster, Laird and Rubin 1977), a patch being row t and the `lags` before it. A patch without
# gaps adds what it is. With P the inverse of S and U what is hidden,
#
#     m_U = -P_UU^-1 P_UV x_V,   C_UU = P_UU^-1
#
# so that what it costs depends on how much is missing, not on the size of a patch.

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
