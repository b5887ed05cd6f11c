"""Scan statistics: how much evidence the best window of rows around a row holds.

For every width w the mean over the w rows that end with a row, in units of normal,

    a_w(t) = (mean of rows t - w + 1, ..., t - median) / (q - median)

where median and q (a high quantile) are those of normal rows. Online a row has the largest
a_w(t) over the widths; offline the largest a_w(t') over all windows that contain it, so that
it is judged by what followed too:

    s(t) = max over w of max over t' in t, ..., t + w - 1 of a_w(t')

A scan keeps the edges of what it finds to within the width that won; a mean of one width smears
them by that width. Windows that would reach beyond the rows there are do not exist.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imdiffusion.arrays import Floats

UNIT_QUANTILE = 0.99
LEAST_UNIT = 1e-6
LEAST_WINDOWS = 2  # windows side by side that normal rows must have room for


def trailing_means(rows: NDArray[np.floating], widths: tuple[int, ...]) -> Floats:
    """Means (T, W, ...) of rows (T, ...) over the w rows that end with each; NaN before row w - 1.

    widths are powers of two, ascending. A sum is always made of the same halves, so that it is the
    same to the last bit in whatever pieces the rows arrive.
    """
    means = np.full((len(rows), len(widths), *rows.shape[1:]), np.nan)
    for place, whole in enumerate(whole_means(rows, widths)):
        means[len(rows) - len(whole) :, place] = whole
    return means


def whole_means(
    rows: NDArray[np.floating], widths: tuple[int, ...]
) -> Iterator[NDArray[np.floating]]:
    """Of each width the means of `trailing_means` that there are, of rows w - 1 to T - 1."""
    total: NDArray[np.floating] = rows
    size = 1
    for width in widths:
        while size < width:
            if len(total) <= size:
                return
            total, size = total[size:] + total[: len(total) - size], size * 2
        yield total / width


def largest_ahead(values: Floats, width: int) -> Floats:
    """Largest of values (T, ...) in rows t, ..., t + width - 1, as far as there are rows.

    width is a power of two. NaN counts as nothing.
    """
    best, size = values, 1
    while size < width:
        ahead = np.full_like(best, np.nan)
        ahead[: max(0, len(best) - size)] = best[size:]
        best, size = np.fmax(best, ahead), size * 2
    return best


@dataclass(frozen=True, slots=True)
class ScanUnits:
    """What is normal of each width: median and unit (W, ...), online and offline.

    The windows are the same; offline the unit is of the largest over those that contain a row.
    """

    widths: tuple[int, ...]
    median: Floats
    online: Floats
    offline: Floats

    @classmethod
    def fit(
        cls, means: Floats, widths: tuple[int, ...], *, quantile: float = UNIT_QUANTILE
    ) -> ScanUnits:
        """From trailing means (T, W, ...) of normal rows.

        quantile: of which share of normal rows a unit is the limit.
        """
        median = np.zeros(means.shape[1:])
        online, offline = np.ones_like(median), np.ones_like(median)
        for place, width in enumerate(widths):
            known = means[width - 1 :, place]
            least = LEAST_WINDOWS * width if width > 1 else 1
            if len(known) < least:  # they say nothing of this width
                online[place] = offline[place] = np.inf
                continue
            ahead = largest_ahead(means[:, place], width)
            median[place] = np.median(known, axis=0)
            for unit, rows in ((online, known), (offline, ahead)):
                high = np.quantile(rows, quantile, axis=0)
                unit[place] = np.maximum(high - median[place], LEAST_UNIT)
        return cls(widths, median, online, offline)

    def online_scores(self, means: Floats) -> Floats:
        """Trailing means (n, W, ...) -> the largest over the widths (n, ...); NaN where none."""
        return _largest((means - self.median) / self.online)

    def offline_scores(self, means: Floats, rows: int) -> Floats:
        """The same of the first `rows` rows, over all windows of means that contain each."""
        ahead, size = means[: rows + self.widths[-1] - 1].copy(), 1
        while size < min(self.widths[-1], len(ahead)):
            wider = ahead[:, sum(width <= size for width in self.widths) :]
            wider[:-size] = np.fmax(wider[:-size], wider[size:])
            size *= 2
        return _largest((ahead[:rows] - self.median) / self.offline)


def _largest(values: Floats) -> Floats:
    """Over the widths (n, W, ...) -> (n, ...), without a word about rows that have none."""
    best = values[:, 0]
    for place in range(1, values.shape[1]):
        best = np.fmax(best, values[:, place])
    return best
