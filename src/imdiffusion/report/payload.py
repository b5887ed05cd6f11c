"""The page's data: quantised, gzipped and base64 text that page/decode.js reads back.

A series is cut into blocks of `BLOCK` rows. Each block has its own low end and step, so that
a spike costs detail in its own block only, and a value is `low + code * step`; the code
`MISSING` stands for NaN. Codes are stored as differences, high bytes before low bytes,
because gzip makes more of them so. The band is stored as its reach below and above expected,
which is smoother than its edges are.
"""

from __future__ import annotations

import base64
import gzip
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imdiffusion.arrays import Flags, Floats, Ints, Reals


@dataclass(frozen=True, slots=True)
class Thinning:
    """Which rows of T become which of the page: `starts` of buckets, in order."""

    rows: int  # T
    starts: Ints  # first row of each bucket
    coarsest: int  # rows of the largest bucket; 1 = nothing is thinned

    @property
    def pair(self) -> Flags:
        """Buckets that give two rows."""
        return np.diff(self.starts, append=self.rows) > 1

    def positions(self) -> Ints:
        """The row of T that each row of the page stands at."""
        size = np.diff(self.starts, append=self.rows)
        return self._joined(self.starts, self.starts + size // 2)

    def extremes(self, values: Reals) -> Reals:
        """Lowest then highest value of each bucket; single rows as they are."""
        if self.coarsest == 1:
            return values
        low = np.fmin.reduceat(values, self.starts)
        return self._joined(low, np.fmax.reduceat(values, self.starts))

    def lowest(self, values: Reals) -> Reals:
        """The lowest value of each bucket, in both of its rows."""
        if self.coarsest == 1:
            return values
        low = np.fmin.reduceat(values, self.starts)
        return self._joined(low, low)

    def highest(self, values: Reals) -> Reals:
        """The highest value of each bucket, in both of its rows."""
        if self.coarsest == 1:
            return values
        high = np.fmax.reduceat(values, self.starts)
        return self._joined(high, high)

    def _joined(self, first: NDArray[Any], second: NDArray[Any]) -> NDArray[Any]:
        pair = self.pair
        place = np.cumsum(np.where(pair, 2, 1)) - np.where(pair, 2, 1)
        joined = np.empty(len(first) + int(pair.sum()), dtype=first.dtype)
        joined[place] = first
        joined[place[pair] + 1] = second[pair]
        return joined


def thinning(rows: int, budget: int, events: Iterable[tuple[int, int]]) -> Thinning:
    """How to show `rows` rows in about `budget`, sparing `events` (start, end) and their margins.

    Where the events alone would take more than half the budget they are thinned as well.
    """
    if rows <= budget:
        return Thinning(rows, np.arange(rows, dtype=np.int64), 1)
    near = np.zeros(rows, dtype=np.bool_)
    for start, end in events:
        margin = max(60, end - start)
        near[max(0, start - margin) : end + margin] = True
    if int(near.sum()) > budget // 2:
        near[:] = False
    quiet = rows - int(near.sum())
    size = max(2, -(-2 * quiet // max(1, budget - (rows - quiet))))
    # a bucket starts at every row near an event, where a quiet run starts, and every `size` rows
    row = np.arange(rows, dtype=np.int64)
    run_start = np.maximum.accumulate(np.where(near | np.roll(near, 1), row, 0))
    starts = row[near | ((row - run_start) % size == 0)]
    return Thinning(rows, starts, size)


BLOCK = 1024
MISSING = 65535
FINE = 65534  # levels of a seen series, whose values a person reads off
COARSE = 4094  # levels of expected and of its band: a third smaller, still 20 steps a pixel


def quantise(
    values: Reals, levels: int = FINE, grain: Floats | float = 0.0
) -> tuple[NDArray[np.uint16], Floats, Floats]:
    """Codes (T,), and low end and step of each block (ceil(T / BLOCK),).

    The error of a value is at most half its block's step, which is the block's range divided
    by `levels` (at most 65534), but no finer than `grain` (for all blocks or for each). What is
    not finite becomes `MISSING`.
    """
    rows = len(values)
    blocks = -(-rows // BLOCK)
    padded = np.full(blocks * BLOCK, np.nan)
    padded[:rows] = values
    table = padded.reshape(blocks, BLOCK)
    known = np.isfinite(table)
    low = np.where(known, table, np.inf).min(axis=1, initial=np.inf)
    high = np.where(known, table, -np.inf).max(axis=1, initial=-np.inf)
    empty = ~known.any(axis=1)
    low[empty] = high[empty] = 0.0
    # in this order a range beyond float64 cannot overflow
    step = np.maximum(high / levels - low / levels, grain)
    divisor = np.where(step > 0, step, 1.0)[:, None]
    # halves, for the same reason; a code is a rounded count of steps above the low end
    above = np.where(known, table / 2 - low[:, None] / 2, 0.0)
    codes = np.minimum(np.rint(above / divisor * 2), levels)
    codes[~known] = MISSING
    return codes.astype(np.uint16).ravel()[:rows], low, step


def restore(codes: NDArray[np.uint16], low: Floats, step: Floats) -> Floats:
    """The values (T,) that the page shows for `codes`: the inverse of `quantise`."""
    block = np.arange(len(codes)) // BLOCK
    values: Floats = low[block] + codes * step[block]
    values[codes == MISSING] = np.nan
    return values


def packed(seen: Reals, expected: Reals, lower: Reals, upper: Reals) -> str:
    """One channel's blob from four series (T,).

    Layout before gzip, little-endian: u32 rows, u32 series (4: seen, expected, reach below it,
    reach above it); then of each series its blocks' lows and steps (f64); then of each series
    the high bytes and the low bytes of the codes' differences. The edges of the band come back
    within one step of expected and half a step of their own.
    """
    middle = quantise(expected, COARSE)
    grain = middle[2]  # a reach need not be finer than what it is counted from
    parts = [
        quantise(seen, FINE),
        middle,
        quantise(expected - lower, COARSE, grain),
        quantise(upper - expected, COARSE, grain),
    ]
    ends: list[bytes] = []
    planes: list[bytes] = []
    for codes, low, step in parts:
        change = np.diff(codes, prepend=np.uint16(0)).astype("<u2")
        ends += [low.astype("<f8").tobytes(), step.astype("<f8").tobytes()]
        planes += [(change >> shift).astype(np.uint8).tobytes() for shift in (8, 0)]
    return _text(b"".join([struct.pack("<II", len(seen), len(parts)), *ends, *planes]))


def packed_timeline(x: Floats, score: Reals) -> str:
    """An entity's blob: u32 rows, u32 zero, differences of `x` (f64, T), scores (f32, T)."""
    change = np.diff(x, prepend=x[:1])
    head = struct.pack("<II", len(x), 0)
    return _text(head + change.astype("<f8").tobytes() + score.astype("<f4").tobytes())


def _text(raw: bytes) -> str:
    return base64.b64encode(gzip.compress(raw, compresslevel=6, mtime=0)).decode("ascii")
