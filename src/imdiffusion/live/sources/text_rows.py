"""Rows as they come, one JSON object or CSV line each, gathered into frames of their entities.

A row is wide, {"entity": "db1", "timestamp": ..., "cpu": 1.5, "memory": 3}, or long, {"entity":
"db1", "timestamp": ..., "channel": "cpu", "value": 1.5}: long if it has `channel` and `value` and
nothing else beside entity and timestamp. What cannot be used is skipped and named, the smallest
piece of it: a value, else the row.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from imdiffusion.data.csv_source import MISSING
from imdiffusion.data.frame import Frame
from imdiffusion.data.layout import CHANNEL, VALUE
from imdiffusion.errors import ConfigError, DataError
from imdiffusion.live.connection.protocols import Batch
from imdiffusion.live.connection.record_json import UNITS, instant_of
from imdiffusion.schema import one_of

_LONGEST = 1_000  # characters of a name
# A frame is a whole matrix: rows with ever other channels would make one much larger than what
# they hold. Beyond this many cells, and so many times the values, a new frame begins.
_SPARE, _SPARSE = 65_536, 8
_WORDS = {"true": 1.0, "false": 0.0}


@dataclass(frozen=True, slots=True)
class RowForm:
    """How rows name their parts.

    entity, timestamp: the names of those two. unit: of timestamps given as numbers: s, ms, us, ns,
    or "auto", by the magnitude of each. ignore: names that are no channels.
    """

    entity: str = "entity"
    timestamp: str = "timestamp"
    unit: str = "auto"
    ignore: frozenset[str] = frozenset()

    @classmethod
    def of_options(
        cls, *, entity: str, timestamp: str, unit: str, ignore: Sequence[str]
    ) -> RowForm:
        """From a source's options. Raises ConfigError."""
        one_of("unit", unit, UNITS)
        if not (entity and timestamp) or entity == timestamp:
            raise ConfigError(
                f"entity and timestamp are called {entity!r} and {timestamp!r}",
                remedy="Give each a name of its own.",
            )
        return cls(entity, timestamp, unit, frozenset(ignore))


class Gathering:
    """The rows of one batch. `rejected` has one sentence for each piece that was passed over.

    Rows of an entity that share a timestamp are one row: what one leaves open the others fill, and
    of two values for one channel the later stays, which is told where they differ. So the frames
    do not depend on the order of rows, as long as no two of them contradict each other.
    """

    def __init__(self, form: RowForm) -> None:
        self.form = form
        self.rejected: list[str] = []
        self.count = 0  # rows offered, good or bad
        self._entities: dict[str, dict[int, dict[str, float]]] = {}

    def reject(self, where: str, why: str) -> None:
        """Tell of one piece of input that was passed over."""
        self.rejected.append(f"{where}: {why}")

    def add_json(self, text: bytes, where: str, entity: str) -> None:
        """One JSON object; `entity` is whose row it is if it does not say."""
        try:
            row = json.loads(text.decode("utf-8-sig"))
        except UnicodeDecodeError as error:
            self._broken(where, f"not UTF-8 ({error.reason})")
        except RecursionError:
            self._broken(where, "JSON that is nested too deeply")
        except ValueError as error:
            self._broken(where, f"broken JSON: {error}")
        else:
            if isinstance(row, dict):
                self.add(row, where, entity)
            else:
                self._broken(where, "not a JSON object")

    def add(self, row: Mapping[str, object], where: str, entity: str) -> None:
        """One row of JSON values, or of texts as CSV has them."""
        self.count += 1
        form = self.form
        try:
            named = row.get(form.entity)
            whose = _name_of(entity if named is None else named, "entity")
            instant = instant_of(row.get(form.timestamp), form.unit)
            parts = self._channels(row)
        except DataError as error:
            self.reject(where, str(error))
            return
        values, wrong = {}, []
        for name, value in parts.items():
            try:
                values[_name_of(name, "channel")] = number_of(value)
            except DataError as error:
                wrong.append(f"channel {_shown(name)}: {error}")
        if wrong:
            more = f" (and {len(wrong) - 1} more channels)" if len(wrong) > 1 else ""
            self.reject(where, f"{wrong[0]}{more}")
        if values:
            self._merge(whose, instant, values, where)

    def batch(self, offset: str) -> Batch | None:
        """What was gathered; None if nothing.

        One frame an entity, in the order in which they appeared; several, in the order of time,
        where rows have so different channels that one would be mostly empty.
        """
        if not (self._entities or self.rejected):
            return None
        frames = [
            _frame(entity, rows, instants)
            for entity, rows in self._entities.items()
            for instants in _runs(rows)
        ]
        return Batch(tuple(frames), offset, tuple(self.rejected))

    def _broken(self, where: str, why: str) -> None:
        self.count += 1
        self.reject(where, why)

    def _channels(self, row: Mapping[str, object]) -> dict[str, object]:
        form = self.form
        known = {form.entity, form.timestamp}
        parts = {n: v for n, v in row.items() if n not in known and n not in form.ignore}
        if parts.keys() == {CHANNEL, VALUE}:
            parts = {_name_of(parts[CHANNEL], "channel"): parts[VALUE]}
            parts = {n: v for n, v in parts.items() if n not in form.ignore}
            if not parts:
                return {}  # a long row of a channel that is left out on purpose
        if not parts:
            raise DataError("there is no channel beside entity and timestamp")
        return parts

    def _merge(self, entity: str, instant: int, values: dict[str, float], where: str) -> None:
        rows = self._entities.setdefault(entity, {})
        before = rows.setdefault(instant, values)
        if before is values:
            return
        for name, value in values.items():
            old = before.get(name, math.nan)
            if math.isnan(value):
                before.setdefault(name, value)
                continue
            if not math.isnan(old) and old != value:
                self.reject(where, f"{_shown(name)} was {old:g} at the same time; now {value:g}")
            before[name] = value


def number_of(value: object) -> float:
    """A JSON value or the text of a CSV cell as a number, NaN where it is missing.

    Raises DataError for infinities and for what is no number.
    """
    if isinstance(value, str):
        return _number_of_text(value)
    if value is None:
        return math.nan
    if not isinstance(value, int | float):
        raise DataError(f"{_shown(value)} is not a number")
    try:
        number = float(value)
    except OverflowError:  # an integer beyond 1e308
        number = math.inf
    if math.isinf(number):
        raise DataError("the value is infinite")
    return number


def _number_of_text(text: str) -> float:
    cell = text.strip()
    if cell in MISSING:
        return math.nan
    if cell.lower() in _WORDS:
        return _WORDS[cell.lower()]
    try:
        number = math.nan if "_" in cell else float(cell)
    except ValueError:
        number = math.nan
    if math.isnan(number):
        raise DataError(f"{_shown(text)} is not a number")
    if math.isinf(number):
        raise DataError("the value is infinite")
    return number


def _name_of(value: object, what: str) -> str:
    """A name of an entity or a channel: text that UTF-8 can carry, or a whole number."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not value:
        raise DataError(f"the {what} is {_shown(value)}, not a name")
    if len(value) > _LONGEST:
        raise DataError(f"the {what} {_shown(value)} is longer than {_LONGEST} characters")
    return _sound(value, what)


@lru_cache(maxsize=4096)
def _sound(name: str, what: str) -> str:
    try:
        name.encode("utf-8")
    except UnicodeEncodeError as error:
        raise DataError(f"the {what} {_shown(name)} is no text: a lone surrogate") from error
    return name


def _shown(value: object) -> str:
    """Anything, quoted, on one line and short; from outside, so never whole."""
    text = ascii(value) if isinstance(value, str) else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _runs(rows: dict[int, dict[str, float]]) -> list[list[int]]:
    """The instants in order, cut where a frame of them would be much larger than its values."""
    runs: list[list[int]] = []
    names: set[str] = set()
    held = 0
    for instant in sorted(rows):
        row = rows[instant]
        held += len(row)
        names |= row.keys()
        room = _SPARE + _SPARSE * held
        if not runs or (len(runs[-1]) + 1) * len(names) > room:
            runs.append([])
            names, held = set(row), len(row)
        runs[-1].append(instant)
    return runs


def _frame(entity: str, rows: dict[int, dict[str, float]], instants: list[int]) -> Frame:
    channels = tuple(dict.fromkeys(name for instant in instants for name in rows[instant]))
    values: NDArray[np.float64] = np.full((len(instants), len(channels)), np.nan)
    for index, instant in enumerate(instants):
        row = rows[instant]
        if tuple(row) == channels:
            values[index] = tuple(row.values())
        else:
            values[index] = [row.get(name, math.nan) for name in channels]
    times = np.array(instants, dtype=np.int64).view("datetime64[ns]")
    return Frame(values, ~np.isnan(values), times, channels, entity=entity)
