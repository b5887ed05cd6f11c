"""The share of rows in alarm, and how well it is known: rows depend on their neighbours.

Alarms come in runs, so n rows say less than n independent ones would. They are cut into blocks of
at least `LEAST_BLOCK` rows; the variance of the count in a block, over that of independent rows,
is the design effect, and n over it is how many independent rows they are worth. Of that many the
interval is Wilson's (Journal of the American Statistical Association 22, 1927), which has a width
even where no row was in alarm.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from imdiffusion.scoring.edges import flag_runs
from imdiffusion.scoring.joining import APART

LEAST_BLOCK = 2 * APART
BLOCKS = 100  # at most
SURE = 1.959964  # standard deviations on either side: 95 %


class Share(NamedTuple):
    """A share with its 95 % interval; worth: how many independent rows say so."""

    share: float
    low: float
    high: float
    worth: float


def alarm_share(alarm: NDArray[np.bool_], rows: int) -> Share:
    """The share of `rows` rows with a score that is in alarm; alarm (T,) of all rows in order.

    The effect is at least what the lengths of runs say; where there is no alarm at all, rows that
    are `APART` rows apart are taken for independent.

    >>> alarm = np.zeros(1000, bool)
    >>> alarm[100:110] = True
    >>> found = alarm_share(alarm, 1000)
    >>> found.share, round(found.low, 4), round(found.high, 4), round(found.worth)
    (0.01, 0.0018, 0.0549, 99)
    """
    count = int(alarm.sum())
    share = count / max(rows, 1)
    effect = max(_design_effect(alarm), _run(alarm)) if count else float(APART)
    worth = max(rows / effect, 1.0)
    square = SURE**2
    middle = (share + square / (2 * worth)) / (1 + square / worth)
    spread = (share * (1 - share) / worth + square / (4 * worth**2)) ** 0.5
    half = SURE * spread / (1 + square / worth)
    return Share(share, max(0.0, middle - half), min(1.0, middle + half), worth)


def _run(alarm: NDArray[np.bool_]) -> float:
    """The mean length of the run that a row in alarm lies in: the design effect of rare runs."""
    lengths = np.array([stop - start for start, stop in flag_runs(alarm)], np.float64)
    return float(np.square(lengths).sum() / lengths.sum())


def _design_effect(alarm: NDArray[np.bool_]) -> float:
    """Variance of the alarms in a block of rows over that of independent rows, 1 at least."""
    size = max(LEAST_BLOCK, len(alarm) // BLOCKS)
    blocks = len(alarm) // size
    if blocks < 2:
        return 1.0
    counts = alarm[: blocks * size].reshape(blocks, size).sum(axis=1)
    share = float(counts.mean()) / size
    if not 0.0 < share < 1.0:
        return 1.0
    return float(np.clip(counts.var(ddof=1) / (size * share * (1 - share)), 1.0, size))
