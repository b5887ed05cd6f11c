"""Faults planted into rows that were normal: what a detector should find, without any label.

spike    a channel jumps by 2 to 10 of its own deviations, for 1 to 3 rows
shift    it stays off by 2 to 10 of them, for 5 to 20 rows
freeze   it stands still at its last value, for 10 to 20 rows
swap     it has the values of another time: each is usual, but not beside the other channels
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Kind = Literal["spike", "shift", "freeze", "swap"]
KINDS: tuple[Kind, ...] = ("spike", "shift", "freeze", "swap")
LENGTHS: dict[Kind, tuple[int, int]] = {
    "spike": (1, 3), "shift": (5, 20), "freeze": (10, 20), "swap": (10, 20),
}  # fmt: skip
SIZE = (2.0, 10.0)  # deviations, drawn evenly in their logarithm
MOST_CHANNELS = 3  # that one fault has
APART = 40  # rows from the end of a fault to the next, so that none lies in another's wake
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
    spread = _spread(rows)
    moving = np.flatnonzero(spread > 0)
    if not moving.size:
        return changed, faults
    at = APART
    while True:
        kind = KINDS[int(generator.integers(len(KINDS)))]
        low, high = LENGTHS[kind]
        stop = at + int(generator.integers(low, high + 1))
        if stop + APART > len(rows):
            return changed, faults
        count = int(generator.integers(1, min(MOST_CHANNELS, moving.size) + 1))
        for channel in generator.choice(moving, count, replace=False).tolist():
            changed[at:stop, channel] = _broken(
                kind, rows[:, channel], at, stop, float(spread[channel]), generator
            )
        faults.append(Planted(kind, at, stop))
        at = stop + APART


def _broken(
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


def _spread(rows: Floats) -> Floats:
    """Deviation of each channel: of the median deviation, or of all values where that is 0."""
    spread = np.zeros(rows.shape[1])
    for k in range(rows.shape[1]):
        seen = rows[~np.isnan(rows[:, k]), k]
        if seen.size:
            robust = NORMAL * float(np.median(np.abs(seen - np.median(seen))))
            spread[k] = robust or float(np.std(seen))
    return spread
