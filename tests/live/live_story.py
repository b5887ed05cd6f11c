"""Scores and turns of made-up hosts, as a live engine would hand them to the store."""

import math

import numpy as np

from imdiffusion.live.store.inserts import Checkpoint, Standing, Told
from imdiffusion.records import EventRecord, ScoreRecord

MINUTE = 60 * 1_000_000_000
START = 1_700_000_400 * 1_000_000_000  # at a full ten minutes
CHANNELS = ("cpu", "memory", "disk")


def score_of(row):
    """A wave with a spike at every 50th row, and nothing observed at every 70th."""
    if row % 70 == 7:
        return math.nan
    return 3.0 + row / 1000 if row % 50 == 9 else 0.5 + 0.3 * math.sin(row)


def told(entity, row, *, mode="online", model="m1", score=None, step=MINUTE):
    value = score_of(row) if score is None else score
    loud = value > 1.0
    record = ScoreRecord(
        entity, START + row * step, mode, value, "ready", "zscore", model,
        ("disk", "cpu") if loud else (), (0.75, 0.25) if loud else (),
    )  # fmt: skip
    cells = np.arange(12, dtype=np.float32).reshape(4, 3) + row
    cells[0, 1] = np.nan
    return Told(record, CHANNELS, cells)


def turn(id, entity, number, status, *, row=10, end=None, channels=("disk", "cpu")):
    return EventRecord(
        id, entity, status, number, START + row * MINUTE,
        None if end is None else START + end * MINUTE, START + row * MINUTE, 3.5, "zscore", "m1",
        channels, (0.75, 0.25), (1.0, math.nan), (2.0, math.nan),
    )  # fmt: skip


def rows(entities, first, last, **options):
    """A checkpoint of rows [first, last) of each entity."""
    return Checkpoint(
        told=[told(name, row, **options) for row in range(first, last) for name in entities],
        standing={name: Standing(MINUTE, START + last * MINUTE, "ready") for name in entities},
    )
