"""Absence is news: a channel that stops coming, freezes, goes quiet, or leaves its only value.

Each verdict needs only the rows up to its own, so scores online and offline agree, and
what is kept between rows does not grow with their number.

The promise: of rows like those of training, a share of `alarm_rate` at most is news. The kinds
missing, frozen, quiet and left constant, and "all channels missing", have a fifth of it each, which
is divided over the channels that ever had a value. Run lengths are taken to have no memory beyond
what training shows; where gaps have a heavier tail (lognormal), two to four times the promise was
measured. Leaving a constant stands outside where it never happened in training: of a channel that
had one value in n rows nothing more is known than that it leaves in about 1 / n of them, and one
row of it is news at every rate. Where it happened now and then, staying away for longer is news.

Not seen: a channel that comes ever more rarely without one long gap; a still channel whose usual
runs are as long as the fault; quiet channels of fewer than 50 distinct values, or that rest at one
value for 32 values in training, for these are often as good as still by nature.
"""

from __future__ import annotations

from imdiffusion.scoring.absence_fit import SetAside
from imdiffusion.scoring.absence_kinds import (
    FROZEN,
    KINDS,
    LEFT_CONSTANT,
    MISSING,
    NOTHING,
    QUIET,
    describe,
)
from imdiffusion.scoring.absence_model import AbsenceModel
from imdiffusion.scoring.absence_monitor import AbsenceMonitor, AbsenceRun

__all__ = [
    "FROZEN",
    "KINDS",
    "LEFT_CONSTANT",
    "MISSING",
    "NOTHING",
    "QUIET",
    "AbsenceModel",
    "AbsenceMonitor",
    "AbsenceRun",
    "SetAside",
    "describe",
]
