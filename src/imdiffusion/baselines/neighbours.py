"""Distance to the nearest normal patch, each patch normalised by itself."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from imdiffusion.arrays import Flags, Floats, Ints, Singles
from imdiffusion.baselines.simple import checked_rows, fitted, unobserved

_CHUNK = 512  # patches at a time: 512 x 32 x 93 float32 are 6 MB, their distances 5 MB
FLAT = 0.5  # of a training deviation, added to a patch's own: the noise of flat parts stays small


class PatchNeighbours:
    """Root mean squared distance of patches of `length` rows to the nearest training patch.

    A patch is normalised by itself: each channel less its mean in the patch, over its deviation in
    the patch plus .5. Of the training patches `most` are kept, evenly spaced. Patches are scored
    every `step` rows (the last one always); a row's score is the mean over the patches that cover
    it. A missing value is left out: of the distance, which is a mean over the observed values, and
    of a training patch, where the patch's mean stands in its place.

    A row that was fitted on finds itself again, at distance 0: what is normal is to be read off
    `training_scores`, not off the scores of those rows.
    """

    def __init__(self, length: int = 32, most: int = 2500, step: int = 4) -> None:
        self.length = length
        self.most = most
        self.step = step

    def fit(self, x: Floats) -> PatchNeighbours:
        """Keep normal patches of rows x (T, K); DataError with fewer rows than two patches."""
        rows = checked_rows(x, least=2 * self.length)
        count = len(rows) - self.length + 1
        starts = np.unique(np.linspace(0, count - 1, min(self.most, count)).round().astype(int))
        patches, known = self._normalised(rows, starts)
        self.patches_, self.starts_ = patches * known, starts
        self.channels_ = rows.shape[1]
        return self

    def decision_function(self, x: Floats) -> Floats:
        """Scores (T,) of rows x (T, K); DataError with fewer rows than a patch."""
        return self._scored(x, itself=False)

    def training_scores(self, x: Floats) -> Floats:
        """Scores (T,) of the rows that were fitted on, without what they would find of themselves.

        A patch is compared with those that share no row with it; NaN where there are none.
        """
        return self._scored(x, itself=True)

    def _scored(self, x: Floats, *, itself: bool) -> Floats:
        fitted(self, "patches_")
        rows = checked_rows(x, least=self.length, channels=self.channels_)
        count = len(rows) - self.length + 1
        starts = np.union1d(np.arange(0, count, self.step), [count - 1])
        total, covering = np.zeros(len(rows)), np.zeros(len(rows))
        for part in _chunks(starts):
            distances = self._distance(rows, part, itself=itself)
            for start, distance in zip(part, distances, strict=True):
                if np.isfinite(distance):
                    total[start : start + self.length] += distance
                    covering[start : start + self.length] += 1
        score = np.where(covering > 0, total / np.maximum(covering, 1), np.nan)
        return np.where(unobserved(rows), np.nan, score)

    def _distance(self, rows: Floats, starts: Ints, *, itself: bool) -> Floats:
        """Of the patches (N,) that start there; 0 without an observation, inf without a neighbour.

        itself: whether the rows are those fitted on, so that patches sharing a row do not count.
        """
        patches, known = self._normalised(rows, starts)
        seen = patches * known
        own = np.einsum("nd,nd->n", seen, seen)
        if known.all():
            theirs = np.einsum("md,md->m", self.patches_, self.patches_)[None, :]
        else:
            theirs = known.astype(np.float32) @ np.square(self.patches_).T
        apart = theirs - 2.0 * (seen @ self.patches_.T)
        if itself:
            apart[np.abs(starts[:, None] - self.starts_[None, :]) < self.length] = np.inf
        count = np.maximum(known.sum(axis=1), 1)
        nearest = np.maximum(apart.min(axis=1) + own, 0.0)
        return np.asarray(np.sqrt(nearest / count), np.float64)

    def _normalised(self, rows: Floats, starts: Ints) -> tuple[Singles, Flags]:
        """Flattened patches (N, length K) in float32 and where they are observed; 0 where not."""
        windows = sliding_window_view(rows, self.length, axis=0)[starts]  # (N, K, length)
        known = ~np.isnan(windows)
        count = np.maximum(known.sum(axis=2, keepdims=True), 1)
        mean = np.where(known, windows, 0.0).sum(axis=2, keepdims=True) / count
        apart = np.where(known, windows - mean, 0.0)
        spread = np.sqrt(np.square(apart).sum(axis=2, keepdims=True) / count)
        flat = (apart / (spread + FLAT)).astype(np.float32).reshape(len(starts), -1)
        return flat, known.reshape(len(starts), -1)


def _chunks(starts: Ints) -> Iterator[Ints]:
    for first in range(0, len(starts), _CHUNK):
        yield starts[first : first + _CHUNK]
