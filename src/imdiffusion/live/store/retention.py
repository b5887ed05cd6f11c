"""Retention: what is kept for how long, and taken away in steps without a wait.

By age: details first (those around events later), then scores (their peaks by ten minutes stay),
peaks, and events that are over. By size: while the file holds more than `most_bytes`, all of these
spans, and the feed, shrink by a tenth a round over the entities; once it holds less, they grow
again, slowly. Events that are ongoing, or that a person gave feedback on, stay for good, and so do
states, offsets and models: they do not grow.

What was seen and expected around events outlives the details of other rows: a page shows an event
as it was weeks later. Bounded for each event: MARGIN rows before it, its first MOST rows, MARGIN
rows after them, and as many around its peak.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from imdiffusion.durations import DAY_NS, MINUTE_NS
from imdiffusion.errors import OutputError
from imdiffusion.live.store.inserts import ModelVersion
from imdiffusion.live.store.queries import Reader
from imdiffusion.live.store.schema import connect, storage
from imdiffusion.schema import Fields, field

MARGIN = 20  # rows before and after
MOST = 120  # rows of a long event, from its beginning
_INTERVAL = MINUTE_NS  # ns from row to row where that is not known
_FAR = 2**62

# Both look up an event's rows by the primary key; `least` spares events that are long dealt with.
_KEEP = """
INSERT OR IGNORE INTO kept
SELECT details.* FROM events
JOIN entities ON entities.name = events.entity
JOIN updates ON updates.id = events.id AND updates.number = events.number
JOIN details ON details.entity = entities.id AND details.timestamp >= {first}
    AND details.timestamp < {last}
WHERE entities.id = :entity AND details.timestamp < :cutoff
    AND coalesce(events.end, :far) >= :least - :margin * coalesce(entities.interval, :interval)
"""
_STEP = "coalesce(entities.interval, :interval)"
_PEAK = "json_extract(updates.record, '$.peak')"
_AROUND_START = _KEEP.format(
    first=f"events.start - :margin * {_STEP}",
    last=f"min(coalesce(events.end, :far), events.start + :most * {_STEP}) + :margin * {_STEP}",
)
_AROUND_PEAK = _KEEP.format(
    first=f"{_PEAK} - :margin * {_STEP}", last=f"{_PEAK} + :margin * {_STEP}"
)


def keep_around_events(connection: sqlite3.Connection, entity: int, cutoff: int) -> None:
    """Copy what is older than `cutoff` (ns) and near an event; the originals are about to go."""
    least = connection.execute(
        "SELECT min(timestamp) FROM details WHERE entity = ?", (entity,)
    ).fetchone()[0]
    if least is None or least >= cutoff:
        return
    values = {
        "entity": entity, "cutoff": cutoff, "least": least, "far": _FAR, "margin": MARGIN,
        "most": MOST, "interval": _INTERVAL,
    }  # fmt: skip
    connection.execute(_AROUND_START, values)
    connection.execute(_AROUND_PEAK, values)


PAGES = 200  # free pages given back to the disk in one step
LEAST = 1e-6  # of its days and records, what anything keeps however tight the space
TAIL = 20_000  # records of a kind that stay in the feed when every sink has taken them


@dataclass(frozen=True, slots=True)
class Retention(Fields):
    """Days that things are kept, bytes that the file may have, records that the feed may hold.

    No flood of scores pushes an event out of the feed, whose kinds are counted apart; a sink that
    is away longer has its oldest records shed, which is counted.
    """

    details: float = field(2.0, "days that seen and expected values are kept", above=0)
    kept: float = field(30.0, "days that seen and expected values around events are kept", above=0)
    scores: float = field(30.0, "days that scores are kept", above=0)
    peaks: float = field(365.0, "days that the highest score of ten minutes is kept", above=0)
    events: float = field(365.0, "days that events are kept once they are over", above=0)
    feed: int = field(200_000, "records of a kind that wait for a sink that is away", above=0)
    most_bytes: int = field(
        4_000_000_000, "bytes of the file, beyond which all spans shrink", above=0
    )


class Thinning:
    """Takes away in small steps what is too old, entity by entity in turn."""

    def __init__(self, retention: Retention, path: Path) -> None:
        self.retention, self.path = retention, path
        self._round: Iterator[int] = iter(())
        self.dropped = False  # whether the last step took an entity itself away
        self._share = 1.0  # of its days and records that everything keeps, for size

    def step(
        self, connection: sqlite3.Connection, *, now: int, rows: int
    ) -> tuple[int, dict[tuple[str, str], int]]:
        """Delete some rows, `rows` of a table, inside the caller's transaction.

        How many went, and ("shed", sink) -> records that a sink will never get.
        """
        shed: dict[tuple[str, str], int] = {}
        gone = self._trim_feed(connection, rows, shed) + self._trim_events(connection, now, rows)
        self.dropped = False
        entity = next(self._round, None)
        if entity is None:
            self._begin_round(connection)
            entity = next(self._round, None)
        if entity is not None:
            keep_around_events(connection, entity, self._cutoff("details", now))
            for table in ("details", "kept", "scores", "peaks"):
                gone += _delete(connection, table, entity, self._cutoff(table, now), rows)
            # One that is watched no more, and of which nothing is left.
            self.dropped = bool(
                connection.execute(
                    "DELETE FROM entities WHERE id = ? "
                    "AND NOT EXISTS (SELECT 1 FROM states WHERE states.entity = name) "
                    "AND NOT EXISTS (SELECT 1 FROM scores WHERE scores.entity = entities.id) "
                    "AND NOT EXISTS (SELECT 1 FROM peaks WHERE peaks.entity = entities.id)",
                    (entity,),
                ).rowcount
            )
        free = int(connection.execute("PRAGMA freelist_count").fetchone()[0])
        for _ in range(min(free, PAGES)):  # a call of it frees one page, whatever it is told
            connection.execute("PRAGMA incremental_vacuum(1)").fetchall()
        return gone, shed

    def _cutoff(self, name: str, now: int) -> int:
        days: float = getattr(self.retention, name)
        return now - int(days * DAY_NS * self._share)

    def _begin_round(self, connection: sqlite3.Connection) -> None:
        """Look at the size, and begin with the first entity again."""
        over = used_bytes(connection) > self.retention.most_bytes
        self._share = max(LEAST, self._share * 0.9) if over else min(1.0, self._share / 0.97)
        rows = connection.execute("SELECT id FROM entities ORDER BY id").fetchall()
        self._round = iter([int(entity) for (entity,) in rows])

    def _trim_feed(
        self, connection: sqlite3.Connection, rows: int, shed: dict[tuple[str, str], int]
    ) -> int:
        """Drop what every sink has taken but for a tail; count what one never took as shed."""
        gone, most = 0, max(1, int(self.retention.feed * self._share))
        for kind in ("score", "event"):
            first, newest = connection.execute(
                "SELECT min(seq), max(seq) FROM feed WHERE kind = ?", (kind,)
            ).fetchone()
            if first is None:
                continue
            takers = connection.execute(
                "SELECT sink, seq FROM cursors WHERE instr(takes, ?)", (kind,)
            ).fetchall()
            taken = min((seq for _, seq in takers), default=newest)
            done = max(
                _newest_but(connection, kind, most),
                min(taken, _newest_but(connection, kind, min(TAIL, most))),
            )
            edge = connection.execute(
                "SELECT seq FROM feed WHERE kind = ? AND seq <= ? ORDER BY seq LIMIT 1 OFFSET ?",
                (kind, done, rows),
            ).fetchone()
            last = done if edge is None else edge[0]
            for sink, seq in takers:
                if seq < last:
                    lost = connection.execute(
                        "SELECT count(*) FROM feed WHERE kind = ? AND seq > ? AND seq <= ?",
                        (kind, seq, last),
                    ).fetchone()[0]
                    shed["shed", sink] = shed.get(("shed", sink), 0) + int(lost)
            gone += connection.execute(
                "DELETE FROM feed WHERE kind = ? AND seq <= ?", (kind, last)
            ).rowcount
        return gone

    def _trim_events(self, connection: sqlite3.Connection, now: int, rows: int) -> int:
        old = connection.execute(
            "SELECT id FROM events WHERE start < ? AND end < ? AND status != 'ongoing' "
            "AND NOT EXISTS (SELECT 1 FROM feedback WHERE event = events.id) LIMIT ?",
            (self._cutoff("events", now), self._cutoff("events", now), max(1, rows // 100)),
        ).fetchall()
        connection.executemany("DELETE FROM updates WHERE id = ?", old)
        connection.executemany("DELETE FROM events WHERE id = ?", old)
        return len(old)


def _newest_but(connection: sqlite3.Connection, kind: str, kept: int) -> int:
    """The number of the newest record of a kind that is not among the `kept` newest; or 0."""
    row = connection.execute(
        "SELECT seq FROM feed WHERE kind = ? ORDER BY seq DESC LIMIT 1 OFFSET ?", (kind, kept)
    ).fetchone()
    return 0 if row is None else int(row[0])


def used_bytes(connection: sqlite3.Connection) -> int:
    """Bytes of the file that hold something."""
    pages, free, size = (
        int(connection.execute(f"PRAGMA {name}").fetchone()[0])
        for name in ("page_count", "freelist_count", "page_size")
    )
    return (pages - free) * size


def _delete(connection: sqlite3.Connection, table: str, entity: int, cutoff: int, rows: int) -> int:
    """Delete at most about `rows` rows of an entity before `cutoff`, the oldest first."""
    time = "bucket" if table == "peaks" else "timestamp"
    gone = 0
    # Peaks lie by mode first; the others by time, both moments together.
    for where in ("mode = 0 AND", "mode = 1 AND") if table == "peaks" else ("",):
        edge = connection.execute(
            f"SELECT {time} FROM {table} WHERE entity = ? AND {where} {time} < ? "  # noqa: S608
            f"ORDER BY {time} LIMIT 1 OFFSET ?",
            (entity, cutoff, rows),
        ).fetchone()
        gone += connection.execute(
            f"DELETE FROM {table} WHERE entity = ? AND {where} {time} < ?",  # noqa: S608
            (entity, cutoff if edge is None else edge[0]),
        ).rowcount
    return gone


# -- what other processes of a group have left of an entity that comes to this one

log = logging.getLogger(__name__)

LIVE = "live.db"


@dataclass(frozen=True, slots=True)
class PeerState:
    """The states of an entity by part, as another process wrote them last.

    recorded: ns, UTC, of when. folder: of the live state they are from.
    """

    states: dict[str, bytes]
    recorded: int
    folder: Path


class PeerStates:
    """The live states in the folders beside this process's own.

    folder: its subfolders are state folders, each of one process of the group. own: the one of
    this process. They are read only, while their owners write or when they are dead.

    taken: whose states were taken over, by entity, until its model was handled.
    """

    def __init__(self, folder: Path, *, own: Path) -> None:
        self.folder, self.own = folder, own.resolve()
        self.taken: dict[str, Path] = {}

    def _others(self) -> list[Path]:
        """The live states of the others."""
        return [
            path
            for path in sorted(self.folder.glob(f"*/{LIVE}"))
            if path.parent.resolve() != self.own
        ]

    def of(self, entity: str) -> PeerState | None:
        """What was written of the entity last, by whichever other process; None if nothing was.

        A live state that cannot be read is logged and skipped.
        """
        found = [left for path in self._others() if (left := _left(path, entity)) is not None]
        return max(found, key=lambda one: one.recorded, default=None)

    def model(self, entity: str, digest: str) -> tuple[ModelVersion, Path] | None:
        """A fitted model of an entity as another process has noted it, and that one's folder: of
        the one whose state was taken, if it has it; None if none has.
        """
        first = self.taken.get(entity)
        for path in sorted(self._others(), key=lambda one: one.parent != first):
            try:
                with Reader(path) as reader:
                    noted = next((m for m in reader.models(entity) if m.digest == digest), None)
            except OutputError as error:
                log.warning("what %s knows of models cannot be read: %s", path.parent, error)
                continue
            if noted is not None:
                return noted, path.parent
        return None


def _left(path: Path, entity: str) -> PeerState | None:
    try:
        with storage(path), closing(connect(path, writes=False)) as connection:
            rows = connection.execute(
                "SELECT part, state, recorded FROM states WHERE entity = ?", (entity,)
            ).fetchall()
    except OutputError as error:
        log.warning("the state that %s has of %s cannot be read: %s", path.parent, entity, error)
        return None
    if not rows:
        return None
    states = {str(part): bytes(state) for part, state, _ in rows}
    return PeerState(states, max(int(recorded) for *_, recorded in rows), path.parent)
