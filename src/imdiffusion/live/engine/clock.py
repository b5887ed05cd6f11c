"""Time as live detection reads it: the wall's for what is recorded, a steady one for waiting.

A wall clock jumps, by an hour when it is corrected. Nothing here waits by it.
"""

from __future__ import annotations

import time
from typing import Protocol

import numpy as np


class Clock(Protocol):
    """Two readings: `wall` in ns since the epoch, UTC; `steady` in seconds, never going back."""

    def wall(self) -> int:
        """Nanoseconds since the epoch, UTC."""

    def steady(self) -> float:
        """Seconds since some moment."""


class SystemClock:
    """The clocks of this machine."""

    def wall(self) -> int:
        """Nanoseconds since the epoch, UTC."""
        return time.time_ns()

    def steady(self) -> float:
        """Seconds since some moment."""
        return time.monotonic()


class Backoff:
    """When to try again: 1, 2, 4, ... seconds later, at most `most`, each cut by up to a half.

    The cut is drawn, so that many who lost the same far side do not come back all at once.
    """

    def __init__(
        self, generator: np.random.Generator, *, first: float = 1.0, most: float = 60.0
    ) -> None:
        self._generator, self._first, self._most = generator, first, most
        self._tries, self._until = 0, float("-inf")

    @property
    def tries(self) -> int:
        """How often in a row it has failed; 0 = it works."""
        return self._tries

    def ready(self, now: float) -> bool:
        """Whether the time to try has come. now: steady seconds."""
        return now >= self._until

    def failed(self, now: float) -> float:
        """It failed: seconds until the next try."""
        wait = min(self._most, self._first * 2.0 ** min(self._tries, 30))
        wait *= float(self._generator.uniform(0.5, 1.0))
        self._tries, self._until = self._tries + 1, now + wait
        return wait

    def worked(self) -> None:
        """It worked: the next failure counts as the first."""
        self._tries, self._until = 0, float("-inf")
