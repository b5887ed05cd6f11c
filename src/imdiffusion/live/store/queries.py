"""What a page, an API or a person asks of the live state. Reading only, from any process.

Times are nanoseconds since the epoch, UTC; spans are [since, until). Lists have limits, and go on
where the last one ended. Nothing found is an empty list.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imdiffusion.data.frame import moved, places_of
from imdiffusion.errors import OutputError
from imdiffusion.live.connection.protocols import Closing
from imdiffusion.live.connection.record_json import event_of, number, record_of, score_of
from imdiffusion.live.store.inserts import Feedback, Judgement, ModelVersion
from imdiffusion.live.store.schema import PEAK_NS, connect, size_of, storage
from imdiffusion.records import MODES, EventRecord, Record, ScoreRecord


@dataclass(frozen=True, slots=True)
class EntityNow:
    """An entity as it stands: its newest score online, when it was heard, events open.

    timestamp, interval, heard in ns; timestamp None = no score yet, interval None = unknown.
    note: how many planted faults it sees, where a baseline scores.
    """

    name: str
    state: str
    timestamp: int | None
    score: float
    detector: str
    model: str
    interval: int | None
    heard: int
    open_events: int
    note: str = ""

    def lag(self, now: int) -> int | None:
        """Nanoseconds from its newest scored row to now."""
        return None if self.timestamp is None else now - self.timestamp


@dataclass(frozen=True, slots=True)
class Lane:
    """The highest score of each bucket, oldest first; buckets without a row are left out.

    start: int64 (n,) ns. score: float64 (n,), NaN = rows without a score. alarms: int64 (n,) rows
    above 1. width: ns of a bucket.
    """

    start: NDArray[np.int64]
    score: NDArray[np.float64]
    alarms: NDArray[np.int64]
    width: int


@dataclass(frozen=True, slots=True)
class Details:
    """Rows of an entity as they were and as they were expected.

    timestamps: int64 (n,). cells: float32 (n, 4, K), seen, expected, lower, upper; NaN = not
    observed, or not known to the model that judged the row.
    """

    timestamps: NDArray[np.int64]
    channels: tuple[str, ...]
    cells: NDArray[np.float32]


def aligned(rows: Sequence[tuple[int, str, bytes]], channels: tuple[str, ...]) -> Details:
    """Kept rows as details of these channels. rows: time, names of its channels (JSON), cells."""
    parts = [np.empty((0, 4, len(channels)), np.float32)]
    for text, group in groupby(rows, key=lambda row: row[1]):
        names = json.loads(text)
        cells = np.frombuffer(b"".join(row[2] for row in group), "<f4").reshape(-1, 4, len(names))
        if tuple(names) != channels:
            cells = moved(cells, places_of(channels, names))
        parts.append(cells.astype(np.float32))
    times = np.array([row[0] for row in rows], np.int64)
    return Details(times, channels, np.concatenate(parts))


FAR = 2**62  # a time after all others


class Reader(Closing):
    """Reads a file of live state while another process or thread writes it.

    Each thread gets a connection of its own; `close` closes them all. OutputError: there is no
    such file, or it cannot be used.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._local, self._all = threading.local(), list[sqlite3.Connection]()
        if not self.path.is_file():
            raise OutputError(
                f"there is no live state {self.path}", remedy="Start detection first."
            )
        with storage(self.path):
            self._connection()

    # -- entities and scores

    def entities(
        self, *, text: str = "", state: str = "", after: str = "", limit: int = 1_000
    ) -> list[EntityNow]:
        """Entities by name, those after the name `after`; text: part of the name."""
        rows = self._rows(
            "SELECT name, state, timestamp, score, coalesce(detector, ''), coalesce(model, ''), "
            "interval, heard, (SELECT count(*) FROM events WHERE entity = name "
            "AND status = 'ongoing'), note FROM entities LEFT JOIN scorers ON scorers.id = scorer "
            "WHERE name > ? AND (? = '' OR instr(lower(name), ?) > 0) AND (? = '' OR state = ?) "
            "ORDER BY name LIMIT ?",
            (after, text, text.lower(), state, state, limit),
        )
        return [EntityNow(*_with_number(row, 3)) for row in rows]

    def scores(
        self, entity: str, since: int, until: int, *, mode: str = "online", limit: int = 10_000
    ) -> list[ScoreRecord]:
        """Scores of an entity, oldest first, at most `limit`; go on with since = last + 1."""
        rows = self._rows(
            "SELECT timestamp, score, scores.state, detector, model, why FROM scores "
            "JOIN scorers ON scorers.id = scorer WHERE entity = (SELECT id FROM entities "
            "WHERE name = ?) AND timestamp >= ? AND timestamp < ? AND mode = ? "
            "ORDER BY timestamp, scorer LIMIT ?",
            (entity, since, until, MODES.index(mode), limit),
        )
        return [score_of(entity, mode, row) for row in rows]

    def lanes(
        self,
        since: int,
        until: int,
        *,
        buckets: int = 200,
        mode: str = "online",
        text: str = "",
        after: str = "",
        limit: int = 1_000,
    ) -> dict[str, Lane]:
        """The highest score by bucket of many entities; text, after: as of `entities`.

        The span is cut into about `buckets`, their edges at multiples of their width. From ten
        minutes on a bucket is read from peaks, and costs the same whatever the step of the rows.
        """
        names = self._rows(
            "SELECT id, name FROM entities WHERE name > ? AND (? = '' OR instr(lower(name), ?) > 0)"
            " ORDER BY name LIMIT ?",
            (after, text, text.lower(), limit),
        )
        return {name: self._lane(key, since, until, buckets, mode) for key, name in names}

    def lane(
        self, entity: str, since: int, until: int, *, buckets: int = 1_000, mode: str = "online"
    ) -> Lane:
        """The highest score by bucket of one entity; see `lanes`."""
        found = self._rows("SELECT id FROM entities WHERE name = ?", (entity,))
        return self._lane(found[0][0] if found else -1, since, until, buckets, mode)

    def _lane(self, entity: int, since: int, until: int, buckets: int, mode: str) -> Lane:
        width = max(1, -(-(until - since) // max(1, buckets)))
        if width >= PEAK_NS:
            width = -(-width // PEAK_NS) * PEAK_NS
            source = "SELECT bucket AS time, score, alarms FROM peaks"
            time = "bucket"
        else:
            source = "SELECT timestamp AS time, score, coalesce(score > 1, 0) AS alarms FROM scores"
            time = "timestamp"
        first = since // width * width
        rows = self._rows(
            f"SELECT time / ? * ? AS start, max(score), sum(alarms) FROM ({source} "  # noqa: S608
            f"WHERE entity = ? AND mode = ? AND {time} >= ? AND {time} < ?) "
            "GROUP BY start ORDER BY start",
            (width, width, entity, MODES.index(mode), first, until),
        )
        return Lane(
            np.array([row[0] for row in rows], np.int64),
            np.array([number(row[1]) for row in rows], np.float64),
            np.array([row[2] for row in rows], np.int64),
            width,
        )

    def details(
        self,
        entity: str,
        since: int,
        until: int,
        *,
        mode: str = "online",
        limit: int = 2_000,
        channels: Sequence[str] | None = None,
    ) -> Details:
        """Seen and expected values of the last `limit` rows in the span.

        channels: None = those of the newest row. What a row did not have of them is NaN.
        """
        rows = self._rows(
            "SELECT timestamp, channels, cells FROM shown JOIN scorers ON scorers.id = scorer "
            "WHERE entity = (SELECT id FROM entities WHERE name = ?) AND timestamp >= ? "
            "AND timestamp < ? AND mode = ? ORDER BY timestamp DESC, scorer DESC LIMIT ?",
            (entity, since, until, MODES.index(mode), limit),
        )
        names = tuple(json.loads(rows[0][1]) if rows else ()) if channels is None else channels
        return aligned(rows[::-1], tuple(names))

    def imputed(self) -> dict[str, float]:
        """The share of channels that the newest kept row of each entity did not observe."""
        rows = self._rows(
            "SELECT name, (SELECT cells FROM details WHERE entity = entities.id "
            "ORDER BY timestamp DESC LIMIT 1) AS newest FROM entities WHERE newest NOT NULL",
            (),
        )
        seen = {name: np.frombuffer(cells, "<f4").reshape(4, -1)[0] for name, cells in rows}
        return {name: float(np.isnan(one).mean()) for name, one in seen.items() if one.size}

    # -- events

    def events(
        self,
        *,
        status: str = "",
        entity: str = "",
        since: int = 0,
        until: int = FAR,
        text: str = "",
        before: tuple[int, str] | None = None,
        limit: int = 50,
    ) -> list[EventRecord]:
        """The newest update of events that touch the span, the latest onset first.

        text: part of the entity's or a channel's name. before: (start, id) of the last one of the
        page before.
        """
        at, key = before or (FAR, "")
        rows = self._rows(
            "SELECT record FROM events JOIN updates USING (id, number) WHERE start < ? "
            "AND coalesce(end, ?) > ? AND (? = '' OR status = ?) AND (? = '' OR entity = ?) "
            "AND (? = '' OR instr(words, ?) > 0) AND (start, id) < (?, ?) "
            "ORDER BY start DESC, id DESC LIMIT ?",
            (until, FAR, since, status, status, entity, entity, text, text.lower(), at, key, limit),
        )
        return [event_of(row[0]) for row in rows]

    def event(self, event: str) -> list[EventRecord]:
        """Every update of an event, its onset first."""
        rows = self._rows("SELECT record FROM updates WHERE id = ? ORDER BY number", (event,))
        return [event_of(row[0]) for row in rows]

    def feedback(self, event: str = "", *, after: int = 0, limit: int = 1_000) -> list[Feedback]:
        """What people said of an event ("" = of all), oldest first, after the id `after`."""
        rows = self._rows(
            "SELECT id, event, verdict, who, text, recorded FROM feedback "
            "WHERE id > ? AND (? = '' OR event = ?) ORDER BY id LIMIT ?",
            (after, event, event, limit),
        )
        return [Feedback(*row) for row in rows]

    def judgements(self) -> list[Judgement]:
        """The last that people said of each event, in the order in which they said it."""
        rows = self._rows(
            "SELECT entity, event, verdict, start, end, recorded FROM feedback "
            "JOIN events ON events.id = event WHERE feedback.id IN "
            "(SELECT max(id) FROM feedback GROUP BY event) ORDER BY feedback.id",
            (),
        )
        return [Judgement(*row) for row in rows]

    # -- the feed, models, counters

    def feed(self, after: int, *, limit: int = 1_000) -> list[tuple[int, Record]]:
        """Records in the order in which they became true, each with its number, those after one.

        A number that is missing was trimmed: who follows reads the lists again.
        """
        rows = self._rows(
            "SELECT seq, record FROM feed WHERE seq > ? ORDER BY seq LIMIT ?", (after, limit)
        )
        return [(seq, record_of(text)) for seq, text in rows]

    def last(self) -> int:
        """The number of the newest record of the feed; 0 = none yet."""
        rows = self._rows("SELECT seq FROM sqlite_sequence WHERE name = 'feed'", ())
        return int(rows[0][0]) if rows else 0

    def waiting(self) -> dict[str, int]:
        """How many records each sink has not taken yet."""
        rows = self._rows(
            "SELECT sink, (SELECT count(*) FROM feed WHERE feed.seq > cursors.seq "
            "AND instr(takes, kind)) FROM cursors",
            (),
        )
        return dict(rows)

    def models(self, entity: str = "") -> list[ModelVersion]:
        """Models of an entity ("" = of all), the newest first, with the one that is live."""
        rows: list[tuple[str, str, str, str, int, int]] = self._rows(
            "SELECT entity, digest, detector, path, made, digest = (SELECT digest FROM promotions "
            "WHERE promotions.entity = models.entity ORDER BY seq DESC LIMIT 1) FROM models "
            "WHERE ? = '' OR entity = ? ORDER BY entity, made DESC, digest",
            (entity, entity),
        )
        return [ModelVersion(*row[:5], bool(row[5])) for row in rows]

    def promotions(self, entity: str) -> list[tuple[str, str]]:
        """Digest and reason of every time that a model of an entity became live, newest first."""
        return self._rows(
            "SELECT digest, reason FROM promotions WHERE entity = ? ORDER BY seq DESC", (entity,)
        )

    def counters(self) -> dict[tuple[str, str], int]:
        """Every counter, (name, label) -> value since the file was begun."""
        return {(row[0], row[1]): row[2] for row in self._rows("SELECT * FROM counters", ())}

    def offsets(self) -> dict[str, str]:
        """Where each source stood at the last checkpoint."""
        return dict(self._rows("SELECT source, offset FROM offsets", ()))

    def size(self) -> int:
        """Bytes on the disk."""
        return size_of(self.path)

    # -- inside

    def close(self) -> None:
        """Close every connection. May be called twice."""
        while self._all:
            self._all.pop().close()
        self._local = threading.local()

    def _connection(self) -> sqlite3.Connection:
        held: sqlite3.Connection | None = getattr(self._local, "held", None)
        if held is None:
            held = connect(self.path, writes=False)
            self._local.held = held
            self._all.append(held)
        return held

    def _rows(self, query: str, values: tuple[Any, ...]) -> list[Any]:
        with storage(self.path):
            return self._connection().execute(query, values).fetchall()


def _with_number(row: tuple[Any, ...], place: int) -> tuple[Any, ...]:
    """The row with NaN where NULL stands at one place."""
    return (*row[:place], number(row[place]), *row[place + 1 :])
