"""Hosts as a page would show them: an hour up to now, quiet and loud, with events."""

from __future__ import annotations

import time

import numpy as np

from imdiffusion.live.store.checkpoint import Checkpoint, Standing, Told
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

    def __init__(self, count=12, rows=60, channels=NAMES, *, now=None):
        self.rows, self.channels = rows, tuple(channels)
        self.now = time.time_ns() if now is None else now
        self.start = self.now - (rows - 1) * MINUTE
        self.names = [f"host-{number}" for number in range(count)]

    def time(self, row):
        return self.start + row * MINUTE

    def loud(self, number, row):
        return (number == 0 and row in LONG) or (number == 1 and row in SHORT)

    def told(self, number, row, *, score=None):
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

    def turn(self, number, rows, status, *, update=0, id=None):
        order = [2, 5, *(k for k in range(len(self.channels)) if k not in (2, 5))]
        middle = rows[len(rows) // 2]
        seen, expected = (part[order].tolist() for part in self.told(number, middle).cells[:2])
        shares = np.array([0.7, 0.2] + [0.1 / (len(order) - 2)] * (len(order) - 2))
        return EventRecord(
            id or f"event-{number}", self.names[number], status, update, self.time(rows[0]),
            None if status == "ongoing" else self.time(rows[-1] + 1), self.time(middle),
            6.5, "fast", "m1", tuple(self.channels[k] for k in order), tuple(shares.tolist()),
            tuple(expected), tuple(seen),
        )  # fmt: skip

    def write(self, store, *, details=True):
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

    def arrive(self, store, row, *, scores):
        """One more row of some hosts: {number: score}."""
        every = [self.told(number, row, score=score) for number, score in scores.items()]
        store.write(Checkpoint(told=every), now=self.time(row))
