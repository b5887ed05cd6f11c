"""A memory of normal patches: mean and variance of what a mask hides, from the training rows.

A patch is `width` consecutive rows of K channels. Noise of variance s^2 on the training patches
p_1, ..., p_P themselves makes a mixture of Gaussians, and given what is visible of a patch x,

    w_i            ~ exp(-|x_V - p_iV|^2 / 2 s^2),   sum of w_i = 1
    E[x_U | x_V]   = sum of w_i p_iU
    Var[x_U | x_V] = sum of w_i p_iU^2 - E[x_U | x_V]^2 + s^2

for any mask and any missing set: a missing value is simply not in V. This is the ideal denoiser of
an empirical distribution at the noise level s^2 (Vincent 2011, "A connection between score matching
and denoising autoencoders"; Karras et al. 2022, appendix B.3); s -> 0 is the nearest neighbour.

Values are standardised by the caller. A value that is missing in the memory is as unknown as a
value can be: a draw from a standard normal.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from imdiffusion.arrays import Flags, Floats, Ints, Reals, Singles

Moments = tuple[Floats, Floats]

MOST_PATCHES = 2_500  # time and memory grow with them
CHUNK = 1 << 20  # numbers of a table of queries by patches
ASKED = 256  # patches that say how far one is from another
LEAST_NOISE = 0.01  # s^2 on standardised values, where patches repeat exactly
LEAST_SPREAD = 0.1  # of one channel of a patch that is normalised by itself


@dataclass(frozen=True, slots=True)
class PatchMemory:
    """Patches (P, width, K), zero where not observed (P, width, K), and s^2, their noise.

    normalised: every channel of a patch is taken less its own mean and over its own spread, both
    of the values visible, so that shapes are compared and not levels.

    Examples
    --------
    >>> import numpy as np
    >>> rows = np.array([[0.0, 0.0], [1.0, -1.0], [0.0, 0.0], [1.0, -1.0]])
    >>> memory = PatchMemory.fit(rows, np.ones((4, 2), bool), width=1, noise=0.1)
    >>> mean, variance = memory.condition(np.array([[[1.0, 9.0]]]), np.array([[[True, False]]]))
    >>> mean.round(2).tolist(), variance.round(2).tolist()
    ([[[0.99, -0.99]]], [[[0.11, 0.11]]])
    """

    patches: Reals
    observed: Flags
    noise: float
    normalised: bool = False

    @classmethod
    def fit(
        cls,
        rows: Reals,
        observed: Flags,
        *,
        width: int,
        most: int = MOST_PATCHES,
        noise: float | None = None,
        normalised: bool = False,
    ) -> PatchMemory:
        """At most `most` patches of rows (T, K), evenly chosen; ValueError: fewer rows than one.

        noise: s^2, None = the mean square of a value's distance between a patch and the nearest
        one that shares no row with it: as far as one normal patch is from another.
        """
        first = chosen_starts(observed, width, most)
        index = first[:, None] + np.arange(width)
        seen = observed[index]
        patches = np.where(seen, rows[index], 0.0).astype(np.float32)
        memory = cls(patches, seen, LEAST_NOISE if noise is None else noise, normalised)
        if noise is None:
            memory = cls(patches, seen, memory._between(first), normalised)
        return memory

    @property
    def width(self) -> int:
        """Rows of a patch."""
        return int(self.patches.shape[1])

    def condition(self, patches: Reals, visible: Flags, *, noise: float = 0.0) -> Moments:
        """Mean and variance of every value of patches (n, width, K) given the visible ones.

        noise: variance that is on visible values beside the memory's own. Of a visible value this
        is its reconstruction. Where nothing is visible, all patches weigh the same.
        """
        mean, variance = np.empty(patches.shape), np.empty(patches.shape)
        level = self.noise + noise
        for part in self._parts(len(patches)):
            own = np.where(visible[part], patches[part], 0.0).astype(np.float32)
            found = self._normal if self.normalised else self._plain
            mean[part], variance[part] = found(own, visible[part].astype(np.float32), level)
        return mean, variance

    def distances(self, patches: Reals, visible: Flags) -> Floats:
        """Mean square distance of a visible value to those of the nearest patch, (n,).

        A patch that shows nothing is as far as a standard normal is from itself: 2.
        """
        found = np.empty(len(patches))
        for part in self._parts(len(patches)):
            own = np.where(visible[part], patches[part], 0.0).astype(np.float32)
            seen = visible[part].astype(np.float32)
            nearest = self._squares(own, seen, 1.0).min(axis=1)
            count = seen.sum(axis=(1, 2))
            found[part] = np.where(count > 0, nearest / np.maximum(count, 1.0), 2.0)
        return found

    def _parts(self, count: int) -> Iterator[slice]:
        channels = self.patches.shape[2] if self.normalised else 1
        some = max(1, CHUNK // (len(self.patches) * channels))
        for start in range(0, count, some):
            yield slice(start, start + some)

    # -- patches as they are

    def _squares(self, own: Singles, seen: Singles, level: float) -> Floats:
        """-2 log of each patch's likelihood (n, P), but for what all patches share.

        own, seen: (n, width, K). At the level 1 without missing values: the squared distance.
        """
        if self.normalised:
            return np.asarray(self._shapes(own, seen)[0] / level, np.float64)
        count = len(own)
        known = self.observed.reshape(len(self.patches), -1)
        stored = self.patches.reshape(len(self.patches), -1)
        values, flags = own.reshape(count, -1), seen.reshape(count, -1)
        if known.all():
            squares = -2.0 * values @ stored.T + flags @ np.square(stored).T
            squares += np.square(values).sum(axis=1, keepdims=True)
            return np.asarray(np.maximum(squares, 0.0) / level, np.float64)
        # A value missing in the memory is off by the spread of a standard normal beside s^2.
        precise = np.where(known, 1.0 / level, 1.0 / (level + 1.0)).astype(np.float32)
        widths = np.where(known, 0.0, np.log((level + 1.0) / level)).astype(np.float32)
        squares = np.square(values) @ precise.T - 2.0 * values @ (precise * stored).T
        squares += flags @ (precise * np.square(stored) + widths).T
        return np.asarray(np.maximum(squares, 0.0), np.float64)

    def _plain(self, own: Singles, seen: Singles, level: float) -> tuple[Floats, Floats]:
        weights = _weights(self._squares(own, seen, level))
        stored = self.patches.reshape(len(self.patches), -1).astype(np.float64)
        mean = weights @ stored
        square = weights @ (np.square(stored) + ~self.observed.reshape(stored.shape))
        variance = np.maximum(square - np.square(mean), 0.0) + self.noise
        return mean.reshape(own.shape), variance.reshape(own.shape)

    # -- patches less their own mean, over their own spread

    def _shapes(self, own: Singles, seen: Singles) -> tuple[Floats, tuple[Floats, ...]]:
        """Squared distances (n, P) of what is normalised over the visible values; and its units.

        Units: mean and spread of the queries (n, K), and of the patches (n, P, K), each over what
        is visible of the query in that channel.
        """
        count = np.maximum(seen.sum(axis=1), 1.0).astype(np.float64)
        centre = own.sum(axis=1) / count
        spread = np.sqrt(np.maximum(np.square(own).sum(axis=1) / count - centre**2, 0.0))
        spread = np.maximum(spread, LEAST_SPREAD)
        shape = (own - centre[:, None] * seen) / spread[:, None]
        squares = np.zeros((len(own), len(self.patches)))
        centres = np.empty((*squares.shape, own.shape[2]))
        spreads = np.empty_like(centres)
        for channel in range(own.shape[2]):
            stored, flags = self.patches[:, :, channel].T, seen[:, :, channel]
            there = count[:, channel, None]
            middle = flags @ stored / there
            power = np.maximum(flags @ np.square(stored) / there - middle**2, 0.0)
            wide = np.maximum(np.sqrt(power), LEAST_SPREAD)
            across = shape[:, :, channel]
            shared = (across @ stored - middle * across.sum(axis=1, keepdims=True)) / wide
            alone = np.square(across).sum(axis=1, keepdims=True)
            visible = flags.sum(axis=1, keepdims=True) > 0
            squares += (alone - 2.0 * shared + there * power / wide**2) * visible
            centres[:, :, channel], spreads[:, :, channel] = middle, wide
        return np.maximum(squares, 0.0), (centre, spread, centres, spreads)

    def _normal(self, own: Singles, seen: Singles, level: float) -> tuple[Floats, Floats]:
        squares, (centre, spread, centres, spreads) = self._shapes(own, seen)
        weights = _weights(squares / level)
        mean, variance = np.empty(own.shape), np.empty(own.shape)
        for channel in range(own.shape[2]):
            stored = self.patches[:, :, channel].astype(np.float64)
            scaled = weights / spreads[:, :, channel]
            twice = scaled / spreads[:, :, channel]
            middle = centres[:, :, channel]
            first = scaled @ stored - (scaled * middle).sum(axis=1)[:, None]
            second = twice @ np.square(stored) - 2.0 * (twice * middle) @ stored
            second += (twice * middle**2).sum(axis=1)[:, None]
            unit = spread[:, channel, None]
            mean[:, :, channel] = centre[:, channel, None] + unit * first
            left = np.maximum(second - first**2, 0.0) + self.noise
            variance[:, :, channel] = unit**2 * left
        return mean, variance

    # -- how far one normal patch is from another

    def _between(self, first: Ints) -> float:
        """Mean square of a value's distance to the nearest patch that shares no row, at most 1.

        first (P,): the row that each patch begins with.
        """
        total, count = 0.0, 0.0
        asked = np.unique(np.linspace(0, len(first) - 1, ASKED).round().astype(np.int64))
        for some_asked in self._parts(len(asked)):
            part = asked[some_asked]
            seen = self.observed[part].astype(np.float32)
            squares = self._squares(self.patches[part].astype(np.float32), seen, 1.0)
            apart = np.abs(first[part, None] - first) >= self.width
            some = apart.any(axis=1)
            total += float(np.where(apart, squares, np.inf)[some].min(axis=1, initial=np.inf).sum())
            count += float(seen[some].sum())
        return min(max(total / count, LEAST_NOISE), 1.0) if count else 1.0


def chosen_starts(observed: Flags, width: int, most: int) -> Ints:
    """First rows of at most `most` patches, evenly spread over those with no more than the usual
    share missing. ValueError where rows (T, K) are fewer than a patch.
    """
    total = len(observed)
    if total < width:
        raise ValueError(f"a patch has {width} rows, and there are {total}")
    missing = np.concatenate([[0], np.cumsum((~observed).sum(axis=1))])
    lacks = missing[width:] - missing[: total - width + 1]
    usable = np.flatnonzero(lacks <= np.median(lacks))
    if len(usable) <= most:
        return usable
    return usable[np.linspace(0, len(usable) - 1, most).round().astype(np.int64)]


def _weights(squares: Floats) -> Floats:
    """exp(-squares / 2) (n, P) as shares of their sum; the largest is never lost to underflow."""
    logits = -0.5 * (squares - squares.min(axis=1, keepdims=True))
    weights = np.exp(logits)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))
