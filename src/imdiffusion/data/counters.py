"""Counters: channels that only ever rise, read as what they count a second.

A counter (requests so far, seconds of uptime, bytes sent) says nothing by its level, which leaves
the range of training by itself. Its rate does. A channel is one where, in training,

- no value is below zero, and no value is below the one before it but for resets: falls to at most
  `NEAR_ZERO` of the value before, at most one in `RISES` rises;
- there are at least `RISES` rises, some of them in each quarter of the rows;
- all rises together are at least `MANY_STEPS` times the median one, and no single one is more than
  `LARGEST` of them: a level that changed once is no counter.

A measurement that drifts upwards has noise, and so falls now and then; one that rises without a
single fall through all of training, as a smooth trend does, is read as a counter, and it is said.
The rate of a row is the rise since the last observed row over the time since then: a second where
rows have timestamps, a row where they have none. A reset leaves the row without a value; so is the
first row of a series. Whatever is said of such a channel, seen or expected, is a rate.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np

from imdiffusion.arrays import Flags, Floats, Ints, Reals
from imdiffusion.data.frame import Frame
from imdiffusion.errors import DataWarning
from imdiffusion.saved_state import State

RISES = 50
NEAR_ZERO = 0.05
MANY_STEPS = 20.0
LARGEST = 0.5
DIGITS = 6  # of a rate; what is beyond is the rounding of a large count


@dataclass(frozen=True, slots=True)
class Counters:
    """channels = names of those that count; period_ns = time between rows, None = rates a row."""

    channels: tuple[str, ...] = ()
    period_ns: int | None = None

    @classmethod
    def fit(cls, frame: Frame) -> Self:
        """The counters of a training frame."""
        names = [
            name
            for k, name in enumerate(frame.channels)
            if is_counter(frame.values[frame.observed[:, k], k])
        ]
        return cls(tuple(names)).of(frame)

    @classmethod
    def agreed(cls, several: Sequence[Self]) -> Self:
        """Those that are counters for more than half of the entities that share a network."""
        names = dict.fromkeys(name for one in several for name in one.channels)
        votes = {name: sum(name in one.channels for one in several) for name in names}
        return cls(tuple(name for name in names if 2 * votes[name] > len(several)))

    def of(self, frame: Frame) -> Self:
        """The same channels, at the period of this frame."""
        period = frame.period
        return replace(
            self, period_ns=None if period is None else int(period / np.timedelta64(1, "ns"))
        )

    def reader(self) -> Rates:
        """What turns a series into rates, piece by piece."""
        return Rates(self)

    def rates(self, frame: Frame) -> Frame:
        """The whole series with rates for counters."""
        return self.reader().push(frame)

    def say(self, where: str = "") -> None:
        """Say with DataWarning which channels are read as rates, if any are."""
        if not self.channels:
            return
        names = ", ".join(self.channels)
        several = len(self.channels) > 1
        a = "row" if self.period_ns is None else "second"
        warnings.warn(
            f"{len(self.channels)} channel{'s' if several else ''} only ever "
            f"rise{'' if several else 's'} in the training data{where}: {names}. "
            f"{'They are counters and are' if several else 'It is a counter and is'} read as "
            f'rates a {a}, in what is expected too; to keep the level, set counters = "level"',
            DataWarning,
            stacklevel=4,
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain facts, for a saved model."""
        return {"channels": list(self.channels), "period_ns": self.period_ns}

    @classmethod
    def from_dict(cls, facts: dict[str, Any] | None) -> Self:
        """What `to_dict` gave; of a model from before there were counters, none."""
        if facts is None:
            return cls()
        return cls(tuple(facts["channels"]), facts["period_ns"])


def is_counter(values: Reals) -> bool:
    """Whether a channel's observed values (n,), in the order of time, are those of a counter."""
    if len(values) <= RISES or values.min() < 0:
        return False
    steps = np.diff(values.astype(np.float64))
    rises, falls = steps > 0, np.flatnonzero(steps < 0)
    count = int(rises.sum())
    if count < RISES or len(falls) * RISES > count:
        return False
    if np.any(values[falls + 1] > NEAR_ZERO * values[falls]):
        return False
    if not all(quarter.any() for quarter in np.array_split(rises, 4)):
        return False
    upward = steps[rises]
    total = float(upward.sum())
    return bool(total >= MANY_STEPS * float(np.median(upward)) and upward.max() <= LARGEST * total)


class Rates:
    """Rates of a series that comes in pieces: pieces of any size give what the whole gives."""

    def __init__(self, counters: Counters) -> None:
        size = len(counters.channels)
        self.counters = counters
        self._value = np.full(size, np.nan)  # last observed value, NaN = none yet
        self._clock = np.zeros(size, np.int64)  # and when it was: ns, or the row's number
        self._count = 0  # rows that have come

    def push(self, frame: Frame) -> Frame:
        """The next rows (T, K) with rates for counters, in the frame's own order of channels."""
        counters = self.counters
        if not counters.channels:
            return frame
        clock = self._clock_of(frame)
        self._count += len(frame)
        place = {name: k for k, name in enumerate(frame.channels)}
        values, observed = frame.values.copy(), frame.observed.copy()
        for number, name in enumerate(counters.channels):
            k = place.get(name)
            if k is not None:
                rate = self._rate(number, frame.values[:, k], frame.observed[:, k], clock)
                values[:, k], observed[:, k] = rate, ~np.isnan(rate)
        return replace(frame, values=values, observed=observed)

    def _clock_of(self, frame: Frame) -> Ints:
        """When each row (T,) is: in ns, or its number where rates are a row."""
        numbers = np.arange(self._count, self._count + len(frame), dtype=np.int64)
        period = self.counters.period_ns
        if period is None:
            return numbers
        if frame.timestamps is None:
            return numbers * period
        return frame.timestamps.astype("datetime64[ns]").view(np.int64)

    def _rate(
        self,
        number: int,
        values: Reals,
        observed: Flags,
        clock: Ints,
    ) -> Floats:
        """The rates (T,) of one counter; NaN where there is none."""
        rates = np.full(len(values), np.nan)
        rows = np.flatnonzero(observed)
        if not len(rows):
            return rates
        seen, when = values[rows].astype(np.float64), clock[rows]
        before = np.concatenate([self._value[number : number + 1], seen[:-1]])
        since = np.concatenate([self._clock[number : number + 1], when[:-1]])
        elapsed = (when - since).astype(np.float64)
        if self.counters.period_ns is not None:
            elapsed /= 1e9
        rise = seen - before  # NaN for the first of a series
        known = (rise >= 0) & (elapsed > 0)
        rates[rows[known]] = _rounded(rise[known] / elapsed[known])
        self._value[number], self._clock[number] = seen[-1], when[-1]
        return rates

    # -- over a restart

    def to_state(self) -> State:
        """The last value of each counter, when it was, and how many rows have come."""
        arrays = {"value": self._value.copy(), "clock": self._clock.copy()}
        return State("rates", {"count": self._count}, arrays)

    @classmethod
    def from_state(cls, state: State, like: Rates) -> Rates:
        """Go on from a state; see `saved_state`. Raises ModelError."""
        rates, shape = cls(like.counters), like._value.shape
        rates._count = state.check("rates").fact("count")
        rates._value = state.array("value", np.float64, shape)
        rates._clock = state.array("clock", np.int64, shape)
        return rates


def _rounded(rates: Floats) -> Floats:
    """Rates to `DIGITS` digits, so that a steady one is steady however large its count is."""
    safe = np.where(rates > 0, rates, 1.0)
    scale = 10.0 ** (DIGITS - 1 - np.floor(np.log10(safe)))
    rounded: Floats = np.round(rates * scale) / scale
    return rounded
