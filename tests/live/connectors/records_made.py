"""Records to send: ordinary ones, and ones with what is awkward to write."""

from __future__ import annotations

import math

from imdiffusion.records import EventRecord, Record, ScoreRecord

START = 1_700_000_000_123_456_789


def score(i: int, entity: str = "db1", value: float = 0.5) -> ScoreRecord:
    return ScoreRecord(entity, START + i * 10**9, "online", value, "ready", "fast", "m1")


def event(turn: int, entity: str = "db1", name: str = "e1") -> EventRecord:
    return EventRecord(
        id=name,
        entity=entity,
        status="ongoing" if turn == 0 else "resolved",
        update=turn,
        start=START,
        end=None if turn == 0 else START + 60 * 10**9,
        peak=START,
        score=3.5,
        detector="fast",
        model="m1",
        channels=("cpu", 'a"b\n<b>'),
        shares=(0.75, 0.25),
        expected=(1.0, math.nan),
        seen=(9.0, math.inf),
        kinds=("", "left_constant"),
        reason='cpu 9 where 1 was expected; a"b\n<b> away from its constant value',
    )


def few() -> list[Record]:
    """Two of each kind, one score of them unknown."""
    return [score(0), score(1, value=math.nan), event(0), event(1)]
