"""Faults planted into rows that were normal: what a detector should find, without any label.

    spike    a channel jumps by 3 to 30 of its own deviations, for 1 to 5 rows
    shift    it stays off by 3 to 30 of them, for 10 to 60 rows
    freeze   it stands still at its last value, for 20 to 60 rows
    swap     it has the values of another time: each is usual, but not beside the other channels

A fault is in one channel, or in up to half of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Kind = Literal["spike", "shift", "freeze", "swap"]
KINDS: tuple[Kind, ...] = ("spike", "shift", "freeze", "swap")
LENGTHS: dict[Kind, tuple[int, int]] = {
    "spike": (1, 5), "shift": (10, 60), "freeze": (20, 60), "swap": (20, 60),
}  # fmt: skip
SIZE = (3.0, 30.0)  # deviations, drawn evenly in their logarithm
FIRST = (5, 30)  # rows before the first fault
APART = 100  # rows from the end of a fault to the next, so that none lies in another's wake
NORMAL = 1.4826  # the standard deviation of a normal law, in median deviations

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Planted:
    """A fault in rows [start, stop)."""

    kind: Kind
    start: int
    stop: int


def plant(rows: Floats, *, generator: np.random.Generator) -> tuple[Floats, list[Planted]]:
    """A copy of rows (n, K) with faults, and where they are. NaN = not observed, and stays so."""
    changed = rows.copy()
    faults: list[Planted] = []
    spread = spread_of(rows)
    moving = np.flatnonzero(spread > 0)
    if not moving.size:
        return changed, faults
    at = int(generator.integers(*FIRST))
    while True:
        kind = KINDS[int(generator.integers(len(KINDS)))]
        low, high = LENGTHS[kind]
        stop = at + int(generator.integers(low, high + 1))
        if stop > len(rows):
            return changed, faults
        for channel in _channels(moving, generator):
            changed[at:stop, channel] = broken(
                kind, rows[:, channel], at, stop, float(spread[channel]), generator
            )
        faults.append(Planted(kind, at, stop))
        at = stop + APART


def _channels(moving: NDArray[np.int64], generator: np.random.Generator) -> list[int]:
    """One of the channels that move, or up to half of them: few as likely as many."""
    most = max(1.0, moving.size / 2)
    count = round(float(np.exp(generator.uniform(0.0, np.log(most)))))
    chosen: list[int] = generator.choice(moving, count, replace=False).tolist()
    return chosen


def broken(
    kind: Kind, values: Floats, at: int, stop: int, spread: float, generator: np.random.Generator
) -> Floats:
    """The values of one channel in rows [at, stop) under a fault."""
    own = values[at:stop]
    if kind == "freeze":
        return np.where(np.isnan(own), own, values[at - 1])
    if kind == "swap":
        start = int(generator.integers(0, len(values) - (stop - at) + 1))
        return np.where(np.isnan(own), own, values[start : start + len(own)])
    size = float(np.exp(generator.uniform(*np.log(SIZE)))) * spread
    return own + (size if generator.random() < 0.5 else -size)


def spread_of(rows: Floats) -> Floats:
    """Deviation of each channel: of the median deviation, or of all values where that is 0."""
    spread = np.zeros(rows.shape[1])
    for k in range(rows.shape[1]):
        seen = rows[~np.isnan(rows[:, k]), k]
        if seen.size:
            robust = NORMAL * float(np.median(np.abs(seen - np.median(seen))))
            spread[k] = robust or float(np.std(seen))
    return spread
