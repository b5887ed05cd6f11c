"""Fault or habit: whether what a few channels did now and then is what all their like do."""

from __future__ import annotations

import numpy as np

from imdiffusion.arrays import Ints

MOST_INCIDENTS = 3  # at so many times in the training rows something may have been at fault
HABIT_SHARE = 0.2  # of the channels do it: then the others will
_TIMES = 50  # into which the training rows are divided


def is_habit(starts: list[Ints], rows: int) -> bool:
    """Whether runs that begin at `starts`, one array for each channel, are a habit of them all.

    rows: of training. What begins in many channels at one time is one incident.
    """
    some = [first for first in starts if len(first)]
    if not some or len(some) < HABIT_SHARE * len(starts):
        return False
    times = np.concatenate(some) * _TIMES // max(rows, 1)
    return len(np.unique(times)) > MOST_INCIDENTS
