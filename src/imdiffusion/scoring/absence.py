"""Absence is news: a channel that stops coming, freezes, goes quiet, or leaves its only value.

Each verdict needs only the rows up to its own, so scores at arrival and in hindsight agree, and
what is kept between rows does not grow with their number.

The promise: of rows like those of training, a share of `alarm_rate` at most is news. Missing,
frozen, quiet and "all channels missing" have a quarter of it each, which is divided over the
channels. Leaving a constant stands outside: of a channel that had one value in n rows nothing more
is known than that it leaves in about 1 / n of them, and one row of it is news at every rate.
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
