"""Runs of rows in one condition: cut out of a whole series, or counted as rows come in.

What counts as rows come in takes what stood at the row before (K,) and gives what stands at each of
the n rows (n, K), so a series in pieces gives what the whole gives.
"""

from __future__ import annotations

import numpy as np

from imdiffusion.arrays import Flags, Floats, Ints

LONG_AGO = np.int64(2**40)  # "never": more rows than any series has
_BEFORE = -(2**62)


def rows_since(mark: Flags, before: Ints) -> Ints:
    """How many rows ago each of K marks was last set, as of each of n rows; 0 on its own row.

    before (K,): the same as of the row before the first.
    """
    row = np.arange(len(mark))[:, None]
    last = np.maximum.accumulate(np.where(mark, row, _BEFORE), axis=0)
    since: Ints = row - np.maximum(last, -1 - before)
    return since


def count_since(counted: Flags, reset: Flags, before: Ints) -> Ints:
    """How many rows were `counted` since the last `reset`, that row included, as of each row.

    before (K,): the same as of the row before the first.
    """
    total = np.cumsum(counted, axis=0, dtype=np.int64)
    base = np.maximum.accumulate(np.where(reset, total - counted, _BEFORE), axis=0)
    count: Ints = total - np.maximum(base, -before)
    return count


def last_known(values: Floats, observed: Flags, before: Floats) -> tuple[Floats, Floats]:
    """The value that each channel had last before each row (n, K), and after the last one (K,).

    before (K,): the same before the first row; NaN where there was none.
    """
    whole = np.concatenate([before[None], values])
    if observed.all():
        return whole[:-1], whole[-1].copy()
    row = np.arange(len(whole))[:, None]
    place = np.zeros(whole.shape, np.int64)
    np.multiply(row[1:], observed, out=place[1:])
    place = np.maximum.accumulate(place, axis=0)
    filled = np.take_along_axis(whole, place, axis=0)
    return filled[:-1], filled[-1]


def runs_of(flags: Flags) -> tuple[Ints, Ints]:
    """(first rows, lengths) of the runs of True in flags (T,)."""
    edge = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    pairs = edge.reshape(-1, 2)
    return pairs[:, 0], pairs[:, 1] - pairs[:, 0]


def runs_of_values(values: Floats) -> tuple[Ints, Ints]:
    """(first places, lengths) of the runs of one value in values (N,) without NaN."""
    first = np.concatenate([[0], np.flatnonzero(values[1:] != values[:-1]) + 1])
    return first, np.diff(np.concatenate([first, [len(values)]]))
