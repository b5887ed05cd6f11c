"""Would a baseline see anything? Faults are planted into the rows it was learned from, and counted.

No label is needed: a fault is seen if a row of it is above 1 where the same rows without it are
not. They are those of `stream/planting.py`, one channel each, every kind as often as the others.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from imdiffusion.data.frame import Frame
from imdiffusion.stream.lesson import Floats
from imdiffusion.stream.planting import KINDS, LENGTHS, broken, spread_of

FAULTS = 12
CONTEXT = 64  # rows before a fault that are scored with it
LONGEST = 4  # a fault is at most that part of the rows
BLIND = 0.5  # share of the faults, with less of which a baseline says that it is blind


@dataclass(frozen=True, slots=True)
class Sight:
    """How many planted faults were seen, of how many."""

    seen: int
    planted: int

    @property
    def blind(self) -> bool:
        """Whether too few were."""
        return self.seen < BLIND * self.planted

    def __str__(self) -> str:
        return f"sees {self.seen} of {self.planted} planted faults here"


def sight_of(scores: Callable[[Frame], Floats], frame: Frame) -> Sight:
    """Plant faults into rows (n, K) and score them; scores: of rows of their own, above 1 = seen.

    The same rows give the same faults. None are planted where no channel moves.
    """
    rows = np.where(frame.observed, frame.values, np.nan).astype(np.float64)
    spread = spread_of(rows)
    moving = np.flatnonzero(spread > 0)
    if not moving.size:
        return Sight(0, 0)
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
    return Sight(seen, FAULTS)
