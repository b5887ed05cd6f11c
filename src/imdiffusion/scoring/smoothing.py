"""Centred means over time of series that arrive in runs: what comes out never depends on the runs.

A mean of even width takes one row more from before than from after. At the two ends of a series
it is over the rows that exist. NaN is left out, and a value that is NaN stays NaN.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from imdiffusion.arrays import Singles


def reach(width: int) -> tuple[int, int]:
    """Rows before and rows after its own that a centred mean of this width is over."""
    return width // 2, width - 1 - width // 2


class CentredMean:
    """Mean over the `width` rows around each row of a series (T, ...), pushed in runs.

    Rows come out in order, at most `width` rows late. Held are 2 x `width` rows.
    """

    def __init__(self, width: int) -> None:
        self.width = width
        self._before, self._after = reach(width)
        self._held: Singles | None = None
        self._done = 0  # held rows that are already out; at most `before` of them are context

    def push(self, run: Singles) -> Singles:
        """Take the next rows (n, ...) and give those that are ready (m, ...), perhaps none."""
        if self.width == 1:
            return run
        self._held = run if self._held is None else np.concatenate([self._held, run])
        ready = max(self._done, len(self._held) - self._after)
        if ready == self._done:
            return run[:0]
        out = _means(self._held, self._before, self._after, self._done, ready)
        cut = max(0, ready - self._before)
        self._held, self._done = self._held[cut:], ready - cut
        return out

    def flush(self) -> Singles | None:
        """The last rows, once the series has ended; None where no row ever came."""
        if self._held is None:
            return None
        held, self._held = self._held, None
        return _means(held, self._before, self._after, self._done, len(held))


def centred_mean(runs: Iterable[Singles], width: int) -> Iterator[Singles]:
    """The centred means of a series (T, ...) in consecutive runs, as runs of the same rows."""
    mean = CentredMean(width)
    for run in runs:
        ready = mean.push(run)
        if len(ready):
            yield ready
    last = mean.flush()
    if last is not None and len(last):
        yield last


def last_means(rows: Singles, width: int, count: int) -> Singles:
    """The last `count` centred means of a series (T, ...) that has ended: (count, ...)."""
    if width == 1:
        return rows[len(rows) - count :]
    return _means(rows, *reach(width), len(rows) - count, len(rows))


def _means(held: Singles, before: int, after: int, start: int, stop: int) -> Singles:
    """Means for rows start to stop of `held`.

    Each is a sum of its own: a running sum would carry the rounding of one huge value to all
    rows after it.
    """
    lo, hi = max(0, start - before), min(len(held), stop + after)
    rows = held[lo:hi]
    margin = (lo - (start - before), stop + after - hi)  # rows that do not exist
    width, count = before + 1 + after, stop - start
    known = ~np.isnan(rows)
    if known.all():
        first = np.arange(count)
        last = np.minimum(first + width, margin[0] + len(rows))
        number = (last - np.maximum(first, margin[0])).astype(np.float32)
        total = _window_sums(_padded(rows, margin), width, count)
        total /= number.reshape(-1, *[1] * (held.ndim - 1))
        return total
    total = _window_sums(_padded(np.where(known, rows, np.float32(0.0)), margin), width, count)
    number = _window_sums(_padded(known.astype(np.float32), margin), width, count)
    mean = total / np.maximum(number, np.float32(1.0))
    return np.where(np.isnan(held[start:stop]), np.float32(np.nan), mean)


def _padded(rows: Singles, margin: tuple[int, int]) -> Singles:
    if margin == (0, 0):
        return rows
    # Not np.pad: live, where runs are short, it takes longer than the means themselves.
    padded = np.zeros((len(rows) + sum(margin), *rows.shape[1:]), np.float32)
    padded[margin[0] : margin[0] + len(rows)] = rows
    return padded


def _window_sums(rows: Singles, width: int, count: int) -> Singles:
    """Sums of `width` rows from each of the first `count` on: (count + width - 1, ...) -> (count,).

    Blocks of 1, 2, 4, ... rows are joined, so the work grows with the logarithm of the width.
    """
    total = np.zeros((count, *rows.shape[1:]), np.float32)
    block, size, offset = rows, 1, 0
    while offset < width:
        if width & size:
            total += block[offset : offset + count]
            offset += size
        if offset < width:
            block = block[:-size] + block[size:]
            size *= 2
    return total
