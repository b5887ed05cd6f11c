"""What readers of the live state get: an entity as it stands, its lane, its rows in detail."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from imdiffusion.stream.held import moved, places_of


@dataclass(frozen=True, slots=True)
class EntityNow:
    """An entity as it stands: its newest score on arrival, when it was heard, events open.

    timestamp, interval, heard in ns; timestamp None = no score yet, interval None = unknown.
    note: how many planted faults it sees, where a baseline speaks.
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
    note: str = ""

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
    observed, or not known to the model that judged the row.
    """

    timestamps: NDArray[np.int64]
    channels: tuple[str, ...]
    cells: NDArray[np.float32]


def aligned(rows: Sequence[tuple[int, str, bytes]], channels: tuple[str, ...]) -> Details:
    """Kept rows as details of these channels. rows: time, names of its channels (JSON), cells."""
    parts = [np.empty((0, 4, len(channels)), np.float32)]
    for text, group in groupby(rows, key=lambda row: row[1]):
        names = json.loads(text)
        cells = np.frombuffer(b"".join(row[2] for row in group), "<f4").reshape(-1, 4, len(names))
        if tuple(names) != channels:
            cells = moved(cells, places_of(channels, names))
        parts.append(cells.astype(np.float32))
    times = np.array([row[0] for row in rows], np.int64)
    return Details(times, channels, np.concatenate(parts))
