"""Records as JSON: what every sink that writes text sends, and what the live state keeps.

A record becomes one flat object, `kind` first. Numbers that JSON does not know (NaN, infinities)
are null. A time stands twice: as nanoseconds since the epoch under its own name (an integer, and
the one to compute with), and as ISO 8601 in UTC under `<name>_iso` (exact in every JSON reader,
also in those that keep integers as doubles). Read back, null is NaN.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from imdiffusion.data.timestamps import text_of
from imdiffusion.records import STATES, EventRecord, Record, ScoreRecord

Key = tuple[object, ...]

_TIMES = ("timestamp", "start", "end", "peak")
_KEYS = {"score": ("entity", "timestamp", "mode", "model"), "event": ("id", "update")}


def plain(value: Any) -> Any:
    """The same facts as JSON can say them: no NaN, no infinity, lists for tuples."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items()}
    return [plain(one) for one in value] if isinstance(value, tuple | list) else value


def json_of(record: Record) -> dict[str, Any]:
    """The record as a dict of JSON values: no NaN, lists for tuples, times in both forms."""
    found: dict[str, Any] = {}
    for name, value in record.to_dict().items():
        found[name] = plain(value)
        if name in _TIMES:
            instant = None if value is None else text_of(np.datetime64(value, "ns"))
            found[f"{name}_iso"] = instant
    return found


def line_of(record: Record) -> bytes:
    """The record as one line of JSON in UTF-8, with its end of line.

    A lone surrogate, which UTF-8 cannot carry, is written as JSON's own escape of it.
    """
    text = json.dumps(json_of(record), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode("utf-8", "backslashreplace") + b"\n"


def key_of(record: Record) -> Key:
    """What makes the record one fact: its kind, and its `key`."""
    return (record.to_dict()["kind"], *record.key)


def key_in(row: Mapping[str, object]) -> Key | None:
    """`key_of` of a record that was read back from JSON; None for any other object."""
    names = _KEYS.get(str(row.get("kind")))
    if names is None or any(name not in row for name in names):
        return None
    return (row["kind"], *(row[name] for name in names))


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
    """`record_of` for the text of an event's update."""
    record = record_of(text)
    assert isinstance(record, EventRecord)  # noqa: S101  updates hold nothing else
    return record


def score_of(entity: str, mode: str, row: Any) -> ScoreRecord:
    """The score in a row of the live state: time, score, state, detector, model, why."""
    timestamp, score, state, detector, model, why = row
    channels, shares, *kinds = json.loads(why) if why else ([], [])
    return ScoreRecord(
        entity, timestamp, mode, number(score), STATES[state], detector, model,
        tuple(channels), numbers(shares), tuple(kinds[0]) if kinds else (),
    )  # fmt: skip
