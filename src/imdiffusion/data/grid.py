"""How many periods lie between one timestamp and the next, in spite of jitter and drift."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Share of a row's offset that moves the grid. It lets the grid follow a clock that drifts, by up
# to 5 % of a period a row, and averages jitter over some ten rows.
FOLLOW = 0.1
_PHASE_ROWS = 32  # rows whose mean offset says where the grid lies, at the start and after a gap
_CLEAR = 0.3  # how far they must agree (1 = all have one offset)


@dataclass(frozen=True, slots=True)
class Walk:
    """steps[i] >= 1 slots from row i to row i + 1, (T - 1,); `odd` steps are not one clear slot."""

    steps: NDArray[np.int64]
    odd: int


def walk(gaps: NDArray[np.float64]) -> Walk:
    """Slots between neighbours whose distances, in periods, are `gaps` (T - 1,).

    Each row goes to the nearest slot of a grid of one period that follows the rows: slot numbers
    always grow, however close two rows are. Small drift never adds up to a slot.
    """
    if bool(np.all(np.abs(gaps - 1) <= FOLLOW / 2)):  # what the loop below would find
        return Walk(np.ones(len(gaps), dtype=np.int64), 0)
    steps = np.empty(len(gaps), dtype=np.int64)
    odd = 0
    lag = _lag(gaps, 0, 0.0)  # how far, in periods, the last row lies behind its slot
    for row, gap in enumerate(gaps.tolist()):
        position = lag + gap
        step = int(position + 0.5)
        odd += step != 1
        step = max(step, 1)
        steps[row] = step
        lag = min(max(position - step, -0.5), 0.5) * (1 - FOLLOW)
        if step > 1:  # after a gap the rows may lie elsewhere between the slots
            lag = _lag(gaps, row + 1, lag)
    return Walk(steps, odd)


def _lag(gaps: NDArray[np.float64], row: int, otherwise: float) -> float:
    """Offset of `row` from the grid that the rows after it suggest, by their circular mean."""
    offsets = np.cumsum(gaps[row : row + _PHASE_ROWS - 1])
    mean = (1 + np.exp(2j * np.pi * offsets).sum()) / (1 + len(offsets))
    if len(offsets) < 2 or abs(mean) < _CLEAR:
        return otherwise
    return -float(np.angle(mean)) / (2 * np.pi)


def spread(
    instants: NDArray[np.int64], put_in: NDArray[np.int64], *, skip: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Put `put_in[i]` rows between rows i and i + 1, evenly in time; leave out the first `skip`.

    Returns, for each row that comes out, the row it was (counted after the skipped ones; -1 for
    one put in) and its time in ns.
    """
    before = np.repeat(np.arange(len(put_in)), put_in + 1)  # row at or before each row out
    first = np.concatenate([[0], np.cumsum(put_in + 1)])  # row out of each row
    inside = np.arange(len(before)) - first[before]
    spacing = np.diff(instants) // (put_in + 1)
    times = np.append(instants[before] + inside * spacing[before], instants[-1])
    source = np.append(np.where(inside == 0, before, -1), len(instants) - 1)
    source = np.where(source >= 0, source - skip, -1)
    return source[skip:], times[skip:]
