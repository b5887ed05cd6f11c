"""Centred means over time of series that arrive in runs: what comes out never depends on the runs.

A mean of even width takes one row more from before than from after. At the two ends of a series
it is over the rows that exist. NaN is left out, and a value that is NaN stays NaN.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from imdiffusion.arrays import Singles
from imdiffusion.saved_state import State


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


# -- how high a stream of errors has been of late: the unit of a view that follows its past

RECENT_ROWS = 2000
RECENT_QUANTILE = 0.9  # of the past, as its median lets one expect it
EVERY = 50  # rows between two looks back
KNOTS = 101  # quantiles of held-out rows that stand for the past before the first row


class RecentQuantile:
    """The .9 quantile that the 2,000 rows before would have without faults, of each of S streams.

    Again every 50 rows: their median, times the .9 quantile of normal rows by its own median. So
    faults in the past do not raise it while they are less than half of the past; the quantile
    itself they would raise from a tenth on.

    knots (KNOTS,): evenly spaced quantiles of normal rows, which fill the past at the start. What
    comes out depends on the rows alone, not on the runs they arrive in. NaN is left out; where
    nothing else is left, what stood before stands.
    """

    def __init__(self, knots: Singles) -> None:
        self._knots = np.asarray(knots, np.float32).tobytes()
        self._lift = _lift(self._knots)
        self._past: Singles | None = None  # (RECENT_ROWS, S)
        self._new: list[Singles] = []
        self._count = 0
        self._level: Singles | None = None

    def standing(self, streams: int) -> Singles:
        """What stands before the next row of each of S streams: (S,)."""
        if self._past is None or self._level is None:
            self._past, self._level = _start(self._knots, streams)
        return self._level

    def to_state(self) -> State:
        """The rows and levels it goes on from; no arrays before the first row."""
        if self._past is None or self._level is None:
            return State("running level")
        new = np.concatenate(self._new) if self._new else self._past[:0]
        arrays = {"past": self._past, "level": self._level, "new": new}
        return State("running level", arrays=arrays)

    @classmethod
    def from_state(cls, state: State, like: RecentQuantile) -> RecentQuantile:
        """Go on from a state; see `saved_state`. Raises ModelError."""
        level = cls(np.frombuffer(like._knots, np.float32))
        if state.check("running level").arrays:
            level._past, level._level, new = (
                state.array(name, np.float32) for name in ("past", "level", "new")
            )
            level._new, level._count = ([new] if len(new) else []), len(new)
        return level

    def push(self, run: Singles) -> Singles:
        """Errors (n, S) of the next rows -> what stands before each of them (n, S)."""
        self._level = self.standing(run.shape[1])
        out, start = np.empty_like(run), 0
        while start < len(run):
            stop = min(len(run), start + EVERY - self._count)
            out[start:stop] = self._level
            self._new.append(run[start:stop])
            self._count += stop - start
            start = stop
            if self._count == EVERY and self._past is not None:
                self._past = np.concatenate([self._past[EVERY:], *self._new])
                self._new, self._count = [], 0
                self._level = _high(self._past, self._lift, self._level)
        return out


def _spread(knots: Singles) -> NDArray[np.float64]:
    """RECENT_ROWS numbers of which these are the quantiles."""
    return np.interp(np.linspace(0, 1, RECENT_ROWS), np.linspace(0, 1, len(knots)), knots)


# Of one model, whatever it scores: worked out once.
@lru_cache(maxsize=256)
def _lift(knots: bytes) -> float:
    """The .9 quantile by the median of the rows that these knots stand for."""
    median, high = np.quantile(_spread(np.frombuffer(knots, np.float32)), [0.5, RECENT_QUANTILE])
    return float(high / median) if median > 0 else 1.0


@lru_cache(maxsize=256)
def _start(knots: bytes, streams: int) -> tuple[Singles, Singles]:
    """The past (RECENT_ROWS, S) before the first row, and its level (S,)."""
    rows = _spread(np.frombuffer(knots, np.float32))
    # Shuffled, for the past leaves in order and must stay the same law while it does.
    first = np.random.default_rng(0).permutation(rows).astype(np.float32)
    past = np.repeat(first[:, None], streams, axis=1)
    level = _high(past, _lift(knots), np.zeros(streams, np.float32))
    for shared in (past, level):
        shared.setflags(write=False)
    return past, level


def _high(past: Singles, lift: float, before: Singles) -> Singles:
    """Of each column, without NaN; where a column has nothing else, what was there before."""
    if not np.isnan(past).any():
        level: Singles = (lift * np.median(past, axis=0)).astype(np.float32)
        return level
    columns = zip(past.T, before, strict=True)
    kept = [
        lift * np.median(known) if (known := one[~np.isnan(one)]).size else last
        for one, last in columns
    ]
    return np.array(kept, np.float32)
