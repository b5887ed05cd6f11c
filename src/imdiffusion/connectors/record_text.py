"""A record as JSON: what every sink that writes text hands on.

A record becomes one flat object, `kind` first. Numbers that JSON does not know (NaN, infinities)
are null. A time stands twice: as nanoseconds since the epoch under its own name (an integer, and
the one to compute with), and as ISO 8601 in UTC under `<name>_iso` (exact in every JSON reader,
also in those that keep integers as doubles).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from imdiffusion.data.timestamps import text_of
from imdiffusion.records import Record

Key = tuple[object, ...]

_TIMES = ("timestamp", "start", "end", "peak")
_KEYS = {"score": ("entity", "timestamp", "moment", "model"), "event": ("id", "turn")}


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
