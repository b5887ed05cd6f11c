"""Faults planted into rows that were normal: what a detector should find, without any label.

    spike    a channel jumps by 3 to 30 of its own deviations, for 1 to 5 rows
    shift    it stays off by 3 to 30 of them, for 10 to 60 rows
    freeze   it stands still at its last value, for 20 to 60 rows
    swap     it has the values of another time: each is usual, but not beside the other channels

A fault is in one channel, or in up to half of them.

Would a baseline see anything? Faults are put into the rows it was fitted on, one channel each,
every kind as often as the others, and counted: a fault is seen if a row of it is above 1 where the
same rows without it are not. No label is needed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from imdiffusion.arrays import Floats
from imdiffusion.data.frame import Frame

Kind = Literal["spike", "shift", "freeze", "swap"]
KINDS: tuple[Kind, ...] = ("spike", "shift", "freeze", "swap")
LENGTHS: dict[Kind, tuple[int, int]] = {
    "spike": (1, 5), "shift": (10, 60), "freeze": (20, 60), "swap": (20, 60),
}  # fmt: skip
SIZE = (3.0, 30.0)  # deviations, drawn evenly in their logarithm
FIRST = (5, 30)  # rows before the first fault
APART = 100  # rows from the end of a fault to the next, so that none lies in another's wake
NORMAL = 1.4826  # the standard deviation of a normal law, in median deviations


@dataclass(frozen=True, slots=True)
class InjectedFault:
    """A fault in rows [start, stop)."""

    kind: Kind
    start: int
    stop: int


def plant(rows: Floats, *, generator: np.random.Generator) -> tuple[Floats, list[InjectedFault]]:
    """A copy of rows (n, K) with faults, and where they are. NaN = not observed, and stays so."""
    changed = rows.copy()
    faults: list[InjectedFault] = []
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
        faults.append(InjectedFault(kind, at, stop))
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


FAULTS = 12
CONTEXT = 64  # rows before a fault that are scored with it
LONGEST = 4  # a fault is at most that part of the rows
BLIND = 0.5  # share of the faults, with less of which a baseline says that it is blind


@dataclass(frozen=True, slots=True)
class InjectionResult:
    """How many planted faults were seen, of how many."""

    seen: int
    planted: int

    @property
    def blind(self) -> bool:
        """Whether too few were."""
        return self.seen < BLIND * self.planted

    def __str__(self) -> str:
        return f"sees {self.seen} of {self.planted} planted faults here"


def injection_result(scores: Callable[[Frame], Floats], frame: Frame) -> InjectionResult:
    """Plant faults into rows (n, K) and score them; scores: of rows of their own, above 1 = seen.

    The same rows give the same faults. None are planted where no channel moves.
    """
    rows = np.where(frame.observed, frame.values, np.nan).astype(np.float64)
    spread = spread_of(rows)
    moving = np.flatnonzero(spread > 0)
    if not moving.size:
        return InjectionResult(0, 0)
    generator = np.random.default_rng([len(rows), rows.shape[1]])
    clean = np.nan_to_num(scores(frame))
    first, seen = min(CONTEXT, len(rows) // 2), 0
    for number in range(FAULTS):
        kind = KINDS[number % len(KINDS)]
        least, most = LENGTHS[kind]
        length = min(int(generator.integers(least, most + 1)), max(1, len(rows) // LONGEST))
        start = int(generator.integers(first, len(rows) - length + 1))
        stop, channel = start + length, int(generator.choice(moving))
        changed = rows.copy()
        changed[start:stop, channel] = broken(
            kind, rows[:, channel], start, stop, float(spread[channel]), generator
        )
        begin = max(0, start - CONTEXT)
        piece = replace(frame, values=changed, observed=~np.isnan(changed)).slice(begin, stop)
        found = np.nan_to_num(scores(piece))[start - begin :]
        seen += bool(found.max() > 1.0 >= clean[start:stop].max())
    return InjectionResult(seen, FAULTS)
