"""Records as JSON text and back. NaN and infinities are null there, NaN on the way back."""

from __future__ import annotations

import json
import math
from typing import Any

from imdiffusion.connectors.record_text import plain
from imdiffusion.records import STATES, EventRecord, Record, ScoreRecord


def number(value: float | None) -> float:
    """NaN for null."""
    return math.nan if value is None else float(value)


def numbers(values: list[float | None]) -> tuple[float, ...]:
    """NaN for each null."""
    return tuple(number(value) for value in values)


def record_text(record: Record) -> str:
    """One line of JSON, `kind` first."""
    return json.dumps(plain(record.to_dict()), separators=(",", ":"))


def record_of(text: str) -> Record:
    """The record that `record_text` wrote."""
    facts: dict[str, Any] = json.loads(text)
    kind = facts.pop("kind")
    facts["score"] = number(facts["score"])
    facts["channels"] = tuple(facts["channels"])
    facts["kinds"] = tuple(facts.get("kinds", ()))  # records from before have none
    for name in ("shares", "expected", "seen"):
        if name in facts:
            facts[name] = numbers(facts[name])
    return ScoreRecord(**facts) if kind == "score" else EventRecord(**facts)


def event_of(text: str) -> EventRecord:
    """`record_of` for the text of an event's turn."""
    record = record_of(text)
    assert isinstance(record, EventRecord)  # noqa: S101  turns hold nothing else
    return record


def score_of(entity: str, moment: str, row: Any) -> ScoreRecord:
    """The score in a row of the live state: time, score, state, detector, model, why."""
    timestamp, score, state, detector, model, why = row
    channels, shares, *kinds = json.loads(why) if why else ([], [])
    return ScoreRecord(
        entity, timestamp, moment, number(score), STATES[state], detector, model,
        tuple(channels), numbers(shares), tuple(kinds[0]) if kinds else (),
    )  # fmt: skip
