"""The insertions of a checkpoint, inside the transaction that `store.py` holds open.

What is there already stays as it is. Peaks are added up in memory first: a checkpoint touches each
bucket once.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from imdiffusion.live.connection.record_json import plain, record_text
from imdiffusion.live.store.schema import PEAK_NS
from imdiffusion.records import MODES, STATES, EventRecord, Record, ScoreRecord
from imdiffusion.saved_state import State

# What a person says of an event.
SCORER, TRACKER = "scorer", "tracker"  # parts of an entity that have a state
VERDICTS = ("confirmed", "expected", "false_alarm", "new_normal", "not_resolved")


@dataclass(frozen=True, slots=True)
class Told:
    """One score, and where it is known the cells behind it.

    channels: all K names in the model's order. cells: float32 (4, K), seen, expected, lower and
    upper in the caller's units, NaN = not observed; None = not kept.
    """

    record: ScoreRecord
    channels: tuple[str, ...]
    cells: NDArray[np.float32] | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """How an entity stands: interval between its rows in ns (None = unknown), when it was heard.

    heard: ns, UTC, when its last row came. state: of `records.STATES`. note: what is to be known of
    who speaks.
    """

    interval: int | None
    heard: int
    state: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Everything that became true since the last one.

    forgotten: entities whose states are dropped first, for they are watched no more. states: by
    (entity, part), parts being SCORER and TRACKER. offsets: source -> where it stands after these
    rows. counts: (name, label) -> how much to add.
    """

    told: Sequence[Told] = ()
    updates: Sequence[EventRecord] = ()
    standing: Mapping[str, Standing] = field(default_factory=dict)
    forgotten: Sequence[str] = ()
    states: Mapping[tuple[str, str], State] = field(default_factory=dict)
    offsets: Mapping[str, str] = field(default_factory=dict)
    counts: Mapping[tuple[str, str], int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Feedback:
    """What a person said of an event: verdict of VERDICTS, recorded in ns, UTC."""

    id: int
    event: str
    verdict: str
    who: str
    text: str
    recorded: int


@dataclass(frozen=True, slots=True)
class Judgement:
    """The last that was said of an event, with the event's span: ns, UTC, end None = ongoing."""

    entity: str
    event: str
    verdict: str
    start: int
    end: int | None
    recorded: int


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """A fitted model of an entity: path to its folder, made in ns, UTC; live = it is the one."""

    entity: str
    digest: str
    detector: str
    path: str
    made: int
    live: bool


class Inserts:
    """Scores, updates, standings and counters into the tables; knows the numbers of names."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._run = connection.execute
        self._many = connection.executemany
        self._entities: dict[str, int] = {}
        self._voices: dict[tuple[str, str, tuple[str, ...]], int] = {}

    def forget(self) -> None:
        """Numbers that a transaction gave to names are void when it failed."""
        self._entities.clear()
        self._voices.clear()

    def tell(self, told: Iterable[Told], now: int) -> int:
        """Insert scores with their cells and peaks; how many were there already."""
        again = 0
        peaks: dict[tuple[int, int, int], tuple[float | None, int, int]] = {}
        for one in told:
            record = one.record
            entity = self._entity(record.entity, now)
            scorer = self._scorer(record.detector, record.model, one.channels)
            mode = MODES.index(record.mode)
            reasons = (record.channels, record.shares, record.kinds)
            why = (
                json.dumps(plain(reasons[: 3 if record.kinds else 2])) if record.channels else None
            )
            key = (entity, record.timestamp, mode, scorer)
            score = plain(float(record.score))
            new = self._run(
                "INSERT INTO scores VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                (*key, score, STATES.index(record.state), why),
            ).rowcount
            if not new:
                again += 1
                continue
            bucket = (entity, mode, record.timestamp // PEAK_NS * PEAK_NS)
            peaks[bucket] = _higher(peaks.get(bucket), score)
            if one.cells is not None:
                cells = np.ascontiguousarray(one.cells, "<f4").tobytes()
                self._run("INSERT OR IGNORE INTO details VALUES (?, ?, ?, ?, ?)", (*key, cells))
            if record.mode == "online":
                self._run(
                    "UPDATE entities SET timestamp = ?1, score = ?2, state = ?3, scorer = ?4 "
                    "WHERE id = ?5 AND (timestamp IS NULL OR timestamp <= ?1)",
                    (record.timestamp, score, record.state, scorer, entity),
                )
            self._feed(record)
        self._many(
            "INSERT INTO peaks VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET "
            "score = max(coalesce(score, excluded.score), coalesce(excluded.score, score)), "
            "rows = rows + excluded.rows, alarms = alarms + excluded.alarms",
            [(*bucket, *peak) for bucket, peak in peaks.items()],
        )
        return again

    def add_updates(self, updates: Iterable[EventRecord], now: int) -> int:
        """Insert updates and bring the list of events up to them; how many were there already."""
        again = 0
        for record in updates:
            new = self._run(
                "INSERT INTO updates VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
                (record.id, record.update, record_text(record), now),
            ).rowcount
            if not new:
                again += 1
                continue
            found = sorted({*record.kinds} - {""})
            words = " ".join((record.entity, *record.channels, *found)).lower()
            self._run(
                "INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET "
                "number = excluded.number, status = excluded.status, start = excluded.start, "
                "end = excluded.end, words = excluded.words WHERE excluded.number > number",
                (record.id, record.update, record.entity, record.status, record.start, record.end,
                 words),
            )  # fmt: skip
            self._feed(record)
        return again

    def stand(self, standing: Mapping[str, Standing], now: int) -> None:
        """Note how entities stand."""
        for name, one in standing.items():
            self._run(
                "UPDATE entities SET interval = coalesce(?, interval), heard = max(heard, ?), "
                "state = ?, note = ? WHERE id = ?",
                (one.interval, one.heard, one.state, one.note, self._entity(name, now)),
            )

    def count(self, counts: Mapping[tuple[str, str], int]) -> None:
        """Add to counters, (name, label) -> how much."""
        self._many(
            "INSERT INTO counters VALUES (?, ?, ?) "
            "ON CONFLICT (name, label) DO UPDATE SET value = value + excluded.value",
            [(name, label, added) for (name, label), added in counts.items() if added],
        )

    def _feed(self, record: Record) -> None:
        kind = "score" if isinstance(record, ScoreRecord) else "event"
        self._run("INSERT INTO feed (kind, record) VALUES (?, ?)", (kind, record_text(record)))

    def _entity(self, name: str, now: int) -> int:
        if name not in self._entities:
            self._run(
                "INSERT INTO entities (name, state, heard) VALUES (?, 'warming', ?) "
                "ON CONFLICT DO NOTHING",
                (name, now),
            )
            row = self._run("SELECT id FROM entities WHERE name = ?", (name,)).fetchone()
            self._entities[name] = int(row[0])
        return self._entities[name]

    def _scorer(self, detector: str, model: str, channels: tuple[str, ...]) -> int:
        key = (detector, model, channels)
        if key not in self._voices:
            facts = (detector, model, json.dumps(channels))
            self._run(
                "INSERT INTO scorers (detector, model, channels) VALUES (?, ?, ?) "
                "ON CONFLICT DO NOTHING",
                facts,
            )
            row = self._run(
                "SELECT id FROM scorers WHERE (detector, model, channels) = (?, ?, ?)", facts
            ).fetchone()
            self._voices[key] = int(row[0])
        return self._voices[key]


def _higher(
    peak: tuple[float | None, int, int] | None, score: float | None
) -> tuple[float | None, int, int]:
    """(highest score, rows, alarms) with one more score."""
    high, rows, alarms = peak or (None, 0, 0)
    alarm = score is not None and score > 1.0
    if score is not None and (high is None or score > high):
        high = score
    return high, rows + 1, alarms + int(alarm)
