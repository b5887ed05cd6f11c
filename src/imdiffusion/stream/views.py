"""What readers of the live state get: an entity as it stands, its lane, its rows in detail."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class EntityNow:
    """An entity as it stands: its newest score on arrival, when it was heard, events open.

    timestamp, interval, heard in ns; timestamp None = no score yet, interval None = unknown.
    """

    name: str
    state: str
    timestamp: int | None
    score: float
    detector: str
    model: str
    interval: int | None
    heard: int
    open_events: int

    def lag(self, now: int) -> int | None:
        """Nanoseconds from its newest scored row to now."""
        return None if self.timestamp is None else now - self.timestamp


@dataclass(frozen=True, slots=True)
class Lane:
    """The highest score of each bucket, oldest first; buckets without a row are left out.

    start: int64 (n,) ns. score: float64 (n,), NaN = rows without a score. alarms: int64 (n,) rows
    above 1. width: ns of a bucket.
    """

    start: NDArray[np.int64]
    score: NDArray[np.float64]
    alarms: NDArray[np.int64]
    width: int


@dataclass(frozen=True, slots=True)
class Details:
    """Rows of an entity as they were and as they were expected.

    timestamps: int64 (n,). cells: float32 (n, 4, K), seen, expected, lower, upper; NaN = not
    observed, or not of the model whose `channels` these are.
    """

    timestamps: NDArray[np.int64]
    channels: tuple[str, ...]
    cells: NDArray[np.float32]
