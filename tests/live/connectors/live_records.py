"""Records of live detection, as short as a test wants them."""

from __future__ import annotations

from dataclasses import replace

from imdiffusion.records import EventRecord, ScoreRecord

SECOND = 1_000_000_000


def score(seconds: float, value: float = 0.5, **changes) -> ScoreRecord:
    record = ScoreRecord(
        entity="web-1",
        timestamp=round(seconds * SECOND),
        mode="online",
        score=value,
        state="ready",
        detector="fast",
        model="m1",
    )
    return replace(record, **changes)


def event(start: float, end: float | None = None, **changes) -> EventRecord:
    record = EventRecord(
        id="e1",
        entity="web-1",
        status="ongoing" if end is None else "resolved",
        update=0 if end is None else 1,
        start=round(start * SECOND),
        end=None if end is None else round(end * SECOND),
        peak=round(start * SECOND),
        score=3.25,
        detector="fast",
        model="m1",
        channels=("cpu", "memory"),
        shares=(0.7, 0.3),
        expected=(10.0, 4.0),
        seen=(95.5, float("nan")),
    )
    return replace(record, **changes)
