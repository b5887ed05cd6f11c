"""Records as JSON: what every sink that writes text sends, and what the live state keeps.

A record becomes one flat object, `kind` first. Numbers that JSON does not know (NaN, infinities)
are null. A time stands twice: as nanoseconds since the epoch under its own name (an integer, and
the one to compute with), and as ISO 8601 in UTC under `<name>_iso` (exact in every JSON reader,
also in those that keep integers as doubles). Read back, null is NaN.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa

from imdiffusion.data.columns import Place
from imdiffusion.data.timestamps import NANOSECONDS, parse_times, text_of, unit_of
from imdiffusion.durations import DAY_S, SECOND_NS
from imdiffusion.errors import DataError
from imdiffusion.records import STATES, EventRecord, Record, ScoreRecord

UNITS = ("auto", *NANOSECONDS)
# The usual form, read without Arrow; any other takes the general way.
_ISO = re.compile(
    r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(?:Z|z|([+-]\d\d):?(\d\d))?"
)
_WHOLE = re.compile(r"[+-]?\d{1,19}")
_DAY = re.compile(r"(19|20)\d{6}")  # 20240131 is a day, unless a unit says that it is a number
_LONGEST = 100  # characters: what was read is remembered, and must not fill the memory
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_YEARS = (1678, 2261)  # what 64 bits of nanoseconds hold


def instant_of(value: object, unit: str = "auto") -> int:
    """Nanoseconds since the epoch, UTC, of ISO 8601 text or of a number in `unit`.

    Without a zone means UTC; "auto" goes by the number's own magnitude. Raises DataError.
    """
    if isinstance(value, str):
        if len(value) > _LONGEST:
            raise DataError(f"the timestamp has {len(value)} characters")
        return _of_text(value, unit)
    if isinstance(value, bool) or not isinstance(value, int | float):
        shown = "missing" if value is None else f"{str(value)[:60]!r}, no timestamp"
        raise DataError(f"the timestamp is {shown}")
    if isinstance(value, int):
        return _of_whole(value, unit)
    return _general(pa.array([value]), unit)


def _of_whole(value: int, unit: str) -> int:
    size = float(abs(value))  # as `parse_times` has it, so that the same number is the same time
    if unit == "auto":
        unit = unit_of(size)
    if size * NANOSECONDS[unit] >= 2.0**63:
        raise DataError("the timestamp is outside the years 1678 to 2261")
    return value * NANOSECONDS[unit]


@lru_cache(maxsize=4096)  # rows of one time come together: many entities, or many channels
def _of_text(text: str, unit: str) -> int:
    found = _ISO.fullmatch(text)
    if found is None:
        if _WHOLE.fullmatch(text) and not (unit == "auto" and _DAY.fullmatch(text)):
            return _of_whole(int(text), unit)
        return _general(pa.array([text]), unit)
    day, clock, fraction, hours, minutes = found.groups()
    zone = f"{hours}:{minutes}" if hours else "+00:00"
    try:
        when = datetime.fromisoformat(f"{day}T{clock}{zone}")
    except ValueError as error:
        raise DataError(f"{text!r} is not a timestamp: {error}") from error
    if not _YEARS[0] <= when.year <= _YEARS[1]:
        raise DataError(f"the timestamp {text!r} is outside the years 1678 to 2261")
    span = when - _EPOCH
    return (span.days * DAY_S + span.seconds) * SECOND_NS + int((fraction or "0").ljust(9, "0"))


def _general(column: Any, unit: str) -> int:
    value = column[0].as_py()
    if unit == "auto" and not (isinstance(value, str) and _DAY.fullmatch(value)):
        with suppress(ValueError):  # text that is no number has no unit
            unit = unit_of(abs(float(value)))
    try:
        times = parse_times(column, place=Place(), name="timestamp", unit=unit)
    except DataError as error:
        # The row is named by the caller, in the words of its source.
        raise DataError(error.what.partition(": ")[2] or error.what) from error
    return int(times.values.astype("datetime64[ns]").view(np.int64)[0])


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
