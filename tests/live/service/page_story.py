"""Hosts as a page would show them: an hour up to now, quiet and loud, with events."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import numpy as np

from imdiffusion.live.store.inserts import Checkpoint, Standing, Told
from imdiffusion.live.store.live_state import Store
from imdiffusion.records import EventRecord, ScoreRecord

MINUTE = 60 * 1_000_000_000
BAD = "<img src=x onerror=\"document.title='owned'\">"
NAMES = (
    "cpu user", "cpu system", "memory used", "disk read", "disk write", "net in", "net out",
    "load", "processes", "swap", "requests", BAD,
)  # fmt: skip
LONG, SHORT = range(20, 32), range(56, 60)  # rows of an event that is over and of one that lasts


class Story:
    """Rows of `count` hosts, one a minute, the last one just now; host-0 and host-1 have events."""

    def __init__(
        self,
        count: int = 12,
        rows: int = 60,
        channels: Sequence[str] = NAMES,
        *,
        now: int | None = None,
    ) -> None:
        self.rows, self.channels = rows, tuple(channels)
        self.now = time.time_ns() if now is None else now
        self.start = self.now - (rows - 1) * MINUTE
        self.names = [f"host-{number}" for number in range(count)]

    def time(self, row: int) -> int:
        return self.start + row * MINUTE

    def loud(self, number: int, row: int) -> bool:
        return (number == 0 and row in LONG) or (number == 1 and row in SHORT)

    def told(self, number: int, row: int, *, score: float | None = None) -> Told:
        width = len(self.channels)
        wave = np.sin(row / 7 + np.arange(width) + number)
        expected = 50 + 20 * wave * np.linspace(1, 0.2, width)
        seen = expected + np.sin(row * 1.7 + np.arange(width)) * 2
        loud = self.loud(number, row) or (score or 0) > 1
        if loud:
            seen[[2, 5]] += (40, 15)
        if row % 13 == 4:
            seen[3] = np.nan
        value = 4.0 + row % 5 if loud else 0.4 + 0.3 * abs(np.sin(row + number))
        value = value if score is None else score
        record = ScoreRecord(
            self.names[number], self.time(row), "online", float(value),
            ("ready", "degraded", "warming")[0 if number < 9 else number % 3], "fast", "m1",
            (self.channels[2], self.channels[5]) if loud else (), (0.7, 0.2) if loud else (),
        )  # fmt: skip
        cells = np.stack([seen, expected, expected - 5, expected + 5]).astype(np.float32)
        return Told(record, self.channels, cells)

    def turn(
        self, number: int, rows: range, status: str, *, update: int = 0, id: str | None = None
    ) -> EventRecord:
        order = [2, 5, *(k for k in range(len(self.channels)) if k not in (2, 5))]
        middle = rows[len(rows) // 2]
        cells = self.told(number, middle).cells
        assert cells is not None
        seen, expected = (part[order].tolist() for part in cells[:2])
        shares = np.array([0.7, 0.2] + [0.1 / (len(order) - 2)] * (len(order) - 2))
        return EventRecord(
            id or f"event-{number}", self.names[number], status, update, self.time(rows[0]),
            None if status == "ongoing" else self.time(rows[-1] + 1), self.time(middle),
            6.5, "fast", "m1", tuple(self.channels[k] for k in order), tuple(shares.tolist()),
            tuple(expected), tuple(seen),
        )  # fmt: skip

    def write(self, store: Store, *, details: bool = True) -> None:
        every = [self.told(n, row) for row in range(self.rows) for n in range(len(self.names))]
        if not details:
            every = [Told(one.record, one.channels) for one in every]
        standing = {name: Standing(MINUTE, self.now, "ready") for name in self.names[:9]}
        store.write(Checkpoint(told=every, standing=standing), now=self.now)
        store.write(
            Checkpoint(
                updates=[
                    self.turn(0, LONG, "ongoing"), self.turn(0, LONG, "resolved", update=1),
                    self.turn(1, SHORT, "ongoing"),
                ],
            ),
            now=self.now,
        )  # fmt: skip

    def arrive(self, store: Store, row: int, *, scores: Mapping[int, float]) -> None:
        """One more row of some hosts: {number: score}."""
        every = [self.told(number, row, score=score) for number, score in scores.items()]
        store.write(Checkpoint(told=every), now=self.time(row))
