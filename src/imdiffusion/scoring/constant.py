"""Channels that had one value only in normal rows, and whether a value is another than that."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from imdiffusion.scoring.run_length import runs_of

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]

LEAST_VALUES = 30  # fewer equal values do not make a constant
# What arithmetic in float64 does to the last bits of a number. Beside zero there is no size to
# compare with: what is left over where numbers of about a hundred cancel.
RELATIVE, ABSOLUTE = 1e-12, 1e-14
# One stretch in which a channel was elsewhere may be a fault of the training rows; more are a
# habit. Over all channels, so many such incidents may be faults.
SHARE_ASIDE = 0.02
MOST_INCIDENTS = 3


class Departure(NamedTuple):
    """The one stretch of training rows [first, last] in which a channel had another value."""

    channel: int
    first: int
    last: int
    value: float
    rows: int


def elsewhere(values: Floats, constant: Floats) -> Flags:
    """Which values are more than rounding away from the constant; False beside NaN."""
    apart: Flags = np.abs(values - constant) > RELATIVE * np.abs(constant) + ABSOLUTE
    return apart


def find_constants(values: Floats, observed: Flags) -> tuple[Floats, list[Departure]]:
    """The only value of each channel (K,), NaN where it had several; and what was set aside.

    values, observed (T, K). A channel that was elsewhere in one stretch of rows, 2 % of its own at
    most, counts as constant with that stretch set aside. Where such stretches lie at more than
    three times in the series, leaving is what these channels do: none of them is constant.
    """
    channels = values.shape[1]
    constant = np.full(channels, np.nan)
    departures: list[Departure] = []
    for k in range(channels):
        rows = np.flatnonzero(observed[:, k])
        if len(rows) < LEAST_VALUES:
            continue
        own = values[rows, k]
        usual = float(np.median(own))
        first, length = runs_of(elsewhere(own, np.float64(usual)))
        if len(first) > 1 or length.sum() > max(1.0, SHARE_ASIDE * len(own)):
            continue
        constant[k] = usual
        for start, count in zip(first.tolist(), length.tolist(), strict=True):
            span = rows[start], rows[start + count - 1]
            departures.append(Departure(k, int(span[0]), int(span[1]), float(own[start]), count))
    if _incidents(departures) > MOST_INCIDENTS:
        constant[[one.channel for one in departures]] = np.nan
        departures = []
    return constant, departures


def _incidents(departures: list[Departure]) -> int:
    """How many stretches of time the departures make, taking together those that overlap."""
    count, until = 0, -2
    for one in sorted(departures, key=lambda one: one.first):
        count += one.first > until + 1
        until = max(until, one.last)
    return count
